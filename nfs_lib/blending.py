"""Feature blending (paper section 4.5, Eq. 12–14): the mouth from LipaintNet's latent, the rest from the deformed rays."""

from collections import deque
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw
from torch import Tensor

from nfs_lib import camera as cam
from nfs_lib.camera import Camera

OUTER_LIPS = list(range(48, 60))                     # iBUG-68


def lip_outline(landmarks: Float[Tensor, "68 3"], camera: Camera, resolution: int, grow: float = 0.04) -> Float[Tensor, "12 2"]:
    """The outline of the lips as the camera sees it, widened from its centre by `grow` head units, in pixels x, y."""
    lips = landmarks[OUTER_LIPS]
    outward = torch.nn.functional.normalize(lips - lips.mean(0), dim=-1)
    return cam.project((lips + grow * outward)[None], camera, resolution)[0, :, :2]


def filled(outline: Float[Tensor, "n 2"], resolution: int) -> Float[Tensor, "R R"]:
    """1 inside a closed outline, 0 outside."""
    picture = Image.new("L", (resolution, resolution))
    ImageDraw.Draw(picture).polygon([(float(x), float(y)) for x, y in outline], fill=1)
    return torch.from_numpy(np.array(picture, np.float32))


def mouth_mask(landmarks: Float[Tensor, "68 3"], camera: Camera, resolution: int = 32, grow: float = 0.04
               ) -> Float[Tensor, "r r"]:
    """Where the mouth is in the feature map, in [0, 1] (the M of Eq. 12): the outline of the lips as the camera sees it.

    landmarks: the face's 68 points at time t, head frame. grow: head units by which the outline is widened from its centre, so
    that the seam lies on skin. Cells that the outline cuts get the share that it covers.
    """
    fine = filled(lip_outline(landmarks, camera, resolution * 8, grow), resolution * 8)
    return fine.reshape(resolution, 8, resolution, 8).mean((1, 3))


class MaskMean:
    """Running mean of the last n masks, the present one included (Eq. 13): the seam fades instead of jumping."""

    def __init__(self, n: int = 7) -> None:
        self.masks: deque[Tensor] = deque(maxlen=n)

    def __call__(self, mask: Float[Tensor, "r r"]) -> Float[Tensor, "r r"]:
        """Take in the mask of this frame; return the mean."""
        self.masks.append(mask)
        return torch.stack(list(self.masks)).mean(0)


def blend(deformed: Float[Tensor, "*B"], inpainted: Float[Tensor, "*B"], mask: Tensor) -> Float[Tensor, "*B"]:
    """``φ = (1 − M)·φ_deformed + M·φ_inpainted`` (Eq. 12), of whole maps (B, c, r, r) with a mask (r, r), or of some of their
    cells (B, c, n), each map with a mask of its own (B, 1, n)."""
    return deformed + mask * (inpainted - deformed)


@cache
def bicubic(n_in: int, n_out: int) -> Float[Tensor, "n m"]:
    """The matrix of torch's bicubic resampling along one axis, without antialiasing: n_in values → n_out."""
    return torch.nn.functional.interpolate(torch.eye(n_in)[None, None], (n_out, n_in), mode="bicubic")[0, 0]


def blend_at(deformed: Float[Tensor, "B c r r"], inpainted: Float[Tensor, "B c r r"], mask: Float[Tensor, "s s"]
             ) -> Float[Tensor, "B c r r"]:
    """Eq. 12 as the official code does it: both feature maps are enlarged to the mask's size (512), blended there, the mask
    1 inside the mouth, and made small again; both ways bicubic, the way back without antialiasing.

    The way back reads only four rows and columns for each cell, so nothing else is computed: 16 times less at 32 → 512.
    """
    r, size = deformed.shape[-1], mask.shape[-1]
    up, down = bicubic(r, size).to(deformed), bicubic(size, r).to(deformed)
    taps = down.ne(0).any(0)
    up, down, mask = up[taps], down[:, taps], mask[taps][:, taps]
    again = down @ up                                    # the deformed map through both resamplings
    return again @ deformed @ again.T + down @ (mask * (up @ (inpainted - deformed) @ up.T)) @ down.T


# how well a mask does; grey levels are those of 8-bit pictures


def ring(masks: Float[Tensor, "T r r"]) -> Bool[Tensor, "r r"]:
    """The cells around the mouth: in the mask in some frames of a clip, but not wholly in all of them."""
    return (masks.amax(0) > 0) & (masks.amin(0) < 1)


def flicker(means: Float[Tensor, "T r r"], difference: Float[Tensor, "T 3 r r"], where: Bool[Tensor, "r r"]) -> float:
    """How much the picture changes from frame to frame because of the mask alone, in grey levels, mean over the cells `where`.

    Frame t is blended twice (Eq. 12), with its own mask and with that of frame t − 1; as the moment is the same, motion plays
    no part: ``|(M_t − M_{t−1})·(rgb_inpainted − rgb_deformed)_t|``. difference: the last bracket, RGB in [−1, 1].
    """
    return float((means.diff(dim=0)[:, None] * difference[1:]).abs().mean((0, 1))[where].mean() * 127.5)


def smear(means: Float[Tensor, "T r r"], masks: Float[Tensor, "T r r"], difference: Float[Tensor, "T 3 r r"],
          where: Bool[Tensor, "r r"]) -> float:
    """What the averaged mask gets wrong in each frame, in grey levels: ``|(M̄_t − M_t)·(rgb_inpainted − rgb_deformed)_t|``."""
    return float(((means - masks)[:, None] * difference).abs().mean((0, 1))[where].mean() * 127.5)


def across(picture: Float[Tensor, "3 H W"], inside: Float[Tensor, "H W"]) -> Float[Tensor, "n"]:
    """Steps in grey levels between the two pixels on both sides of a seam, wherever `inside` changes from 0 to 1."""
    steps = [picture.diff(dim=d).abs().mean(0)[inside.diff(dim=d - 1) != 0] for d in (1, 2)]
    return torch.cat(steps) * 127.5


def seam(blended: Float[Tensor, "3 H W"], first: Float[Tensor, "3 H W"], second: Float[Tensor, "3 H W"],
         inside: Float[Tensor, "H W"]) -> float:
    """How much steeper a blended picture is across the seam than the steeper of the two that it was made from: grey levels from
    one pixel to the next, mean over the seam, 0 where it is less steep."""
    steepest = torch.maximum(across(first, inside), across(second, inside))
    return float((across(blended, inside) - steepest).clamp(min=0).mean())
