"""Ray deformation (paper section 4.3, Eq. 7): move the samples, not the face.

To show the face at time t, the field is asked for the colour of a sample where that piece of skin was *before* it moved:

    ``p' = p + ΔV_t[n(p)]``,  ``ΔV_t = V_init − V_t``,

with n(p) the sample's vertex (`nfs_lib.alignment`, Eq. 6). The field itself never changes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from nfs_lib.alignment import Match
from nfs_lib.camera import HEAD_TO_NERF, head_to_nerf

if TYPE_CHECKING:
    from nfs_lib.stylenerf import Generator


def displacement(v_init: Float[Tensor, "V 3"], v_t: Float[Tensor, "V 3"], planar: bool = False) -> Float[Tensor, "V 3"]:
    """``ΔV_t = V_init − V_t``, head frame. planar: without the motion in depth, as the official code does."""
    delta = v_init - v_t
    return delta * delta.new_tensor([1.0, 1.0, 0.0]) if planar else delta


def deform(points: Float[Tensor, "P 3"], matched: Match, delta: Float[Tensor, "V 3"]) -> Float[Tensor, "P 3"]:
    """Eq. 7: ``p' = p + ΔV_t[n(p)]``, all in the head frame."""
    return points + matched.gather(delta)


def deform_nerf(matched: Match, delta: Float[Tensor, "V 3"]) -> Callable[[Tensor], Tensor]:
    """Eq. 7 for the generator: a function that moves its samples (1, P, 3), NeRF frame; `matched` is of these samples."""
    return moved_by(matched.gather(delta)[None])


def moved_by(move: Float[Tensor, "B P 3"]) -> Callable[[Tensor], Tensor]:
    """Eq. 7 for the generator, of B pictures at once: move, head units, is added to its samples (B, P, 3), NeRF frame."""
    return lambda points: points + move * HEAD_TO_NERF


def fold_over(points: Float[Tensor, "P 3"], v_init: Float[Tensor, "V 3"], v_t: Float[Tensor, "V 3"],
              rule: str = "k-nearest", step: float = 0.02, matched_on: Float[Tensor, "V 3"] | None = None
              ) -> Float[Tensor, "P"]:
    """Determinant of the XY Jacobian of the deformation at each point, by central differences of `step` head units.

    1 where nothing changes, between 0 and 1 where the face at rest is stretched over the picture, negative where the
    deformation turns the picture inside out. matched_on: where the vertices are when samples look for theirs; v_init by
    default, as Eq. 6 has it.
    """
    from nfs_lib.alignment import match

    delta = displacement(v_init, v_t)
    places = v_init if matched_on is None else matched_on

    def moved(dx: float, dy: float) -> Tensor:
        q = points + points.new_tensor([dx, dy, 0.0])
        return deform(q, match(q, places, rule), delta)[:, :2]

    columns = [(moved(step, 0) - moved(-step, 0)) / (2 * step), (moved(0, step) - moved(0, -step)) / (2 * step)]
    return torch.det(torch.stack(columns, -1))


def grid_determinant(points: Float[Tensor, "P 3"], moved: Float[Tensor, "P 3"], n_samples: int) -> Float[Tensor, "P"]:
    """`fold_over` as the picture meets it, for any rule: XY Jacobian determinant from each ray to the next right and below.

    points, moved: samples of a square grid of rays, sample fastest, before and after Eq. 7. For each sample the signed XY area
    of the triangle with its two neighbours at the same depth, after / before. The last row and column have no such
    neighbours: 1.
    """
    side = round((len(points) / n_samples) ** 0.5)

    def area(p: Tensor) -> Tensor:
        grid = p.view(side, side, n_samples, 3)
        right, below = grid.diff(dim=1)[:-1], grid.diff(dim=0)[:, :-1]
        return right[..., 0] * below[..., 1] - right[..., 1] * below[..., 0]

    determinant = points.new_ones(side, side, n_samples)
    determinant[:-1, :-1] = area(moved) / area(points)
    return determinant.flatten()


@torch.no_grad()
def density(generator: "Generator", ws: Float[Tensor, "1 L w"], points: Float[Tensor, "*S 3"],
            deform: Callable[[Tensor], Tensor] | None = None) -> Float[Tensor, "*S"]:
    """Density σ of the field, per head unit, at points of the head frame; deform: moves them first (`deform_nerf`)."""
    asked = head_to_nerf(points).reshape(1, -1, 3)
    sigma, _ = generator.foreground(asked if deform is None else deform(asked), ws)
    return sigma.view(points.shape[:-1]) * HEAD_TO_NERF
