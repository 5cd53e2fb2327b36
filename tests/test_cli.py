"""Every command calls one function with what the user typed; a fault ends in one line and the right code."""

import json
import math
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

import nfs_lib
from nfs_lib.cli import PARTS, main
from nfs_lib.errors import BadInput, CorruptWeights, MissingWeights


@pytest.fixture
def stand_in(monkeypatch):
    """Put a function in the place of a library module's; the list that comes back notes its calls."""

    def replace(module, function, result=None):
        calls, fake = [], types.ModuleType(f"nfs_lib.{module}")

        def called(*args, **options):
            calls.append((args, options))
            if isinstance(result, BaseException):
                raise result
            return result

        setattr(fake, function, called)
        monkeypatch.setitem(sys.modules, f"nfs_lib.{module}", fake)
        if "." not in module:
            monkeypatch.setattr(nfs_lib, module, fake, raising=False)
        return calls

    return replace


def talk_arguments(tmp_path, *more):
    return ["talk", "--image", "me.png", "--audio", "hello.wav", "--out", str(tmp_path / "o.mp4"), *more]


def test_talk_with_nothing_but_the_files(tmp_path, stand_in, monkeypatch):
    monkeypatch.delenv("NFS_PROFILE", raising=False)
    calls = stand_in("pipeline", "talk")
    assert main(talk_arguments(tmp_path)) == 0
    args, options = calls[0]
    assert list(map(str, args)) == ["me.png", "hello.wav", str(tmp_path / "o.mp4")]
    assert options == {"world": "open", "profile": "full", "seed": 0, "orbit": False, "lipaint": True, "official": False,
                       "mark": True, "device": "cpu"}  # fmt: skip
    monkeypatch.setenv("NFS_PROFILE", "fast")
    main(talk_arguments(tmp_path))
    assert calls[1][1]["profile"] == "fast"


def test_a_full_device(tmp_path, stand_in, capsys):
    stand_in("pipeline", "talk", torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert main(talk_arguments(tmp_path, "--device", "cuda")) == 2
    assert capsys.readouterr().err == "nfs: the device's memory is full; free some of it, or give another --device\n"


def test_talk_with_every_option(tmp_path, stand_in):
    calls = stand_in("pipeline", "talk")
    more = "--yaw -30 --pitch 10 --orbit --profile fast --seed 7 --no-lipaint --momentum 0 --scale 1.5 --drive her.mp4"
    more += " --mask-frames 5 --as official --no-mark --sign-with me.pem --device cuda:1"
    assert main(talk_arguments(tmp_path, *more.split())) == 0
    options = calls[0][1]
    assert options.pop("yaw") == pytest.approx(-math.pi / 6)
    assert options.pop("pitch") == pytest.approx(math.pi / 18)
    assert options == {
        "world": "open",
        "profile": "fast",
        "seed": 7,
        "orbit": True,
        "lipaint": False,
        "device": "cuda:1",
        "momentum": 0.0,
        "scale": 1.5,
        "mask_frames": 5,
        "drive": Path("her.mp4"),
        "official": True,
        "mark": False,
        "certificate": Path("me.pem"),
    }


def test_talk_without_speech(tmp_path, stand_in):
    """A video to copy takes the place of speech; poses can come with either."""
    calls = stand_in("pipeline", "talk")
    out = str(tmp_path / "o.mp4")
    assert main(["talk", "--image", "me.png", "--drive", "her.mp4", "--out", out]) == 0
    assert main(["talk", "--image", "me.png", "--drive", "her.mp4", "--poses", "turn.csv", "--out", out]) == 0
    assert main(talk_arguments(tmp_path, "--poses", "turn.mp4")) == 0
    assert calls[0][0][1] is None and calls[0][1]["drive"] == Path("her.mp4") and "poses" not in calls[0][1]
    assert calls[1][1]["poses"] == Path("turn.csv")
    assert calls[2][1]["poses"] == Path("turn.mp4") and "drive" not in calls[2][1]


@pytest.mark.parametrize("part", PARTS)
def test_train(stand_in, part):
    calls = stand_in(f"training.{part}", "train")
    assert main(["train", part]) == 0
    assert main(["train", part, "--steps", "5", "--seed", "2", "--resume", "--out", "there"]) == 0
    team = calls[0][1].pop("device")
    assert calls[0][1] == {"seed": 0, "resume": False, "out": None}
    assert (team.device.type, team.size, team.save_every) == ("cpu", 1, 3.0)
    options = calls[1][1]
    assert (options["steps"], options["seed"], options["resume"], str(options["out"])) == (
        5,
        2,
        True,
        "there",
    )


def test_measure_prints_and_writes(tmp_path, stand_in, capsys):
    stand_in("measure", "report", {"generator.psnr": 29.5})
    assert main(["measure", "--json", str(tmp_path / "m.json")]) == 0
    assert json.loads((tmp_path / "m.json").read_text()) == {"generator.psnr": 29.5}
    assert json.loads(capsys.readouterr().out) == {"generator.psnr": 29.5}
    calls = stand_in("measure", "report")
    assert main(["measure", "--json", str(tmp_path / "none" / "m.json")]) == 2
    assert not calls  # refused before the long work


@pytest.mark.parametrize(("verdicts", "code"), [([True, None], 0), ([True, False], 1)])
def test_parity(stand_in, capsys, verdicts, code):
    results = [types.SimpleNamespace(ok=ok) for ok in verdicts]
    calls = stand_in("parity", "run", results)
    assert main(["parity", "goldens", "--only", "audio"]) == code
    assert str(calls[0][0][0]) == "goldens" and calls[0][0][1] == "audio"
    assert len(capsys.readouterr().out.splitlines()) == 2
    main(["parity"])
    assert calls[1][0][0].parts[-2:] == ("tests", "goldens")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInput("me.png\nis a cat"), 2),
        (MissingWeights("no weights"), 2),
        (CorruptWeights("bad weights"), 2),
        (KeyboardInterrupt(), 130),
        (RuntimeError("bug"), 1),
    ],
)
def test_exit_codes(tmp_path, stand_in, capsys, error, code):
    stand_in("pipeline", "talk", error)
    assert main(talk_arguments(tmp_path)) == code
    out, err = capsys.readouterr()
    assert not out
    assert ("Traceback" in err) == (code == 1)
    if code == 2:
        assert err == "nfs: " + str(error).replace("\n", " ") + "\n"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "sing",
        "talk",
        "talk --image a.png --audio b.wav",
        "train",
        "train hairdo",
        "train sync --steps 0",
        "train sync --steps many",
        "train sync --seed -1",
        "weights",
        "weights eat",
        *(
            f"talk --image a.png --audio b.wav --out c.mp4 {wrong}"
            for wrong in (
                "--yaw nan",
                "--yaw inf",
                "--yaw 61",
                "--yaw left",
                "--pitch -41",
                "--momentum 1",
                "--scale -1",
                "--mask-frames 0",
                "--mask-frames 1.5",
                "--profile slow",
                "--world mars",
                "--poses p.csv --orbit",
                "--poses p.csv --yaw 0",
                "--poses p.csv --pitch 5",
                "--drive",
            )
        ),
        "talk --image a.png --out c.mp4",
        "talk --image a.png --poses p.csv --out c.mp4",
    ],
)
def test_a_wrong_command_line_is_one_line_and_two(line, stand_in, capsys):
    calls = stand_in("pipeline", "talk")
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("nfs: ") and err.count("\n") == 1 and "--help" in err
    assert not calls


def test_help_and_version(capsys):
    for line in ("--help", "talk --help", "--version"):
        with pytest.raises(SystemExit) as caught:
            main(line.split())
        assert caught.value.code == 0
    assert nfs_lib.__version__ in capsys.readouterr().out


def test_doctor_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NFS_DATA", str(tmp_path / "nothing"))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "face: missing" in out and "(not there)" in out


def test_the_command_line_is_light():
    """Help and complaints come at once: neither torch nor the decoders are loaded for them."""
    code = (
        "import sys, nfs_lib.cli as cli; cli.main(['talk']); "
        "sys.exit(bool({'torch', 'numpy', 'av', 'librosa', 'numba', 'dlib', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
