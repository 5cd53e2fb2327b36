"""`nfs talk` with input that can't work: exit code 2, one line that says what to do, nothing left behind.

No part of the pipeline is replaced here, but every one of these must be refused before the long work begins.
"""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from nfs_lib.cli import main
from nfs_lib.paths import data_folder

pytest.importorskip("nfs_lib.pipeline")

PORTRAITS = sorted((data_folder() / "samples" / "portraits").glob("*.png"))
SECONDS = 20.0  # far more than a refusal takes, far less than a video


@pytest.fixture
def good(tmp_path):
    """Copies of a shipped portrait and of a sound, in a folder of their own."""
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(PORTRAITS[0], folder / "face.png")
    wave = 0.2 * np.sin(np.arange(16000) * 0.05 * (1 + np.sin(np.arange(16000) * 0.001)))
    soundfile.write(folder / "voice.wav", wave.astype(np.float32), 16000)
    return folder


def refused(good, capsys, **changed):
    """Run `nfs talk`, check that it refuses as it should, and return its one line."""
    out = good.parent / "out"
    out.mkdir()
    files = {"image": good / "face.png", "audio": good / "voice.wav", "out": out / "talk.mp4", **changed}
    before, start = sorted(os.walk(good.parent)), time.monotonic()
    code = main(["talk", *(str(word) for name, path in files.items() for word in (f"--{name}", path))])
    err = capsys.readouterr().err
    assert code == 2, err
    assert time.monotonic() - start < SECONDS
    assert sorted(os.walk(good.parent)) == before, "something was left behind"
    lines = [line for line in err.splitlines() if line.startswith("nfs: ")]
    assert len(lines) == 1 and "Traceback" not in err and err.rstrip().endswith(lines[0])
    return lines[0]


def no_picture(path):
    path.write_text("I am not a picture\n")


def one_pixel(path):
    Image.new("RGB", (1, 1), (200, 150, 120)).save(path)


def no_face(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)).save(path)


def huge_without_a_face(path):
    Image.new("L", (12000, 9000), 128).save(path, compress_level=1)


def cmyk_without_a_face(path):
    Image.new("CMYK", (300, 300), (10, 90, 40, 0)).save(path, "JPEG")


def cut_picture(path):
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (no_picture, "isn't a picture"),
        (one_pixel, "1x1"),
        (no_face, "face"),
        (huge_without_a_face, "face"),
        (cmyk_without_a_face, "face"),
        (cut_picture, "damaged"),
        (Path.unlink, "doesn't exist"),
    ],
)
def test_images(good, capsys, spoil, word):
    spoil(good / "face.png")
    line = refused(good, capsys)
    assert word in line and "face.png" in line


def empty_wav(path):
    soundfile.write(path, np.zeros(0, np.float32), 16000)


def no_bytes(path):
    path.write_bytes(b"")


def silence(path):
    soundfile.write(path, np.zeros(32000, np.float32), 16000)


def too_short(path):
    soundfile.write(path, 0.3 * np.sin(np.arange(800, dtype=np.float32)), 16000)


def no_sound(path):
    path.write_text("I am not a sound\n")


def mp3_cut_in_its_header(path):
    wave, rate = soundfile.read(path)
    soundfile.write(path, wave, rate, format="MP3")
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    "spoil", [empty_wav, no_bytes, silence, too_short, no_sound, mp3_cut_in_its_header, Path.unlink]
)
def test_sounds(good, capsys, spoil):
    spoil(good / "voice.wav")
    assert "voice.wav" in refused(good, capsys)


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("turn.csv", "yaw,pitch\n1,2\n", "yaw, pitch"),
        ("turn.csv", "yaw,pitch,roll\n1,2,nan\n", "line 2: roll"),
        ("turn.json", "{}", "turn.json"),
        ("turn.csv", None, "doesn't exist"),
        ("turn.mp4", "yaw,pitch,roll\n1,2,3\n", "can't be decoded"),
        ("turn.mp4", None, "doesn't exist"),
    ],
)
def test_poses(good, capsys, name, text, word):
    if text is not None:
        (good / name).write_text(text)
    line = refused(good, capsys, poses=good / name)
    assert word in line and name in line


def no_sound_nor_picture(path):
    path.write_text("I am not a video\n")


def nobody(path):
    from nfs_lib.video import write_video

    write_video(path, np.full((30, 128, 128, 3), 90, np.uint8))


def only_sound(path):
    shutil.copy(path.parent / "voice.wav", path)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [(no_sound_nor_picture, "can't be decoded"), (nobody, "no face"), (only_sound, "no picture"), (Path.mkdir, "folder")],
)
def test_drivers(good, capsys, spoil, word):
    spoil(good / "driver.mp4")
    line = refused(good, capsys, drive=good / "driver.mp4")
    assert word in line and "driver.mp4" in line


def test_a_folder_as_input(good, capsys):
    assert "folder" in refused(good, capsys, image=good)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("out", "is a folder"),
        ("out/talk.gif", "doesn't end in .mp4"),
        ("nowhere/talk.mp4", "make it first"),
        ("in/face.png/talk.mp4", "isn't a folder"),
    ],
)
def test_outputs(good, capsys, name, word):
    assert word in refused(good, capsys, out=good.parent / name)


def test_a_read_only_output_folder(good, capsys):
    if os.geteuid() == 0:  # permissions don't bind root, but this file system does
        folder = Path("/proc")
    else:
        folder = good.parent / "locked"
        folder.mkdir(mode=0o555)
    assert "can't be written to" in refused(good, capsys, out=folder / "talk.mp4")
