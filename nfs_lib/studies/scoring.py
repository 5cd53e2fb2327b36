"""A talking head's frames held against the truth, and against itself: one number a clip for each column of a study."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nfs_lib.measure_generator import MOUTH, box, correlation, psnr, slope
from nfs_lib.metrics.backend import Backend
from nfs_lib.metrics.cpbd import cpbd, luminance
from nfs_lib.studies.cases import Clip, Person, Truth
from nfs_lib.worlds import World

# The first five need no truth (FID, per method rather than per clip, is the sixth); the others are what only a renderer knows.
DIRECTIONS = {"CSIM": "↑", "CPBD": "↑", "LSE-D": "↓", "LSE-C": "↑", "PSNR": "↑", "mouth PSNR": "↑", "jaw r": "↑",
              "jaw gain": "→ 1", "motion": "→ 1"}
UNITS = {"PSNR": "dB", "mouth PSNR": "dB"}
EVERY = 5                                            # CPBD of every 5th frame: it changes slowly and is dear


def tensor(frames: UInt8[np.ndarray, "T H W 3"]) -> Float[Tensor, "T 3 H W"]:
    """8 bits to [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


def gather(frames: Iterable[UInt8[np.ndarray, "H W 3"]]) -> UInt8[np.ndarray, "T H W 3"]:
    """The frames of an iterator as one array."""
    return np.stack(list(frames))


@torch.no_grad()
def score(made: UInt8[np.ndarray, "T H W 3"], true: Truth, who: Person, clip: Clip, world: World, backend: Backend
          ) -> tuple[dict[str, float], Float[np.ndarray, "T D"]]:
    """The columns of DIRECTIONS for one clip, and the frames' features for FID.

    CSIM: to the portrait that was given. CPBD: mean of every 5th frame. PSNR: mean over frames; "mouth PSNR" in the box of the
    true lips (landmarks 48–67), 4 pixels wider. jaw r, jaw gain: jawOpen as the estimator reads it off the made frames,
    correlation with (0 if it never moves) and slope on the true one. motion: mean change in the mouth's box from frame to
    frame, made ÷ true.
    """
    pictures, truth = tensor(made), tensor(true.frames)
    boxes = [box(points[MOUTH], 4) for points in true.landmarks]
    still = box(np.concatenate([points[MOUTH] for points in true.landmarks]), 4)
    embedded = backend.identity(torch.cat([who.picture[None], pictures]))
    synced = world.sync.score(pictures, torch.from_numpy(clip.heard))
    jaw = world.face_model.action("jawOpen")
    read = torch.cat([world.estimator(part).expression[:, jaw] for part in pictures.split(20)]).numpy()
    told = true.betas[:, jaw].numpy()
    moved, should = (p[:, :, still[0], still[1]].diff(dim=0).abs().mean() for p in (pictures, truth))
    return {
        "CSIM": float((embedded[1:] @ embedded[0]).mean()),
        "CPBD": float(np.mean([cpbd(luminance(f)) for f in made[::EVERY]])),
        "LSE-D": synced.distance,
        "LSE-C": synced.confidence,
        "PSNR": float(np.mean([psnr(m, t) for m, t in zip(pictures, truth, strict=True)])),
        "mouth PSNR": float(np.mean([psnr(m[:, r, c], t[:, r, c])
                                     for m, t, (r, c) in zip(pictures, truth, boxes, strict=True)])),
        "jaw r": correlation(read, told) if read.std() > 0 else 0.0,
        "jaw gain": slope(read, told),
        "motion": float(moved / should),
    }, backend.features(pictures).numpy()
