"""One target under atheris: `python -m fuzz.child TARGET CORPUS… -runs=N`, libFuzzer's options. `run` starts it."""

import os
import resource
import sys
import time
import warnings
from contextlib import suppress

import atheris

os.sched_setaffinity(
    0, {min(os.sched_getaffinity(0))}
)  # decoders start as many threads as there are cores: for tiny files waste

with atheris.instrument_imports(include=["nfs_lib", "PIL"]):
    from fuzz import seeds, targets

    for path in sorted((seeds.CORPUS / sys.argv[1]).iterdir()):  # what is imported on the way is counted too
        with suppress(Exception):
            targets.throw(sys.argv[1], path.read_bytes())

ROOM = 2 * 2**30  # bytes of address space above what is there after the imports; beyond it allocating fails
cases = taken = 0
slowest = 0.0


def one(content: bytes) -> None:
    global cases, taken, slowest
    begin = time.process_time()
    taken += targets.throw(sys.argv[1], content)
    slowest = max(slowest, time.process_time() - begin)
    cases += 1
    if cases % 500 == 0:
        print(f"FIGURES {cases} {taken} {slowest:.3f}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with open("/proc/self/statm") as file:
        limit = int(file.read().split()[0]) * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
    atheris.Fuzz()
