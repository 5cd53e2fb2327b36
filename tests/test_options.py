"""Every option of every command, given what it can't take: exit code 2, one line that says what to do, nothing written.

Two tables. `WRONG_BY_KIND` is thrown at every option that argparse converts (numbers, choices), whichever there are, also at
those that come later. `REFUSED` holds command lines that are well formed and still can't be meant.
"""

import argparse
import os

import pytest

from nfs_lib import cli

NUMBERS = ("", "half", "nan", "inf", "-inf", "1e400", "-1e9", "1,5", "0x10", "٣٫٥", "1 2", "\0", "9" * 5000)
WORDS = ("", "nonsense", "OPEN", "open ", "\0", "x" * 5000)
REQUIRED = {"talk": "--image a.png --audio a.wav --out o.mp4", "train": "lipaint",
            "external": "wav2lip cases --checkout a --python b", "inspect": "a.mp4", "evaluate": "ours",
            "prepare": "in out", "weights": "list"}  # fmt: skip


def actions():
    """(command, option) of every option that takes a value."""
    (commands,) = (a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        yield from ((name, action) for action in command._actions if action.option_strings and action.nargs != 0)


def wrong():
    """Command lines with one value that can't be converted, or isn't among the choices."""
    for command, action in actions():
        number = getattr(action.type, "__qualname__", "").startswith("_number")
        for value in WORDS if action.choices else NUMBERS if number else ():
            yield pytest.param([command, *REQUIRED.get(command, "").split(), f"{action.option_strings[0]}={value}"],
                               id=f"{command} {action.option_strings[0]} {value[:12]!r}")  # fmt: skip


LONG = "x" * 5000
TALK = "talk --image a.png --audio a.wav --out o.mp4"
REFUSED = {
    "no command": "",
    "an unknown command": "sing",
    "an unknown option": f"{TALK} --louder",
    "an option twice over": f"{TALK} --yaw 10 20",
    "yaw of 61": f"{TALK} --yaw 61",
    "yaw and poses": f"{TALK} --yaw 10 --poses p.csv",
    "orbit and poses": f"{TALK} --orbit --poses p.csv",
    "momentum of 1": f"{TALK} --momentum 1",
    "half a mask": f"{TALK} --mask-frames 0.5",
    "a negative seed": f"{TALK} --seed -1",
    "a seed that is too large": f"{TALK} --seed 2147483648",
    "neither speech nor driver": "talk --image a.png --out o.mp4",
    "no portrait": "talk --audio a.wav --out o.mp4",
    "an output of another kind": "talk --image a.png --audio a.wav --out o.gif",
    "an output that is a folder": "talk --image a.png --audio a.wav --out there",
    "an output in no folder": "talk --image a.png --audio a.wav --out none/o.mp4",
    "a key that isn't there": f"{TALK} --sign-with none.pem",
    "inputs that aren't there": TALK,
    "an input that is a folder": "talk --image there --audio a.wav --out o.mp4",
    "a name that is too long": f"talk --image {LONG} --audio a.wav --out o.mp4",
    "the official way in the open world": "talk --image a.png --audio a.wav --out o.mp4 --as official",
    "a part that there isn't": "train nose",
    "no steps": "train lipaint --steps 0",
    "a folder that is a file": "train lipaint --out file",
    "a folder without a name": "train lipaint --out=",
    "a recipe for another part": "train sync --recipe paper",
    "an unknown device": "train lipaint --out o --device abacus",
    "a graphics card that isn't there": "train lipaint --out o --device cuda:99",
    "one device, two processes": "train lipaint --out o --device cuda:0 --devices 2",
    "no processes": "train lipaint --out o --devices 0",
    "time that runs backwards": "train lipaint --out o --save-every -1",
    "a section that there isn't": "measure --only nose",
    "a section without a name": "measure --only=",
    "figures in no folder": "measure --json none/m.json",
    "figures of another kind": "measure --json m.txt",
    "a row that there isn't": "bench --only nose",
    "a row without a name": "bench --only=",
    "a row of the other world": "bench --world paper --only mel",
    "a report in a folder": "bench --json there",
    "a study in a file": "ablate --out file",
    "a study in no folder": "ablate --out none/deep",
    "no workers": "ablate --workers 0",
    "workers and a cluster": "ablate --workers 2 --scheduler tcp://127.0.0.1:1",
    "a cluster that isn't there": "ablate --scheduler tcp://127.0.0.1:1",
    "a cluster without an address": "ablate --scheduler=",
    "a cluster's address in words": "ablate --scheduler nonsense",
    "a comparison in a file": "flip --out file",
    "an unknown method": "external sing there --checkout there --python file",
    "a method without its checkout": "external wav2lip there --checkout none --python file",
    "no time for a clip": "external wav2lip there --checkout there --python file --seconds 0",
    "no video": "inspect",
    "a video that isn't there": "inspect none.mp4",
    "a video that isn't one": "inspect file",
    "findings in no folder": "inspect file --json none/i.json",
    "no folders": "evaluate",
    "folders that aren't there": "evaluate none",
    "a table in no folder": "evaluate there --out none/t.csv",
    "a table without a name": "evaluate there --out=",
    "a truth that isn't there": "evaluate there --truth none",
    "a world that there isn't": "evaluate there --world real",
    "a source that isn't there": "prepare none out",
    "a source that is a file": "prepare file out",
    "clips into a file": "prepare there file",
    "a folder of numbers that isn't there": "parity none",
    "a set that there isn't": "parity --only nose",
    "a set without a name": "parity --only=",
    "nothing to do with weights": "weights",
    "nothing to import": "weights import",
    "an import that isn't there": "weights import none.pkl",
    "an import that isn't one": "weights import file",
    "a list of files": "weights list file",
    "tables that aren't there": "paper --folder none",
    "tables in a file": "paper --folder file",
    "a list without its kind": "doctor --json d.json",
    "licences in no folder": "doctor --licences --json none/d.json",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a file, a folder, and nothing else; the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("text")
    return tmp_path


def refused(place, capsys, command):
    before = sorted(place.rglob("*"))
    assert cli.main(command) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("nfs: ") and err.count("\n") == 1 and 30 < len(err) < 6000, err
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("command", list(wrong()))
def test_values_of_the_wrong_kind(place, capsys, command):
    refused(place, capsys, command)


@pytest.mark.parametrize("command", [pytest.param(line, id=name) for name, line in REFUSED.items()])
def test_what_cannot_be_meant(place, capsys, command):
    refused(place, capsys, command.split())


def test_the_tables_meet_every_command():
    (commands,) = (a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert set(commands.choices) == {line.split()[0] for line in REFUSED.values() if line} - {"sing"}
    assert len(list(wrong())) > 200


def test_a_folder_that_may_not_be_written(place, capsys):
    """Permissions don't bind root, but this file system does."""
    (place / "there").chmod(0o500)
    out = "/proc" if os.geteuid() == 0 else "there"
    assert cli.main(["ablate", "--out", out]) == 2
    assert capsys.readouterr().err.startswith(f"nfs: {out}")
