"""Identity encoder, lip-sync error, and their training commands."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from nfs_lib import checkpoints, portraits, worlds
from nfs_lib.errors import BadInput
from nfs_lib.metrics import IdentityEncoder, SyncScorer, csim, lse
from nfs_lib.metrics.sync import mouth_crops, windows
from nfs_lib.training import identity as training_identity
from nfs_lib.training import speech_clips
from nfs_lib.training import sync as training_sync

GOLDEN = Path(__file__).parent / "goldens" / "networks" / "syncnet" / "golden.safetensors"


def random_unit(*shape, seed=0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=-1)


def test_lse_is_that_of_the_official_code():
    from safetensors.torch import load_file

    golden = load_file(GOLDEN)
    score = lse(golden["lip_features_f16"].float(), golden["audio_features_f16"].float())
    assert score.distance == pytest.approx(float(golden["lse_d"]), rel=2e-6)
    assert score.confidence == pytest.approx(float(golden["lse_c"]), rel=1e-5)
    assert score.offset == int(golden["offset"])


def test_lse_by_hand():
    lips, sound = random_unit(9, 4), 3 * random_unit(9, 4, seed=1)
    padded = np.concatenate([np.zeros((15, 4)), sound.numpy(), np.zeros((15, 4))])
    mean = [np.mean([np.linalg.norm(lips[i].numpy() - padded[i + k] + 1e-6) for i in range(9)]) for k in range(31)]
    score = lse(lips, sound)
    assert score.distance == pytest.approx(min(mean), abs=1e-5)
    assert score.confidence == pytest.approx(np.median(mean) - min(mean), abs=1e-5)
    assert score.offset == 15 - int(np.argmin(mean))


@pytest.mark.parametrize("late", [-7, 0, 4])
def test_lse_finds_by_how_much_the_sound_is_late(late):
    both = random_unit(80, 16)
    score = lse(both[20:60], both[20 - late : 60 - late])
    assert score.offset == -late and score.confidence > 0.5


def test_lse_wants_as_many_moments_of_both():
    with pytest.raises(BadInput, match="moment"):
        lse(random_unit(5, 4), random_unit(6, 4))


def test_windows_are_consecutive_frames_of_the_mouth_box():
    frames = torch.arange(8.0)[:, None, None, None].expand(8, 3, 128, 128) + torch.linspace(0, 0.5, 128)[:, None]
    runs = windows(mouth_crops(frames))
    assert runs.shape == (4, 5, 3, 48, 64)
    assert torch.allclose(runs[2, :, 0, 0, 0] - runs[2, 0, 0, 0, 0], torch.arange(5.0))
    assert torch.equal(runs[0, 0], frames[0, :, 68:116, 32:96])
    double = torch.nn.functional.interpolate(frames, (256, 256), mode="bilinear")
    assert torch.allclose(mouth_crops(double), mouth_crops(frames), atol=0.01)


def test_mouth_box_holds_the_mouth():
    marks = np.concatenate([portraits.portrait(9_000_700 + i, 128).landmarks[48:] for i in range(20)])
    inside = (marks[:, 0] > 32) & (marks[:, 0] < 96) & (marks[:, 1] > 68) & (marks[:, 1] < 116)
    assert inside.mean() > 0.99


def test_scorer_scores_a_video_and_refuses_a_mismatch():
    torch.manual_seed(0)
    scorer, frames, mel = SyncScorer().eval(), torch.rand(12, 3, 64, 64), torch.rand(12, 80, 16)
    score = scorer.score(frames, mel)
    seen = scorer.see(windows(mouth_crops(frames)))
    assert torch.allclose(seen.norm(dim=1), torch.ones(8), atol=1e-5)
    assert score == lse(seen, scorer.hear(mel[2:10]))
    with pytest.raises(BadInput, match="12 frames and 11"):
        scorer.score(frames, mel[:11])


def test_identity_embeds_on_the_unit_sphere_at_any_size():
    torch.manual_seed(0)
    encoder, image = IdentityEncoder().eval(), torch.rand(2, 3, 256, 256) * 2 - 1
    assert encoder(image).norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert csim(encoder, image[:1], image)[0] == pytest.approx(1, abs=1e-5)
    for shape in ((1, 3, 40, 40), (1, 3, 128, 100)):
        with pytest.raises(BadInput, match="square"):
            encoder(torch.zeros(shape))


def test_views_keep_the_person_and_change_the_rest(monkeypatch):
    drawn = []
    monkeypatch.setattr(portraits, "render", lambda scene, pose, size: drawn.append((scene, pose)) or FakePortrait)
    training_identity.render_views(5, 3)
    for scene, _ in drawn[1:]:
        first = drawn[0][0]
        assert np.array_equal(scene.identity, first.identity) and scene.hair == first.hair
        assert scene.look.skin == first.look.skin and scene.look.iris == first.look.iris
        assert not np.allclose(scene.expression, first.expression) and not np.allclose(scene.light, first.light)
        assert scene.look.cloth != first.look.cloth and scene.look.back_top != first.look.back_top
    assert len({tuple(pose) for _, pose in drawn}) == 3


class FakePortrait:
    image = np.zeros((128, 128, 3), np.uint8)


def test_verification_counts_pairs():
    rng = torch.Generator().manual_seed(0)
    same, other = torch.randn(40, generator=rng).round(decimals=1) + 1, torch.randn(60, generator=rng).round(decimals=1)
    above = (same[:, None] > other).double() + 0.5 * (same[:, None] == other).double()
    figures = training_identity.verification(same, other)
    assert figures["auc"] == pytest.approx(float(above.mean()), abs=1e-6)
    wrong = min(max(float((same < t).double().mean()), float((other >= t).double().mean())) for t in same)
    assert figures["equal_error_rate"] == pytest.approx(wrong, abs=0.03)


def test_contrastive_losses_in_closed_form(monkeypatch):
    monkeypatch.setattr(training_identity, "TEMPERATURE", 1.0)
    monkeypatch.setattr(training_sync, "TEMPERATURE", 1.0)
    apart = torch.eye(4).repeat_interleave(2, 0)  # four people, two identical views each
    who = torch.arange(4).repeat_interleave(2)
    expected = -np.log(np.e / (np.e + 6))
    assert float(training_identity.contrastive_loss(apart, who)) == pytest.approx(expected, rel=1e-5)

    moments = torch.eye(6).view(2, 3, 6)
    frames = torch.tensor([[2.0, 3.0, 9.0], [4.0, 7.0, 20.0]])  # the first two of clip one are too near to judge
    expected = np.mean([-np.log(np.e / (np.e + rest)) for rest in (4, 4, 5, 5, 5, 5)])
    assert float(training_sync.contrastive_loss(moments, moments, frames)) == pytest.approx(expected, rel=1e-5)


def test_pairwise_accuracy_and_averaging_by_hand():
    distance = torch.rand(12, 12, generator=torch.Generator().manual_seed(0))
    hits = [distance[i, i] < distance[i, j] for i in range(12) for j in range(12) if abs(i - j) >= 5]
    assert float(training_sync.beaten(distance).mean()) == pytest.approx(np.mean(hits))
    mean = training_sync.sliding_mean(distance, 4)
    assert mean.shape == (9, 9)
    assert float(mean[2, 7]) == pytest.approx(float(np.mean([distance[2 + k, 7 + k] for k in range(4)])))


def test_identity_command(monkeypatch, tmp_path):
    monkeypatch.setattr(training_identity, "PEOPLE", 6)
    monkeypatch.setattr(training_identity, "BATCH", 4)
    monkeypatch.setattr(training_identity, "measure_identity", functools.partial(training_identity.measure_identity, n=4))
    figures = training_identity.train(steps=3, out=tmp_path)
    assert 0 <= figures["auc"] <= 1
    part = checkpoints.read_manifest(tmp_path)["identity"]
    checkpoints.fill(IdentityEncoder(**part.config), part)


def test_sync_command(monkeypatch, tmp_path):
    monkeypatch.setattr(speech_clips, "training_clips", lambda folder, seed: speech_clips.held_out_clips())
    for name, value in (("CLIPS", 4), ("LENGTH", 12), ("BATCH_CLIPS", 3), ("BATCH_MOMENTS", 4)):
        monkeypatch.setattr(training_sync, name, value)
    monkeypatch.setattr(training_sync, "measure_sync", functools.partial(training_sync.measure_sync, n=1, length=32))
    figures = training_sync.train(steps=3, out=tmp_path)
    assert {"accuracy", "clip_accuracy", "lse_d", "lse_c", "offset_found"} == figures.keys()
    part = checkpoints.read_manifest(tmp_path)["sync"]
    checkpoints.fill(SyncScorer(**part.config), part)


def test_rendered_mouths_follow_the_speech():
    names = speech_clips.expression_names()
    actions = np.zeros((2, 52), np.float32)
    actions[1, names.index("jawOpen")] = 0.6
    said = training_sync.render_clip(actions, 11, names).astype(float)
    silent = training_sync.render_clip(np.zeros((2, 52), np.float32), 11, names).astype(float)
    assert np.array_equal(said[0], silent[0]) and np.abs(said[1] - silent[1]).mean() > 5


def test_shipped_identity_encoder_tells_people_apart():
    assert training_identity.measure_identity(worlds.load("open").identity, n=40)["auc"] > 0.97


def test_shipped_sync_scorer_hears_what_it_sees():
    assert training_sync.measure_sync(worlds.load("open").sync, n=5)["accuracy"] > 0.85
