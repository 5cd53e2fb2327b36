"""Notebook 00."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nfs_lib.exercises.common import Verdict, compare
from nfs_lib.face import MorphableModel


def ray_deformation(
    answer: Any,
    points: Float[Tensor, "P 3"],
    index: Int[Tensor, "P"],
    v_init: Float[Tensor, "V 3"],
    v_t: Float[Tensor, "V 3"],
) -> Verdict:
    """Eq. 7, ``p' = p + ΔV_t[n(p)]`` with ``ΔV_t = V_init − V_t``.

    answer: anything; right is the (P, 3) tensor of moved samples. index: n(p), the vertex of each sample.
    """
    delta = v_init - v_t
    mistakes = {
        "That moves the samples along with the skin. The field knows the face at rest only: ask it where the skin came "
        "from.": points - delta[index],
        "These are the ways alone; Eq. 7 adds them to the samples.": delta[index],
        "The sign is the other way round, and the samples themselves are missing.": -delta[index],
        "This is the way of each vertex. A sample takes the way of *its* vertex: index with n(p).": delta,
        "This is the way of each vertex, backwards. A sample takes the way of *its* vertex: index with n(p).": -delta,
        "Nothing has moved.": points,
        "These are the samples' vertices at rest; Eq. 7 moves the samples themselves.": v_init[index],
        "These are the samples' vertices at time t; Eq. 7 moves the samples themselves.": v_t[index],
    }
    return compare(answer, points + delta[index], mistakes,
                   "The field is asked where each piece of skin was before it moved.",
                   "The shape is right, the numbers aren't. Which vertex does sample 0 belong to, and how far did that vertex "
                   "move?")  # fmt: skip


def chin_drop(answer: Any, model: MorphableModel) -> Verdict:
    """Eq. 3: millimetres that landmark 8, the tip of the chin, moves when jawOpen alone rises from 0 to 0.5."""
    jaw = model.action("jawOpen")
    full = model.exp_basis[jaw, model.landmarks[8]]
    mm = model.info["unit_mm"]
    mistakes = {
        "That is its way when the jaw opens fully; β is 0.5 here.": full.norm() * mm,
        "These are head units; model.info[\"unit_mm\"] says how many millimetres one is.": 0.5 * full.norm(),
        "That is its way downwards only. Where else does a chin go when the jaw turns about its hinge?": -0.5 * full[1] * mm,
        "A length has no sign: take the norm of the way.": 0.5 * full[1] * mm,
        "This is vertex 8. Landmark 8 is vertex model.landmarks[8].": 0.5 * model.exp_basis[jaw, 8].norm() * mm,
        "These are the three coordinates; how long is the arrow?": 0.5 * full * mm,
        "That is the sum of x, y and z; the length is the root of the sum of their squares.": 0.5 * full.abs().sum() * mm,
    }
    return compare(answer, 0.5 * full.norm() * mm, mistakes, "Eq. 3 is linear: half the strength, half the way.",
                   "Eq. 3: only β of jawOpen changes, so the mean and α drop out. Whose row of model.exp_basis is left?",
                   tolerance=0.02)  # fmt: skip


def blended(
    answer: Any, deformed: Float[Tensor, "B c r r"], inpainted: Float[Tensor, "B c r r"], mask: Float[Tensor, "r r"]
) -> Verdict:
    """Eq. 12, ``φ = (1 − M)·φ_deformed + M·φ_lipaint``."""
    mistakes = {
        "The two are swapped: M is 1 in the mouth, and the mouth is LipaintNet's.": mask * deformed + (1 - mask) * inpainted,
        "Without (1 − M) the mouth gets both at once.": deformed + mask * inpainted,
        "The rest of the face is missing.": mask * inpainted,
        "A plain mean blends everywhere; M says where.": (deformed + inpainted) / 2,
        "A hard edge shows as a seam: let M be what it is, between 0 and 1.": torch.where(mask > 0.5, inpainted, deformed),
    }
    return compare(answer, (1 - mask) * deformed + mask * inpainted, mistakes,
                   "Where M is 0.5, on the lips' edge, both have a say: no seam.",
                   "The shape is right, the numbers aren't. What should be left where M is 0, and where M is 1?")  # fmt: skip
