"""Training Audio2Exp on synthetic speech: `nfs train audio2exp`.

What the network must predict. At inference its prediction p is multiplied by lambda_exp = 1.5 (Eq. 5 and the
authors' code), so its target is p* = (natural face) / 1.5: after scaling, the face is as it should be seen.

The reference. At inference r_t = (beta_init + p_{t-1}) / 2, and the network's head is linear, so the
recursion is a linear filter. Training runs it, on short sequences, with the network's own predictions:
nothing differs from inference, and the filter can't drift. An action that should keep the share k of the
portrait's own expression needs the weight 4k / (3 + 2k) on its reference, by the recursion's fixed point
(1.5 p = k beta_init with r = (beta_init + p) / 2): training starts from there.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from nfs_lib.audio2exp import Audio2Exp, momentum_recursion, speech_to_expression
from nfs_lib.cpu import keep_freed_memory, mixed_precision
from nfs_lib.training import visemes
from nfs_lib.training.common import (
    Ema,
    Loop,
    export,
    numpy_rng,
    run_folder,
    seed_everything,
    set_learning_rate,
    step_rng,
    warm_cosine,
)
from nfs_lib.training.speech_clips import (
    HELD_OUT_FILE as HELD_OUT_FILE,
)
from nfs_lib.training.speech_clips import (
    Clips,
    expression_names,
    held_out_clips,
    random_reference,
    training_clips,
)
from nfs_lib.training.team import Team

LAMBDA_EXP = 1.5
SEQUENCES, LENGTH = 24, 8  # a step: so many sequences of so many video frames


def kept_shares(names: list[str]) -> Float32[np.ndarray, " E"]:
    """Which share of the portrait's own expression remains while speaking, per action."""
    silent = np.zeros((1, len(names)), dtype=np.float32)
    return visemes.with_reference(silent, np.ones(len(names)), names)[0]


def new_model(names: list[str]) -> Audio2Exp:
    """A network whose reference weights start at the recursion's fixed point and whose blink weight is 0.

    The other weights of its head start small: facial actions spread by 0.05 or so, 512 features by 0.5.
    """
    model, shares = Audio2Exp(len(names)), torch.from_numpy(kept_shares(names))
    with torch.no_grad():
        model.mapping1.weight *= 0.1
        model.mapping1.bias.zero_()
        model.mapping1.weight[:, 512:] = 0.0
        model.mapping1.weight[:, 512:-1].diagonal().copy_(4.0 * shares / (3.0 + 2.0 * shares))
    return model


def augment(mel: Float[Tensor, "S L 80 16"], generator: torch.Generator) -> Float[Tensor, "S L 80 16"]:
    """Change level, tone and background noise of each sequence in the mel domain (8 units are 100 dB)."""

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(mel), 1, 1, 1, generator=generator, device=mel.device)

    bands = torch.linspace(-1.0, 1.0, 80, device=mel.device)[:, None]
    phase = draw(0.0, 2.0 * math.pi)
    tone = draw(-0.5, 0.5) * bands + draw(0.0, 0.35) * torch.sin(draw(1.0, 4.0) * bands * math.pi + phase)
    unit = math.log(10.0) * 100.0 / (8.0 * 20.0)  # nepers in one mel unit
    noise = draw(-5.5, -2.0) + draw(-0.5, 0.3) * bands
    heard = torch.logaddexp((mel + draw(-0.8, 0.6) + tone) * unit, noise * unit) / unit
    jitter = 0.08 * torch.randn(mel.shape, generator=generator, device=mel.device)
    return (heard + jitter).clamp(-4.0, 4.0)


class Sampler:
    """Draws batches of sequences: what is heard, the portrait's own face, where to start, what to predict."""

    def __init__(self, clips: Clips, names: list[str], device: str | torch.device) -> None:
        self.names, self.device = names, torch.device(device)
        self.mel = torch.from_numpy(clips.mel).to(self.device, torch.float16)
        self.columns = torch.from_numpy(clips.columns()).to(self.device)
        self.actions = torch.from_numpy(clips.actions).to(self.device)
        self.clip_starts = torch.from_numpy(clips.starts()).to(self.device)
        spans = zip(clips.starts(), clips.ends - LENGTH + 1, strict=True)
        self.first = np.concatenate([np.arange(start, stop) for start, stop in spans])
        self.shares = torch.from_numpy(kept_shares(names)).to(self.device)

    def batch(self, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(mel (S,L,80,16), beta_init (S,E), p before the first frame (S,E), targets p* (S,L,E))."""
        rng, generator = numpy_rng(seed, step), step_rng(seed, step, self.device)
        first = torch.from_numpy(rng.choice(self.first, SEQUENCES)).to(self.device)
        frames = first[:, None] + torch.arange(LENGTH, device=self.device)
        mel = self.mel[self.columns[frames]].float().transpose(2, 3)
        drawn = np.stack([random_reference(self.names, rng) for _ in range(SEQUENCES)])
        beta_init = torch.from_numpy(drawn).to(self.device)
        kept = self.shares * beta_init
        targets = (self.actions[frames] + kept[:, None]) / LAMBDA_EXP
        before = (self.actions[(first - 1).clamp(min=0)] + kept) / LAMBDA_EXP
        before += 0.04 * torch.randn(before.shape, generator=generator, device=self.device)
        at_start = torch.isin(first, self.clip_starts)[:, None]
        before = torch.where(at_start, beta_init, before)  # so that r_0 = beta_init, as at inference
        return augment(mel, generator), beta_init, before, targets


def weighted_error(
    predicted: Float[Tensor, "S L E"], targets: Float[Tensor, "S L E"], weights: Float[Tensor, " E"]
) -> Float[Tensor, ""]:
    """Squared error of positions and, half as heavy, of movements from frame to frame, each per action."""
    wrong = predicted - targets
    return (weights * wrong**2).mean() + 0.5 * (weights * wrong.diff(dim=1) ** 2).mean()


def train(
    steps: int = 2400,
    seed: int = 0,
    resume: bool = False,
    device: str | Team = "cpu",
    out: str | Path | None = None,
) -> dict[str, float]:
    """Train, measure on held-out voices and sentences, export; returns the figures.

    The speech is synthesised on the first call and kept in the run's folder (a minute or two).
    """
    keep_freed_memory()
    names, folder, team = expression_names(), run_folder("audio2exp", out), Team.of(device)
    mine = team.share(SEQUENCES)
    with team.first():
        clips = training_clips(folder, seed)
    sampler = Sampler(clips, names, team.device)
    seed_everything(seed)
    model = new_model(names).to(team.device)
    team.join(model)
    groups: list[dict[str, Any]] = [
        {"params": model.audio_encoder.parameters()},
        {"params": model.mapping1.parameters(), "scale": 0.1},  # else its steps are larger than its outputs
    ]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.02)
    ema = Ema(model, half_life=100)
    spread = sampler.actions.std(0) / LAMBDA_EXP
    weights = 1.0 / (torch.where(spread > 0.0, spread, 0.1) ** 2 + 0.002)
    weights /= weights.mean()
    loop = Loop("audio2exp", steps, seed, {"model": model, "optimiser": optimiser, "ema": ema}, out, resume, team=team)
    for step in loop:
        set_learning_rate(optimiser, warm_cosine(step, steps, peak=1.5e-3, final=0.02))
        mel, beta_init, before, targets = (part[mine] for part in sampler.batch(seed, step))
        with mixed_precision(sampler.device.type):
            heard = model.embed(mel.flatten(0, 1)[:, None])
        heard = heard.float().unflatten(0, mel.shape[:2])
        predicted = momentum_recursion(model, heard, beta_init, before)
        loss = weighted_error(predicted, targets, weights)
        optimiser.zero_grad()
        team.backward(loss, model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        ema.update(model)
        loop.log(loss=loss, jaw=(predicted - targets)[..., names.index("jawOpen")].abs().mean())
    if not team.leads:
        return {}
    model.load_state_dict(ema.state)
    figures = measure_audio2exp(model.cpu())
    config = {"n_exp": len(names)}
    command = f"nfs train audio2exp --steps {steps} --seed {seed}{team.options}"
    export("audio2exp", model.state_dict(), figures, command, seed, steps, loop.seconds, config=config, out=out)
    return figures


def measure_audio2exp(model: Audio2Exp) -> dict[str, float]:
    """How well the finished curves (recursion and lambda_exp included) follow the truth on held-out speech.

    The held-out clips are sentences, voices and a language (Dutch) that no training heard, each said with a
    portrait's own expression. Keys:
    jaw_r: correlation of jawOpen; jaw_gain: slope of predicted on true jawOpen;
    mouth_r_mean: mean correlation over the driven actions (left and right count once), after taking off
    what should remain of the portrait's own expression, which is constant and easy;
    lag_ms: size of the delay at which prediction and truth agree best, over all driven actions;
    late_ms: the same with its sign, positive if the face comes late;
    unseen_language_r: mouth_r_mean on Dutch alone; closed_lips_gap: mean jawOpen - mouthClose while lips
    should be sealed; kept_error: mean absolute error of the actions that should keep to the portrait's own.
    """
    clips, names = held_out_clips(), expression_names()
    truths, predictions, dutch, kept = [], [], [], kept_shares(names)
    windows = clips.mel[clips.columns()].transpose(0, 2, 1).copy()
    for start, end, reference, voice in zip(clips.starts(), clips.ends, clips.reference, clips.voices, strict=True):
        predicted = speech_to_expression(model, windows[start:end], torch.from_numpy(reference)).numpy()
        predictions.append(predicted - kept * reference)
        truths.append(clips.actions[start:end])
        dutch.append(np.full(end - start, voice.startswith("nl")))
    truth, predicted, is_dutch = (np.concatenate(parts) for parts in (truths, predictions, dutch))
    driven = [names.index(moved[0]) for moved in visemes.ACTIONS.values()]
    still = np.flatnonzero(kept == 1.0)
    jaw, close, press = (names.index(name) for name in ("jawOpen", "mouthClose", "mouthPressLeft"))
    sealed = truth[:, press] > 0.25
    late = _delay([t[:, driven] for t in truths], [p[:, driven] for p in predictions])
    figures = {
        "jaw_r": np.corrcoef(truth[:, jaw], predicted[:, jaw])[0, 1],
        "jaw_gain": np.polyfit(truth[:, jaw], predicted[:, jaw], 1)[0],
        "mouth_r_mean": _mean_correlation(truth[:, driven], predicted[:, driven]),
        "lag_ms": abs(late),
        "late_ms": late,
        "unseen_language_r": _mean_correlation(truth[is_dutch][:, driven], predicted[is_dutch][:, driven]),
        "closed_lips_gap": (predicted[sealed, jaw] - predicted[sealed, close]).mean(),
        "kept_error": np.abs(predicted[:, still] - truth[:, still]).mean(),
    }
    return {name: float(value) for name, value in figures.items()}


def _mean_correlation(truth: Float[np.ndarray, "T A"], predicted: Float[np.ndarray, "T A"]) -> float:
    pairs = zip(truth.T, predicted.T, strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))


def _delay(truths: list[np.ndarray], predictions: list[np.ndarray], reach: int = 5) -> float:
    """Milliseconds by which the predictions (clips of (T, A)) come late: the peak of the cross-correlation.

    A parabola through the highest of the 2 * reach + 1 whole-frame values and its neighbours finds the peak.
    """
    scale = np.concatenate(truths).std(0)
    agreement = np.zeros(2 * reach + 1)
    for truth, predicted in zip(truths, predictions, strict=True):
        a, b = ((x - x.mean(0)) / scale for x in (truth, predicted))
        middle = slice(reach, len(a) - reach)
        for i, shift in enumerate(range(-reach, reach + 1)):
            agreement[i] += (a[middle] * b[reach + shift : len(b) - reach + shift]).sum()
    best = int(np.clip(agreement.argmax(), 1, 2 * reach - 1))
    left, top, right = agreement[best - 1 : best + 2]
    return 40.0 * (best - reach + 0.5 * (left - right) / (left - 2.0 * top + right))
