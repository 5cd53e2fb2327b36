"""Notebook 05."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nfs_lib.camera import ORBIT_CENTRE
from nfs_lib.exercises.common import Verdict, compare


def nearest(answer: Any, points: Float[Tensor, "P 3"], vertices: Float[Tensor, "V 3"]) -> Verdict:
    """Eq. 6 for all samples: right is (P,), the number of the vertex that is nearest on XY."""
    flat, solid = torch.cdist(points[:, :2], vertices[:, :2]), torch.cdist(points, vertices)
    mistakes = {
        "This is the nearest in space. Eq. 6 looks at x and y only.": solid.argmin(1),
        "This is the nearest sample of each vertex; Eq. 6 asks for the nearest vertex of each sample.": flat.argmin(0),
        "These are the distances to the vertex; n(p) is its number: argmin.": flat.amin(1),
        "This is the vertex that is farthest away.": flat.argmax(1),
        "These are all distances; argmin over the vertices says who is nearest.": flat,
    }
    return compare(answer, flat.argmin(1).float(), mistakes, "Everything against everything, which a tree needn't do.",
                   "The shape is right, the numbers aren't. Which axis are the vertices on?")  # fmt: skip


def which_vertex(answer: Any, p: Float[Tensor, "3"], vertices: Float[Tensor, "V 3"]) -> Verdict:
    """The number of the vertex that sample p follows by Eq. 6."""
    mistakes = {
        "That one is nearest in space. On XY another one is nearer, however far in front it is.":
            (vertices - p).norm(dim=1).argmin(),
        "That is the vertex that is farthest from it on XY.": (vertices - p)[:, :2].norm(dim=1).argmax(),
    }  # fmt: skip
    return compare(answer, (vertices - p)[:, :2].norm(dim=1).argmin(), mistakes,
                   "Although it lies far behind that skin, the sample moves with it.",
                   f"Compare x and y alone, for each vertex from 0 to {len(vertices) - 1}.")  # fmt: skip


def inverse_distance(answer: Any, distance: Float[Tensor, "n k"]) -> Verdict:
    """Rule "k-nearest": right is (n, k), shares proportional to 1 / (distance + 0.01), each row's sum 1."""
    raw, bare = 1 / (distance + 0.01), 1 / distance
    right = raw / raw.sum(1, keepdim=True)
    mistakes = {
        "Each row must sum to 1: divide by the sum over its k vertices.": raw,
        "The sum is over a sample's k vertices (dim=1), not over the samples.": raw / raw.sum(0, keepdim=True),
        "That favours the vertex that is farthest away.": distance / distance.sum(1, keepdim=True),
        "The 0.01 is missing: a sample that lies exactly on a vertex would divide by zero.":
            bare / bare.sum(1, keepdim=True),
        "Nearly: 1 over distance is wanted, not e to its minus.": torch.softmax(-distance, 1),
        "All the same share? The nearer the vertex, the larger.": torch.full_like(distance, 1 / distance.shape[1]),
    }  # fmt: skip
    return compare(answer, right, mistakes, "The field of motion is smoother now, and blurs where lips should part.",
                   "The shape is right, the numbers aren't. Two things to check: each row sums to 1, and a share is "
                   "proportional to 1 / (d + 0.01), brackets included.")  # fmt: skip


def stale_offset(answer: Any, p: Float[Tensor, "3"], yaw_degrees: float, unit_mm: float) -> Verdict:
    """How far in x, in mm, the place where the official rule looks lies from p, a point on x = 0, with the camera turned by
    yaw: ``(z − z₀)·sin ψ`` about the orbit's centre. Within 3 %, either sign."""
    depth, angle = float(p[2]) - ORBIT_CENTRE[2], math.radians(yaw_degrees)
    right = torch.tensor(depth * math.sin(angle) * unit_mm)
    mistakes = {
        "The sine takes radians: math.radians(30).": abs(depth * math.sin(yaw_degrees)) * unit_mm,
        "That turns about the origin; the camera's orbit has its centre at z = 0.3.": float(p[2]) * math.sin(angle) * unit_mm,
        "These are head units; one is 113.4 mm.": depth * math.sin(angle),
        "That is what is left of the depth (cosine); the shift in x takes the sine.": depth * math.cos(angle) * unit_mm,
    }
    given = answer if isinstance(answer, int | float | Tensor) else None
    if given is not None and torch.as_tensor(given).numel() == 1:
        answer = abs(float(given))
    hints = {hint: torch.tensor(float(mistake)) for hint, mistake in mistakes.items()}
    return compare(answer, right, hints, "About as far as from the middle of the mouth to the cheek: look for the mouth there.",
                   "Turn p about (0, 0.1, 0.3) by 30°: how far does it go sideways?", 0.03)  # fmt: skip


def stale_share(answer: Any, used: Int[Tensor, "P"], true: Int[Tensor, "P"], skin: Bool[Tensor, "P"]) -> Verdict:
    """Of the samples at the skin, the share whose vertex `used` isn't the nearest one, `true`."""
    stale = (used != true).float()
    mistakes = {
        "That is the share of good matches.": 1 - stale[skin].mean(),
        "That is over all samples; most of them are in the air or inside the head. Index with skin first.": stale.mean(),
        "That is how many; divide by how many samples there are at the skin.": stale[skin].sum(),
        "Stale samples at the skin, but divided by the number of all samples.": (stale * skin).mean(),
        "That says for each sample whether it is stale; the mean of it is the share.": stale[skin],
        "That is in percent; a number between 0 and 1 is wanted.": 100 * stale[skin].mean(),
    }
    return compare(answer, stale[skin].mean(), mistakes, "Nearly all of them. It is exact for the frontal camera only.",
                   "This isn't the share. Compare the two numbers of each sample at the skin.", 5e-3)  # fmt: skip
