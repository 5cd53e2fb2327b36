"""Which networks look and listen: one name for each metric, two sets of networks behind it.

`open` is this kit's own small networks, trained on the open world: no figure of theirs is comparable with a published one.
`paper` is what published figures were made with: Inception-v3 (FID), ArcFace (CSIM) and SyncNet (LSE).

The open FID sees with the estimator's first layers, chosen by measurement: FID between 120 held-out people and 120 others
whose pictures were spoilt, in parts of that between the two sets as they are (the floor, mostly for want of pictures).

    spoilt by (a bit … much)             estimator's residual layers   its last layers         identity encoder
    blur, σ 0.5, 1, 2, 4 pixels          1.01  1.19  2.6   9.1         1.01  1.09  1.9  6.3    1.00  1.01  1.03  1.14
    noise, σ 2, 5, 10, 20 of 255         1.02  1.28  3.4   14          1.00  1.04  1.6  5.6    1.00  1.00  1.00  1.02
    JPEG, quality 90, 60, 30, 10         1.05  1.25  1.6   3.2         1.04  1.18  1.4  2.5    1.00  1.00  1.02  1.13
    blurred mouth, σ 1, 2, 4, 8 pixels   1.05  1.71  4.2   6.2         1.02  1.37  3.2  5.2    1.00  1.01  1.00  0.98
    wavy warp of 0.5, 1, 2, 4 pixels     1.01  1.04  1.17  1.8         1.03  1.09  1.3  2.4    1.01  1.02  1.05  1.09

The last layers don't notice a little noise; the identity encoder was taught to overlook all of this. The discriminator of the
generator's training finds blurred pictures better than sharp ones (0.88 at σ 2) and takes twenty times as long.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor

from nfs_lib import audio
from nfs_lib.errors import BadInput
from nfs_lib.metrics.sync import FRAMES, Lse, lse, mouth_crops, windows

if TYPE_CHECKING:
    from nfs_lib.worlds import World

Pictures = Float[Tensor, "B 3 H W"]
OPEN_LABEL = "open backend, not comparable with published figures"
PAPER_LABEL = "paper backend: Inception-v3, ArcFace, SyncNet"


@dataclass(frozen=True)
class Backend:
    """What the metrics need to know of pictures (B, 3, H, W) in [-1, 1]: square face crops, framed as `cropping` does.

    features → (B, D), for `fid`. identity → (B, d), unit vectors whose cosine is CSIM. see(pictures of T ≥ 5 frames at 25 a
    second) → (T − 4, d), one row for each run of five; hear(wave (N,) at 16 kHz, T) → (n, d), n ≤ T − 4, the sound of the
    first n of those runs: their distances are LSE (`sync`).
    label belongs to every table and plot. Networks are loaded on first use: MissingWeights is raised then.
    """

    name: str
    label: str
    features: Callable[[Pictures], Float[Tensor, "B D"]]
    identity: Callable[[Pictures], Float[Tensor, "B d"]]
    see: Callable[[Float[Tensor, "T 3 H W"]], Float[Tensor, "n d"]]
    hear: Callable[[Float32[np.ndarray, " N"], int], Float[Tensor, "n d"]]

    def look(self, pictures: Pictures) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B d"]]:
        """features and identity."""
        return self.features(pictures), self.identity(pictures)

    def sync(self, pictures: Float[Tensor, "T 3 H W"], wave: Float32[np.ndarray, " N"]) -> Lse:
        """LSE-D, LSE-C and the offset; what one of the two has beyond the other's end is left out."""
        heard = self.hear(wave, len(pictures))
        return lse(self.see(pictures)[: len(heard)], heard)


def load_backend(world: "World") -> Backend:
    """The metrics' networks of a world. Those of the paper world are brought by the user: each raises MissingWeights, which
    names its file, when it is first used."""
    return paper_backend(world) if world.name == "paper" else open_backend(world)


def open_backend(world: "World") -> Backend:
    """The open world's own networks: estimator (FID), identity encoder (CSIM), sync scorer (LSE)."""

    def see(pictures: Float[Tensor, "T 3 H W"]) -> Float[Tensor, "n d"]:
        return torch.cat([world.sync.see(part) for part in windows(mouth_crops(pictures)).split(256)])

    def hear(wave: Float32[np.ndarray, " N"], frames: int) -> Float[Tensor, "n d"]:
        frames = min(frames, audio.video_frames(wave))
        if frames < FRAMES:
            raise BadInput(f"{frames} frames with sound were given; expected at least {FRAMES}: give a longer clip")
        return world.sync.hear(torch.from_numpy(audio.mel_windows(wave)[FRAMES // 2 : frames - FRAMES // 2]))

    return Backend("open", OPEN_LABEL, _quick(lambda p: world.estimator.features(p)), _quick(lambda p: world.identity(p)),
                   _quick(see), _quick(hear))


def paper_backend(world: "World") -> Backend:
    """The networks of published figures. What each expects is made of the same face crops here.

    Inception-v3: the crop at 299 pixels. ArcFace: 112 pixels, aligned by the five points of the face that the world's
    estimator and face model see. SyncNet: 224 pixels, cut out as `syncnet.track_crops` does, around the box in which the
    crops' framing has the face (that of S3FD would be a little taller).
    """
    from nfs_lib.cropping import RESOLUTION, expected_box
    from nfs_lib.face.align import five_points
    from nfs_lib.metrics.arcface import aligned
    from nfs_lib.metrics.syncnet import cut

    def identity(pictures: Pictures) -> Float[Tensor, "B d"]:
        network, points = world.arcface, world.landmarks(pictures).double().numpy()
        return F.normalize(network(aligned(pictures, five_points(points) - 0.5)), dim=1)

    def see(pictures: Float[Tensor, "T 3 H W"]) -> Float[Tensor, "n d"]:
        x, y, side = (v * pictures.shape[-1] / RESOLUTION for v in expected_box(None))
        return world.syncnet.lips(cut(pictures, x, y, side / 2))

    return Backend("paper", PAPER_LABEL, _quick(lambda p: world.inception(p)), _quick(identity), _quick(see),
                   _quick(lambda wave, frames: world.syncnet.sound(wave, frames)))


def _quick(function: Callable) -> Callable:
    """The function without gradients."""
    return torch.no_grad()(function)
