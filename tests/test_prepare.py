"""studies/prepare.py: videos whose faces, sounds and times are known, laid out as data sets are."""

import json
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from nfs_lib import cli, framing, portraits
from nfs_lib.errors import BadInput
from nfs_lib.studies import prepare as study
from nfs_lib.video import DISCLOSURE, comment, read_sound, read_video

SEED, RATE = 9_970_000, 44_100
LEFT, TOP, SIDE = 190, 40, 288                       # where the portrait lies in the wide picture
FLASH = 1.2                                          # seconds at which the picture gets brighter, and a click is heard


@pytest.fixture(autouse=True)
def seconds(monkeypatch):
    """Clips of one second in place of eight, seen at two moments."""
    monkeypatch.setattr(study, "SECONDS", 1)
    monkeypatch.setattr(study, "FRAMES", 25)
    monkeypatch.setattr(study, "SAMPLES", 16_000)
    monkeypatch.setattr(study, "RECIPE", {**study.RECIPE, "seconds": 1})
    monkeypatch.setattr(framing, "MOMENTS", 2)


@pytest.fixture(scope="module")
def wide():
    """A person in a wide picture, dark and bright."""
    picture = np.full((360, 560, 3), 90, np.uint8)
    picture[TOP : TOP + SIDE, LEFT : LEFT + SIDE] = portraits.portrait(SEED, SIDE).image
    return picture - picture // 8, picture


def record(path, pictures, length, fps=30, sound=True, note=""):
    """A video of another make: 30 frames a second, 44.1 kHz stereo. The click is louder on the left."""
    dark, bright = pictures
    with av.open(str(path), "w") as file:
        file.metadata["comment"] = note
        picture = file.add_stream("libx264", rate=fps, options={"crf": "16", "preset": "ultrafast"})
        picture.height, picture.width, picture.pix_fmt = *dark.shape[:2], "yuv420p"
        voice = file.add_stream("aac", rate=RATE, layout="stereo") if sound else None
        for t in range(round(length * fps)):
            frame = av.VideoFrame.from_ndarray(bright if t / fps >= FLASH else dark, format="rgb24")
            frame.pts, frame.time_base = t, Fraction(1, fps)
            file.mux(picture.encode(frame))
        file.mux(picture.encode(None))
        if voice:
            wave = 0.05 * np.sin(2 * np.pi * 220 * np.arange(round(length * RATE)) / RATE) * (1 if sound is True else 0)
            wave = np.stack([wave, wave])
            if sound is True:
                wave[:, round(FLASH * RATE) :][:, :400] = [[0.9], [0.5]]
            samples = av.AudioFrame.from_ndarray(wave.astype(np.float32), format="fltp", layout="stereo")
            samples.sample_rate, samples.pts, samples.time_base = RATE, 0, Fraction(1, RATE)
            file.mux(voice.encode(samples))
            file.mux(voice.encode(None))
    return path


@pytest.fixture
def placed(monkeypatch):
    """The face needn't be found: it is known where it is."""
    scale = 256 / SIDE
    transform = np.array([[scale, 0, -LEFT * scale], [0, scale, -TOP * scale], [0, 0, 1]])
    monkeypatch.setattr(study, "place", lambda *arguments: transform)


@pytest.fixture(scope="module")
def film(wide, tmp_path_factory):
    """2.4 seconds of it."""
    return record(tmp_path_factory.mktemp("film") / "film.mp4", wide, 2.4)


@pytest.fixture
def source(film, tmp_path):
    """A data set of one video."""
    (tmp_path / "in").mkdir()
    shutil.copy(film, tmp_path / "in" / "film.mp4")
    return tmp_path / "in"


def names(manifest):
    return [e["clip"] for e in manifest["clips"]]


def reasons(manifest):
    return [(e["source"], e.get("start"), e["reason"]) for e in manifest["skipped"]]


def content(folder):
    return {f.relative_to(folder).as_posix(): (f.stat().st_mtime_ns, f.read_bytes()) for f in folder.rglob("*") if f.is_file()}


def test_a_video_becomes_clips(source, tmp_path, wide):
    """Rate, sound, framing, and picture and sound in step, against what was put into the video."""
    out = tmp_path / "out"
    manifest = study.prepare(source, out)
    assert names(manifest) == ["film_0000", "film_0001"]
    assert reasons(manifest) == [("film.mp4", 2.0, "shorter than 1 s")]
    assert manifest == json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert {f.relative_to(out).as_posix() for f in out.rglob("*") if f.is_file()} == {
        "manifest.json", *(f"{kind}/film_000{i}.{suffix}" for i in (0, 1)
                           for kind, suffix in (("truth", "mp4"), ("speech", "wav"), ("portraits", "png")))}
    for entry in manifest["clips"]:
        clip = read_video(out / "truth" / f"{entry['clip']}.mp4")
        wave, rate = soundfile.read(out / "speech" / f"{entry['clip']}.wav", dtype="float32")
        first = np.asarray(Image.open(out / "portraits" / f"{entry['clip']}.png"))
        assert clip.frames.shape == (25, 256, 256, 3) and clip.fps == 25
        assert rate == 16_000 and wave.shape == (16_000,)
        assert np.abs(first.astype(float) - clip.frames[0]).mean() < 3
        assert len(clip.audio) == pytest.approx(16_000, abs=200)
        assert np.corrcoef(clip.audio[2000:14000], wave[2000:14000])[0, 1] > 0.98
        assert entry["end"] == entry["start"] + 1 and entry["source"] == "film.mp4"
        assert entry["sha256"] == study.sha256(source / "film.mp4") and len(entry["sha256"]) == 64
        middle, size = np.mean(entry["crop"], axis=0), np.ptp(np.array(entry["crop"])[:, 0])
        assert entry["frame"] == [560, 360]
        assert np.hypot(*(middle - (LEFT + SIDE / 2, TOP + SIDE / 2))) < 14
        assert size == pytest.approx(SIDE, rel=0.12)
    clip = read_video(out / "truth" / "film_0001.mp4").frames.mean((1, 2, 3))
    wave = soundfile.read(out / "speech" / "film_0001.wav")[0]
    assert abs(int(np.diff(clip).argmax()) + 1 - (FLASH - 1) * 25) <= 1
    assert int(np.abs(wave).argmax()) / 16_000 == pytest.approx(FLASH - 1 + 0.005, abs=0.02)
    assert np.abs(wave).max() == pytest.approx(0.7, abs=0.15)  # the mean of left and right
    assert comment(out / "truth" / "film_0001.mp4") == "Cut from film.mp4 by nfs prepare."


def test_a_second_run_changes_nothing(placed, source, tmp_path):
    out = tmp_path / "out"
    first = study.prepare(source, out)
    before = content(out)
    assert study.prepare(source, out) == first
    after = content(out)
    assert after.keys() == before.keys()
    assert all(after[f][1] == before[f][1] for f in before)
    assert all(after[f][0] == before[f][0] for f in before if f != "manifest.json")


def test_a_run_that_was_stopped_goes_on(placed, source, tmp_path, monkeypatch):
    out, real, written = tmp_path / "out", study.cut, []

    def stops(*arguments):
        written.append(arguments)
        if len(written) == 30:                       # in the midst of the second clip
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(study, "cut", stops)
    with pytest.raises(KeyboardInterrupt):
        study.prepare(source, out)
    assert names(json.loads((out / "manifest.json").read_text())) == ["film_0000"]
    assert [f.name for f in (out / "truth").iterdir()] == ["film_0000.mp4"]
    assert not [f for f in out.rglob(".*")]
    before = content(out)
    monkeypatch.setattr(study, "cut", real)
    manifest = study.prepare(source, out)
    assert names(manifest) == ["film_0000", "film_0001"] and len(manifest["skipped"]) == 1
    after = content(out)
    assert all(after[f] == before[f] for f in before if "film_0000" in f)


def test_what_is_gone_or_changed_is_made_anew(placed, source, tmp_path, wide):
    out = tmp_path / "out"
    whole = content(study.prepare(source, out) and out)
    (out / "speech" / "film_0001.wav").unlink()
    study.prepare(source, out)
    assert {f: b for f, (_, b) in content(out).items()} == {f: b for f, (_, b) in whole.items()}
    record(source / "film.mp4", wide, 1.1)
    manifest = study.prepare(source, out)
    assert names(manifest) == ["film_0000"] and reasons(manifest) == [("film.mp4", 1.0, "shorter than 1 s")]
    assert [f.name for f in (out / "truth").iterdir()] == ["film_0000.mp4"]


def test_what_cant_be_used_is_left_out_with_its_reason(tmp_path, wide, film):
    source = tmp_path / "in"
    (source / "sub").mkdir(parents=True)
    record(source / "mute.mp4", wide, 1.0, sound=False)
    record(source / "silent.mp4", wide, 1.0, sound="silent")
    record(source / "nobody.mp4", [np.full((200, 300, 3), v, np.uint8) for v in (80, 120)], 1.0)
    (source / "broken.mp4").write_bytes(film.read_bytes()[:500])
    (source / "sub" / "tree.png").write_bytes(b"no picture")
    (source / ".hidden.mp4").write_bytes(b"")
    out = tmp_path / "out"
    manifest = study.prepare(source, out)
    assert manifest["clips"] == []
    said = {e["source"]: e["reason"] for e in manifest["skipped"]}
    assert said.keys() == {"mute.mp4", "silent.mp4", "nobody.mp4", "broken.mp4", "sub/tree.png"}
    assert said["mute.mp4"] == "it has no sound" and "silent" in said["silent.mp4"]
    assert "a face is seen at 0 of the 2 moments" in said["nobody.mp4"]
    assert "can't be decoded" in said["broken.mp4"] and "isn't a picture" in said["sub/tree.png"]
    assert not any(str(tmp_path) in reason for reason in said.values())
    assert study.prepare(source, out) == manifest


def hdtf(source, times, urls=""):
    """Its files of annotation, with the mark that one of them begins with."""
    (source / "HDTF_dataset").mkdir(parents=True, exist_ok=True)
    (source / "HDTF_dataset" / "RD_annotion_time.txt").write_text(times, encoding="utf-8-sig")
    (source / "HDTF_dataset" / "RD_video_url.txt").write_text(urls, encoding="utf-8-sig")


def test_hdtf_is_cut_by_its_time_stamps(placed, tmp_path, film):
    source, out = tmp_path / "in", tmp_path / "out"
    hdtf(source, "Radio1.mp4 00:01-00:02 \nRadio2.mp4 00:02-00:09\nRadio3.mp4 00:00-00:02 00:01-00:03\n\nRadio4.mp4 soon\n",
         "Radio1 https://video.example/1\nRadio2 https://video.example/2\n")
    for name in ("RD_Radio1", "Radio1_0", "Radio2", "Radio3", "Radio4", "Radio5"):
        shutil.copy(film, source / f"{name}.mp4")
    manifest = study.prepare(source, out)
    assert names(manifest) == ["RD_Radio1_0001", "Radio1_0_0000", "Radio1_0_0001"]  # the second was cut already
    entry = manifest["clips"][0]
    assert (entry["start"], entry["end"]) == (1, 2)
    assert entry["parts"] == "00:01-00:02" and entry["url"] == "https://video.example/1"
    said = dict((s, r) for s, _, r in reasons(manifest))
    assert said["Radio2.mp4"] == "shorter than 1 s"
    assert "one after the other" in said["Radio3.mp4"] and "'soon'" in said["Radio4.mp4"]
    assert "no time stamps" in said["Radio5.mp4"]
    clip = read_video(out / "truth" / "RD_Radio1_0001.mp4").frames.mean((1, 2, 3))
    assert abs(int(np.diff(clip).argmax()) + 1 - (FLASH - 1) * 25) <= 1
    hdtf(source, "Radio1.mp4 00:00-00:01\n")         # other times: made anew
    manifest = study.prepare(source, out)
    assert names(manifest) == ["RD_Radio1_0000", "Radio1_0_0000", "Radio1_0_0001"]
    assert not (out / "truth" / "RD_Radio1_0001.mp4").exists()


def test_the_real_form_of_hdtfs_lines(tmp_path):
    """Forms that its files have: a mark at the start, spaces at the end, parts in the wrong order."""
    hdtf(tmp_path, "AdamKinzinger2.mp4 00:40-01:20 02:00-02:40 03:30-03:50 \nMittRomney.mp4 08:10-08:30 00:33-08:53\n"
                   "Long.mp4 1:00:05-1:00:10\n")
    stamps = study.time_stamps(tmp_path)
    assert study.intervals("AdamKinzinger2", stamps) == [(1000, 2000), (3000, 4000), (5250, 5750)]
    assert study.intervals("WRA_AdamKinzinger2", stamps)[0] == (1000, 2000)
    assert study.intervals("AdamKinzinger2_1", stamps) == study.intervals("WRA_AdamKinzinger2_1", stamps) == [(0, None)]
    assert study.intervals("Long", stamps) == [(90_125, 90_250)]
    with pytest.raises(BadInput, match="08:10-08:30 00:33-08:53"):
        study.intervals("MittRomney", stamps)
    with pytest.raises(BadInput, match="no time stamps"):
        study.intervals("AdamKinzinger", stamps)
    assert study.intervals("anything", {}) == [(0, None)]


def test_clips_fill_their_parts():
    parts = [study.Interval(10, 70), study.Interval(80, 110), study.Interval(120, 200), study.Interval(300, 400)]
    assert study.whole(parts, 150) == [10, 35, 80, 120]
    assert [study.start_of(f, parts) for f in (9, 10, 34, 35, 69, 70, 80)] == [None, 10, 10, 35, 60, None, 80]
    left = [(round(e["start"] * 25), round(e["end"] * 25), e["reason"]) for e in study.remainders(parts, 150)]
    assert left == [(60, 70, "shorter than 1 s"), (105, 110, "shorter than 1 s"), (145, 150, "shorter than 1 s"),
                    (300, 400, "the video ends at 6.0 s")]


def test_a_folder_of_portraits_is_framed(tmp_path, wide):
    """As Unsplash is: photographs of any size and form."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    Image.fromarray(wide[1]).save(source / "a person.jpg", quality=95)
    Image.fromarray(portraits.portrait(SEED + 1, 512).image).save(source / "framed.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(source / "sand.png")
    manifest = study.prepare(source, out)
    assert names(manifest) == ["a person", "framed"]
    assert reasons(manifest) == [("sand.png", None, "no face is seen in it")]
    person, framed = manifest["clips"]
    assert np.hypot(*(np.mean(person["crop"], axis=0) - (LEFT + SIDE / 2, TOP + SIDE / 2))) < 14
    assert person["size"] == 256 and framed["size"] == 512
    assert np.asarray(Image.open(out / "portraits" / "a person.png")).shape == (256, 256, 3)
    same = np.asarray(Image.open(out / "portraits" / "framed.png"))
    assert np.array_equal(same, np.asarray(Image.open(source / "framed.png")))
    before = content(out / "portraits")
    assert study.prepare(source, out) == manifest and content(out / "portraits") == before


def test_what_is_synthetic_stays_so(placed, tmp_path, wide):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    record(source / "made.mp4", wide, 1.0, note=DISCLOSURE)
    study.prepare(source, out)
    assert DISCLOSURE in comment(out / "truth" / "made_0000.mp4")


def test_files_of_one_name_are_told_apart(tmp_path):
    for name in ("a/x.mp4", "b/X.mp4", "b/x.png", "b/y.mov", "out/truth/z.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = study.media(tmp_path, tmp_path / "out")
    assert {n: f.relative_to(tmp_path).as_posix() for n, f in found.items()} == {
        "a_x_mp4": "a/x.mp4", "b_X_mp4": "b/X.mp4", "b_x_png": "b/x.png", "y": "b/y.mov"}


def test_sound_that_ends_early_is_noted(placed, tmp_path, wide, monkeypatch):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    record(source / "film.mp4", wide, 1.0)
    monkeypatch.setattr(study, "read_sound", lambda path: read_sound(path)[:12_000])
    entry = study.prepare(source, out)["clips"][0]
    assert entry["notes"] == ["its sound ends 0.2 s early: silence follows"]
    assert len(soundfile.read(out / "speech" / "film_0000.wav")[0]) == 16_000


def test_arguments_that_cant_be_used(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.mp4").touch()
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"made_by": "something else"}')
    for source, out, said in (("nothing", "out", "isn't a folder"), ("file", "out", "isn't a folder"),
                              ("empty", "out", "no video or picture under"), ("in", "file", "is a file"),
                              ("in", "in", "is the source"), ("in", "other", "isn't a manifest that this version")):
        assert cli.main(["prepare", str(tmp_path / source), str(tmp_path / out)]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_did(placed, source, tmp_path, capsys):
    assert cli.main(["prepare", str(source), str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("out: 2 clips of 1 s, 0 portraits of pictures")
    assert said[1] == "left out: film.mp4 2.0 s to 2.4 s: shorter than 1 s"
