"""Notebook 01."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nfs_lib.camera import FOV, HEAD_TO_NERF
from nfs_lib.exercises.common import Verdict, compare
from nfs_lib.stylenerf import GeneratorConfig
from nfs_lib.stylenerf.cost import field_cost, upsampler_cost


def spacing(answer: Any, config: GeneratorConfig, unit_mm: float) -> Verdict:
    """Distance in mm of neighbouring rays at depth 1, and of neighbouring samples of the central ray.

    answer: anything; right are these two numbers. unit_mm: millimetres per head unit.
    """
    mm = unit_mm / HEAD_TO_NERF
    n, s = config.ray_resolution, config.n_samples
    across, along = 2 * math.tan(FOV / 2) / n * mm, (config.far - config.near) / (s - 1) * mm
    right = torch.tensor([across, along])
    mistakes = {
        "These are NeRF units. One of them is unit_mm / HEAD_TO_NERF millimetres.": right / mm,
        "These are head units. One of them is unit_mm millimetres.": right / unit_mm,
        "NeRF units are smaller numbers than head units: divide by HEAD_TO_NERF.": right / mm * HEAD_TO_NERF * unit_mm,
        "The rays are twice as far apart: tan(FOV / 2) is half of the picture.": torch.tensor([across / 2, along]),
        "Right across. Along: n samples from near to far have n − 1 gaps between them.":
            torch.tensor([across, along * (s - 1) / s]),
        "Right along. Across: every ray has a cell of its own, so it's the picture's width by n, not by n − 1.":
            torch.tensor([across * n / (n - 1), along]),
        "Right numbers in the wrong order: rays first, then samples.": right.flip(0),
    }  # fmt: skip
    return compare(answer, right, mistakes,
                   "A ray sees 11 mm of skin, and its samples are coarser still: what is finer must come from the features.",
                   "Across: the width that the camera sees at depth 1, by the number of rays. Along: far − near, by the number "
                   "of gaps. Then to millimetres.", tolerance=0.025)  # fmt: skip


def doubled_density(answer: Any, transmittance: Float[Tensor, "R"]) -> Verdict:
    """What of each ray's light still reaches the background when every density is doubled. answer: anything; right is T²."""
    t = transmittance
    mistakes = {
        "Half of the light would be gone at T = 1 too, where there is nothing at all. What does exp(−2·Στ) have to do with "
        "exp(−Στ)?": t / 2,
        "More fog lets less light through, not more.": 2 * t,
        "That is for half the density.": t.sqrt(),
        "This is the opacity; the light that passes is 1 minus it.": 1 - t**2,
        "It would change.": t,
        "Opacity doesn't double: it would exceed 1. It's the exponent that doubles.": 1 - 2 * (1 - t),
    }
    return compare(answer, t**2, mistakes,
                   "Twice the fog is the same fog twice in a row.",
                   "T = exp(−Σσδ). Put 2σ in the place of σ, and write the result with T.")  # fmt: skip


def half_transparent(answer: Any) -> Verdict:
    """Expected depth of a ray whose first surface (0.94) stops half of the light and whose second (1.00) stops the rest."""
    mistakes = {
        "The first surface takes half of the light only; the other half counts as well.": torch.tensor(0.94),
        "The second surface is opaque, but only half of the light gets as far.": torch.tensor(1.0),
        "α of the second surface is 1, but its weight is α·T, with T = 0.5.": torch.tensor((0.5 * 0.94 + 1.0) / 1.5),
        "That is Σwt with the first weight only; the second surface has a weight too.": torch.tensor(0.47),
        "Σwt of α instead of w = α·T: the weights would sum to 1.5.": torch.tensor(1.47),
    }
    return compare(answer, torch.tensor(0.97), mistakes,
                   "Midway between two surfaces, where there is nothing: an expected depth is a mean, not a place.",
                   "Write down α, T and w = α·T of both surfaces, then Σwt / Σw.", tolerance=1e-4)  # fmt: skip


def mixed_styles(
    answer: Any, ws_shape: Float[Tensor, "1 L w"], ws_paint: Float[Tensor, "1 L w"], config: GeneratorConfig
) -> Verdict:
    """Styles whose field slots come from `ws_shape` and whose upsampler slots come from `ws_paint`. answer: anything."""
    n = config.n_nerf_ws

    def joined(a: Tensor, b: Tensor, k: int) -> Tensor:
        return torch.cat([a[:, :k], b[:, k:]], 1)

    mistakes = {
        "The other way round: the field reads the first slots.": joined(ws_paint, ws_shape, n),
        "Everything comes from the first person.": ws_shape,
        "Everything comes from the second person.": ws_paint,
        "The field has n_blocks layers and two heads, for density and for features: they read a slot each.":
            joined(ws_shape, ws_paint, config.field.n_blocks),
        "The density's slot is the field's, and so is the features' after it.": joined(ws_shape, ws_paint, n - 1),
        "One too many: the first convolution of the upsampler reads this slot.": joined(ws_shape, ws_paint, n + 1),
        "That is the mean of both in every slot; mixing takes each slot from one of them.": (ws_shape + ws_paint) / 2,
    }  # fmt: skip
    return compare(answer, joined(ws_shape, ws_paint, n), mistakes,
                   "LipaintNet (notebook 07) does just that: another style for the field, the same one for the upsampler.",
                   f"There are {config.num_ws} slots; the field reads the first g.config.field.n_blocks + 2, the upsampler "
                   "the others.")


def affordable_side(answer: Any, config: GeneratorConfig) -> Verdict:
    """Side of the largest square picture that direct volume rendering makes for the price of the whole generator."""
    ray, whole = field_cost(config, 1), field_cost(config, config.ray_resolution**2) + upsampler_cost(config)
    right = torch.tensor((whole / ray) ** 0.5)
    mistakes = {
        "That many rays; the picture's side is the square root.": right**2,
        "That is what the field alone pays for. The upsampler's price buys rays too.":
            torch.tensor(float(config.ray_resolution)),
        "That is what the upsampler's price alone buys; the field's 32 × 32 rays come on top.":
            torch.tensor((upsampler_cost(config) / ray) ** 0.5),
        "That is how many times dearer 256 × 256 rays are. How many rays cost as much as the generator does?":
            torch.tensor(field_cost(config, config.resolution**2) / whole),
    }  # fmt: skip
    return compare(answer, right, mistakes,
                   "The upsampler doubles the bill and draws 64 times the pixels.",
                   "Rays = price of the generator / price of one ray; then the side of that square.", tolerance=0.02)
