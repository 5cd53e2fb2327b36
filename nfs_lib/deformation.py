"""Ray deformation (paper section 4.3, Eq. 7): move the samples, not the face.

To show the face at time t, the field is asked for the colour of a sample where that piece of skin was *before* it moved:

    ``p' = p + ΔV_t[n(p)]``,  ``ΔV_t = V_init − V_t``,

with n(p) the sample's vertex (`nfs_lib.alignment`, Eq. 6). The field itself never changes.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from nfs_lib.alignment import Match
from nfs_lib.camera import HEAD_TO_NERF


def displacement(v_init: Float[Tensor, "V 3"], v_t: Float[Tensor, "V 3"], planar: bool = False) -> Float[Tensor, "V 3"]:
    """``ΔV_t = V_init − V_t``, head frame. planar: without the motion in depth, as the official code does."""
    delta = v_init - v_t
    return delta * delta.new_tensor([1.0, 1.0, 0.0]) if planar else delta


def deform(points: Float[Tensor, "P 3"], matched: Match, delta: Float[Tensor, "V 3"]) -> Float[Tensor, "P 3"]:
    """Eq. 7: ``p' = p + ΔV_t[n(p)]``, all in the head frame."""
    return points + matched.gather(delta)


def deform_nerf(matched: Match, delta: Float[Tensor, "V 3"]) -> Callable[[Tensor], Tensor]:
    """Eq. 7 for the generator: a function that moves its samples (1, P, 3), NeRF frame; `matched` is of these samples."""
    move = matched.gather(delta)[None] * HEAD_TO_NERF
    return lambda points: points + move


def fold_over(points: Float[Tensor, "P 3"], v_init: Float[Tensor, "V 3"], v_t: Float[Tensor, "V 3"],
              rule: str = "k-nearest", step: float = 0.02) -> Float[Tensor, "P"]:
    """Determinant of the XY Jacobian of the deformation at each point, by central differences of `step` head units.

    1 where nothing changes, negative where the deformation turns the picture inside out.
    """
    from nfs_lib.alignment import match

    delta = displacement(v_init, v_t)

    def moved(dx: float, dy: float) -> Tensor:
        q = points + points.new_tensor([dx, dy, 0.0])
        return deform(q, match(q, v_init, rule), delta)[:, :2]

    columns = [(moved(step, 0) - moved(-step, 0)) / (2 * step), (moved(0, step) - moved(0, -step)) / (2 * step)]
    return torch.det(torch.stack(columns, -1))
