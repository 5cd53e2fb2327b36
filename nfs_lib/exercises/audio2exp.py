"""Notebook 04."""

from typing import Any

import torch

from nfs_lib.exercises.common import Verdict, compare


def number(value: float) -> torch.Tensor:
    """A plain number as `compare` takes it."""
    return torch.tensor(float(value))


def latency(answer: Any) -> Verdict:
    """How many ms after video frame 2 is shown its window ends: columns 0 to 15, sample 200·15 + 400, frame 2 at 80 ms."""
    mistakes = {
        "Column 15 is *centred* there. The piece of sound that it was made from goes on for half of its 800 samples.":
            number(107.5),
        "A whole piece is 800 samples, but only half of it lies after the column's centre.": number(157.5),
        "16 columns are numbers 0 to 15: the last one is centred on sample 200 · 15.": number(145.0),
        "That is when the sound ends, counted from the clip's start. Frame 2 itself is shown at 80 ms.": number(212.5),
        "That is seconds; milliseconds are asked for.": number(0.1325),
        "Those are samples; 16 of them are a millisecond.": number(2120),
    }  # fmt: skip
    return compare(answer, number(132.5), mistakes,
                   "A live system answers at least 0.13 s late: the face must hear what comes after the frame.",
                   "Which sample is the last that column 15 was made from? At 16 samples a millisecond, when is that, and "
                   "when is frame 2?", tolerance=1e-4)  # fmt: skip


def quieter(answer: Any) -> Verdict:
    """By how much mel values change if every sample is multiplied by 0.1: 20·log10(0.1) = −20 dB, 8 units are 100 dB."""
    mistakes = {
        "The size is right. Which way does it go?": number(1.6),
        "These are amplitudes, not powers: a tenth is 20 log₁₀ 0.1 dB.": number(-0.8),
        "Those are decibels. 100 dB are 8 units on the mel axis.": number(-20.0),
        "The mel values are logarithms: multiplying the sound doesn't multiply them, it shifts them.": number(0.1),
    }
    return compare(answer, number(-1.6), mistakes,
                   "A shift of the whole picture, so training shifted it at random: the network needn't care.",
                   "How many dB is a tenth of the amplitude, and how many mel units are a dB?", tolerance=1e-4)  # fmt: skip


def keeping_scale(answer: Any, w: float, alpha_m: float) -> Verdict:
    """The λ_exp with which λ (1 − α) w / (1 − α w) = 1: in silence a portrait keeps its expression; w: reference weight."""
    a = alpha_m
    right = (1 - a * w) / ((1 - a) * w)
    mistakes = {
        "That is the share which is left with λ_exp = 1. Which λ_exp brings it back to 1?": 1 / right,
        "That is the share which is left with λ_exp = 1.5. Which λ_exp makes it 1?": 1.5 / right,
        "That keeps the first frame, where r_0 = β_init. Later r has only the share 1 − α_m of it, and λ_exp isn't fed back.":
            1 / w,
        "That leaves out what the last prediction brings back: α_m w p stands on the right-hand side too.": 1 / ((1 - a) * w),
        "α_m is the share of the last prediction; β_init has 1 − α_m.": (1 - (1 - a) * w) / (a * w),
        "The feedback's sign: p − α_m w p = (1 − α_m) w β_init.": (1 + a * w) / ((1 - a) * w),
        "That is the pair of the training, with α_m = 0.5. Here less of β_init comes in.": 1.5,
    }  # fmt: skip
    return compare(answer, number(right), {hint: number(value) for hint, value in mistakes.items()},
                   "The less of β_init comes in, the more must λ_exp make up for: the two belong together.",
                   "Set p_t = p_{t−1} = p in p_t = w ((1 − α_m) β_init + α_m p_{t−1}), solve for p, and choose λ_exp so that "
                   "λ_exp p = β_init.", tolerance=2e-3)  # fmt: skip


def halved_scale(answer: Any, r: float, slope: float) -> Verdict:
    """(r, slope) when λ_exp is halved: a correlation doesn't know scales, a slope does."""
    mistakes = {
        "Does r change if one of two curves is drawn at half its height?": torch.tensor([r / 2, slope / 2]),
        "That is no change at all; but the jaw opens half as far.": torch.tensor([r, slope]),
        "The slope is predicted on right: half the prediction, half the slope.": torch.tensor([r, slope * 2]),
        "The order is r, slope.": torch.tensor([slope / 2, r]),
    }
    return compare(answer, torch.tensor([r, slope / 2]), mistakes,
                   "So r can't tell whether λ_exp is well chosen; slope and error can.",
                   "Two numbers, r and slope. Which of them changes if all predictions are halved?",
                   tolerance=2e-3)  # fmt: skip
