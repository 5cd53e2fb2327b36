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
from nfs_lib.errors import BadInput
from nfs_lib.metrics.sync import FRAMES, Lse, lse, mouth_crops, windows

if TYPE_CHECKING:
    from nfs_lib.worlds import World

Pictures = Float[Tensor, "B 3 H W"]
OPEN_LABEL = "open backend, not comparable with published figures"


@dataclass(frozen=True)
class Backend:
    """What the metrics need to know of pictures (B, 3, H, W) in [-1, 1]: square face crops, framed as `cropping` does.

    features → (B, D), for `fid`. identity → (B, d), unit vectors whose cosine is CSIM. see(pictures of T ≥ 5 frames at 25 a
    second) → (T − 4, d), one row for each run of five; hear(wave (N,) at 16 kHz, T) → (n, d), n ≤ T − 4, the sound of the
    first n of those runs: their distances are LSE (`sync`). both → features and identity at once, where they share a network.
    label belongs to every table and plot. Networks are loaded on first use: MissingWeights is raised then.
    """

    name: str
    label: str
    features: Callable[[Pictures], Float[Tensor, "B D"]]
    identity: Callable[[Pictures], Float[Tensor, "B d"]]
    see: Callable[[Float[Tensor, "T 3 H W"]], Float[Tensor, "n d"]]
    hear: Callable[[Float32[np.ndarray, " N"], int], Float[Tensor, "n d"]]
    both: Callable[[Pictures], tuple[Float[Tensor, "B D"], Float[Tensor, "B d"]]] | None = None

    def look(self, pictures: Pictures) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B d"]]:
        """features and identity, nothing computed twice."""
        return self.both(pictures) if self.both else (self.features(pictures), self.identity(pictures))

    def sync(self, pictures: Float[Tensor, "T 3 H W"], wave: Float32[np.ndarray, " N"]) -> Lse:
        """LSE-D, LSE-C and the offset; what one of the two has beyond the other's end is left out."""
        heard = self.hear(wave, len(pictures))
        return lse(self.see(pictures)[: len(heard)], heard)


def load_backend(world: "World") -> Backend:
    """The metrics' networks of a world."""
    return open_backend(world)


def open_backend(world: "World") -> Backend:
    """The open world's own networks."""

    def features(pictures: Pictures) -> Float[Tensor, "B D"]:
        return world.identity.features(pictures)

    def both(pictures: Pictures) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B d"]]:
        seen = world.identity.features(pictures)
        return seen, world.identity.embedding(seen)

    def see(pictures: Float[Tensor, "T 3 H W"]) -> Float[Tensor, "n d"]:
        return torch.cat([world.sync.see(part) for part in windows(mouth_crops(pictures)).split(256)])

    def hear(wave: Float32[np.ndarray, " N"], frames: int) -> Float[Tensor, "n d"]:
        frames = min(frames, audio.video_frames(wave))
        if frames < FRAMES:
            raise BadInput(f"{frames} frames with sound were given; expected at least {FRAMES}: give a longer clip")
        return world.sync.hear(torch.from_numpy(audio.mel_windows(wave)[FRAMES // 2 : frames - FRAMES // 2]))

    quick = torch.no_grad()
    return Backend("open", OPEN_LABEL, quick(features), quick(lambda p: world.identity(p)), quick(see), quick(hear), quick(both))
