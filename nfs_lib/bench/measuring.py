"""How a benchmark measures: medians taken in turn, the machine's own rates, memory in fresh processes, slopes, bounds."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

Figures = dict[str, float]
REPEATS = 5
LEAST = 0.02                                         # seconds that one measurement takes at least
MIB = 2**20
SIDE, BIG = 1024, 128 * MIB                          # of the product and, in bytes, of the copy that measure the machine


class Pair(NamedTuple):
    """Ours and the plain reference, ready to be called; difference: of their results, the largest."""

    ours: Callable[[], Any]
    plain: Callable[[], Any]
    difference: Callable[[], float]


class Work(NamedTuple):
    """What a stage costs: multiply-adds, and bytes to and from memory if each layer reads its input and weights and writes its
    output once."""

    macs: float
    bytes: float

    def __add__(self, other: "Work") -> "Work":       # type: ignore[override]
        return Work(self.macs + other.macs, self.bytes + other.bytes)


class Machine(NamedTuple):
    """flops: floating-point operations a second of a 1024 × 1024 float32 product; bandwidth: bytes a second read and written
    by a copy that no cache holds; both with torch's number of threads."""

    flops: float
    bandwidth: float

    def bound(self, work: Work) -> float:
        """Seconds that the work takes at least at these rates, its arithmetic and its traffic side by side."""
        return max(2 * work.macs / self.flops, work.bytes / self.bandwidth)


@cache
def machine() -> Machine:
    """This machine, measured once a run."""
    a, b = torch.randn(2, SIDE, SIDE)
    big = torch.zeros(BIG // 4)
    copy = torch.zeros_like(big)
    product, moved = race(lambda: a @ b, lambda: copy.copy_(big))
    return Machine(2 * SIDE**3 / product, 2 * BIG / moved)


def seconds(call: Callable[[], Any], times: int = 1) -> float:
    """What one call takes, the mean of `times`."""
    begin = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - begin) / times


def race(*calls: Callable[[], Any], repeats: int | None = None) -> list[float]:
    """The median seconds of each call. They take turns, REPEATS times, after one turn that doesn't count; quick ones are
    repeated within a turn."""
    times = [max(1, round(LEAST / max(seconds(call), 1e-7))) for call in calls]
    turns = [[seconds(call, n) for call, n in zip(calls, times, strict=True)] for _ in range(repeats or REPEATS)]
    return np.median(turns, axis=0).tolist()


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """How a quantity grows: d of size^d, the least-squares line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def growth(calls: dict[float, Callable[[], Any]]) -> float:
    """The slope of the time of calls, by size."""
    return slope(list(calls), race(*calls.values()))


def apart(name: str) -> tuple[float, float]:
    """The median seconds of ours and plain, each in a process of its own. name: as in `compared`.

    For a clip ours tells the C library to keep freed memory (`cpu.keep_freed_memory`), which lasts as long as the process:
    plain would gain by it.
    """
    module = "nfs_lib.bench.measuring"
    ours, plain = (float(np.median(json.loads(fresh(
        f"from {module} import report_times; report_times({name!r}, {which!r}, {torch.get_num_threads()}, {REPEATS})"
    ).splitlines()[-1]))) for which in ("ours", "plain"))
    return ours, plain


def report_times(name: str, which: str, threads: int, repeats: int) -> None:
    """The other side of `apart`."""
    from nfs_lib.bench.cases import PAIRS

    torch.set_num_threads(threads)
    call = getattr(PAIRS[name](), which)
    call()
    call()
    print(json.dumps([seconds(call) for _ in range(repeats)]))


def compared(name: str, pair: Pair, work: Work | None = None, memory: bool = True, separate: bool = False) -> Figures:
    """All figures of ours and plain. name: by which a process of its own finds the same pair (`cases.PAIRS`), for the memory,
    and, if separate, for the seconds (`apart`).

    seconds, fps: of ours; ratio: plain ÷ ours; gflop, mbytes: the work; gflops: the rate; share: of the machine's rate for
    products; bound: see `Machine`; share_bound: bound ÷ seconds. memory: see `memory_figures`.
    """
    difference = pair.difference()
    ours, plain = apart(name) if separate else race(pair.ours, pair.plain)
    figures = {"seconds": ours, "plain_seconds": plain, "fps": 1 / ours, "ratio": plain / ours, "difference": difference}
    figures |= costs(ours, work) if work else {}
    return figures | (memory_figures(name) if memory else {})


def costs(taken: float, work: Work) -> Figures:
    """The work, its rate, and how near that is to the machine's; taken: seconds."""
    rates, flops = machine(), 2 * work.macs
    bound = rates.bound(work)
    return {"gflop": flops / 1e9, "mbytes": work.bytes / 1e6, "gflops": flops / taken / 1e9,
            "share": flops / taken / rates.flops, "bound": bound, "share_bound": bound / taken}


# memory


def memory_figures(name: str) -> Figures:
    """Peak memory of ours and plain, MiB, each in a process that does nothing else.

    memory: the whole process, interpreter and torch included; memory_above: above what it held when everything was loaded and
    nothing had run; memory_ratio: of the latter, plain ÷ ours; memory_ratio_whole: of the former.
    """
    (loaded, ours), (plain_loaded, plain) = (peaks(name, which) for which in ("ours", "plain"))
    above, plain_above = max(ours - loaded, 1.0), max(plain - plain_loaded, 1.0)              # pages and noise: 1 MiB
    return {"memory": ours, "memory_above": above, "plain_memory": plain, "plain_memory_above": plain_above,
            "memory_ratio": plain_above / above, "memory_ratio_whole": plain / ours}


def peaks(name: str, which: str) -> tuple[float, float]:
    """(MiB when loaded, the most MiB of two calls) of a fresh process."""
    code = f"from nfs_lib.bench.measuring import report_memory; report_memory({name!r}, {which!r}, {torch.get_num_threads()})"
    loaded, peak = json.loads(fresh(code).splitlines()[-1])
    return loaded, peak


def fresh(code: str) -> str:
    """What Python code prints in a process of its own."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"a process of its own failed:\n{done.stderr}")
    return done.stdout


def report_memory(name: str, which: str, threads: int) -> None:
    """The other side of `peaks`. Two calls: what the first one leaves behind counts too. Compiled code, which is loaded when it
    is first used, belongs to the loaded state, so something is matched before."""
    from nfs_lib.alignment import match
    from nfs_lib.bench.cases import PAIRS

    torch.set_num_threads(threads)
    match(torch.zeros(2, 3), torch.zeros(2, 3))
    call = getattr(PAIRS[name](), which)
    clear_peak()
    loaded = peak()
    call()
    call()
    print(json.dumps([loaded, peak()]))


def clear_peak() -> None:
    """Let the peak begin anew, where the system can (Linux)."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """The most memory that this process has held, MiB. On Linux from /proc: getrusage's number isn't reset by `clear_peak`,
    and a process that was just started has its parent's."""
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB
