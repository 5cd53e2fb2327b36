"""Videos written and read back: colours, sound in step with the picture, and nothing left after a failure."""

import os

import av
import numpy as np
import pytest

from nfs_lib import video
from nfs_lib.errors import BadInput
from nfs_lib.paths import check_output
from nfs_lib.video import VideoWriter, read_video, write_video


def frames(count, height=64, width=48, seed=0):
    smooth = np.random.default_rng(seed).integers(40, 216, (count, 1, 1, 3)).astype(np.uint8)
    return np.broadcast_to(smooth, (count, height, width, 3))


def test_streams_are_what_players_take(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames(10), np.zeros(6400, np.float32))
    with av.open(str(path)) as file:
        picture, sound = file.streams.video[0].codec_context, file.streams.audio[0].codec_context
        assert (picture.name, picture.pix_fmt, file.streams.video[0].average_rate) == ("h264", "yuv420p", 25)
        assert (sound.name, sound.sample_rate) == ("aac", 48000)
        assert (picture.colorspace, picture.color_range) == (1, 1)  # BT.709, limited
        assert file.metadata["comment"] == video.DISCLOSURE
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")  # can start before all of it has arrived


def test_colours_survive(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (200, 150, 120)]
    given = np.stack([np.full((64, 64, 3), colour, np.uint8) for colour in colours])
    back = read_video(write_video(tmp_path / "a.mp4", given, signs=None))
    assert back.audio is None and back.fps == 25
    assert np.abs(back.frames.astype(int) - given).max() <= 4
    signed = read_video(write_video(tmp_path / "a.mp4", given)).frames.astype(int)
    assert np.abs((signed - given).mean((1, 2))).max() <= 2.5


@pytest.mark.parametrize(("height", "width"), [(33, 48), (64, 47), (35, 37)])
def test_odd_sides_are_made_even(tmp_path, height, width):
    back = read_video(write_video(tmp_path / "a.mp4", frames(3, height, width)))
    assert back.frames.shape == (3, height + height % 2, width + width % 2, 3)


@pytest.mark.parametrize("flash", [0, 13, 37])
def test_flash_and_click_stay_together(tmp_path, flash):
    """A white frame and a click at the same moment are read back a quarter of a frame apart at most."""
    given = np.zeros((50, 64, 64, 3), np.uint8)
    given[flash] = 255
    wave = np.zeros(50 * 640, np.float32)
    wave[flash * 640 : flash * 640 + 160] = 0.8 * np.sin(np.arange(160) * 2 * np.pi * 1000 / 16000)
    back = read_video(write_video(tmp_path / "a.mp4", given, wave))
    assert back.frames.mean((1, 2, 3)).argmax() == flash
    loud = np.flatnonzero(np.abs(back.audio) > 0.4)
    assert loud[0] / 640 == pytest.approx(flash, abs=0.25)
    assert loud[-1] / 640 == pytest.approx(flash + 0.25, abs=0.25)


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.0, 3.0])
def test_sound_gets_the_length_of_the_picture(tmp_path, seconds):
    wave = 0.5 * np.sin(np.arange(int(seconds * 16000), dtype=np.float32) * 0.3)
    path = write_video(tmp_path / "a.mp4", frames(25), wave)
    with av.open(str(path)) as file:
        for stream in (*file.streams.video, *file.streams.audio):
            assert float(stream.duration * stream.time_base) == pytest.approx(1.0, abs=0.001)
    audio = read_video(path).audio
    assert len(audio) == 16000
    told = min(len(wave), 16000)
    inner = slice(1000, max(1000, told - 1000))
    assert np.abs(audio[inner] - wave[inner]).max(initial=0) < 0.05
    assert np.abs(audio[told + 1000 :]).max(initial=0) < 0.01


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("written", [0, 5])
def test_a_failure_leaves_nothing_and_keeps_the_old_file(tmp_path, error, written):
    old = tmp_path / "old.mp4"
    old.write_bytes(b"older")
    for path in (old, tmp_path / "new.mp4"):
        with pytest.raises(error), VideoWriter(path, np.zeros(9999, np.float32)) as writer:
            for frame in frames(written):
                writer.write(frame)
            raise error
    assert os.listdir(tmp_path) == ["old.mp4"] and old.read_bytes() == b"older"


def test_no_frame_or_frames_of_two_sizes(tmp_path):
    with pytest.raises(BadInput, match="no frame"):
        write_video(tmp_path / "a.mp4", [])
    with pytest.raises(BadInput, match="first one"):
        write_video(tmp_path / "a.mp4", [*frames(2), *frames(1, 32, 32)])
    assert os.listdir(tmp_path) == []


def read_only_folder(tmp_path):
    """A folder that even root can't write to, or one without the permission."""
    if os.geteuid() == 0:
        return "/proc"
    (tmp_path / "locked").mkdir(mode=0o555)
    return tmp_path / "locked"


def test_outputs_that_cant_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    faults = {
        tmp_path: "is a folder",
        tmp_path / "a.avi": r"doesn't end in \.mp4",
        tmp_path / "mp4": r"doesn't end in \.mp4",
        tmp_path / "none" / "a.mp4": "make it first",
        tmp_path / "file" / "a.mp4": "isn't a folder",
        f"{read_only_folder(tmp_path)}/a.mp4": "can't be written to",
    }
    before = sorted(os.listdir(tmp_path))
    for path, words in faults.items():
        with pytest.raises(BadInput, match=words):
            check_output(path)
        with pytest.raises(BadInput, match=words):
            VideoWriter(path)
    assert sorted(os.listdir(tmp_path)) == before
    assert check_output(tmp_path / "a.MP4") == tmp_path / "a.MP4"


def test_files_that_are_no_video(tmp_path):
    content = write_video(tmp_path / "a.mp4", frames(10)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 8])
    (tmp_path / "text.mp4").write_text("hello\n" * 99)
    for name in ("missing.mp4", ".", "cut.mp4", "text.mp4"):
        with pytest.raises(BadInput, match="video"):
            read_video(tmp_path / name)
