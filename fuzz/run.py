"""`make fuzz`: every target in a child of its own, one after the other, until each has had so many cases.

    python -m fuzz.run [--cases 100000] [TARGET …]

It goes on where it was stopped; figures.json and figures.md hold what was reached. A child that crashes, runs out of time or
memory, or lets out another error than NfsError leaves the case as a file runs/fuzz/TARGET/finding-…; mend it, and put the file
into fuzz/corpus/TARGET, where the tests replay it. A target with five findings is left until then.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fuzz.seeds import CORPUS
from fuzz.targets import TARGETS
from nfs_lib.writing import replacing

HERE = Path(__file__).parent
WORK = HERE.parent / "runs" / "fuzz"
SECONDS, MEMORY = 60, 3000  # of one case; MiB of the child
LONGEST = 20_000  # bytes of a case: some of the seeds, then twice
RAM = Path("/dev/shm")
GIVEN_UP = 5  # findings
Figures = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser(prog="fuzz", description=(__doc__ or "").split("\n")[0])
    options.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    options.add_argument("--cases", type=int, default=100_000)
    given = options.parse_args()
    if unknown := set(given.targets) - set(TARGETS):
        options.error(f"there is no target {', '.join(unknown)}; choose from {', '.join(TARGETS)}")
    for target in given.targets or TARGETS:
        while not enough(target, given.cases):
            child(target, given.cases)
        print(line(target, read().get(target, {})), flush=True)


def enough(target: str, cases: int) -> bool:
    figures = read().get(target, {})
    return figures.get("cases", 0) >= cases or len(found(target)) >= GIVEN_UP


def found(target: str) -> list[Path]:
    return sorted((WORK / target).glob("finding-*"))


def child(target: str, cases: int) -> None:
    """One child, until it has done the rest of the cases or dies; its figures are added to those before."""
    before = dict.fromkeys(("cases", "taken", "seconds", "slowest_case_seconds", "start_mib", "peak_mib"), 0) | read().get(
        target, {}
    )
    folder = WORK / target
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    options = {"runs": cases - before["cases"], "seed": before["cases"] + 1, "timeout": SECONDS, "rss_limit_mb": MEMORY,
               "max_len": LONGEST, "len_control": 0, "mutate_depth": 3, "artifact_prefix": f"{folder}/finding-",
               "print_final_stats": 1, "report_slow_units": 600}  # fmt: skip
    command = [sys.executable, "-m", "fuzz.child", target, str(folder / "corpus"), str(CORPUS / target)]
    command += [f"-{name}={value}" for name, value in options.items()]
    begin, own = time.monotonic(), dict(before)
    with (
        tempfile.TemporaryDirectory(dir=RAM if RAM.is_dir() else None) as files,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment(files)
        ) as process,
        (folder / "log.txt").open("a") as log,
    ):
        assert process.stdout
        for text in process.stdout:
            log.write(text)
            if match := re.match(r"FIGURES (\d+) (\d+) ([\d.]+)", text):
                own["cases"], own["taken"] = (before[k] + int(match[i]) for i, k in ((1, "cases"), (2, "taken")))
                own["slowest_case_seconds"] = max(before["slowest_case_seconds"], float(match[3]))
            elif match := re.match(r"stat::number_of_executed_units: *(\d+)", text):
                own["cases"] = before["cases"] + int(match[1])
            elif match := re.match(r"stat::peak_rss_mb: *(\d+)", text):
                own["peak_mib"] = max(before["peak_mib"], int(match[1]))
            elif match := re.search(r"INITED .* rss: (\d+)Mb", text):
                own["start_mib"] = int(match[1])
            own["seconds"] = round(before["seconds"] + time.monotonic() - begin, 1)
            if text.startswith(("FIGURES", "stat::")):
                write(target, own)
    if process.returncode and own["cases"] == before["cases"]:
        sys.exit(f"{target}: the child ended with {process.returncode} before its first case; see {folder / 'log.txt'}")


def environment(files: str) -> dict[str, str]:
    """The child's; files: where it writes its cases."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": files}


def read() -> dict[str, Figures]:
    path = HERE / "figures.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def write(target: str, figures: Figures) -> None:
    every = read() | {target: figures | {"findings": len(found(target))}}
    every = {name: every[name] for name in TARGETS if name in every}
    with replacing(HERE / "figures.json") as temporary:
        temporary.write_text(json.dumps(every, indent=1) + "\n")
    head = [
        "Last figures of `make fuzz` (atheris; one process, on a core that had other work too): files thrown at each",
        "loader, how many of them it took as valid, and what is left of cases that crashed, hung, or let out another",
        "error than NfsError.",
        "",
        "| target | cases | taken as valid | seconds | slowest case, CPU s | memory, MiB: start, peak | findings left |",
        "|---" * 7 + "|",
    ]
    with replacing(HERE / "figures.md") as temporary:
        temporary.write_text("\n".join([*head, *(line(name, own) for name, own in every.items())]) + "\n")


def line(target: str, own: Figures) -> str:
    return (
        f"| {target} | {own['cases']:,} | {own['taken']:,} | {own['seconds']:,.0f} | {own['slowest_case_seconds']:.2f} | "
        f"{own['start_mib']}, {own['peak_mib']} | {own['findings']} |"
    )


if __name__ == "__main__":
    main()
