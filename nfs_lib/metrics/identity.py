"""Who is it? The open world's identity encoder, for CSIM (section 5.3).

Open backend, not comparable with published figures: it knows the open world's faces only.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nfs_lib.errors import BadInput
from nfs_lib.face.estimator import trunk

RESOLUTION, SMALLEST = 128, 64


class IdentityEncoder(nn.Module):
    """Portrait → unit vector; the same person's vectors have a large cosine, whatever pose, light and expression.

    Open backend, not comparable with published figures. 0.6 M parameters.
    """

    def __init__(self, dimensions: int = 128, widths: tuple[int, ...] = (32, 48, 64, 96, 128)) -> None:
        super().__init__()
        self.trunk = trunk(widths, 64)
        self.head = nn.Sequential(nn.Linear(64 * 16, 256), nn.LeakyReLU(0.1), nn.Linear(256, dimensions))

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """image: [-1, 1], square, at least 64 pixels, the face centred as in portraits. Raises BadInput otherwise."""
        height, width = image.shape[-2:]
        if height != width or height < SMALLEST:
            raise BadInput(
                f"an image of {width}×{height} pixels was given; the identity encoder expects a square one of at "
                f"least {SMALLEST}: crop or resize it first"
            )
        if height != RESOLUTION:
            image = F.interpolate(image, (RESOLUTION, RESOLUTION), mode="bilinear", antialias=True)
        return F.normalize(self.head(self.trunk(image.contiguous(memory_format=torch.channels_last))).float(), dim=1)


def csim(
    encoder: Callable[[Tensor], Tensor], source: Float[Tensor, "1 3 H W"], frames: Float[Tensor, "T 3 h w"]
) -> Float[Tensor, " T"]:
    """Cosine between the source's embedding and each frame's (T,); CSIM of a video is the mean.

    encoder: pictures → unit vectors; an IdentityEncoder, or `identity` of any Backend.
    """
    with torch.no_grad():
        return encoder(frames) @ encoder(source)[0]
