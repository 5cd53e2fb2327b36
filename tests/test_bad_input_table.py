"""One table for every door of the kit: what can't be used is refused with one clear line, and leaves nothing behind.

All cases run as a user's do, without the tests' type-checker, in one child process with little memory: a crash or a blow-up of
a decoder shows as a case without an outcome. `test_bad_inputs` holds what `nfs talk` as a whole refuses,
`test_official_hostile` the hostile checkpoints; `fuzz/` throws a hundred thousand more at each loader, and what it found is
replayed here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CASES = Path(__file__).with_name("bad_input_cases.py")
NFS_ERRORS = {"BadInput", "MissingWeights", "CorruptWeights", "UnsafeCheckpoint"}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Case → kind of error (empty: none), message, seconds, files left behind, what is expected."""
    folder = tmp_path_factory.mktemp("doors")
    (folder / "in").mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith("NFS_")} | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(CASES), str(folder / "in"), str(folder / "outcome")]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=240, env=env)
    lines = (folder / "outcome").read_text().splitlines() if (folder / "outcome").exists() else []
    assert done.returncode == 0, f"died after {lines[-1:]}: {done.stderr[-2000:]}"
    return {name: rest for name, *rest in map(json.loads, lines)}


def test_what_cannot_be_used_is_refused(outcome):
    asked = {name: found for name, found in outcome.items() if found[4] == "refused"}
    assert len(asked) > 800 and not {name: found[:2] for name, found in asked.items() if found[0] not in NFS_ERRORS}


def test_each_message_says_something_and_fits_a_line(outcome):
    assert not {name: found[1] for name, found in outcome.items() if found[0] and (len(found[1]) < 30 or "\n" in found[1])}


def test_nothing_is_left_behind(outcome):
    assert not {name: found[3] for name, found in outcome.items() if found[3]}


def test_none_takes_long(outcome):
    assert not {name: found[2] for name, found in outcome.items() if found[2] > 20}


def test_what_is_only_unusual_goes_through(outcome):
    fine = {name: found[:2] for name, found in outcome.items() if found[4] == "taken"}
    assert len(fine) == 15 and not {name: found for name, found in fine.items() if found[0]}


def test_the_fuzz_corpus_is_taken_or_refused(outcome):
    """Every kept case, those that once came through included; the seeds of every loader hold one at least that it takes."""
    kept = {name: found[:2] for name, found in outcome.items() if found[4] == "either"}
    assert not {name: found for name, found in kept.items() if found[0] not in {"", *NFS_ERRORS}}
    taken = {name.split("/")[0] for name, found in kept.items() if not found[0]}
    assert {name.split("/")[0] for name in kept} - taken <= {"corpus: goldens"}
