"""framing.py, studies/measuring.py, moments.py and evaluate.py: right answers that are known beforehand."""

import csv
import math
import pickle
import re
import shutil
import weakref

import numpy as np
import pytest
import torch
from make_evaluation_example import make
from PIL import Image
from scipy.stats import bootstrap

from nfs_lib import cli, cropping, framing, portraits, worlds
from nfs_lib.errors import BadInput
from nfs_lib.face import Estimator
from nfs_lib.framing import cut, frame_clip, place, settle
from nfs_lib.metrics import COLUMNS, IdentityEncoder, Lse, SyncScorer, cpbd, fid, luminance
from nfs_lib.studies import evaluate as study
from nfs_lib.studies import measuring, moments
from nfs_lib.video import read_sound, read_video, write_video

SEED = 9_960_000
CLIPS, FRAMES = 4, 26


@pytest.fixture(scope="module")
def world():
    return worlds.load("open")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three methods, four clips each, one of each broken; half the size, to be drawn in less time."""
    path = tmp_path_factory.mktemp("example")
    make(path, CLIPS, FRAMES, 128)
    return path


@pytest.fixture(scope="module")
def evaluation(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, "RESAMPLES", 100)
        patch.setattr(framing, "MOMENTS", 2)
        return study.evaluate([folder / name for name in ("blurred", "dubbed", "stranger")], out=folder / "table.csv")


@pytest.fixture
def quick(monkeypatch):
    """The face is taken to be known, and nothing is sharp."""
    monkeypatch.setattr(measuring, "frame_clip", lambda *a: framing.Framing(np.diag([2.0, 2.0, 1.0]), 5, 5))
    monkeypatch.setattr(measuring, "cpbd", lambda grey: 0.5)


def drawn(seed, yaw=0.0, jaw=None, resolution=256):
    """A portrait's picture, turned by degrees, the mouth open or not."""
    scene = portraits.chart(portraits.sample_latent(seed))
    if jaw is not None:
        scene.expression[worlds.load("open").face_model.action("jawOpen")] = jaw
    return portraits.render(scene, np.array([math.radians(yaw), 0, 0], np.float32), resolution).image


# framing


@pytest.mark.parametrize("resolution", [256, 400])
def test_the_kits_own_frames_are_only_resized(world, resolution):
    frame = drawn(SEED, 10, 0.5, resolution)
    transform = place(frame, world.estimator, world.face_model)
    assert np.array_equal(transform, np.diag([256 / resolution, 256 / resolution, 1]))
    if resolution == 256:
        assert np.array_equal(np.asarray((cut(frame, transform).permute(1, 2, 0) + 1) * 127.5).round(), frame)
    else:
        small = np.asarray(Image.fromarray(frame).resize((256, 256), Image.Resampling.BICUBIC), float)
        ours = np.asarray((cut(frame, transform).permute(1, 2, 0) + 1) * 127.5)
        assert np.abs(ours - small).mean() < 1


@pytest.mark.parametrize(("yaw", "jaw"), [(45, None), (-45, None), (0, 0.9)])
def test_turned_heads_and_open_mouths_are_faces(world, yaw, jaw):
    seen = [place(drawn(SEED + i, yaw, jaw), world.estimator, world.face_model) for i in range(4)]
    assert sum(t is not None for t in seen) == 4
    assert sum(np.allclose(t, np.eye(3)) for t in seen) >= 3


def landscape():
    """Sky, hills, a sun: edges and gradients, no face."""
    y, x = np.mgrid[:256, :256] / 256
    picture = np.stack([0.4 + 0.3 * y, 0.6 + 0.2 * y, 0.9 + 0 * y], -1)
    for depth, height in enumerate((0.5, 0.65, 0.8)):
        hill = y > height + 0.08 * np.sin(9 * x + 2 * depth) + 0.03 * np.sin(31 * x)
        picture[hill] = np.array([0.2, 0.5, 0.2]) * (1 - 0.25 * depth)
    picture[np.hypot(x - 0.7, y - 0.2) < 0.08] = (1.0, 0.9, 0.5)
    return (picture * 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["landscape", "noise", "grey", "portrait upside down"])
def test_what_is_no_face_is_not_one(world, kind):
    frame = {
        "landscape": landscape, "grey": lambda: np.full((256, 256, 3), 128, np.uint8),
        "noise": lambda: np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8),
        "portrait upside down": lambda: np.ascontiguousarray(drawn(SEED)[::-1]),
    }[kind]()  # fmt: skip
    assert place(frame, world.estimator, world.face_model) is None


def test_a_face_elsewhere_is_cut_out_as_a_portrait(world, tmp_path, monkeypatch):
    """A portrait in a wide picture; one crop for the clip, within what the detector can tell."""
    monkeypatch.setattr(framing, "MOMENTS", 3)
    frames = []
    for t in range(30):
        wide = np.full((420, 640, 3), 110, np.uint8)
        wide[60:380, 240:560] = drawn(SEED + 1, 0, 0.3 * (t % 2), 320) if t < 2 else frames[t % 2][60:380, 240:560]
        frames.append(wide)
    write_video(tmp_path / "wide.mp4", frames)
    found = frame_clip(tmp_path / "wide.mp4", world.estimator, world.face_model)
    assert (found.seen, found.looked) == (3, 3)
    middle, edge = found.transform @ (400, 220, 1), found.transform @ (560, 220, 1)
    assert np.hypot(*(middle - (128, 128, 1))[:2]) < 13
    assert (edge - middle)[0] == pytest.approx(128, rel=0.12)
    crop = cut(frames[0], found.transform)
    whole = cropping.warp(framing.picture(frames[0]), found.transform)
    assert (crop - whole).abs().mean() < 0.004       # cutting first and warping then is the same


def test_a_clip_is_framed_by_most_of_its_moments():
    shift = np.array([[0.5, 0, 10], [0, 0.5, 20], [0, 0, 1]])
    off = np.array([[0.8, 0, 90], [0, 0.8, 20], [0, 0, 1]])
    assert np.allclose(settle([shift, off, shift, None, shift]).transform, shift)
    assert settle([np.eye(3), None, shift, np.eye(3), None]).transform is not shift
    with pytest.raises(BadInput, match="seen at 2 of the 5 moments"):
        settle([shift, None, None, shift, None])


# one video


def test_streaming_gives_what_the_whole_clip_gives(world, folder, evaluation):
    """Against the whole video in memory and the definitions themselves; and twice the same."""
    path = folder / "truth" / "clip_00.mp4"
    ours = measuring.measure(path)
    crops = torch.stack([cut(frame, ours.framing.transform) for frame in read_video(path).frames])
    backend = measuring.networks("open").backend
    embeddings, features = backend.identity(crops).numpy(), backend.features(crops).numpy()
    assert ours.frames == len(crops) == FRAMES
    assert np.allclose(ours.embedding, embeddings.mean(0), atol=1e-5) and np.allclose(ours.first, embeddings[0], atol=1e-5)
    pictures = ((crops.permute(0, 2, 3, 1).contiguous() + 1) * 127.5).round().byte().numpy()
    assert ours.cpbd == pytest.approx(np.mean([cpbd(luminance(picture)) for picture in pictures]), abs=1e-9)
    mel = torch.from_numpy(measuring.audio.mel_windows(read_sound(path)))
    assert ours.sync == pytest.approx(world.sync.score(crops[: len(mel)], mel[: len(crops)]), abs=1e-5)
    mean, covariance = moments.gaussian([ours.moments])
    assert np.allclose(mean, features.mean(0), atol=1e-4)
    assert np.allclose(covariance, np.cov(features, rowvar=False), atol=1e-4)
    assert pickle.loads(pickle.dumps(ours)).sync == ours.sync
    row = next(r for r in evaluation.rows if (r["method"], r["clip"]) == ("truth", "clip_00"))
    assert (row["CPBD"], row["LSE-D"], row["LSE-C"]) == (ours.cpbd, ours.sync.distance, ours.sync.confidence)


def test_nothing_is_computed_twice(folder, monkeypatch):
    """Every frame passes each network once and is cropped once, and the face is looked for at five moments."""
    count = dict.fromkeys(("features", "identity", "lips", "crops", "faces", "cpbd"), 0)

    def counted(name, function, rows):
        def call(*arguments):
            count[name] += rows(arguments[-1])
            return function(*arguments)

        return call

    monkeypatch.setattr(Estimator, "features", counted("features", Estimator.features, len))
    monkeypatch.setattr(IdentityEncoder, "forward", counted("identity", IdentityEncoder.forward, len))
    monkeypatch.setattr(SyncScorer, "see", counted("lips", SyncScorer.see, len))
    monkeypatch.setattr(framing, "cut", counted("crops", framing.cut, lambda _: 1))
    monkeypatch.setattr(framing, "place", counted("faces", framing.place, lambda _: 1))
    monkeypatch.setattr(measuring, "cpbd", counted("cpbd", measuring.cpbd, lambda _: 1))
    measuring.measure(folder / "truth" / "clip_00.mp4")
    assert count == {"features": FRAMES, "identity": FRAMES, "lips": FRAMES - 4, "crops": FRAMES, "faces": 5, "cpbd": FRAMES}


def test_memory_does_not_grow_with_the_clip(quick, folder, monkeypatch):
    """Of a longer clip no more than a batch of crops is alive at once, and FID's moments stay as large as the features."""
    frames = list(read_video(folder / "truth" / "clip_00.mp4").frames)
    alive, most = [], []

    def stack(batch, transform):
        crops = torch.zeros(len(batch), 3, 256, 256)
        alive.append(weakref.ref(crops))
        most.append(sum(r() is not None for r in alive))
        return crops

    features = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(measuring, "stack", stack)
    monkeypatch.setattr(measuring, "stream_frames", lambda *a: iter(5 * frames))
    monkeypatch.setattr(type(measuring.networks("open").backend), "look",
                        lambda self, crops: (features[: len(crops)], features[: len(crops)]))
    found = measuring.measure(folder / "truth" / "clip_00.mp4")
    assert found.frames == 5 * FRAMES and len(most) > 8
    assert max(most) <= 2
    assert found.moments.root.shape == (8, 8)


def broken(kind, folder, tmp_path):
    """A video with something wrong."""
    whole = folder / "truth" / "clip_00.mp4"
    frames, wave, path = read_video(whole).frames, read_sound(whole), tmp_path / "clip_00.mp4"
    content = whole.read_bytes()
    if kind == "silent":
        write_video(path, frames, np.zeros_like(wave))
    elif kind == "without sound":
        write_video(path, frames)
    elif kind == "short":
        write_video(path, frames[:20], wave)
    elif kind == "faceless":
        write_video(path, np.broadcast_to(landscape(), (FRAMES, 256, 256, 3)), wave)
    elif kind == "cut in its index":
        path.write_bytes(content[:1500])
    elif kind == "cut in its pictures":
        path.write_bytes(content[: len(content) * 2 // 3])
    elif kind == "text":
        path.write_text("this is no video")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "sound alone":
        shutil.copy(folder / "speech" / "clip_00.wav", path)
    return path


@pytest.mark.parametrize(("kind", "reason"), [
    ("silent", "it is silent: its loudest sample is 0 of full scale"),
    ("without sound", "it has no sound"),
    ("short", "it has 20 frames; at least 25"),
    ("faceless", "a face is seen at 0 of the 5 moments"),
    ("cut in its index", "can't be decoded"),
    ("cut in its pictures", "can't be decoded|its picture ends after|frames; at least"),
    ("text", "can't be decoded"),
    ("empty", "can't be decoded"),
    ("sound alone", "holds no picture"),
])  # fmt: skip
def test_a_video_that_cant_be_measured_says_why(kind, reason, folder, tmp_path):
    said = measuring.measured(broken(kind, folder, tmp_path))
    assert isinstance(said, str) and re.search(reason, said)
    assert str(tmp_path) not in said and "\n" not in said


def test_the_sound_may_be_late_and_lse_says_by_how_much(quick, folder, tmp_path):
    whole = folder / "truth" / "clip_00.mp4"
    late = np.pad(read_sound(whole), (4 * 640, 0))
    write_video(tmp_path / "late.mp4", read_video(whole).frames, late)
    assert measuring.measure(whole).sync.offset == 0
    assert measuring.measure(tmp_path / "late.mp4").sync.offset == -4


# FID and intervals


def features(seed, frames, dimensions=6):
    """Features of a clip: a mean of its own and some spread about it."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=dimensions) + rng.normal(size=(frames, dimensions)) @ rng.normal(size=(dimensions, dimensions)) / 3


def test_pieces_joined_are_the_clip():
    rows = features(0, 50).astype(np.float32)
    whole = moments.moments(rows)
    parts = moments.join(moments.join(moments.moments(rows[:3]), moments.moments(rows[3:30])), moments.moments(rows[30:]))
    assert parts.frames == 50 and len(parts.root) <= 6
    assert np.allclose(parts.mean, whole.mean, atol=1e-6)
    assert np.allclose(parts.root.T @ parts.root, whole.root.T @ whole.root, rtol=1e-4, atol=1e-4)


def test_fid_of_clips_is_that_of_all_their_frames():
    ours, true = [features(i, 9 + i) for i in range(5)], [features(50 + i, 12) for i in range(5)]
    value, low, high = moments.fid_interval([moments.moments(f) for f in ours], [moments.moments(f) for f in true])
    assert value == pytest.approx(fid(np.concatenate(ours), np.concatenate(true)), rel=1e-5)
    assert low < value < high


def test_fid_with_itself_is_nothing_and_sure():
    clips = [moments.moments(features(i, 20)) for i in range(4)]
    assert moments.fid_interval(clips, clips) == pytest.approx((0, 0, 0), abs=1e-9)


def test_the_interval_of_fid_is_that_of_clips_drawn_anew(monkeypatch):
    """Against drawing the frames themselves, with other random numbers."""
    ours, true = [features(i, 15) for i in range(6)], [features(80 + i, 15) for i in range(6)]
    value, low, high = moments.fid_interval([moments.moments(f) for f in ours], [moments.moments(f) for f in true])
    rng, again = np.random.default_rng(5), []
    for _ in range(1000):
        chosen = rng.integers(0, 6, 6)
        again.append(fid(np.concatenate([ours[i] for i in chosen]), np.concatenate([true[i] for i in chosen])))
    ends = np.quantile(again, [0.025, 0.975]) - np.median(again) + value
    assert (low, high) == pytest.approx((max(0, ends[0]), ends[1]), rel=0.15)


def test_fid_is_drawn_anew_in_its_strongest_directions(monkeypatch):
    """Features whose last directions hold little: leaving them out changes little."""
    scale = np.r_[np.ones(6), 0.01 * np.ones(14)]
    ours = [moments.moments(features(i, 25, 20) * scale) for i in range(6)]
    true = [moments.moments(features(80 + i, 25, 20) * scale) for i in range(6)]
    whole = moments.fid_interval(ours, true)
    monkeypatch.setattr(moments, "STRONGEST", 6)
    assert moments.fid_interval(ours, true) == pytest.approx(whole, rel=0.01)


def test_the_interval_of_a_mean_is_scipys():
    values = np.random.default_rng(3).gamma(2, size=15)
    value, low, high = moments.mean_interval(values)
    theirs = bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1))
    assert value == values.mean()
    assert (low, high) == pytest.approx(theirs.confidence_interval, abs=0.06)
    assert (value, low, high) == moments.mean_interval(values)


def test_one_clip_has_a_value_and_no_interval():
    assert np.array_equal(moments.mean_interval(np.array([2.0])), (2.0, np.nan, np.nan), equal_nan=True)
    one = [moments.moments(features(0, 9))], [moments.moments(features(1, 9))]
    assert np.isnan(moments.fid_interval(*one)[1:]).all() and moments.fid_interval(*one)[0] > 0
    assert np.isnan(moments.mean_interval(np.array([]))).all() and np.isnan(moments.fid_interval([], [])).all()


# the table


def of(evaluation, method, metric, what="value"):
    return next(line[what] for line in evaluation.summary if (line["method"], line["metric"]) == (method, metric))


def test_each_fault_is_seen_by_its_metric(evaluation):
    """What the example's methods do wrong, and nothing else, is what the table says."""
    value = {(m, c): of(evaluation, m, c) for m in ("blurred", "dubbed", "stranger") for c in COLUMNS}
    worst = {c: (max if better == "↓" else min)(("blurred", "dubbed", "stranger"), key=lambda m: value[m, c])
             for c, better in COLUMNS.items() if c != "FID"}
    assert worst == {"CSIM": "stranger", "CPBD": "blurred", "LSE-D": "dubbed", "LSE-C": "dubbed"}
    assert value["dubbed", "FID"] < 1e-6 < 0.1 < min(value["blurred", "FID"], value["stranger", "FID"])
    assert value["dubbed", "CSIM"] > 0.9 and value["stranger", "CSIM"] < 0.5
    for method, metric in value:
        assert of(evaluation, method, metric, "low") <= value[method, metric] <= of(evaluation, method, metric, "high")


def test_the_table_is_complete_and_explains_its_gaps(evaluation, folder):
    with open(folder / "table.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["method"], r["clip"]) for r in rows] == [
        (method, f"clip_{i:02}") for method in ("truth", "blurred", "dubbed", "stranger") for i in range(CLIPS)]
    out = {(r["method"], r["clip"]): r["left_out"] for r in rows if r["left_out"]}
    assert set(out) == {("blurred", "clip_01"), ("dubbed", "clip_02"), ("stranger", "clip_03")}
    assert "decoded" in out["blurred", "clip_01"]
    assert "face" in out["dubbed", "clip_02"] and "sound" in out["stranger", "clip_03"]
    for r in rows:
        numbers = [r[c] for c in ("CSIM", "CPBD", "LSE-D", "LSE-C", "offset", "frames")]
        assert r["backend"] == "open"
        assert all(numbers) if not r["left_out"] else not any(numbers)
    mean = np.mean([float(r["CPBD"]) for r in rows if r["method"] == "dubbed" and r["CPBD"]])
    assert of(evaluation, "dubbed", "CPBD") == pytest.approx(mean, rel=1e-4)
    assert {of(evaluation, m, "CPBD", "clips") for m in ("blurred", "dubbed", "stranger")} == {CLIPS - 1}
    with open(folder / "table_summary.csv", encoding="utf-8", newline="") as file:
        summary = list(csv.DictReader(file))
    assert len(summary) == 4 * 5 and summary[0]["value"] == ""  # the truth has no FID
    assert "Left out: 3 of 12 videos" in evaluation.note and "not comparable with published figures" in evaluation.note
    assert "the portrait (9 videos)" in evaluation.note
    assert not [f for f in folder.iterdir() if f.name.startswith(".")]


def test_the_table_in_print_and_as_a_picture(evaluation, folder):
    text = study.printed(evaluation).splitlines()
    assert text[0].split() == ["clips", *(word for c, arrow in COLUMNS.items() for word in (c, arrow))]
    assert text[1].startswith("ground truth  4 of 4  –")
    best = next(line for line in text if line.startswith("dubbed"))
    assert "0.000 [0.000, 0.000] *" in best
    assert sum(line.startswith("left out: ") for line in text) == 3
    picture = np.asarray(Image.open(folder / "table.png").convert("L"))
    assert picture.shape[1] > 1000 and 0.01 < (picture < 128).mean() < 0.3
    drawn_words = " ".join(t.get_text() for t in study.drawn(evaluation.summary, evaluation.note).axes[0].texts)
    assert all(word in drawn_words for word in ("FID ↓", "LSE-C ↑", "3 of 4", "ground truth", "not comparable"))


def made_up(cpbd_of_clip):
    """What a video could have given."""
    rng = np.random.default_rng(round(1000 * cpbd_of_clip))
    who = np.array([1.0, 0.0])
    return measuring.Measured(30, framing.Framing(np.eye(3), 5, 5), cpbd_of_clip, Lse(1.0, 0.2, 0), who, who,
                              moments.moments(rng.normal(size=(30, 4))))


@pytest.fixture
def named(monkeypatch):
    """Videos are not read: what they give is in their names, e.g. `a/0.3.mp4`; "broken" in the file breaks it."""
    def measured(path, world="open"):
        return "it is broken" if path.read_text() == "broken" else made_up(float(path.stem))

    monkeypatch.setattr(study, "measured", measured)
    monkeypatch.setattr(moments, "RESAMPLES", 50)


def files(root, **folders):
    for name, clips in folders.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for clip in clips.split():
            (root / name / f"{clip.rstrip('!')}.mp4").write_text("broken" if clip.endswith("!") else "")
    return root


def test_clips_without_a_partner_say_so(named, tmp_path):
    root = files(tmp_path, truth="0.1 0.2 0.3 0.4!", a="0.1 0.3 0.4 0.9", b="0.1 0.2! 0.3")
    found = study.evaluate([root / "a", root / "b"], out=tmp_path / "t.csv")
    out = {(r["method"], r["clip"]): r["left_out"] for r in found.rows if r["left_out"]}
    assert out == {
        ("truth", "0.4"): "it is broken",
        ("a", "0.2"): "the video is missing", ("a", "0.4"): "its ground truth can't be used: it is broken",
        ("a", "0.9"): "there is no ground truth of this name",
        ("b", "0.2"): "it is broken", ("b", "0.4"): "the video is missing",
    }  # fmt: skip
    assert of(found, "a", "CPBD") == of(found, "b", "CPBD") == pytest.approx(0.2)
    assert of(found, "truth", "CPBD") == pytest.approx(0.2) and of(found, "truth", "CPBD", "clips") == 3
    assert "first frame of the truth (4 videos)" in found.note and "Left out: 5 of 9 videos" in found.note


def test_a_method_without_any_video_is_a_row_of_dashes(named, tmp_path):
    root = files(tmp_path, truth="0.1 0.2", a="0.1 0.2", b="")
    found = study.evaluate([root / "a", root / "b"], out=tmp_path / "t.csv")
    assert np.isnan(of(found, "b", "FID")) and of(found, "b", "FID", "left_out") == 2
    assert study.printed(found).count("the video is missing") == 2


def test_the_truth_may_lie_elsewhere_and_be_given_as_a_method(named, tmp_path):
    files(tmp_path / "x", a="0.1 0.2")
    files(tmp_path / "y", a="0.1 0.2", gt="0.1 0.2")
    found = study.evaluate([tmp_path / "x" / "a", tmp_path / "y" / "a"], tmp_path / "y" / "gt", tmp_path / "t.csv")
    assert {r["method"] for r in found.rows} == {"truth", str(tmp_path / "x" / "a"), str(tmp_path / "y" / "a")}
    alone = study.evaluate([tmp_path / "y" / "gt"], tmp_path / "y" / "gt", tmp_path / "t.csv")
    assert {r["method"] for r in alone.rows} == {"truth"} and of(alone, "truth", "CPBD") == pytest.approx(0.15)


def test_a_method_called_truth_is_not_the_truth(named, tmp_path, monkeypatch):
    monkeypatch.chdir(files(tmp_path, truth="0.1 0.2", ours="0.1 0.2", real=""))
    files(tmp_path / "real", truth="0.1 0.2 0.7!")
    found = study.evaluate(["truth", "ours"], truth="real/truth")
    assert {r["method"] for r in found.rows} == {"truth", str(tmp_path / "truth"), "ours"}
    assert of(found, "truth", "CPBD", "clips") == 2 and sum(r["method"] == "truth" for r in found.rows) == 3


def test_portraits_lie_beside_the_folder_of_links_to_the_truth(named, tmp_path):
    files(tmp_path, store="0.1 0.2", truth="", portraits="")
    for clip in ("0.1", "0.2"):
        (tmp_path / "truth" / f"{clip}.mp4").symlink_to(tmp_path / "store" / f"{clip}.mp4")
    (tmp_path / "portraits" / "0.1.png").write_bytes(b"")
    assert study.portraits(study.videos(tmp_path / "truth")) == {("0.1", ".png"): tmp_path / "portraits" / "0.1.png"}


def test_arguments_that_cant_be_used(named, tmp_path, capsys):
    root = files(tmp_path, truth="0.1", a="0.1", empty="", other="")
    elsewhere = files(tmp_path / "sub", b="0.1")
    for arguments, said in (
        ([root / "nothing"], "isn't a folder; give one folder of videos for each method"),
        ([root / "truth" / "0.1.mp4"], "isn't a folder"),
        ([root / "empty", root / "other"], "no video in"),
        ([elsewhere / "b"], "there is no ground truth: no video in"),
        ([root / "a", "--truth", root / "empty"], "there is no ground truth"),
        ([root / "a", elsewhere / "b"], "say where the true videos are with --truth"),
        ([root / "a", "--out", tmp_path / "t.txt"], "doesn't end in .csv"),
        ([root / "a", "--out", tmp_path / "no" / "t.csv"], "make it first"),
        ([root / "a", "--world", "paper"], "paper"),
        ([], "required: DIR"),
    ):
        options = list(map(str, arguments))
        if options and "--out" not in options:
            options += ["--out", str(tmp_path / "t.csv")]
        assert cli.main(["evaluate", *options]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not (tmp_path / "t.csv").exists()


def test_the_command_ends_well_with_broken_videos(named, tmp_path, capsys):
    root = files(tmp_path, truth="0.1 0.2", a="0.1! 0.2")
    assert cli.main(["evaluate", str(root / "a"), "--out", str(tmp_path / "t.csv")]) == 0
    assert "left out: a/0.1: it is broken" in capsys.readouterr().out
