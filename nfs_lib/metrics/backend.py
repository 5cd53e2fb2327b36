"""Which networks look and listen: one name for each metric, two sets of networks behind it.

`open` is this kit's own small networks, trained on the open world: no figure of theirs is comparable with a published one.
`paper` is what published figures were made with: Inception-v3 (FID), ArcFace (CSIM) and SyncNet (LSE).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from nfs_lib import audio
from nfs_lib.metrics.sync import Lse

if TYPE_CHECKING:
    from nfs_lib.worlds import World

Pictures = Float[Tensor, "B 3 H W"]
OPEN_LABEL = "open backend, not comparable with published figures"


@dataclass(frozen=True)
class Backend:
    """What the metrics need to know of pictures (B, 3, H, W) in [-1, 1]: square face crops, framed as `cropping` does.

    features → (B, D), for `fid`. identity → (B, d), unit vectors whose cosine is CSIM. sync(pictures of T frames at 25 a
    second, wave (N,) at 16 kHz) → LSE-D, LSE-C and the offset; what one of them has beyond the other's end is left out.
    label belongs to every table and plot. Networks are loaded on first use: MissingWeights is raised then.
    """

    name: str
    label: str
    features: Callable[[Pictures], Float[Tensor, "B D"]]
    identity: Callable[[Pictures], Float[Tensor, "B d"]]
    sync: Callable[[Float[Tensor, "T 3 H W"], Float32[np.ndarray, " N"]], Lse]


def load_backend(world: "World") -> Backend:
    """The metrics' networks of a world."""
    return open_backend(world)


def open_backend(world: "World") -> Backend:
    """The open world's own networks."""

    def sync(pictures: Float[Tensor, "T 3 H W"], wave: Float32[np.ndarray, " N"]) -> Lse:
        mel = torch.from_numpy(audio.mel_windows(wave))
        frames = min(len(pictures), len(mel))
        return world.sync.score(pictures[:frames], mel[:frames])

    def features(pictures: Pictures) -> Float[Tensor, "B D"]:
        small = torch.nn.functional.interpolate(pictures, (128, 128), mode="bilinear", antialias=True)
        return world.identity.trunk(small.contiguous(memory_format=torch.channels_last))

    return Backend("open", OPEN_LABEL, torch.no_grad()(features), torch.no_grad()(lambda p: world.identity(p)), sync)
