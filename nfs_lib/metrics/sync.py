"""Do the lips fit the sound? Lip-sync error from a pair of embeddings (SyncNet; LSE-D and LSE-C of Wav2Lip).

`lse` is the definition and serves every backend. SyncScorer is the open world's: open backend, not comparable with
published figures.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nfs_lib.errors import BadInput
from nfs_lib.face.estimator import Conv

SHIFT = 15  # frames by which the sound is moved either way
FRAMES = 5  # mouth pictures that the network sees at once
MOUTH = (68, 116, 32, 96)  # top, bottom, left, right of the mouth in a 128-pixel picture


class Lse(NamedTuple):
    """Distance at the best offset (LSE-D, small is good), by how much it stands out (LSE-C, large is good), and that
    offset in frames: −k when the sound comes k frames late, k when it comes k frames early."""

    distance: float
    confidence: float
    offset: int


def lse(lips: Float[Tensor, "n d"], sound: Float[Tensor, "m d"], shift: int = SHIFT) -> Lse:
    """LSE-D, LSE-C and the offset, as SyncNet's and Wav2Lip's evaluation computes them.

    lips, sound (n, d): embeddings of the same n moments. The sound is padded with `shift` zero rows on both ends (which
    biases short clips); distances are Euclidean with torch's 1e-6 inside the norm; their means over the moments, one per
    offset, give D = minimum, C = median − minimum, offset = shift − place of the minimum.
    Raises BadInput unless both have the same number of rows, at least one.
    """
    if lips.shape != sound.shape or len(lips) == 0:
        raise BadInput(
            f"embeddings of {tuple(lips.shape)} and {tuple(sound.shape)} were given; expected one row each per moment"
        )
    mean = distances(lips, sound, shift).detach().mean(0)
    least, place = mean.min(0)
    return Lse(float(least), float(mean.median() - least), shift - int(place))


def distances(lips: Float[Tensor, "n d"], sound: Float[Tensor, "n d"], shift: int = SHIFT) -> Float[Tensor, "n k"]:
    """How far each moment's lips are from the sound of `shift` frames before to `shift` after, k = 2 · shift + 1."""
    padded = F.pad(sound, (0, 0, shift, shift))
    moved = padded.unfold(0, len(lips), 1).permute(2, 0, 1)  # (n, k, d)
    return F.pairwise_distance(lips[:, None], moved)


class SyncScorer(nn.Module):
    """Mel window and five mouth pictures → two vectors of length 1, near each other when they belong together.

    Open backend, not comparable with published figures. 0.9 M parameters.
    """

    def __init__(self, dimensions: int = 128) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.sound = nn.Sequential(
            Conv(1, 32, 2), Conv(32, 32, 1), Conv(32, 64, 2), Conv(64, 64, 1), Conv(64, 96, 2),
            nn.Flatten(), nn.Linear(96 * 10 * 2, 192), nn.LeakyReLU(0.1), nn.Linear(192, dimensions),
        )  # fmt: skip
        self.lips = nn.Sequential(
            Conv(3 * FRAMES, 32, 2), Conv(32, 48, 2), Conv(48, 64, 2), Conv(64, 64, 1), Conv(64, 96, 2),
            nn.Flatten(), nn.Linear(96 * 3 * 4, 192), nn.LeakyReLU(0.1), nn.Linear(192, dimensions),
        )  # fmt: skip

    def hear(self, mel: Float[Tensor, "B 80 16"]) -> Float[Tensor, "B D"]:
        """Mel windows as `audio.mel_windows` gives them, one per video frame → unit vectors."""
        return F.normalize(self.sound(mel[:, None] / 4).float(), dim=1)

    def see(self, mouths: Float[Tensor, "B 5 3 48 64"]) -> Float[Tensor, "B D"]:
        """Five consecutive mouth pictures in [-1, 1] (`mouth_crops`) → unit vectors. The sound that belongs to them is
        the third frame's window."""
        return F.normalize(self.lips(mouths.flatten(1, 2)).float(), dim=1)

    @torch.no_grad()
    def score(self, frames: Float[Tensor, "T 3 H W"], mel: Float[Tensor, "N 80 16"]) -> Lse:
        """LSE of a video: T frames in [-1, 1], square, and their T mel windows. Raises BadInput for fewer than five
        frames or another number of windows."""
        if len(frames) != len(mel) or len(frames) < FRAMES:
            raise BadInput(f"{len(frames)} frames and {len(mel)} mel windows were given; expected as many, at least {FRAMES}")
        lips = torch.cat([self.see(part) for part in windows(mouth_crops(frames)).split(256)])
        half = FRAMES // 2
        return lse(lips, self.hear(mel[half : len(mel) - half]))


def mouth_crops(frames: Float[Tensor, "T 3 H W"]) -> Float[Tensor, "T 3 48 64"]:
    """The fixed mouth box of each frame, at the detail of a 128-pixel picture."""
    if frames.shape[-2:] != (128, 128):
        frames = F.interpolate(frames, (128, 128), mode="bilinear", antialias=True)
    top, bottom, left, right = MOUTH
    return frames[..., top:bottom, left:right]


def windows(mouths: Float[Tensor, "T 3 48 64"]) -> Float[Tensor, "n 5 3 48 64"]:
    """All runs of five consecutive mouths: T − 4 of them."""
    return mouths.unfold(0, FRAMES, 1).movedim(-1, 1)
