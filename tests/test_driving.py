"""Heads that follow a file or a video: drivers are rendered, so that what must be read off them is known."""

import json
import math
import shutil
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from nfs_lib import driving, samples, video, worlds
from nfs_lib.cli import main
from nfs_lib.driving import Performance, expressions_from, fit_length, poses_from, read_poses, rest, smooth, watch
from nfs_lib.errors import BadInput
from nfs_lib.portraits import chart, render, sample_latent

SEED = 9_960_002
T = 36


@pytest.fixture(scope="module")
def world():
    return worlds.load("open")


@pytest.fixture(scope="module")
def driver(tmp_path_factory, world):
    """A rendered clip of T frames with sound: yaw swings by ±18°, the jaw opens and closes three times."""
    t = torch.arange(T) / T * 2 * math.pi
    poses = torch.stack([0.31 * t.sin(), 0.1 * (2 * t).sin(), torch.zeros(T)], 1)
    scene = chart(sample_latent(SEED))
    jaw = world.face_model.action("jawOpen")
    betas = torch.zeros(T, 52)
    betas[:, jaw] = 0.25 - 0.25 * (3 * t).cos()
    frames = [render(scene.replace(expression=b.numpy()), p.numpy(), 160).image for b, p in zip(betas, poses, strict=True)]
    sound = 0.3 * np.sin(np.arange(T * 640) * 0.2).astype(np.float32)
    path = video.write_video(tmp_path_factory.mktemp("driver") / "driver.mp4", frames, sound)
    return SimpleNamespace(path=path, frames=frames, poses=poses, betas=betas, jaw=jaw)


@pytest.fixture(scope="module")
def seen(driver, world):
    return watch(driver.path, world.estimator, world.face_model)


def correlation(a, b):
    return float(np.corrcoef(np.asarray(a), np.asarray(b))[0, 1])


def test_poses_and_jaw_of_a_rendered_driver_are_read(driver, seen):
    assert seen.poses.shape == (T, 3) and seen.expressions.shape == (T, 52) and seen.notes == []
    error = (seen.poses - driver.poses).rad2deg().abs().mean(0)
    assert error[0] < 2.0 and error[1] < 3.0
    assert correlation(seen.poses[:, 0], driver.poses[:, 0]) > 0.95
    assert correlation(seen.expressions[:, driver.jaw], driver.betas[:, driver.jaw]) > 0.9
    assert len(seen.sound) == T * 640


def test_what_is_carried_over_follows_the_driver(driver, seen):
    own = torch.full((52,), 0.1)
    betas = expressions_from(seen, own)
    poses = poses_from(seen, T)
    assert correlation(betas[:, driver.jaw], driver.betas[:, driver.jaw]) > 0.9
    assert betas[[0, 12, 24], driver.jaw].mean() == pytest.approx(0.1, abs=0.1)      # shut: the portrait's own
    assert betas[:, driver.jaw].max() == pytest.approx(0.6, abs=0.15)
    assert correlation(poses[:, 0], driver.poses[:, 0]) > 0.95
    assert (poses - driver.poses).rad2deg().abs()[:, 0].mean() < 3.0


def test_a_tilted_driver_in_a_wide_picture(tmp_path, world, driver):
    """The face is small, off the middle and leans by 20°: the roll of the crop must come back."""
    from nfs_lib import cropping

    place = np.diag([0.7, 0.7, 1.0]) @ cropping.turn(-20, (80, 80))
    place[:2, 2] += (150, 20)
    wide = [cropping.to_uint8(cropping.warp(driving.picture(f), place, (180, 320))) for f in driver.frames[::3]]
    path = video.write_video(tmp_path / "wide.mp4", wide)
    read = watch(path, world.estimator, world.face_model)
    true = driver.poses[::3]
    assert read.sound is None and read.notes
    assert correlation(read.poses[:, 0], true[:, 0]) > 0.9
    assert (read.poses[:, 2].rad2deg() - 20).abs().mean() < 5.0


@pytest.mark.parametrize("fps", [10, 25, 50, 30])
def test_frames_are_taken_at_25_a_second(tmp_path, fps):
    count = 2 * fps
    shades = (20 + 215 * np.arange(count) / count).astype(np.uint8)
    frames = np.broadcast_to(shades[:, None, None, None], (count, 32, 32, 3))
    path = video.write_video(tmp_path / "a.mp4", frames, fps=fps)
    got = np.stack(list(video.stream_frames(path))).mean((1, 2, 3))
    assert len(got) == 50
    shown = shades[np.floor(np.arange(50) / 25 * fps + 1e-6).astype(int)]
    assert np.abs(got - shown).max() < 4


def test_large_frames_are_scaled_down(tmp_path):
    path = video.write_video(tmp_path / "a.mp4", np.full((2, 100, 200, 3), 90, np.uint8))
    assert [f.shape for f in video.stream_frames(path, longest_side=50)] == [(25, 50, 3)] * 2
    assert video.length(path) == 2


def test_a_video_filmed_upright_is_turned(tmp_path):
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:, :48] = 255                              # white on the left
    turned = video._upright(SimpleNamespace(width=96, height=64, rotation=-90, reformat=lambda **_: av.VideoFrame.from_ndarray(
        frame, format="rgb24")), 640)
    assert turned.shape == (96, 64, 3) and turned[:48].min() == 255 and turned[48:].max() == 0      # clockwise: on top


def test_sound_alone_is_that_of_the_whole_video(driver):
    assert np.array_equal(video.read_sound(driver.path), video.read_video(driver.path).audio)


# smoothing, lengths, neutral


def test_smoothing_removes_noise_and_comes_neither_early_nor_late():
    impulse = torch.zeros(41, 1)
    impulse[20] = 1
    spread = smooth(impulse, 0.4)[:, 0]
    assert spread.argmax() == 20 and torch.allclose(spread[:20].flip(0), spread[21:], atol=1e-3)
    assert spread.sum() == pytest.approx(1, abs=1e-3)
    assert torch.equal(smooth(impulse, 0.0), impulse)
    assert torch.allclose(smooth(torch.full((9, 2), 0.3), 0.7), torch.full((9, 2), 0.3))


@pytest.mark.parametrize(
    ("fill", "wanted"),
    [
        ("bounce", [0, 1, 2, 3, 2, 1, 0, 1]),
        ("hold", [0, 1, 2, 3, 3, 3, 3, 3]),
        ("stretch", [0, 3 / 7, 6 / 7, 9 / 7, 12 / 7, 15 / 7, 18 / 7, 3]),
    ],
)
def test_short_poses_fill_the_clip(fill, wanted):
    values = torch.arange(4.0)[:, None].repeat(1, 3)
    assert torch.allclose(fit_length(values, 8, fill)[:, 1], torch.tensor(wanted).float())
    assert fit_length(values, 1, fill).shape == (1, 3)
    one = fit_length(values[2:3], 5, fill)
    assert torch.equal(one, torch.full((5, 3), 2.0))


def test_long_poses_are_cut_or_pressed():
    values = torch.arange(9.0)[:, None]
    assert fit_length(values, 3, "bounce").flatten().tolist() == [0, 1, 2]
    assert fit_length(values, 3, "stretch").flatten().tolist() == [0, 4, 8]
    with pytest.raises(BadInput, match="bounce, hold, stretch"):
        fit_length(values, 3, "repeat")


def test_what_counts_as_neutral():
    t = torch.linspace(0, 1, 51)
    e = torch.stack([0.2 + t, -0.3 - t, t - 0.5], 1)                    # at its lower end, below 0, both ways
    seen = Performance(torch.zeros(51, 3), e)
    own = torch.tensor([0.2, 0.0, 0.1])
    assert torch.allclose(rest(e), torch.tensor([0.3, -0.4, 0.0]), atol=1e-6)
    assert torch.allclose(expressions_from(seen, own, "first", 0.0)[0], own)
    assert torch.allclose(expressions_from(seen, own, "mean", 0.0).mean(0), own, atol=1e-5)
    assert torch.allclose(expressions_from(seen, own, "rest", 0.0), own + e - rest(e))
    assert torch.equal(expressions_from(seen, own, "none", 0.0), e)
    with pytest.raises(BadInput, match="rest, first"):
        expressions_from(seen, own, "last")


def test_a_crop_moves_in_a_straight_line():
    a, b = np.eye(3), np.diag([2.0, 2.0, 1.0])
    assert np.allclose(driving.between([(4, a), (8, b)], 6), np.diag([1.5, 1.5, 1.0]))
    assert np.array_equal(driving.between([(4, a), (8, b)], 0), a)
    assert np.array_equal(driving.between([(4, a), (8, b)], 8), b) and np.array_equal(driving.between([(4, a), (8, b)], 11), b)


# files of poses


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text) if isinstance(text, bytes) else path.write_text(text)
    return path


ROWS = [{"yaw": 10, "pitch": -5, "roll": 0.5}, {"yaw": 20, "pitch": 0, "roll": 0}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "yaw,pitch,roll\n10,-5,0.5\n20,0,0\n"),
        ("a.csv", "Pitch, Roll, Yaw\r\n-5, 0.5, 1e1\r\n\r\n0,0,20"),
        ("a.csv", "yaw,pitch,roll\n10,-5,0.5\n20,0,0\n".encode("utf-8-sig")),
        ("a.json", json.dumps(ROWS)),
        ("a.JSON", json.dumps({name: [row[name] for row in ROWS] for name in ("roll", "yaw", "pitch")})),
    ],
)
def test_poses_are_read(tmp_path, name, text):
    poses = read_poses(written(tmp_path, name, text))
    assert torch.allclose(poses.rad2deg(), torch.tensor([[10, -5, 0.5], [20, 0, 0]]), atol=1e-4)


def test_poses_of_another_rate_are_resampled(tmp_path):
    content = {"fps": 50, "yaw": list(range(10)), "pitch": [0] * 10, "roll": [0] * 10}
    poses = read_poses(written(tmp_path, "a.json", json.dumps(content)))
    assert torch.allclose(poses[:, 0].rad2deg(), torch.tensor([0.0, 2, 4, 6, 8]), atol=1e-4)
    path = written(tmp_path, "a.csv", "yaw,pitch,roll\n0,0,0\n8,0,0\n")
    assert torch.allclose(poses_from(path, 3, fill="stretch")[:, 0].rad2deg(), torch.tensor([0.0, 4, 8]), atol=1e-4)


BAD_FILES = {
    "empty": ("a.csv", "", "nothing"),
    "header only": ("a.csv", "yaw,pitch,roll\n", "no pose"),
    "no header": ("a.csv", "1,2,3\n4,5,6\n", "header with yaw, pitch and roll"),
    "wrong column": ("a.csv", "yaw,pitch,tilt\n1,2,3\n", "tilt"),
    "a column twice": ("a.csv", "yaw,yaw,roll\n1,2,3\n", "expected"),
    "a column too many": ("a.csv", "yaw,pitch,roll,time\n1,2,3,0\n", "time"),
    "short line": ("a.csv", "yaw,pitch,roll\n1,2,3\n4,5\n", "line 3: 2 values"),
    "word": ("a.csv", "yaw,pitch,roll\n1,two,3\n", "line 2: pitch is 'two'"),
    "nan": ("a.csv", "yaw,pitch,roll\n1,2,nan\n", "roll is 'nan'"),
    "infinite": ("a.csv", "yaw,pitch,roll\ninf,2,3\n", "yaw"),
    "too far": ("a.csv", "yaw,pitch,roll\n0,0,0\n90,2,3\n", "line 3: yaw is '90'; degrees from -60 to 60"),
    "bytes": ("a.csv", b"\xff\xfe\x00\x01", "text file"),
    "null": ("a.csv", "yaw,pitch,roll\n1,2,\x003\n", "a.csv"),
    "not json": ("a.json", "{yaw", "isn't JSON"),
    "deep json": ("a.json", "[" * 100_000, "isn't JSON"),
    "a number": ("a.json", "3", "list of poses"),
    "wrong key": ("a.json", '[{"yaw": 1, "pitch": 2}]', "yaw, pitch and roll"),
    "unequal": ("a.json", '{"yaw": [1], "pitch": [1, 2], "roll": [1]}', "different lengths"),
    "text": ("a.json", '[{"yaw": "a", "pitch": 2, "roll": 1}]', "pose 1: yaw is 'a'"),
    "true": ("a.json", '[{"yaw": true, "pitch": 2, "roll": 1}]', "yaw"),
    "json nan": ("a.json", '[{"yaw": NaN, "pitch": 2, "roll": 1}]', "yaw"),
    "fps": ("a.json", '{"fps": 0, "yaw": [1], "pitch": [1], "roll": [1]}', "fps is 0"),
    "none": ("a.json", "[]", "no pose"),
    "ten minutes": ("a.csv", "yaw,pitch,roll\n" + "0,0,0\n" * 15_001, "longer than 10 minutes"),
}


@pytest.mark.parametrize("fault", BAD_FILES)
def test_bad_files_of_poses(tmp_path, fault):
    name, text, word = BAD_FILES[fault]
    with pytest.raises(BadInput) as caught:
        read_poses(written(tmp_path, name, text))
    assert word in str(caught.value) and name in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    for path, word in ((tmp_path, "folder"), (tmp_path / "none.csv", "doesn't exist")):
        with pytest.raises(BadInput, match=word):
            read_poses(path)


# bad drivers


def no_face(path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), np.uint8)
    video.write_video(path, noise.repeat(8, 1).repeat(8, 2))


def a_short_clip_without_a_face(path):
    video.write_video(path, np.full((3, 128, 128, 3), 90, np.uint8))


def sound_only(path):
    shutil.copy(samples.speech_file("hello"), path)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (no_face, "no face from 0.0 s"),
        (a_short_clip_without_a_face, "no face"),
        (sound_only, "no picture"),
        (lambda path: path.write_bytes(b""), "can't be decoded"),
        (lambda path: path.write_text("a video, I promise"), "can't be decoded"),
        (lambda path: path.mkdir(), "folder"),
        (lambda path: None, "doesn't exist"),
    ],
)
def test_bad_drivers(tmp_path, world, spoil, word):
    path = tmp_path / "driver.mp4"
    spoil(path)
    with pytest.raises(BadInput, match=word) as caught:
        watch(path, world.estimator, world.face_model)
    assert "driver.mp4" in str(caught.value)


def test_a_face_that_goes_away_for_a_moment_is_waited_for(tmp_path, world, driver):
    """A search without a face costs nothing but accuracy: its frames take the crop of their neighbours."""
    frames = [*driver.frames[:12], np.full_like(driver.frames[0], 128), *driver.frames[13:]]
    read = watch(video.write_video(tmp_path / "a.mp4", frames), world.estimator, world.face_model)
    assert len(read.poses) == T
    good = [i for i in range(T) if i != 12]
    assert correlation(read.poses[good, 0], driver.poses[good, 0]) > 0.95


# the command


@pytest.fixture
def quick(monkeypatch):
    """`nfs talk` with the shipped inversion in place of a minute of work; the parts that are under test stay."""
    from nfs_lib import inversion
    from nfs_lib.face import fitting

    made = samples.inverted()
    monkeypatch.setattr(inversion, "invert", lambda *a, **k: made)
    monkeypatch.setattr(worlds.World, "first_latent", lambda *a: made.w)
    monkeypatch.setattr("nfs_lib.pipeline.progress", lambda steps, *a, **k: steps)         # beartype looks into bars
    monkeypatch.setattr(fitting, "fit", lambda *a, **k: made.face)
    calls = {}

    def frames(self, betas, poses):
        calls.update(betas=betas, poses=poses)
        return (np.zeros((16, 16, 3), np.uint8) for _ in zip(betas, poses, strict=True))

    monkeypatch.setattr("nfs_lib.pipeline.TalkingHead.frames", frames)
    return calls


def test_talk_copies_a_video(tmp_path, driver, quick):
    out = tmp_path / "o.mp4"
    assert main(["talk", "--image", str(samples.portrait_file()), "--drive", str(driver.path), "--out", str(out)]) == 0
    assert correlation(quick["betas"][:, driver.jaw], driver.betas[:, driver.jaw]) > 0.9
    assert correlation(quick["poses"][:, 0], driver.poses[:, 0]) > 0.95
    back = video.read_video(out)
    assert len(back.frames) == T
    given = video.read_sound(driver.path)
    assert np.corrcoef(back.audio[2000:20000], given[2000:20000])[0, 1] > 0.99


def test_talk_follows_a_file_of_poses(tmp_path, quick):
    poses = written(tmp_path, "p.csv", "yaw,pitch,roll\n-20,0,0\n0,5,0\n20,0,5\n")
    audio, image = samples.speech_file("hello"), samples.portrait_file()
    words = ["talk", "--image", image, "--audio", audio, "--poses", poses, "--out", tmp_path / "o.mp4"]
    assert main([*map(str, words)]) == 0
    yaw = quick["poses"][:, 0].rad2deg().round()
    assert yaw[:6].tolist() == [-20, 0, 20, 0, -20, 0] and len(yaw) == len(quick["betas"]) == 121


def test_talk_with_a_driver_and_other_poses(tmp_path, driver, quick):
    words = ["talk", "--image", samples.portrait_file(), "--drive", driver.path, "--yaw", 15, "--out", tmp_path / "o.mp4"]
    assert main([*map(str, words)]) == 0
    assert torch.allclose(quick["poses"][:, 0].rad2deg(), torch.full((T,), 15.0))
