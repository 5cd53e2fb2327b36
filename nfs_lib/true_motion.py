"""Where did this piece of skin really come from? The face model knows, so each rule of Eq. 6 can be held against the truth.

At time t a point b of a triangle lies at V_t(b), and the right deformation asks the field at V_init(b). What a rule gives is
the way of the vertex that it ties V_t(b) to. All points and lengths are in the head frame, head units.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nfs_lib.alignment import Match, match
from nfs_lib.camera import HEAD_TO_NERF, Camera, head_to_nerf, nerf_to_head, project
from nfs_lib.deformation import deform_nerf, displacement
from nfs_lib.errors import BadInput

if TYPE_CHECKING:
    from nfs_lib.talking_head import TalkingHead

# The first four are those of `pipeline.TalkingHead`. "now" is Eq. 6 with V_t in the place of V_init.
RULES = ("paper", "k-nearest", "3d", "official", "now")


@dataclass(frozen=True)
class Truth:
    """Points (n, 3) of the visible skin at time t that moves or is moved, their true way back to rest, and the rule's."""

    points: Float[Tensor, "n 3"]
    true: Float[Tensor, "n 3"]
    ruled: Float[Tensor, "n 3"]

    @property
    def error(self) -> Float[Tensor, "n"]:
        """How far off the rule is at each point, head units."""
        return (self.ruled - self.true).norm(dim=1)


def seen_frontally(points: Float[Tensor, "P 3"], camera: Camera) -> Float[Tensor, "P 3"]:
    """The points that the frontal camera sees where `camera` sees these: at the same pixel and depth.

    Sample k of ray j becomes sample k of ray j of the frontal camera: where the "official" rule believes it to be.
    """
    return nerf_to_head(head_to_nerf(points) @ camera.rotation[0].T)


def match_by(points: Float[Tensor, "P 3"], vertices: Float[Tensor, "V 3"], camera: Camera, rule: str) -> Match:
    """Eq. 6 by any of RULES ("now": give it the vertices of time t). Distances are on XY, from where the points really are.

    Raises BadInput for another rule.
    """
    if rule not in RULES:
        raise BadInput(f"unknown rule {rule!r}: one of {', '.join(RULES)}")
    if rule in ("paper", "k-nearest", "now"):
        return match(points, vertices, "k-nearest" if rule == "k-nearest" else "paper")
    found = match(seen_frontally(points, camera), vertices) if rule == "official" else match(points, vertices, "3d")
    return dataclasses.replace(found, distance=(points - vertices[found.index[:, 0]])[:, :2].norm(dim=1))


def surface_points(vertices: Float[Tensor, "V 3"], triangles: Int[Tensor, "F 3"], wanted: Bool[Tensor, "F"], camera: Camera,
                   n: int = 3000) -> tuple[Int[Tensor, "m"], Float[Tensor, "m 3"]]:
    """Points of the visible surface within the wanted triangles: triangle numbers and barycentric coordinates.

    n points spread evenly over the area that these triangles take in the picture (no chance is in it), less those outside the
    picture and those that lie more than 0.1 head units behind some other triangle of the same 1/48 of the picture.
    """
    r = 48
    corners = project(vertices[None], camera, r)[0][triangles]
    (ax, ay), (bx, by) = (corners[:, 1:, :2] - corners[:, :1, :2]).permute(1, 2, 0)
    area = ((ay * bx - ax * by).clamp(min=0) * wanted).double().cumsum(0)       # y points down: visible sides are positive
    if area[-1] == 0:
        return torch.zeros(0, dtype=torch.long), torch.zeros(0, 3)
    step = torch.arange(n, dtype=torch.float64) + 0.5
    chosen = torch.searchsorted(area, step / n * area[-1]).clamp(max=len(triangles) - 1)
    u, v = (step * 0.7548776662) % 1, (step * 0.5698402910) % 1                 # fills the unit square evenly
    u, v = torch.where(u + v > 1, 1 - u, u), torch.where(u + v > 1, 1 - v, v)
    shares = torch.stack([1 - u - v, u, v], 1).float()

    def cell(p: Tensor) -> Tensor:
        return p[:, 1].long().clamp(0, r - 1) * r + p[:, 0].long().clamp(0, r - 1)

    blocks = torch.cat([corners, (corners + corners.roll(1, 1)) / 2, corners.mean(1, keepdim=True)], 1).flatten(0, 1)
    first = torch.full((r * r,), torch.inf).scatter_reduce(0, cell(blocks), blocks[:, 2], "amin")
    x, y, depth = points = (corners[chosen] * shares[..., None]).sum(1).T
    seen = (depth < first[cell(points.T)] + 0.1 * HEAD_TO_NERF) & (x > 0) & (x < r) & (y > 0) & (y < r)
    return chosen[seen], shares[seen]


def against_truth(v_init: Float[Tensor, "N 3"], v_t: Float[Tensor, "N 3"], triangles: Int[Tensor, "F 3"],
                  chosen: Int[Tensor, "V"], camera: Camera, rule: str = "paper", *, planar: bool = False,
                  moving: float = 1e-6) -> Truth:
    """The rule's motion at points b of the visible skin at time t, against the true one, ``V_init(b) − V_t(b)``.

    v_init, v_t: all vertices of the face model; triangles: those that are skin; chosen: the vertices that take part in
    matching; moving: only points that move, or are moved by the rule, further than this, head units.
    """
    reference, delta = (v_t if rule == "now" else v_init)[chosen], displacement(v_init[chosen], v_t[chosen], planar)
    skin, corners = triangles.unique(return_inverse=True)
    moved = match_by(v_t[skin], reference, camera, rule).gather(delta)
    moves = torch.maximum((v_init - v_t)[skin].norm(dim=1), moved.norm(dim=1)) > moving
    triangle, shares = surface_points(v_t, triangles, moves[corners].any(1), camera)
    if not len(triangle):
        return Truth(*(v_t[:0] for _ in range(3)))
    before, now = ((v[triangles[triangle]] * shares[..., None]).sum(1) for v in (v_init, v_t))
    true, ruled = before - now, match_by(now, reference, camera, rule).gather(delta)
    counts = torch.maximum(true.norm(dim=1), ruled.norm(dim=1)) > moving
    return Truth(now[counts], true[counts], ruled[counts])


@torch.no_grad()
def deformed_picture(head: "TalkingHead", beta: Float[Tensor, "1 E"], camera: Camera, rule: str = "paper", *,
                     planar: bool = False, sign: int = 1) -> Float[Tensor, "3 H W"]:
    """The face with expression β_t by Eq. 6 and 7 alone, without LipaintNet, within [-1, 1].

    rule: one of RULES; "now" ties each sample to the vertex that is nearest at time t (V_t in the place of
    V_init in Eq. 6); "none" leaves the samples alone. sign −1: the wrong Eq. 7, which moves the samples along with the skin.
    Raises BadInput for another rule.
    """
    if rule not in (*RULES, "none"):
        raise BadInput(f"unknown rule {rule!r}: one of none, {', '.join(RULES)}")
    g, inv, move = head.inversion.generator, head.inversion, None
    if rule != "none":
        v_t = head.vertices(beta)
        matched = match_by(head.samples(camera), v_t if rule == "now" else head.v_init, camera, rule)
        move = deform_nerf(matched, sign * displacement(head.v_init, v_t, planar))
    ws = g.broadcast(inv.w)
    return g.upsample(*g.features(ws, inv.z_bg, camera, move).maps(), ws)[0].clamp(-1, 1)
