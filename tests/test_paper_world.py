"""The paper world end to end, with small random files in the official formats (`scripts/official_stand_ins.py`).

What the networks compute is proven elsewhere (goldens); here: the files are imported, and a video comes out.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pretend_device import PAPER
from test_device import found_elsewhere

from nfs_lib import checkpoints, pipeline, portrait, worlds
from nfs_lib.cli import main
from nfs_lib.errors import BadInput, MissingWeights
from nfs_lib.official.files import OFFICIAL
from nfs_lib.video import stream_frames

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import official_stand_ins

SPEECH = Path(__file__).parents[1] / "data" / "samples" / "speech" / "hello.wav"


@pytest.fixture(scope="module")
def brought(tmp_path_factory):
    """A data folder into which all files were imported by the command."""
    home = tmp_path_factory.mktemp("paper")
    files = official_stand_ins.write_all(home / "official", resolution=64, vertices=400, faces=760)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NFS_DATA", str(home / "data"))
        assert main(["weights", "import", *map(str, files)]) == 0
        patch.setattr("nfs_lib.pipeline.progress", lambda steps, *a, **k: steps)     # beartype looks into bars
        patch.setattr(portrait, "TURNING", {"fast": (3, 2), "full": (3, 2)})
        patch.setattr(portrait, "FITTING", {"fast": (5, 2), "full": (5, 2)})
        yield home


@pytest.fixture(scope="module")
def clip(brought):
    """Half a second of speech and a picture."""
    import soundfile

    wave, rate = soundfile.read(SPEECH)
    soundfile.write(brought / "short.wav", wave[: rate // 2], rate)
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (12, 10, 3), dtype=np.uint8))
    small.resize((300, 360), Image.Resampling.BICUBIC).save(brought / "face.png")
    return brought / "face.png", brought / "short.wav"


def test_every_part_is_imported_and_fits(brought):
    world = worlds.load("paper")
    manifest = checkpoints.read_manifest(checkpoints.world_folder("paper"))
    assert manifest.keys() == {official.part for official in OFFICIAL} - {"wav2lip"}
    for name in ("generator", "discriminator", "bfm", "estimator", "audio2exp", "segmenter", "lipaint", "syncnet", "inception",
                 "arcface"):
        assert not getattr(world, name).training or name == "bfm"
    assert world.generator.config.resolution == 64 and world.generator.config.num_ws == 13


@pytest.mark.parametrize("method", ["paper", "official"])
def test_a_video_comes_out(brought, clip, method, capsys):
    image, audio = clip
    out = brought / f"{method}.mp4"
    assert main(["talk", "--image", str(image), "--audio", str(audio), "--out", str(out), "--world", "paper", "--as", method,
                 "--profile", "fast", "--orbit"]) == 0
    frames = list(stream_frames(out))
    assert len(frames) == 12 and frames[0].shape == (64, 64, 3)
    assert np.abs(frames[0].astype(int) - frames[6]).mean() > 1                    # the head turns
    assert "isn't square" in capsys.readouterr().err


def test_the_heads_speak_on_another_device(brought, clip):
    import soundfile

    wave, rate = soundfile.read(SPEECH)
    soundfile.write(brought / "shorter.wav", wave[rate // 2 :][: rate // 5], rate)
    assert found_elsewhere(clip[0], brought / "shorter.wav") == {str(case): 0 for case in PAPER}


def test_the_methods_differ_and_repeat(brought, clip):
    image, audio = clip
    first, again, other = (brought / f"{name}.mp4" for name in ("first", "again", "other"))
    for out, official in ((first, False), (again, False), (other, True)):
        pipeline.talk(image, audio, out, world="paper", profile="fast", official=official, yaw=0.2)
    a, b, c = ([frame.astype(int) for frame in stream_frames(out)] for out in (first, again, other))
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    assert any((x != y).any() for x, y in zip(a, c, strict=True))


def test_a_video_drives_it(brought, clip):
    image, audio = clip
    driver, out = brought / "driver.mp4", brought / "driven.mp4"
    pipeline.talk(image, audio, driver, world="paper", profile="fast", orbit=True)
    pipeline.talk(image, None, out, world="paper", profile="fast", drive=driver, official=True)
    assert len(list(stream_frames(out))) == 12
    pipeline.talk(image, audio, out, world="paper", profile="fast", poses=driver)
    assert len(list(stream_frames(out))) == 12


@pytest.mark.parametrize("part", ["generator", "face_model", "estimator", "audio2exp", "lipaint"])
def test_a_missing_file_is_named(brought, clip, part, capsys):
    official = next(o for o in OFFICIAL if o.part == part)
    path = checkpoints.world_folder("paper") / f"{part}.safetensors"
    path.rename(path.with_suffix(".away"))
    out = brought / "never.mp4"
    try:
        with pytest.raises(MissingWeights) as caught:
            pipeline.talk(*clip, out, world="paper", profile="fast")
    finally:
        path.with_suffix(".away").rename(path)
    message = str(caught.value)
    assert official.file in message and official.source.split(",")[0] in message and official.terms in message
    assert "nfs weights import" in message
    assert not out.exists()


def test_without_lpips_pti_says_what_it_does_instead(brought, clip, capsys):
    path = checkpoints.world_folder("paper") / "vgg16.safetensors"
    path.rename(path.with_suffix(".away"))
    image = torch.rand(3, 64, 64) * 2 - 1
    try:
        portrait.ready(worlds.load("paper"), image, profile="fast")
        assert "own picture loss instead of LPIPS" in capsys.readouterr().err
        with pytest.raises(MissingWeights, match="vgg16"):
            portrait.ready(worlds.load("paper"), image, profile="fast", official=True)
    finally:
        path.with_suffix(".away").rename(path)


def test_the_official_way_needs_the_paper_world(clip, tmp_path):
    with pytest.raises(BadInput, match="--world paper"):
        pipeline.talk(*clip, tmp_path / "x.mp4", official=True)


def test_the_metrics_see_with_the_official_networks(brought):
    from nfs_lib.metrics import load_backend

    world = worlds.load("paper")
    pictures = torch.rand(2, 3, 256, 256) * 2 - 1
    backend = load_backend(world)
    assert backend.features(pictures).shape == (2, 2048)
    points = world.landmarks(pictures)
    up = world.bfm.landmarks(world.estimator.read(pictures))                       # of 224 pixels, counted upwards
    assert torch.allclose(points / 256, torch.stack([up[..., 0], 224 - up[..., 1]], -1) / 224, atol=1e-5)
    assert backend.identity(pictures).norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
