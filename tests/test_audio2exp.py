"""Audio2Exp: the recursion of Eq. 4-5 against a plain loop, its training's parts, the shipped weights' figures."""

import functools

import numpy as np
import pytest
import torch

from nfs_lib import audio
from nfs_lib.audio2exp import Audio2Exp, momentum_recursion, speech_to_expression
from nfs_lib.training import audio2exp as training
from nfs_lib.training import visemes
from nfs_lib.training.speech_clips import expression_names, held_out_clips, random_reference


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = Audio2Exp(n_exp=6)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def windows():
    return audio.mel_windows(np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32))


def naive_loop(model, windows, beta_init, momentum, scale):
    """Section 4.1 word by word: one call of the whole network per frame, scaling after the loop."""
    reference, raw = beta_init, []
    for window in torch.from_numpy(windows):
        p = model(window[None, None], reference[None], torch.zeros(1, 1))[0, :, 0]
        reference = (1 - momentum) * beta_init + momentum * p
        raw.append(p)
    return scale * torch.stack(raw)


@torch.no_grad()
@pytest.mark.parametrize(("momentum", "scale"), [(0.5, 1.5), (0.0, 1.0), (0.8, 2.0)])
def test_recursion_is_the_plain_loop(model, windows, momentum, scale):
    beta_init = torch.randn(6, generator=torch.Generator().manual_seed(1))
    ours = speech_to_expression(model, windows, beta_init, momentum=momentum, scale=scale)
    torch.testing.assert_close(ours, naive_loop(model, windows, beta_init, momentum, scale), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_recursion_can_start_in_the_middle(model):
    heard, beta_init = torch.randn(2, 9, 512), torch.randn(2, 6)
    whole = momentum_recursion(model, heard, beta_init)
    rest = momentum_recursion(model, heard[:, 4:], beta_init, before=whole[:, 3])
    torch.testing.assert_close(rest, whole[:, 4:])


def test_a_wave_and_its_windows_give_the_same(model):
    wave = np.random.default_rng(0).normal(0, 0.1, 9_000).astype(np.float32)
    beta_init = torch.zeros(6)
    a = speech_to_expression(model, wave, beta_init)
    b = speech_to_expression(model, audio.mel_windows(wave), beta_init)
    assert a.shape == (14, 6)
    assert torch.equal(a, b)


def test_training_mode_is_left_as_it_was(model, windows):
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    speech_to_expression(model, windows, torch.zeros(6))
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model.eval()


@torch.no_grad()
def test_output_shapes_are_the_official_ones(model):
    one = model(torch.zeros(1, 1, 80, 16), torch.zeros(1, 6), torch.zeros(1, 1))
    many = model(torch.zeros(3, 1, 80, 16), torch.zeros(1, 3, 6), torch.zeros(1, 3, 1))
    assert one.shape == (1, 6, 1) and many.shape == (1, 3, 6)


@torch.no_grad()
def test_a_new_model_keeps_to_the_portraits_face():
    """With nothing heard, 1.5 p settles on the share of beta_init that should remain (training's fixed point)."""
    names = expression_names()
    model, reference = training.new_model(names), torch.from_numpy(random_reference(names, np.random.default_rng(3)))
    settled = 1.5 * momentum_recursion(model, torch.zeros(1, 30, 512), reference[None])[0, -1]
    torch.testing.assert_close(settled, torch.from_numpy(training.kept_shares(names)) * reference, atol=1e-5, rtol=0)
    kept = dict(zip(names, training.kept_shares(names).tolist(), strict=True))
    assert kept["browInnerUp"] == 1 and kept["mouthSmileLeft"] == 0.5 and kept["jawOpen"] == 0


def test_batches_agree_with_the_clips_and_repeat():
    names, clips = expression_names(), held_out_clips()
    sampler = training.Sampler(clips, names, "cpu")
    mel, beta_init, before, targets = sampler.batch(0, 5)
    assert mel.shape == (training.SEQUENCES, training.LENGTH, 80, 16)
    assert all(map(torch.equal, sampler.batch(0, 5), (mel, beta_init, before, targets)))
    assert not torch.equal(sampler.batch(0, 6)[0], mel)
    jaw = 1.5 * targets[0, :, names.index("jawOpen")].numpy()
    track = clips.actions[:, names.index("jawOpen")]
    assert any(np.allclose(track[i : i + len(jaw)], jaw, atol=1e-5) for i in range(len(track) - len(jaw)))
    blink = names.index("eyeBlinkLeft")
    torch.testing.assert_close(1.5 * targets[:, 0, blink], beta_init[:, blink])


def test_clip_windows_are_those_of_the_wave():
    """`Clips.columns` on spectrograms laid end to end = `mel_windows` clip by clip."""
    rng = np.random.default_rng(0)
    waves = [rng.normal(0, 0.1, 640 * n).astype(np.float32) for n in (7, 12)]
    mels = [audio.mel_spectrogram(wave).T for wave in waves]
    mel_ends, ends = np.cumsum([len(mel) for mel in mels]), np.array([7, 19])
    clips = training.Clips(np.concatenate(mels), mel_ends, np.zeros((19, 2)), ends, np.zeros((2, 2)), ["", ""])
    ours = clips.mel[clips.columns()].transpose(0, 2, 1)
    np.testing.assert_array_equal(ours, np.concatenate([audio.mel_windows(wave) for wave in waves]))


def test_augmented_mels_stay_in_range_and_keep_their_shape():
    mel = torch.from_numpy(held_out_clips().mel[160:480].reshape(10, 2, 16, 80)).transpose(2, 3)
    changed = training.augment(mel, torch.Generator().manual_seed(0))
    assert changed.abs().max() <= 4
    for before, after in zip(mel, changed, strict=True):
        assert np.corrcoef(before.flatten(), after.flatten())[0, 1] > 0.7
        assert (before - after).abs().mean() > 0.05


@pytest.mark.parametrize("frames_late", [-3, 0, 2])
def test_measured_delay(frames_late):
    rng = np.random.default_rng(0)
    smooth = np.apply_along_axis(np.convolve, 0, rng.normal(size=(400, 3)), np.hanning(9), mode="same")
    measured = training._delay([smooth], [np.roll(smooth, frames_late, axis=0)])
    assert measured == pytest.approx(40.0 * frames_late, abs=3.0)


def test_measure_reads_the_figures_of_a_perfect_network(monkeypatch):
    names, clips = expression_names(), held_out_clips()
    faces = iter(
        visemes.with_reference(clips.actions[a:b], r, names)
        for a, b, r in zip(clips.starts(), clips.ends, clips.reference, strict=True)
    )
    monkeypatch.setattr(training, "speech_to_expression", lambda *_: torch.from_numpy(next(faces)))
    figures = training.measure_audio2exp(Audio2Exp())
    assert figures["jaw_r"] == pytest.approx(1) and figures["mouth_r_mean"] == pytest.approx(1)
    assert figures["lag_ms"] < 1 and figures["jaw_gain"] == pytest.approx(1) and figures["kept_error"] < 1e-6


def test_measure_notices_a_late_face(monkeypatch):
    clips = held_out_clips()
    faces = iter(np.roll(clips.actions[a:b], 2, axis=0) for a, b in zip(clips.starts(), clips.ends, strict=True))
    monkeypatch.setattr(training, "speech_to_expression", lambda *_: torch.from_numpy(next(faces)))
    figures = training.measure_audio2exp(Audio2Exp())
    assert figures["late_ms"] == pytest.approx(80, abs=4) and figures["jaw_r"] < 0.7


def test_shipped_weights_reach_the_floors():
    from nfs_lib import worlds

    figures = training.measure_audio2exp(worlds.load("open").audio2exp)
    assert figures["jaw_r"] > 0.8 and figures["mouth_r_mean"] > 0.7 and figures["lag_ms"] < 40
    assert 0.7 < figures["jaw_gain"] < 1.2 and figures["closed_lips_gap"] < 0.06 and figures["kept_error"] < 0.05


def test_training_makes_and_resumes_the_same_network(monkeypatch, tmp_path):
    clips = held_out_clips()
    monkeypatch.setattr(training, "training_clips", lambda folder, seed: clips)
    monkeypatch.setattr(training, "measure_audio2exp", lambda model: {"jaw_r": 0.0})
    monkeypatch.setattr(training, "SEQUENCES", 2)
    straight = _trained(tmp_path / "straight", steps=4)

    class Killed(Exception):
        pass

    real, calls = training.warm_cosine, []

    def until_the_third(step, *args, **kwargs):
        calls.append(step)
        if len(calls) == 3:
            raise Killed
        return real(step, *args, **kwargs)

    monkeypatch.setattr(training, "warm_cosine", until_the_third)
    monkeypatch.setattr(training, "Loop", functools.partial(training.Loop, save_every=0.0))
    with pytest.raises(Killed):
        training.train(steps=4, out=tmp_path / "broken")
    assert torch.load(tmp_path / "broken" / "last.pt", weights_only=True)["step"] == 2
    monkeypatch.setattr(training, "warm_cosine", real)
    resumed = _trained(tmp_path / "broken", steps=4, resume=True)
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def _trained(folder, **options):
    from safetensors.torch import load_file

    training.train(out=folder, **options)
    return load_file(folder / "audio2exp.safetensors")
