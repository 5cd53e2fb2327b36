"""Feature blending (paper section 4.5, Eq. 12–14): the mouth from LipaintNet's latent, the rest from the deformed rays."""

from collections import deque

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from nfs_lib import camera as cam
from nfs_lib.camera import Camera

OUTER_LIPS = list(range(48, 60))                     # iBUG-68


def mouth_mask(landmarks: Float[Tensor, "68 3"], camera: Camera, resolution: int = 32, grow: float = 0.04
               ) -> Float[Tensor, "r r"]:
    """Where the mouth is in the feature map, in [0, 1] (the M of Eq. 12): the outline of the lips as the camera sees it.

    landmarks: the face's 68 points at time t, head frame. grow: head units by which the outline is widened from its centre, so
    that the seam lies on skin. Cells that the outline cuts get the share that it covers.
    """
    lips = landmarks[OUTER_LIPS]
    outward = torch.nn.functional.normalize(lips - lips.mean(0), dim=-1)
    fine = resolution * 8
    outline = cam.project((lips + grow * outward)[None], camera, fine)[0, :, :2]
    picture = Image.new("L", (fine, fine))
    ImageDraw.Draw(picture).polygon([(float(x), float(y)) for x, y in outline], fill=255)
    cells = np.asarray(picture, np.float32).reshape(resolution, 8, resolution, 8).mean((1, 3)) / 255
    return torch.from_numpy(cells)


class MaskMean:
    """Running mean of the last n masks, the present one included (Eq. 13): the seam fades instead of jumping."""

    def __init__(self, n: int = 7) -> None:
        self.masks: deque[Tensor] = deque(maxlen=n)

    def __call__(self, mask: Float[Tensor, "r r"]) -> Float[Tensor, "r r"]:
        """Take in the mask of this frame; return the mean."""
        self.masks.append(mask)
        return torch.stack(list(self.masks)).mean(0)


def blend(deformed: Float[Tensor, "B c r r"], inpainted: Float[Tensor, "B c r r"], mask: Float[Tensor, "r r"]
          ) -> Float[Tensor, "B c r r"]:
    """``φ = (1 − M)·φ_deformed + M·φ_inpainted`` (Eq. 12)."""
    return deformed + mask * (inpainted - deformed)
