"""Mark, watermark and manifest: written into every video, read back, and what tampering does to them."""

import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from nfs_lib import samples, video
from nfs_lib.cli import main
from nfs_lib.disclosure import Signs, certificates, manifest, mark, watermark
from nfs_lib.disclosure.inspect import inspect
from nfs_lib.errors import BadInput
from nfs_lib.video import every_frame, read_video, write_video

PORTRAITS = [samples.truth(number).image for number in (1, 4, 6)]


def clip(number=0, frames=5, shift=2):
    """A portrait whose lower half slides to and fro: background still, jaw not."""
    still, film = PORTRAITS[number], []
    for t in range(frames):
        frame = still.copy()
        frame[140:230, 80:180] = np.roll(still, round(shift * np.sin(t)), 0)[140:230, 80:180]
        film.append(frame)
    return np.stack(film)


def encoded(source, target, crf=28, scale=1.0, **options):
    """Encoded anew by other means than the kit's."""
    with av.open(str(source)) as given, av.open(str(target), "w") as file:
        first = given.streams.video[0]
        stream = file.add_stream("libx264", rate=25, options={"crf": str(crf), **options})
        stream.width, stream.height, stream.pix_fmt = round(first.width * scale), round(first.height * scale), "yuv420p"
        for i, frame in enumerate(given.decode(first)):
            frame = frame.reformat(stream.width, stream.height, "yuv420p", interpolation="BICUBIC")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return target


def score(frames):
    detector = watermark.Detector()
    for frame in frames:
        detector.add(frame)
    return detector.score()


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """A clip of 0.4 s with all signs, that names a portrait and a sound."""
    made = manifest.making("open", image=samples.portrait_file(), audio=samples.speech_file())
    sound = 0.1 * np.sin(np.arange(6400, dtype=np.float32))
    return write_video(tmp_path_factory.mktemp("signed") / "a.mp4", clip(frames=10), sound, signs=Signs(making=made))


# all three


def test_all_signs_are_read_back(signed):
    found = inspect(signed, [samples.speech_file(), samples.speech_file("moon")])
    assert found["mark"]["found"] and found["mark"]["match"] > 0.9
    assert found["watermark"]["found"] and found["watermark"]["score"] > 8
    said = found["manifest"]
    assert said["state"] == "valid" and not said["trusted"] and said["signer"] == certificates.TEST and not said["faults"]
    assert said["made"]["world"] == "open" and said["made"]["visible_mark"] is True
    assert {"generator", "audio2exp", "lipaint"} <= set(said["made"]["weights"])
    assert said["made"]["inputs"]["image"] == sha256sum(samples.portrait_file())
    assert list(found["inputs"].values()) == ["audio", "none"]
    assert "unchanged" in found["report"][0]
    json.dumps(found)


def sha256sum(path):
    """By another program than Python."""
    return subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]


def test_the_manifest_says_how_it_was_made(signed):
    """As C2PA has it, read by the library alone: made by a trained network, by this kit."""
    import c2pa

    found = json.loads(c2pa.Reader(str(signed)).json())
    active = found["manifests"][found["active_manifest"]]
    actions = next(a["data"]["actions"] for a in active["assertions"] if a["label"].startswith("c2pa.actions"))
    assert [a["action"] for a in actions] == ["c2pa.created"]
    assert actions[0]["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert active["claim_generator_info"][0]["name"] == certificates.KIT
    assert found["validation_state"] == "Valid"


def test_a_signed_video_plays_and_starts_at_once(signed, tmp_path):
    plain = write_video(tmp_path / "plain.mp4", [watermark.watermarked(mark.marked(f)) for f in clip(frames=10)],
                        0.1 * np.sin(np.arange(6400, dtype=np.float32)), signs=None)  # fmt: skip
    ours, theirs = read_video(signed), read_video(plain)
    assert (ours.frames == theirs.frames).all() and (ours.audio == theirs.audio).all()
    content = signed.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_frames_are_the_same_twice(tmp_path):
    """In this process and in another; the signatures aren't."""
    code = ("import sys, numpy as np; from nfs_lib.video import write_video;"
            "write_video(sys.argv[2], np.load(sys.argv[1]))")  # fmt: skip
    np.save(tmp_path / "clip.npy", clip())
    a = write_video(tmp_path / "a.mp4", clip())
    subprocess.run([sys.executable, "-c", code, tmp_path / "clip.npy", tmp_path / "b.mp4"], check=True)
    assert (read_video(a).frames == read_video(tmp_path / "b.mp4").frames).all()
    assert a.read_bytes() != (tmp_path / "b.mp4").read_bytes()


def test_a_video_of_another_make(tmp_path):
    path = write_video(tmp_path / "a.mp4", clip(), signs=None)
    foreign = encoded(path, tmp_path / "b.mp4", crf=20)
    found = inspect(foreign)
    assert found["manifest"]["state"] == "absent" and not found["watermark"]["found"] and not found["mark"]["found"]
    assert "no sign of this kit" in found["report"][0]


# the watermark


@pytest.mark.parametrize("number", range(len(PORTRAITS)))
def test_watermark_survives_hard_compression_and_half_the_size(tmp_path, number):
    path = write_video(tmp_path / "a.mp4", clip(number), signs=Signs(mark=False))
    assert score(every_frame(encoded(path, tmp_path / "b.mp4", 28, 0.5))) > watermark.THRESHOLD


def test_watermark_survives_other_sizes_cuts_and_players(tmp_path):
    path = write_video(tmp_path / "a.mp4", clip(1, 12))
    for options in ({"scale": 0.75}, {"scale": 2.0}, {"crf": 23, "preset": "veryfast"}, {"crf": 23, "g": "3", "bf": "0"}):
        assert score(every_frame(encoded(path, tmp_path / "b.mp4", **options))) > watermark.THRESHOLD
    assert score(list(every_frame(path))[7:]) > watermark.THRESHOLD


def test_no_watermark_is_seen_where_there_is_none(tmp_path):
    """With 500 keys on each of ten pictures the score is what a normal distribution gives, and so for flat ones."""
    rng, scores = np.random.default_rng(0), []
    pictures = [*PORTRAITS, *(np.full((64, 64, 3), level, np.uint8) for level in (0, 128)),
                *(rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(3))]  # fmt: skip
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::16] = 255
    for picture in (*pictures, stripes, gaussian_filter(pictures[-1], (3, 3, 0))):
        small = watermark.small(picture)
        scores += [watermark.strength(watermark.closeness(small, b"%d" % key)) for key in range(500)]
        assert watermark.strength(watermark.closeness(small)) < watermark.THRESHOLD
    assert abs(np.mean(scores)) < 0.06 and np.std(scores) == pytest.approx(1, abs=0.04)
    assert max(scores) < watermark.THRESHOLD and np.mean(np.array(scores) > 2) == pytest.approx(0.0228, abs=0.008)
    assert watermark.false_alarm(watermark.THRESHOLD) < 1e-4


def test_watermark_is_hard_to_see():
    for number in range(len(PORTRAITS)):
        frame = clip(number)[1]
        change = watermark.watermarked(frame).astype(float) - frame
        assert 10 * np.log10(255**2 / np.mean(change**2)) > 42
        assert abs(change[:60, :40]).max() <= 4               # the flat background
        assert np.ptp(change, axis=2).max() <= 1 or frame.min() < 8 or frame.max() > 247      # luma only


def test_watermark_of_large_and_small_frames():
    large = np.asarray(Image.fromarray(PORTRAITS[0]).resize((1024, 1024), Image.Resampling.BICUBIC))
    assert score([watermark.watermarked(large)]) > 8
    wide = np.asarray(Image.fromarray(PORTRAITS[0]).resize((320, 180), Image.Resampling.BICUBIC))
    assert score([watermark.watermarked(wide)]) > 8
    tiny = np.full((16, 16, 3), 90, np.uint8)
    assert watermark.watermarked(tiny).shape == tiny.shape


# the mark


def test_mark_can_be_left_out(tmp_path):
    found = inspect(write_video(tmp_path / "a.mp4", clip(), signs=Signs(mark=False)))
    assert not found["mark"]["found"] and found["manifest"]["made"]["visible_mark"] is False and found["watermark"]["found"]
    assert "unchanged" in found["report"][0]


@pytest.mark.parametrize("side", [192, 256, 1024])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_mark_lies_in_the_corner_and_can_be_told_from_any_background(side, level):
    frame = np.full((side, side, 3), level, np.uint8)
    changed = (mark.marked(frame) != frame).any(2)
    rows, columns = np.nonzero(changed)
    assert rows.min() > 0.88 * side and columns.min() > 0.7 * side and max(rows.max(), columns.max()) < 0.98 * side
    seen = mark.marked(frame)[mark.plate(side, side).top :, mark.plate(side, side).left :].astype(int)
    assert seen.max() - np.percentile(seen, 20) > 80
    assert (mark.marked(frame[:90, :90]) == frame[:90, :90]).all()      # too small to be read


def test_mark_is_found_after_compression_and_not_in_portraits(tmp_path):
    path = encoded(write_video(tmp_path / "a.mp4", clip(2)), tmp_path / "b.mp4", 28, 0.5)
    for frames, there in ((every_frame(path), True), (clip(2), False)):
        seeker = mark.MarkSeeker()
        for frame in frames:
            seeker.add(frame)
        assert (seeker.match() >= mark.FOUND) == there


# tampering


def test_a_changed_byte_is_noticed(signed, tmp_path):
    content = bytearray(signed.read_bytes())
    at = content.index(b"mdat") + 2000
    content[at] ^= 1
    (tmp_path / "b.mp4").write_bytes(content)
    try:
        found = inspect(tmp_path / "b.mp4")
    except BadInput:                                          # may be where the decoder stops
        content[at] ^= 1
        content[content.index(b"Synthetic talking")] ^= 32
        (tmp_path / "b.mp4").write_bytes(content)
        found = inspect(tmp_path / "b.mp4")
    assert found["manifest"]["state"] == "tampered" and found["manifest"]["faults"] and "CHANGED" in found["report"][0]


def test_a_broken_manifest_is_noticed(signed, tmp_path):
    for name in (b"trainedAlgorithmicMedia", b"c2pa.signature", b"generator"):
        content = signed.read_bytes().replace(name, name[:-1] + b"X")
        (tmp_path / "b.mp4").write_bytes(content)
        found = inspect(tmp_path / "b.mp4")
        assert found["manifest"]["state"] == "tampered" and "CHANGED" in found["report"][0]


def test_a_stripped_manifest_is_noticed(signed, tmp_path):
    """Copied packet by packet, and encoded anew."""
    with av.open(str(signed)) as given, av.open(str(tmp_path / "b.mp4"), "w") as file:
        stream = file.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                file.mux(packet)
    for path in (tmp_path / "b.mp4", encoded(signed, tmp_path / "c.mp4", 23)):
        found = inspect(path)
        assert found["manifest"]["state"] == "absent" and found["watermark"]["found"] and found["mark"]["found"]
        assert "REMOVED" in found["report"][0]


def test_other_frames_under_a_manifest_of_the_kit_are_noticed(tmp_path):
    """Whoever signs other frames in the kit's name lacks the watermark; whoever paints over the mark lacks the mark."""
    manifest.sign(write_video(tmp_path / "a.mp4", clip(), signs=None), tmp_path / "b.mp4", Signs())
    assert "LACK the watermark" in inspect(tmp_path / "b.mp4")["report"][0]
    bare = [watermark.watermarked(frame) for frame in clip()]
    manifest.sign(write_video(tmp_path / "a.mp4", bare, signs=None), tmp_path / "b.mp4", Signs())
    assert "mark was REMOVED" in inspect(tmp_path / "b.mp4")["report"][0]


# certificates


def own_pem(path, other_key=False):
    from cryptography.hazmat.primitives.asymmetric import ec

    keys = [ec.generate_private_key(ec.SECP384R1()) for _ in range(2)]
    chain = [certificates.certificate("Studio", keys[1], "Authority", keys[0]),
             certificates.certificate("Authority", keys[0], "Authority", keys[0])]  # fmt: skip
    path.write_bytes(b"".join(certificates.pem(chain, keys[0 if other_key else 1])))
    return path


def test_own_certificate(tmp_path):
    pem = own_pem(tmp_path / "own.pem")
    manifest.check(pem)
    found = inspect(write_video(tmp_path / "a.mp4", clip(frames=2), signs=Signs(certificate=pem)))
    assert found["manifest"]["signer"] == "Studio" and found["manifest"]["state"] == "valid"


def test_certificates_that_cant_be_used(tmp_path):
    good = own_pem(tmp_path / "own.pem").read_bytes()
    (tmp_path / "key.pem").write_bytes(good[good.index(b"-----BEGIN PRIVATE") :])
    (tmp_path / "chain.pem").write_bytes(good[: good.index(b"-----BEGIN PRIVATE")])
    (tmp_path / "noise.pem").write_bytes(bytes(range(256)))
    own_pem(tmp_path / "other.pem", other_key=True)
    for name in ("key", "chain", "noise", "other", "missing"):
        with pytest.raises(BadInput, match=f"{name}.pem"):
            manifest.check(tmp_path / f"{name}.pem")
    self_signed(tmp_path / "self.pem")
    with pytest.raises(manifest.Unsigned, match=r"self\.pem"):
        manifest.check(tmp_path / "self.pem")


def self_signed(path):
    """An authority's certificate, which C2PA doesn't let sign media."""
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(b"".join(certificates.pem([certificates.certificate("A", key, "A", key)], key)))


def test_a_failure_to_sign_leaves_nothing(tmp_path):
    self_signed(tmp_path / "self.pem")
    with pytest.raises(manifest.Unsigned):
        write_video(tmp_path / "a.mp4", clip(frames=2), signs=Signs(certificate=tmp_path / "self.pem"))
    assert [path.name for path in tmp_path.iterdir()] == ["self.pem"]


def test_a_key_may_come_first(tmp_path):
    content = own_pem(tmp_path / "own.pem").read_bytes()
    at = content.index(b"-----BEGIN PRIVATE")
    (tmp_path / "own.pem").write_bytes(content[at:] + content[:at])
    manifest.check(tmp_path / "own.pem")


def test_a_pipe_is_no_certificate(tmp_path):
    os.mkfifo(tmp_path / "own.pem")
    with pytest.raises(BadInput, match="regular file"):
        manifest.check(tmp_path / "own.pem")


def test_a_certificate_whose_time_is_over_is_no_tampering(tmp_path, monkeypatch):
    monkeypatch.setattr(certificates, "VALID", timedelta(seconds=3))
    pem = own_pem(tmp_path / "own.pem")
    path = write_video(tmp_path / "a.mp4", clip(frames=2), signs=Signs(certificate=pem))
    time.sleep(4)
    found = inspect(path)
    assert found["manifest"]["state"] == "expired" and "unchanged since" in found["report"][0]
    content = bytearray(path.read_bytes())
    content[content.index(b"Synthetic talking")] ^= 32
    path.write_bytes(content)
    assert "CHANGED" in inspect(path)["report"][0]


# what others write


@pytest.mark.parametrize("making", [{"inputs": ["x"]}, {"inputs": {"image": 5}}, {"inputs": {"image": ["a"]}},
                                    {"inputs": {}, "world": "\x1b[2J\nunchanged", "version": "\x1b]0;x\x07"}])  # fmt: skip
def test_a_hostile_manifest_is_only_text(tmp_path, making):
    path = write_video(tmp_path / "a.mp4", clip(frames=2), signs=Signs(making=making))
    report = inspect(path, [samples.portrait_file()])["report"]
    assert all(line.isprintable() for line in report)


def test_a_clip_that_another_tool_signed_anew(signed, tmp_path):
    """Its last manifest holds, and isn't the kit's."""
    import c2pa

    given = certificates.throwaway_credentials()
    about = {"claim_generator_info": [{"name": "editor", "version": "1"}], "format": "video/mp4", "assertions": []}
    with signed.open("rb") as source, (tmp_path / "b.mp4").open("w+b") as target:
        signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(*given, None))
        builder = c2pa.Builder(about, manifest.context())
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
        builder.sign(signer, "video/mp4", source, target)
    found = inspect(tmp_path / "b.mp4")
    assert found["manifest"]["state"] == "valid" and found["manifest"]["made"] is None
    assert "another tool" in found["report"][0]


# the command line


def test_nfs_inspect(signed, tmp_path, capsys):
    out = tmp_path / "found.json"
    assert main(["inspect", str(signed), str(samples.portrait_file()), "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert "unchanged since" in said and "the image that it was made from" in said
    assert json.loads(out.read_text())["report"] == said.splitlines()
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 99)
    for words in ([str(tmp_path / "noise.mp4")], [str(tmp_path / "none.mp4")], [str(tmp_path)],
                  [str(signed), str(tmp_path / "none.png")], [str(signed), "--json", str(tmp_path / "a.txt")]):  # fmt: skip
        assert main(["inspect", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def quick(monkeypatch):
    """`nfs talk` with the shipped inversion in place of a minute of work, and without rendering."""
    from nfs_lib import inversion, worlds
    from nfs_lib.face import fitting

    made = samples.inverted()
    monkeypatch.setattr(inversion, "invert", lambda *a, **k: made)
    monkeypatch.setattr(worlds.World, "first_latent", lambda *a: made.w)
    monkeypatch.setattr("nfs_lib.pipeline.progress", lambda steps, *a, **k: steps)
    monkeypatch.setattr(fitting, "fit", lambda *a, **k: made.face)
    monkeypatch.setattr("nfs_lib.pipeline.TalkingHead.frames", lambda self, betas, poses: (frame for frame in clip(0, 6)))


@pytest.mark.parametrize("words", [[], ["--no-mark"]])
def test_nfs_talk_signs_what_it_writes(quick, tmp_path, words):
    image, audio, out = samples.portrait_file(), samples.speech_file(), tmp_path / "o.mp4"
    pem = own_pem(tmp_path / "own.pem")
    given = ["--image", image, "--audio", audio, "--out", out, "--sign-with", pem, *words]
    assert main(["talk", *map(str, given)]) == 0
    found = inspect(out)
    assert found["mark"]["found"] == found["manifest"]["made"]["visible_mark"] == (not words)
    assert found["watermark"]["found"] and found["comment"] and found["manifest"]["signer"] == "Studio"
    assert found["manifest"]["made"]["inputs"] == {"image": sha256sum(image), "audio": sha256sum(audio)}
    self_signed(pem)
    assert main(["talk", *map(str, given)]) == 2


def test_a_recording_is_not_called_synthetic(tmp_path):
    with video.VideoWriter(tmp_path / "a.mp4", comment="A recording.", signs=None) as writer:
        for frame in clip():
            writer.write(frame)
    assert "no sign of this kit" in inspect(tmp_path / "a.mp4")["report"][0]


def test_letters_in_the_corner_are_no_sign(tmp_path):
    with video.VideoWriter(tmp_path / "a.mp4", comment="A recording.", signs=None) as writer:
        for frame in clip():
            writer.write(mark.marked(frame))
    found = inspect(tmp_path / "a.mp4")
    assert found["mark"]["found"] and "no sign of this kit" in found["report"][0]
