"""Notebook 02."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nfs_lib.camera import FOV, HEAD_TO_NERF
from nfs_lib.exercises.common import Verdict, as_tensor, close, compare
from nfs_lib.face import MorphableModel
from nfs_lib.face.fitting import ODD_LIGHT


def chin_travel(answer: Any, model: MorphableModel) -> Verdict:
    """How far landmark 8 moves, in millimetres, when the second identity coefficient goes from −1 to 2: one number.

    Eq. 3 is linear: ``3 · |S_id[1, v]|`` for the landmark's vertex v, in head units; `unit_mm` makes them millimetres.
    """
    mm, chin = model.info["unit_mm"], model.landmarks[8]
    one = model.id_basis[1, chin].norm()
    mistakes = {
        "That is in head units; `model.info['unit_mm']` says how many millimetres one is.": 3 * one,
        "This is the way for one standard deviation. From −1 to 2 there are three.": one * mm,
        "From −1 to 2 there are three standard deviations, not two.": 2 * one * mm,
        "This is the third mode: the second one is `id_basis[1]`.": 3 * model.id_basis[2, chin].norm() * mm,
        "This is the first mode: the second one is `id_basis[1]`.": 3 * model.id_basis[0, chin].norm() * mm,
        "This is vertex 8. Landmark 8 is vertex `model.landmarks[8]`.": 3 * model.id_basis[1, 8].norm() * mm,
        "These are the three coordinates; how long is the arrow?": 3 * mm * model.id_basis[1, chin],
        "This is the sum of the coordinates; the length of an arrow is `.norm()`.": 3 * mm * model.id_basis[1, chin].sum(),
    }
    return compare(answer, 3 * one * mm, mistakes, "Neither the mean nor the other coefficients matter: the model is linear.",
                   "Take the arrow of mode 2 at the chin's vertex, its length, times the steps, times the unit.",
                   tolerance=1e-3)  # fmt: skip


def half_way_length(answer: Any, angle: float) -> Verdict:
    """What a segment's length is multiplied by half-way, if its ends go straight to where a turn by `angle` radians takes
    them: one number, ``cos(angle / 2)``."""
    turn = torch.tensor(abs(angle))
    mistakes = {
        "This is how much is lost; how much is left?": 1 - (turn / 2).cos(),
        "Turned by half the angle the segment would keep its length, as turns do. Straight ways are not turns.": torch.ones(()),
        "That is the whole angle. In the triangle of hinge, start and end the height halves it.": turn.cos(),
        "The height of that triangle is the cosine of half the angle, its base the sine.": (turn / 2).sin(),
    }
    return compare(answer, (turn / 2).cos(), mistakes,
                   "The mean of two directions that differ by θ is cos(θ/2) long: the teeth shrink, then grow again.",
                   "Half-way every point is the mean of its start and its end. How long is the mean of a direction and the "
                   "same direction turned?", tolerance=1e-4)  # fmt: skip


def pixel_size(answer: Any, resolution: int, unit_mm: float) -> Verdict:
    """How many millimetres of a face at depth 1 one pixel covers: ``1 / focal / HEAD_TO_NERF · unit_mm``, one number."""
    focal = resolution / 2 / math.tan(FOV / 2)
    right = torch.tensor(unit_mm / focal / HEAD_TO_NERF)
    given = as_tensor(answer)
    if given is not None and given.ndim == 0 and abs(given - right) < 0.01 * right:
        answer = right                                     # 1.4 is as good; the wrong ways below lie closer together
    mistakes = {
        "That is in NeRF units: the camera sits 1 away from the head. Divide by HEAD_TO_NERF for head units, then convert.":
            torch.tensor(1 / focal),
        "That is in head units; one is `unit_mm` millimetres.": torch.tensor(1 / focal / HEAD_TO_NERF),
        "Head units are larger than NeRF units: divide by HEAD_TO_NERF.": torch.tensor(unit_mm / focal * HEAD_TO_NERF),
        "One NeRF unit isn't one head unit: where is HEAD_TO_NERF?": torch.tensor(unit_mm / focal),
        "Upside down: these are pixels per millimetre.": 1 / right,
    }  # fmt: skip
    return compare(answer, right, mistakes, "So an error of a pixel is more than a millimetre, seen from the front.",
                   "u = W/2 + f·x/depth with depth 1: by how much must x change for one pixel? Then x into millimetres.",
                   tolerance=1e-3)  # fmt: skip


def mirrored_bands(answer: Any) -> Verdict:
    """The numbers (0 to 8) of the harmonics that change sign when the light moves from left to right, in any order."""
    given = as_tensor(answer) if isinstance(answer, Tensor | list | tuple | set) else None
    if isinstance(answer, set):
        given = as_tensor(sorted(answer)) if all(isinstance(x, int) for x in answer) else None
    chosen = answer if given is None else given.flatten().sort().values
    mistakes = {
        "Bands 4 and 7 change too: xy and xz are odd in x.": torch.tensor([3.0]),
        "Those are the bands that change when the light moves from above to below: odd in y.": torch.tensor([1.0, 4.0, 5.0]),
        "Those are odd in z: the light would move to behind the head.": torch.tensor([2.0, 5.0, 7.0]),
        "x² − y² holds x twice: it doesn't change.": torch.tensor([3.0, 4.0, 7.0, 8.0]),
        "Those are the ones that stay.": torch.tensor([0.0, 1.0, 2.0, 5.0, 6.0, 8.0]),
        "Bands are counted from 0.": torch.tensor([4.0, 5.0, 8.0]),
    }
    right = torch.tensor(ODD_LIGHT).float()
    if isinstance(chosen, Tensor) and not any(close(chosen, listed) for listed in (right, *mistakes.values())):
        if len(chosen) and set(chosen.tolist()) < set(right.tolist()):
            return Verdict(False, "All of these change, but not only these: look for every x.")
        if len(chosen) != len(right):
            return Verdict(False, "Test each: put −x for x. Does the sign change?")
    return compare(chosen, right, mistakes, "Odd in x, so mirrored light has their signs reversed.",
                   "Put −x for x into the nine functions: which of them change sign?")  # fmt: skip


def darker_skin(answer: Any, light: Float[Tensor, "27"]) -> Verdict:
    """The 27 numbers under which skin of half the albedo looks as the old skin did under `light`.

    Colour is ``albedo · Σ_b Y_b (γ_b + 0.8·[b = 0])``: everything in the bracket doubles, the 0.8 too.
    """
    first = torch.zeros(3, 9)
    first[:, 0] = 0.8
    base = first.flatten()
    mistakes = {
        "γ doubles, but the 0.8 that is added to band 0 must double too.": 2 * light,
        "The sign of the correction: 2(γ₀ + 0.8) = γ₀' + 0.8.": 2 * light - base,
        "Only band 0 holds the 0.8, in each of the three colours.": 2 * light + 0.8,
        "The light must get brighter where the skin gets darker.": light / 2,
        "The light must get brighter where the skin gets darker; and mind the 0.8.": (light - base) / 2,
        "That is the sum in the bracket; γ' has the 0.8 added to it again.": 2 * (light + base),
        "This is the same light: darker skin looks darker under it.": light,
    }
    return compare(answer, 2 * light + base, mistakes, "No picture tells dark skin in bright light from the reverse.",
                   "Solve 0.5 · (γ' + 0.8·[b = 0]) = γ + 0.8·[b = 0] for γ', 3 × 9 numbers, colour by colour.")  # fmt: skip
