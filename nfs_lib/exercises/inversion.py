"""Notebook 03."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nfs_lib import inversion
from nfs_lib.exercises.common import Verdict, compare
from nfs_lib.stylenerf import Generator


def psnr(answer: Any, made: Float[Tensor, "*B 3 H W"], true: Float[Tensor, "3 H W"]) -> Verdict:
    """``10·log10(2² / MSE)``: pictures in [−1, 1] span 2."""
    mse = (made - true).square().mean()
    decibels = 10 * torch.log10(4 / mse)
    mistakes = {
        "This is what it would be if pictures went from 0 to 1. Here they go from −1 to 1: the largest possible difference is "
        "2, which makes 6 dB.": 10 * torch.log10(1 / mse),
        "The sign is the other way round: less error is more dB.": -decibels,
        "Decibels count tens: log10, not the natural logarithm.": 10 * torch.log(4 / mse),
        "With 20 in front, the error's root belongs under the bar; the MSE is a square already.": 20 * torch.log10(2 / mse),
        "The largest difference, 2, must be squared as the error is.": 10 * torch.log10(2 / mse),
        "This is the mean squared error itself. How many tenths of powers of ten is it below 2²?": mse,
    }
    return compare(answer, decibels, mistakes, "20 dB means an error of a tenth of the whole span, 40 dB a hundredth.",
                   "That isn't it. First the mean of the squared differences, then its ratio to 2², then 10·log10.",
                   tolerance=1e-3)  # fmt: skip


def rate(answer: Any, t: float = 0.9, peak: float = 0.01) -> Verdict:
    """The learning rate at t of the way, for a t in the last quarter."""
    left = (1 - t) / 0.25
    mistakes = {
        "That is the peak, but the last quarter has begun.": peak,
        "That would be a straight line down. It is half a cosine: it starts and ends level.": peak * left,
        "This forgets the ½ in front of the cosine.": peak * (0.5 - math.cos(math.pi * left)),
        "The cosine has run the wrong way: this is what is lost of the peak.": peak * (0.5 + 0.5 * math.cos(math.pi * left)),
        "This lets the cosine fall over the whole way instead of the last quarter.":
            peak * (0.5 - 0.5 * math.cos(math.pi * (1 - t))),
    }  # fmt: skip
    return compare(answer, torch.tensor(inversion.learning_rate(t, peak)), as_tensors(mistakes),
                   "The steps become small while the noise on w is gone: w settles.",
                   "That isn't it. How much of the last quarter is left? It goes into the cosine.", tolerance=1e-4)  # fmt: skip


def brighter(answer: Any, sizes: int = 4, offset: float = 0.1) -> Verdict:
    """`picture_loss` of a picture that is the input plus `offset` everywhere, at every size: sizes × offset."""
    mistakes = {
        "That is one size. The loss adds up all of them.": offset,
        "The differences between neighbouring pixels are those of the input: a constant doesn't show in them.":
            (sizes + 2) * offset,
        "That also counts one of the gradients; a constant doesn't show in them.": (sizes + 1) * offset,
        "That is the squared error; L1 doesn't square.": sizes * offset**2,
        "That is the squared error of one size; L1 doesn't square, and all sizes are added.": offset**2,
        "The gradients don't see a constant, but the four comparisons of colours do.": 0.0,
    }  # fmt: skip
    return compare(answer, torch.tensor(sizes * offset), as_tensors(mistakes),
                   "Averaging over blocks keeps a constant, differences lose it.",
                   "That isn't it. Take the terms one by one: what does a constant do to each?", tolerance=1e-3)  # fmt: skip


def learners(answer: Any, generator: Generator) -> Verdict:
    """How many numbers tuning may change: all weights but those of the mapping network, which w has left behind."""
    size = {name: float(sum(p.numel() for p in getattr(generator, name).parameters()))
            for name in ("mapping", "foreground", "background", "upsampler")}
    total = sum(size.values())
    mistakes = {
        "That is the whole generator. The mapping network makes w, but w is given: no gradient ever reaches it.": total,
        "That is the mapping network alone, the one part that does *not* learn.": size["mapping"],
        "The volume learns as well: without it only paint could change, never the shape.": size["upsampler"],
        "The upsampler learns as well, even faster than the volume.": size["foreground"] + size["background"],
        "The background is missing.": size["foreground"] + size["upsampler"],
        "The pivot is fixed: w, z_bg and the pose don't take part.":
            total - size["mapping"] + generator.config.w_dim + generator.config.z_bg_dim + 3,
    }  # fmt: skip
    return compare(answer, torch.tensor(total - size["mapping"]), as_tensors(mistakes),
                   "More numbers than the picture has: it can be learnt by heart, and that is the danger.",
                   "That isn't it. Which of the four parts come after w?", tolerance=1e-6)  # fmt: skip


def neighbour(answer: Any, w: Float[Tensor, "1 w"], other: Float[Tensor, "1 w"], alpha: float) -> Verdict:
    """The official locality regulariser's sample: ``w + α · (w_r − w) / ‖w_r − w‖``."""
    way = other - w
    unit = way / way.norm()
    mistakes = {
        "That goes α times the whole way; the official code goes α along a direction of length 1.": w + alpha * way,
        "That walks away from the other person.": w - alpha * unit,
        "That is the step alone; it starts at the pivot.": alpha * unit,
        "That is the direction; go α along it, from the pivot.": unit,
        "That starts at the other person. The neighbours of the *pivot* are to stay.": other + alpha * unit,
        "That goes a share of the way, not α along a direction of length 1.": w + 0.5 * way,
        "That is the other person.": other,
    }  # fmt: skip
    return compare(answer, w + alpha * unit, mistakes,
                   "All such neighbours lie on a sphere of radius α around the pivot.",
                   "The shape is right, the numbers aren't. Direction = difference over its length.")  # fmt: skip


def as_tensors(numbers: dict[str, float]) -> dict[str, Tensor]:
    """Plain numbers as tensors, for `compare`."""
    return {hint: torch.tensor(float(number)) for hint, number in numbers.items()}
