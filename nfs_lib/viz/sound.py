"""Figures of the sound and of what the face does with it (paper 4.2): notebook 04. What they measure is here too."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from nfs_lib import portraits
from nfs_lib.audio import (
    FPS,
    HOP,
    MAX_ABS,
    MIN_DB,
    N_FFT,
    PREEMPHASIS,
    REF_DB,
    SAMPLE_RATE,
    WINDOW,
    mel_filters,
    mel_spectrogram,
    preemphasise,
    window_columns,
)
from nfs_lib.audio2exp import Audio2Exp, momentum_recursion
from nfs_lib.checks import by_hand
from nfs_lib.portraits import Portrait
from nfs_lib.samples import speech_file
from nfs_lib.training import visemes
from nfs_lib.training.speech import Phoneme
from nfs_lib.viz.style import COLOURS, Plot, panels, show, styled

MELS: Any = {"origin": "lower", "aspect": "auto", "cmap": "magma", "interpolation": "nearest", "vmin": -MAX_ABS,
             "vmax": MAX_ABS}  # fmt: skip


def hello_sounds() -> list[Phoneme]:
    """The speech sounds of the sample "hello", with their times in seconds."""
    about = json.loads(speech_file("hello").with_suffix(".json").read_text(encoding="utf8"))
    return [Phoneme(*sound) for sound in about["sounds"]]


def lips_shut(target: Float[np.ndarray, "T"]) -> list[Phoneme]:
    """Where a clip's true mouthPress says that lips are shut: each stretch as a mark "p/b/m"."""
    edges = np.flatnonzero(np.diff(np.pad((target > 0.25).astype(int), 1)))
    return [Phoneme("p/b/m", (a - 0.5) / FPS, (b - 0.5) / FPS) for a, b in edges.reshape(-1, 2)]


def lag_ms(target: Float[np.ndarray, "T"], predicted: Float[np.ndarray, "T"], reach: int = 5) -> float:
    """Milliseconds by which `predicted` comes late: where the cross-correlation peaks, between frames by a parabola."""
    agreement = shifted_correlation(target, predicted, reach)
    best = int(np.clip(agreement.argmax(), 1, 2 * reach - 1))
    left, top, right = agreement[best - 1 : best + 2]
    return float(1000 / FPS * (best - reach + 0.5 * (left - right) / (left - 2.0 * top + right)))


def shifted_correlation(target: Float[np.ndarray, "T"], predicted: Float[np.ndarray, "T"], reach: int = 5) -> np.ndarray:
    """(2 reach + 1,): correlation of target[t] with predicted[t + k], for k = −reach … reach frames."""
    middle = slice(reach, len(target) - reach)
    shifts = range(-reach, reach + 1)
    return np.array([np.corrcoef(target[middle], predicted[reach + k : len(target) - reach + k])[0, 1] for k in shifts])


def jerk(curve: Float[np.ndarray, "T"]) -> float:
    """How jerkily a curve of 25 values a second moves: its third derivative (per s³), root mean square, over its spread."""
    third = np.diff(curve, 3) * FPS**3
    return float(np.sqrt((third**2).mean()) / curve.std())


@torch.no_grad()
def respeak(
    net: Audio2Exp, heard: Float[Tensor, "T 512"], beta_init: Float[Tensor, "E"], alpha_m: float = 0.5, lambda_exp: float = 1.5
) -> Float[Tensor, "T E"]:
    """Eq. 4–5 on windows that were heard already (`net.embed`): cheap enough to call for every move of a slider."""
    return lambda_exp * momentum_recursion(net, heard[None], beta_init[None], momentum=alpha_m)[0]


def from_mel(mel: Float32[np.ndarray, "80 m"], rounds: int = 30) -> Float32[np.ndarray, "n"]:
    """A wave (16 kHz) with this mel spectrogram: what is left of the sound when it reaches the network.

    The mel spectrogram has no phases: they are found by going back and forth between wave and spectrum (Griffin and Lim, 1984).
    """
    decibels = (torch.from_numpy(mel).double() + MAX_ABS) * -MIN_DB / (2 * MAX_ABS) + MIN_DB + REF_DB
    bands = 10 ** (decibels / 20) - 10 ** ((MIN_DB + REF_DB) / 20)
    amplitude = (torch.linalg.pinv(torch.from_numpy(mel_filters()).double()) @ bands).clamp(min=0)
    hann = torch.hann_window(N_FFT, dtype=torch.float64)
    noise = torch.rand(amplitude.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    phase = torch.exp(2j * torch.pi * noise)
    for _ in range(rounds):
        wave = torch.istft(amplitude * phase, N_FFT, HOP, window=hann)
        spectrum = torch.stft(wave, N_FFT, HOP, window=hann, return_complex=True, pad_mode="constant")
        phase = spectrum / spectrum.abs().clamp(min=1e-9)
    flat = np.array(list(itertools.accumulate(wave.tolist(), lambda before, now: now + PREEMPHASIS * before)))
    return (0.7 * flat / max(1e-9, np.abs(flat).max())).astype(np.float32)


@styled
def one_column(wave: Float32[np.ndarray, "n"], second: float) -> Plot:
    """The four steps that make the mel column nearest to `second`: cut out, spectrum, filters, 80 numbers."""
    column = round(second * SAMPLE_RATE / HOP)
    raw, lifted = (np.pad(w, N_FFT // 2)[column * HOP :][:N_FFT] for w in (wave.astype(np.float64), preemphasise(wave)))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    figure, axes = panels(2, 2, 7.5, 3.5)
    cut, spectrum, filters, values = axes.ravel()
    at = (np.arange(N_FFT) - N_FFT // 2 + column * HOP) / SAMPLE_RATE * 1000
    for w, colour, name in ((raw, "#999999", "as recorded"), (lifted, COLOURS[0], "pre-emphasised")):
        cut.plot(at, w * hann, color=colour, label=name, linewidth=1)
        level = 20 * np.log10(np.maximum(1e-5, np.abs(np.fft.rfft(w * hann))))
        spectrum.plot(np.linspace(0, 8, N_FFT // 2 + 1), level, color=colour, label=name, linewidth=1)
    cut.set(title="1 a piece of 50 ms, faded at both ends", xlabel="time (ms)", ylabel="amplitude", xlim=(at[0], at[-1]))
    spectrum.set(title="2 its amplitudes: pre-emphasis lifts the high ones", xlabel="frequency (kHz)", ylabel="dB", xlim=(0, 8),
                 ylim=(-110, 35))  # fmt: skip
    spectrum.legend(loc="lower left")
    for band in mel_filters()[4::5]:
        filters.fill_between(np.linspace(0, 8, len(band)), band / band.max(), color=COLOURS[2], alpha=0.35, linewidth=0)
    filters.set(title="3 every fifth of the 80 filters: narrow below, wide above", xlabel="frequency (kHz)",
                ylabel="weight (peak = 1)", xlim=(0, 8), ylim=(0, 1.1))  # fmt: skip
    values.bar(np.arange(80), mel_spectrogram(wave)[:, column] + MAX_ABS, bottom=-MAX_ABS, width=0.85, color=COLOURS[1])
    values.set(title="4 one column: 80 numbers from −4 to 4", xlabel="mel band", ylabel="mel value", xlim=(-1, 80),
               ylim=(-MAX_ABS, MAX_ABS))  # fmt: skip
    return figure


@styled
def windows(mel: Float32[np.ndarray, "80 m"], total: int, frames: Sequence[int]) -> Plot:
    """Which mel columns some of the `total` video frames hear: boxes in the spectrogram, and what is in each box."""
    columns = window_columns(total, mel.shape[1])
    figure = Plot(figsize=(8, 3.4), layout="constrained")
    grid = figure.add_gridspec(2, len(frames), height_ratios=[1, 1.1])
    whole, half = figure.add_subplot(grid[0, :]), HOP / SAMPLE_RATE / 2
    whole.imshow(mel, extent=(-half, (2 * mel.shape[1] - 1) * half, 0, 80), **MELS)
    for k, (frame, colour) in enumerate(zip(frames, itertools.cycle((COLOURS[5], COLOURS[2], COLOURS[4])), strict=False)):
        start = 80.0 * (frame - 2) / FPS
        left = (2 * int(start) - 1) * half
        whole.add_patch(Rectangle((left, 0.5), WINDOW * 2 * half, 79, fill=False, edgecolor=colour, linewidth=2, clip_on=False))
        whole.plot([frame / FPS], [83], "v", color=colour, clip_on=False, markersize=7)
        cell = figure.add_subplot(grid[1, k])
        cell.imshow(mel[:, columns[frame]], extent=(-0.5, 15.5, 0, 80), **MELS)
        first, last = columns[frame, 0], columns[frame, -1]
        cell.set(title=f"frame {frame}, {frame / FPS:.2f} s\ncolumns {first} … {last}", xlabel="column of 16", xticks=(0, 15),
                 yticks=(), ylabel="mel band" if k == 0 else "")  # fmt: skip
        for spine in cell.spines.values():
            spine.set(color=colour, linewidth=2, visible=True)
    whole.set(xlim=(-0.12, (2 * mel.shape[1] - 1) * half + 0.12), xlabel="time (s)", ylabel="mel band")
    whole.set_title("a box: what a frame hears; the triangle above it: when the frame is shown", pad=12)
    return figure


@styled
@torch.no_grad()
def layers(net: Audio2Exp, window: Float[Tensor, "80 16"]) -> Plot:
    """A mel window on its way through the encoder: the mean over the channels wherever the size changes."""
    net.eval()
    x, seen = window[None, None], [(window, "in: 1 × 80 × 16")]
    for number, block in enumerate(net.audio_encoder):
        before = x.shape
        x = block(x)
        if number == 0 or x.shape[1:] != before[1:]:
            size = " × ".join(map(str, x.shape[1:]))
            picture = x[0].mean(0) if x.shape[-1] > 1 else x[0].reshape(32, 16)
            seen.append((picture, f"block {number}: {size}"))
    figure, axes = panels(1, len(seen), 8.5, 2.2)
    for axis, (picture, title) in zip(axes[0], seen, strict=True):
        axis.imshow(picture.numpy(), origin="lower", aspect="auto", cmap="magma", interpolation="nearest")
        axis.set(xticks=(), yticks=())
        axis.set_title(title, fontsize=8)
    figure.suptitle("one window on its way to 512 numbers (mean over channels; at the end all 512, as 32 × 16)", fontsize=9,
                    x=0.01, ha="left")  # fmt: skip
    return figure


SHADES = {"vowels": (COLOURS[4], "orange"), "lips shut": (COLOURS[0], "blue")}


def kind(ipa: str) -> str:
    """Which of SHADES a sound is, or ""."""
    return "vowels" if set(ipa) & visemes.VOWELS else "lips shut" if set(ipa) & set("pbm") else ""


def mark(axes: Axes, sounds: Sequence[Phoneme], written: bool) -> None:
    """Shade vowels (orange) and shut lips (blue) in an axis of seconds; written: also write each sound along the top."""
    for ipa, start, end in sounds:
        if kind(ipa):
            axes.axvspan(start, end, color=SHADES[kind(ipa)][0], alpha=0.16, linewidth=0, zorder=0)
        if written and ipa:
            axes.text((start + end) / 2, 0.97, ipa.strip("ˈˌ"), transform=axes.get_xaxis_transform(), ha="center", va="top",
                      fontsize=7.5)  # fmt: skip


def draw_wave(axes: Axes, wave: Float32[np.ndarray, "n"], sounds: Sequence[Phoneme]) -> None:
    """The wave (least and greatest of every 5 ms) with its sounds written above it."""
    pieces = wave[: len(wave) // 80 * 80].reshape(-1, 80)
    axes.fill_between(np.arange(len(pieces)) * 80 / SAMPLE_RATE, pieces.min(1), pieces.max(1), color="#777777", linewidth=0)
    axes.set(ylabel="amplitude", ylim=(-1.0, 1.45), yticks=(-1, 0, 1), xlim=(0, len(wave) / SAMPLE_RATE))
    mark(axes, sounds, written=True)


@styled
def against_truth(
    heard: Float32[np.ndarray, "n"] | Float32[np.ndarray, "80 m"],
    pairs: Mapping[str, tuple[Float[np.ndarray, "T"], Float[np.ndarray, "T"]]],
    sounds: Sequence[Phoneme] = (),
) -> Plot:
    """What is heard (a wave or its mel), and for each named action a panel: what is right (black), what was predicted.

    Vowels are shaded orange, shut lips blue.
    """
    figure, axes = panels(len(pairs) + 1, 1, 8, 1.3 + 0.95 * len(pairs), share_x=True, heights=[1.2, *[1.0] * len(pairs)])
    top, half = axes[0, 0], HOP / SAMPLE_RATE / 2
    if heard.ndim == 1:
        draw_wave(top, heard, sounds)
    else:
        top.imshow(heard, extent=(-half, (2 * heard.shape[1] - 1) * half, 0, 80), **MELS)
        top.set(ylabel="mel band")
    shaded = ", ".join(f"{colour}: {name}" for name, (_, colour) in SHADES.items() if name in {kind(s.ipa) for s in sounds})
    top.set_title("what is heard" + (f" ({shaded})" if shaded else ""))
    for axis, (name, (right, predicted)) in zip(axes[1:, 0], pairs.items(), strict=True):
        seconds = np.arange(len(right)) / FPS
        mark(axis, sounds, written=False)
        axis.plot(seconds, right, color="black", linewidth=1.2, label="right")
        axis.plot(seconds, predicted, color=COLOURS[1], label="predicted")
        axis.set_title(f"{name} (0 = rest, 1 = full), r = {np.corrcoef(right, predicted)[0, 1]:.2f}")
        axis.set_ylabel("strength", fontsize=8)
        axis.axhline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    axes[1, 0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1, ncols=2)
    axes[-1, 0].set(xlabel="time (s)", xlim=(0, len(right) / FPS))
    return figure


@styled
def agreement(target: Float[np.ndarray, "T"], predicted: Float[np.ndarray, "T"], name: str = "jawOpen") -> Plot:
    """Every frame as a dot, and the correlation when the prediction is shifted: where it peaks is its delay."""
    figure, axes = panels(1, 2, 7, 2.6, widths=[1, 1.4])
    dots, curve = axes[0]
    slope, offset = np.polyfit(target, predicted, 1)
    ends = np.array([0.0, target.max()])
    dots.plot(target, predicted, ".", color=COLOURS[0], markersize=3, alpha=0.6)
    dots.plot(ends, ends, color="black", linewidth=1, label="equal")
    dots.plot(ends, slope * ends + offset, color=COLOURS[1], label=f"best line, slope {slope:.2f}")
    dots.set(xlabel="right", ylabel="predicted", title=f"{name}: r = {np.corrcoef(target, predicted)[0, 1]:.2f}")
    dots.legend(loc="upper left")
    late = lag_ms(target, predicted)
    shifts = np.arange(-5, 6) * 1000 / FPS
    curve.plot(shifts, shifted_correlation(target, predicted), "o-", color=COLOURS[0])
    curve.axvline(late, color=COLOURS[1], label=f"peak at {late:+.0f} ms".replace("-", "−"))
    curve.set(xlabel="prediction taken so much later (ms)", ylabel="correlation", title="in time? the peak is at 0 if so")
    curve.legend(loc="upper right")
    return figure


@styled
def memory(
    alphas: Sequence[float], lags: Mapping[str, Sequence[float]], jerks: Mapping[str, Sequence[float]],
    kept: Mapping[str, Sequence[float]], formulas: Mapping[str, Sequence[float]],
) -> Plot:  # fmt: skip
    """What α_m changes: delay (ms), jerk (relative to its first value), share of the portrait's own expression that stays.

    Each mapping: name → one number for each of the alphas; formulas: dashed lines in the last panel.
    """
    figure, axes = panels(1, 3, 8, 2.5)
    relative = {name: [v / values[0] for v in values] for name, values in jerks.items()}
    drawn = ((lags, "delay of the jaw", "ms behind α_m = 0"), (relative, "its jerk", "relative to α_m = 0"),
             (kept, "own expression that is left", "share"))  # fmt: skip
    for axis, (curves, title, label) in zip(axes[0], drawn, strict=True):
        for (name, values), colour in zip(curves.items(), COLOURS[2:] if curves is kept else COLOURS, strict=False):
            axis.plot(alphas, values, "o-", color=colour, label=name, markersize=4)
        axis.set(xlabel="α_m", title=title, ylabel=label)
    for values in formulas.values():
        axes[0, 2].plot(alphas, values, "--", color="black", linewidth=1, zorder=3)
    if formulas:
        axes[0, 2].plot([], [], "--", color="black", linewidth=1, label="by the formula")
    axes[0, 1].set_ylim(0, 1.15)
    axes[0, 2].axhline(1, color="#bbbbbb", linewidth=0.8, zorder=0)
    axes[0, 0].legend(loc="upper left")
    axes[0, 2].legend(loc="lower left")
    return figure


@styled
def scales(
    target: Float[np.ndarray, "T"], unscaled: Float[np.ndarray, "T"], shown: Sequence[float] = (0.75, 1.5, 3.0),
    frames: int = 95,
) -> Plot:  # fmt: skip
    """λ_exp on one action: some curves over the first frames, and the mean error and slope for every λ_exp."""
    figure, axes = panels(1, 2, 8, 2.5, widths=[1.7, 1])
    curves, error = axes[0]
    seconds = np.arange(min(frames, len(target))) / FPS
    curves.plot(seconds, target[: len(seconds)], color="black", linewidth=1.2, label="right")
    for scale, colour in zip(shown, COLOURS, strict=False):
        curves.plot(seconds, scale * unscaled[: len(seconds)], color=colour, label=f"λ_exp = {scale:g}")
    curves.set(title="jawOpen: the same curve, larger or smaller", xlabel="time (s)", ylabel="strength")
    curves.set_ylim(top=1.45 * max(float(shown[-1] * unscaled[: len(seconds)].max()), float(target[: len(seconds)].max())))
    curves.legend(loc="upper left", ncols=2)
    tried = np.linspace(0, 3, 31)
    error.plot(tried, [np.abs(s * unscaled - target).mean() for s in tried], color=COLOURS[0])
    for scale, colour in zip(shown, COLOURS, strict=False):
        error.plot([scale], [np.abs(scale * unscaled - target).mean()], "o", color=colour, markersize=7)
    error.set(title="mean error of the jaw, all clips", xlabel="λ_exp", ylabel="|predicted − right|", ylim=(0, None))
    return figure


@styled
def orders(curves: Mapping[str, Float[np.ndarray, "T"]], aim: float) -> Plot:
    """Named courses of one action in silence, and what is right for it (dashed)."""
    figure, axes = panels(1, 1, 6.5, 2.6)
    axis = axes[0, 0]
    for (name, values), colour in zip(curves.items(), COLOURS, strict=False):
        axis.plot(np.arange(len(values)), values, "o-", color=colour, markersize=3, label=name)
    axis.axhline(aim, color="black", linestyle="--", linewidth=1, label="the portrait's own")
    axis.set(xlabel="video frame", ylabel="strength of the action", ylim=(0, 4 * aim),
             title="an action that speech leaves alone: where does its own feedback take it?")  # fmt: skip
    axis.legend(loc="upper right")
    return figure


def mouth_pictures(person: Portrait, betas: Float[Tensor, "n E"], resolution: int = 256) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """The mouth of a rendered person with each of these expressions; everything else as in the portrait."""
    scale = resolution / len(person.image)
    (left, top), (right, bottom) = (edge(person.landmarks[48:68], axis=0) * scale for edge in (np.min, np.max))
    half = 0.72 * (right - left)
    x, y = (left + right) / 2, (top + bottom) / 2 + 0.12 * half
    rows, columns = slice(round(y - 0.8 * half), round(y + 0.8 * half)), slice(round(x - half), round(x + half))
    scenes = (person.scene.replace(expression=beta.numpy().astype(np.float32)) for beta in betas)
    return [portraits.render(scene, person.pose, resolution).image[rows, columns] for scene in scenes]


@styled
def mouth_strip(
    wave: Float32[np.ndarray, "n"], sounds: Sequence[Phoneme], frames: Sequence[int],
    rows: Mapping[str, Sequence[UInt8[np.ndarray, "_ _ 3"]]],
) -> Plot:  # fmt: skip
    """Mouths at some video frames under the wave; each column is tied to its moment. rows: name → a picture a frame."""
    height, width = next(iter(rows.values()))[0].shape[:2]
    edge, span, wave_tall, gap, top = 0.04, 0.95 / len(frames), 1.1, 0.35, 0.25                # shares of the width; inches
    tall = 8 * span * height / width
    inches = tall * len(rows) + gap + wave_tall + top
    figure = Plot(figsize=(8, inches))
    sound = figure.add_axes((edge, 1 - (top + wave_tall) / inches, 0.95, wave_tall / inches))
    draw_wave(sound, wave, sounds)
    sound.set(ylabel="", yticks=())
    sound.spines[["left", "bottom"]].set_visible(False)
    sound.xaxis.set_ticks_position("top")
    sound.xaxis.set_major_formatter("{x:g} s")
    for r, (name, pictures) in enumerate(reversed(list(rows.items()))):
        for k, picture in enumerate(pictures):
            cell = figure.add_axes((edge + k * span, r * tall / inches, span * 0.97, tall / inches * 0.97))
            show(cell, picture)
            cell.set_aspect("auto")
        figure.text(edge - 0.008, (r + 0.5) * tall / inches, name, ha="right", va="center", rotation=90, fontsize=9)
    for k, frame in enumerate(frames):
        sound.annotate("", (edge + (k + 0.48) * span, tall * len(rows) / inches), (frame / FPS, -0.95),
                       xycoords="figure fraction", textcoords="data", annotation_clip=False,
                       arrowprops={"arrowstyle": "-", "color": COLOURS[1], "linewidth": 1, "shrinkA": 0})  # fmt: skip
        sound.axvline(frame / FPS, color=COLOURS[1], linewidth=1, ymax=0.8)
    return figure


@styled
def moving(betas: Float[Tensor, "T E"], names: Sequence[str]) -> Plot:
    """How much each action moves in a clip (standard deviation over time): those that speech drives, and all others."""
    spread = betas.std(0).numpy()
    driven = {name for moved in visemes.ACTIONS.values() for name in moved}
    figure, axes = panels(1, 1, 8, 2.3)
    axis = axes[0, 0]
    groups = ((COLOURS[1], "the training's targets move it", True), (COLOURS[0], "they leave it alone", False))
    for colour, label, chosen in groups:
        at = [i for i, name in enumerate(names) if (name in driven) == chosen]
        axis.bar(at, spread[at], color=colour, label=label)
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=6.5)
    axis.set(ylabel="spread over time", title="which actions does sound move?", xlim=(-1, len(names)))
    axis.legend(loc="upper left")
    return figure


@styled
def conditions(clean: Float[np.ndarray, "T"], curves: Mapping[str, Float[np.ndarray, "T"]], name: str = "jawOpen") -> Plot:
    """One action from the clean recording (black) and from the same speech, worse: a panel for each condition."""
    columns = 3
    rows = -(-len(curves) // columns)
    figure, axes = panels(rows, columns, 7.5, 1.15 * rows + 0.2, share_x=True)
    for axis, (condition, curve) in zip(axes.ravel(), curves.items(), strict=False):
        seconds = np.arange(len(clean)) / FPS
        axis.plot(seconds, clean, color="black", linewidth=1, label="clean")
        axis.plot(seconds, curve, color=COLOURS[1], label="worse")
        axis.set_title(f"{condition}: r = {np.corrcoef(clean, curve)[0, 1]:.2f}")
        axis.set(ylim=(-0.05, 1.6 * float(clean.max())), xlim=(0, len(clean) / FPS))
    for axis in axes.ravel()[len(curves) :]:
        axis.set_axis_off()
    for axis in axes[-1]:
        axis.set_xlabel("time (s)")
    for axis in axes[:, 0]:
        axis.set_ylabel(name)
    axes[0, 0].legend(loc="upper left", ncols=2, borderaxespad=0.1)
    return figure


def with_smile(beta: Float[Tensor, "E"], names: Sequence[str], smile: float, brow: float = 0.0) -> Float[Tensor, "E"]:
    """An expression with this smile and these raised brows (0 = rest, 1 = full)."""
    beta = beta.clone()
    for strength, stems in ((smile, ("mouthSmileLeft", "mouthSmileRight")), (brow, ("browInnerUp",))):
        for name in stems:
            beta[list(names).index(name)] = strength
    return beta


@styled
@by_hand(alpha_m=(0, 1), lambda_exp=(0, 5), smile=(0, 2))
def play(
    net: Audio2Exp, heard: Float[Tensor, "T 512"], beta_init: Float[Tensor, "E"], names: Sequence[str],
    wave: Float32[np.ndarray, "n"], sounds: Sequence[Phoneme] = (), alpha_m: float = 0.5, lambda_exp: float = 1.5,
    smile: float = 0.6,
) -> Plot:  # fmt: skip
    """Jaw, pucker and smile of a clip for these settings, over those of α_m = 0.5, λ_exp = 1.5 (pale); what a slider calls.

    heard: the clip's windows as `net.embed` hears them; smile: how much the portrait smiles.
    """
    own = with_smile(beta_init, names, smile)
    now, usual = respeak(net, heard, own, alpha_m, lambda_exp), respeak(net, heard, own)
    figure, axes = panels(2, 1, 8, 3.1, share_x=True, heights=[1, 2.2])
    draw_wave(axes[0, 0], wave, sounds)
    axis, seconds = axes[1, 0], np.arange(len(heard)) / FPS
    for name, colour in zip(("jawOpen", "mouthPucker", "mouthSmileLeft"), COLOURS, strict=False):
        axis.plot(seconds, usual[:, list(names).index(name)], color=colour, alpha=0.3, linewidth=3)
        axis.plot(seconds, now[:, list(names).index(name)], color=colour, label=name)
    axis.axhline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    axis.set(xlabel="time (s)", ylabel="strength of action", ylim=(-0.1, 1.3), xlim=(0, len(wave) / SAMPLE_RATE))
    axis.set_title(f"α_m = {alpha_m:g}, λ_exp = {lambda_exp:g}, own smile {smile:g} (pale: α_m = 0.5, λ_exp = 1.5)")
    axis.legend(loc="upper right", ncols=3)
    return figure
