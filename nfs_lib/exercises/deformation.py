"""Notebook 06."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nfs_lib.alignment import Match, match
from nfs_lib.camera import HEAD_TO_NERF, head_to_nerf
from nfs_lib.exercises.common import Verdict, compare


def in_the_generators_frame(answer: Any, matched: Match, delta: Float[Tensor, "V 3"]) -> Verdict:
    """How far each of the generator's own samples must move: ``ΔV_t[n(p)] · HEAD_TO_NERF``, (P, 3) NeRF frame."""
    way = delta[matched.index[:, 0]]
    mistakes = {
        "That is the way in head units. The generator's samples are in NeRF units: the head is smaller there.": way,
        "`head_to_nerf` converts *places*: it takes the orbit's centre away too. A way has no place, only a scale.":
            head_to_nerf(way),
        "The wrong way round: a head unit is a small part of a NeRF unit.": way / HEAD_TO_NERF,
        "The sign: the field is asked where the skin came from.": -way * HEAD_TO_NERF,
        "This is the way of each vertex. Which vertex does each sample belong to?": delta * HEAD_TO_NERF,
    }  # fmt: skip
    return compare(answer, way * HEAD_TO_NERF, mistakes,
                   "Ways scale, they don't shift. `deform_nerf` is this line.",
                   "Take each sample's ΔV_t, then think what a length becomes when the frame is scaled.", tolerance=1e-6)


def two_slopes(answer: Any, apart_mm: float = 4.0, opens_mm: float = 10.0) -> Verdict:
    """dp'/dy between two vertices `apart_mm` apart at rest; the lower goes down by `opens_mm`, ΔV_t is linear between them.

    Right are two numbers: matched on V_init ``1 − opens / apart``, on V_t ``apart / (apart + opens)``.
    """
    on_init, on_t = 1 - opens_mm / apart_mm, apart_mm / (apart_mm + opens_mm)
    mistakes = {
        "These two are right, in the other order: V_init first.": torch.tensor([on_t, on_init]),
        "The sign of the first one: ΔV_t points up (+) at the lower vertex and is 0 at the upper one, so it falls as y grows.":
            torch.tensor([1 + opens_mm / apart_mm, on_t]),
        "The first one is negative: on V_init the lower sample asks above the upper one.": torch.tensor([-on_init, on_t]),
        "The second is upside down: p' covers the gap at rest while p covers the open one.": torch.tensor([on_init, 1 / on_t]),
        "These are the slopes of ΔV_t; p' = y + ΔV_t has one more.":
            torch.tensor([-opens_mm / apart_mm, -opens_mm / (apart_mm + opens_mm)]),
        "At time t the two vertices are as far apart as they were, *plus* what the lower one has moved.":
            torch.tensor([on_init, apart_mm / opens_mm]),
    }  # fmt: skip
    return compare(answer, torch.tensor([on_init, on_t]), mistakes,
                   "Below zero on V_init: the picture is inside out there. On V_t a way that changes evenly can't fold.",
                   "Write p' at the upper and at the lower vertex, and divide the difference by the difference of p. On V_init "
                   "p runs from one vertex to the other as they lie at rest, on V_t as they lie at time t.", tolerance=5e-3)


def backward_warp(
    answer: Any, points: Float[Tensor, "P 3"], v_init: Float[Tensor, "V 3"], v_t: Float[Tensor, "V 3"]
) -> Verdict:
    """The moved samples (P, 3), head frame, when each follows the vertex that is nearest on XY at time t."""
    at_rest, now = (match(points, v).index[:, 0] for v in (v_init, v_t))
    delta = v_init - v_t
    mistakes = {
        "That is Eq. 6 and 7 as printed: these samples are matched on V_init.": points + delta[at_rest],
        "Matched on V_t, as it should be, but moved along with the skin. Only the place of matching changes, not ΔV_t.":
            points - delta[now],
        "These are the ways alone.": delta[now],
        "Those are the vertices at rest themselves; a sample keeps its distance to its vertex.": v_init[now],
        "Nothing has moved.": points,
    }  # fmt: skip
    return compare(answer, points + delta[now], mistakes,
                   "At a vertex of time t this asks exactly where that vertex lay at rest.",
                   "Match with `match(points, ...)`, then `deform(points, ..., displacement(v_init, v_t))`.")


def forgotten_in_the_picture(answer: Any, yaw: float, forward_mm: float) -> Verdict:
    """By how many mm the picture of a head, turned by `yaw` radians, shows a lip shifted that moves `forward_mm` along z.

    Right is ``forward · sin(yaw)``.
    """
    right = torch.tensor(forward_mm * math.sin(yaw))
    mistakes = {
        "Seen from the front that would be so; the head is turned.": torch.tensor(0.0),
        "That is all of it: only from the exact side would the picture show the whole way.": torch.tensor(forward_mm),
        "That is what is left along the line of sight, which a picture doesn't show: cosine and sine.":
            torch.tensor(forward_mm * math.cos(yaw)),
        "Not the tangent: the way itself is the long side of the triangle.": torch.tensor(forward_mm * math.tan(yaw)),
        "The amount is right; give it without a sign.": -right,
        "`math.sin` wants radians; `yaw` is in radians already.": torch.tensor(forward_mm * math.sin(math.radians(yaw))),
        "`math.sin` wants radians: math.radians(30).": torch.tensor(forward_mm * math.sin(math.degrees(yaw))),
    }  # fmt: skip
    return compare(answer, right, mistakes, "At 0° nothing is lost, and that is where the official code matches.",
                   "Look from above: z is turned by the yaw. Which part of it lies along the picture's x axis?", tolerance=1e-3)
