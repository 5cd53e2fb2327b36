"""What faults do to the kit's commands: kills, Ctrl-C, no room, a folder that goes away, two runs at once → docs/faults.md.

    python scripts/measure_faults.py [COMMAND ...]

Every run is a fork of this process, in which all is imported, so that a kill meets the work and not Python's start. The
commands are the real ones on small input: 0.3 s of speech, two steps each of projection and tuning, four steps of training, a
short notebook. Takes about ten minutes on a quiet core; only the rows of the commands named are measured anew.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nbformat
import run_notebooks
import soundfile
import torch

from nfs_lib import cli, inversion, worlds
from nfs_lib.checkpoints import read_manifest, verify_weights
from nfs_lib.errors import NfsError
from nfs_lib.lipaint import LipaintNet
from nfs_lib.paths import data_folder
from nfs_lib.studies import cases
from nfs_lib.training import common, lipaint
from nfs_lib.video import read_video
from nfs_lib.writing import replacing

KILLS = 20
TABLE = Path(__file__).parents[1] / "docs" / "faults.md"
INPUTS = Path(tempfile.gettempdir()) / "nfs_faults_inputs"
HEAD = """# Faults

`python scripts/measure_faults.py` wrote this table; `tests/test_faults.py` holds the same on smaller stand-ins, damaged caches
and swapped weights included. *Hit it*: runs that were still at work when the fault came. *Half-written*: runs after which a
file under its final name couldn't be read. *Left over*: runs after which a temporary (`.NAME.….part.SUFFIX`) lay there; the
next run removes it. *No room*: a bound on a file's size.

| command | fault | runs | hit it | half-written | left over | what it said last, exit code | the next run |
|---|---|---|---|---|---|---|---|
"""


def talk(out: Path) -> int:
    given = ["--image", data_folder() / "samples/portraits/portrait_1.png", "--audio", INPUTS / "short.wav"]
    return cli.main([*map(str, ["talk", *given, "--out", out / "talk.mp4", "--orbit", "--profile", "fast"])])


def pti(out: Path) -> int:
    cases.person(worlds.load("open"), 3, folder=out)
    return 0


def train(out: Path) -> int:
    return cli.main(["train", "lipaint", "--steps", "4", "--resume", "--out", str(out)])


def weights_import(out: Path) -> int:
    os.environ["NFS_DATA"] = str(out)
    return cli.main(["weights", "import", str(INPUTS / "LipaintNet.pt"), str(INPUTS / "LipaintNet.pt")])


def notebooks(out: Path) -> int:
    if not (out / "a.ipynb").is_file():
        shutil.copy(INPUTS / "a.ipynb", out)
    run_notebooks.run(out / "a.ipynb")
    return 0


class Command(NamedTuple):
    """How it runs, and whether a file that it wrote is whole."""

    run: Callable[[Path], int]
    whole: Callable[[Path], object]


def imported(path: Path) -> bool:
    """A part that isn't the manifest's counts as whole only where `nfs weights verify` says so."""
    return path.name != "manifest.json" or all(verify_weights(part) == "ok" for part in read_manifest(path.parent).values())


def trained(path: Path) -> object:
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)["step"]
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.open()] or True
    return imported(path)


COMMANDS = {"nfs talk": Command(talk, lambda path: len(read_video(path).frames) == 7),
            "PTI": Command(pti, inversion.load),
            "nfs train lipaint": Command(train, trained),
            "nfs weights import": Command(weights_import, imported),
            "make notebooks": Command(notebooks, lambda path: nbformat.read(path, as_version=4))}  # fmt: skip


def fork(command: Command, out: Path, largest: int = 0) -> tuple[int, Path]:
    """Start a run in a process group of its own; its number, and the file that it talks to."""
    said = INPUTS / f"said.{random.getrandbits(32)}"
    child = os.fork()
    if child:
        return child, said
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        handle = os.open(said, os.O_WRONLY | os.O_CREAT)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        if largest:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        code = command.run(out)
    except NfsError as error:
        print(error, file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 130
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(child: int, said: Path) -> tuple[int, str]:
    """Exit code, and what was said last."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    lines = said.read_text(errors="replace").splitlines() if said.is_file() else []
    said.unlink(missing_ok=True)
    return code, lines[-1] if lines else ""


def half_written(command: Command, out: Path) -> bool:
    for path in out.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            try:
                if not command.whole(path):
                    return True
            except Exception:
                return True
    return False


def left_over(out: Path) -> int:
    return sum(path.name.startswith(".") for path in out.rglob("*"))


def emptied(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()


def measure(name: str, out: Path) -> list[str]:
    """The rows of one command."""
    command, rng, rows = COMMANDS[name], random.Random(name), []

    def once() -> str:
        code, said = ended(*fork(command, out))
        return "ended well" if code == 0 and not half_written(command, out) and not left_over(out) else f"{code}: {said}"

    def row(fault: str, runs: int, hit: int, half: int, left: int, said: str) -> None:
        said = said.replace(str(out), "OUT").replace(str(INPUTS), "IN")
        rows.append(f"| {name} | {fault} | {runs} | {int(hit)} | {int(half)} | {left} | {said} | {once()} |")
        print(rows[-1], flush=True)

    emptied(out)
    began = time.monotonic()
    assert once() == "ended well"
    takes = time.monotonic() - began
    size = max(path.stat().st_size for path in out.rglob("*") if path.is_file())
    for fault, number, runs in (("kill -9", signal.SIGKILL, KILLS), ("Ctrl-C", signal.SIGINT, 3)):
        hit = half = left = 0
        answer = ""
        emptied(out)
        for _ in range(runs):
            child, said = fork(command, out)
            time.sleep(rng.uniform(0.02, 0.98) * takes)
            os.kill(child, number)
            code, words = ended(child, said)
            if code:
                hit, answer = hit + 1, f"{words if number == signal.SIGINT else '(nothing)'}, {code}"
            half, left = half + half_written(command, out), left + bool(left_over(out))
            if not code:
                emptied(out)                              # it was done before: nothing would be left to do
        row(fault, runs, hit, half, left, answer)
    emptied(out)
    code, words = ended(*fork(command, out, size // 2))
    row("no room for more than half", 1, code != 0, half_written(command, out), left_over(out), f"{words}, {code}")
    hit, answer = 0, ""
    for share in (0.3, 0.5, 0.7, 0.9):
        emptied(out)
        child, said = fork(command, out)
        time.sleep(share * takes)
        shutil.rmtree(out, ignore_errors=True)
        code, words = ended(child, said)
        hit, answer = (hit + 1, f"{words}, {code}") if code else (hit, answer)
    emptied(out)
    row("folder removed meanwhile", 4, hit, 0, 0, answer)
    emptied(out)
    both = [fork(command, out) for _ in range(2)]
    answers = [ended(*one) for one in both]
    said_last = "; ".join(f"{words}, {code}" for code, words in answers if code) or "both end well"
    row("two at once", 1, 1, half_written(command, out), left_over(out), said_last)
    return rows


def main() -> None:
    inversion.STEPS["fast"] = (2, 2)
    recipe = lipaint.Recipe
    lipaint.Recipe = lambda: recipe(batch=2, check=2)
    begin = common.Loop.__init__
    common.Loop.__init__ = lambda self, *given, **more: begin(self, *given, **{**more, "save_every": 0.0, "log_every": 1})
    torch.set_num_threads(1)                              # a fork has no other threads
    os.environ |= {"OMP_NUM_THREADS": "1", "NFS_PROFILE": "fast"}
    shutil.rmtree(INPUTS, ignore_errors=True)
    INPUTS.mkdir()
    wave, rate = soundfile.read(data_folder() / "samples/speech/hello.wav")
    soundfile.write(INPUTS / "short.wav", wave[rate // 2 : int(0.8 * rate)], rate)
    torch.save({"model_state_dict": LipaintNet().state_dict()}, INPUTS / "LipaintNet.pt")
    cell = nbformat.v4.new_code_cell("import nfs_lib.camera\n'x' * 100_000")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), INPUTS / "a.ipynb")
    old = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")][1:] if TABLE.is_file() else []
    found = {name: [line for line in old if line.startswith(f"| {name} |")] for name in COMMANDS}
    for name in sys.argv[1:] or COMMANDS:
        with tempfile.TemporaryDirectory() as folder:
            if name != "make notebooks":                  # which starts threads
                COMMANDS[name].run(Path(folder))          # what is imported and compiled late
                os.environ.pop("NFS_DATA", None)
            found[name] = measure(name, Path(folder) / "out")
        with replacing(TABLE) as temporary:
            temporary.write_text(HEAD + "\n".join(line for rows in found.values() for line in rows) + "\n")


if __name__ == "__main__":
    main()
