"""One square crop for a whole clip: where its face is, found at a few moments, and every frame cut out the same way.

A crop that follows the face would take its motion away, and a crop found anew in every frame trembles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from nfs_lib.cropping import RESOLUTION, Estimate, corners, crop_portrait, shrunk, similarity, warp, well_framed, whole_frame
from nfs_lib.driving import picture
from nfs_lib.errors import BadInput
from nfs_lib.video import length, stream_frames

if TYPE_CHECKING:
    from nfs_lib.face import MorphableModel

MOMENTS = 5                                          # of a clip at which the face is looked for; half of them must show it
HALF_SEEN = -0.4                                     # detector's score that will do where a portrait has its face
LARGEST = 1920                                       # pixels; larger frames are made smaller before anything else


@dataclass(frozen=True)
class Framing:
    """transform (3, 3): pixels of a frame (x right, y down, 0 at the edge) → pixels of its 256 × 256 crop; seen: moments that
    show the face, of those looked at."""

    transform: np.ndarray
    seen: int
    looked: int


def moments(frames: int) -> Int[np.ndarray, " m"]:
    """The numbers of the frames to look at, evenly from the first to the last."""
    return np.unique(np.linspace(0, frames - 1, MOMENTS).round().astype(int))


def place(frame: UInt8[np.ndarray, "H W 3"], estimator: Estimate, model: "MorphableModel") -> np.ndarray | None:
    """The transform (3, 3) to the crop of this one frame; None without a face. A square frame whose face is where a portrait of
    the open world has it is only resized."""
    shown = picture(frame)
    resize = whole_frame(shown)
    if resize is not None and well_framed(shown, resize, estimator, HALF_SEEN):
        return resize
    try:
        return crop_portrait(shown, estimator, model).transform
    except BadInput:
        return None


def settle(found: Sequence[np.ndarray | None]) -> Framing:
    """One transform for the clip whose moments gave these: the resizing alone if half of those with a face need no more, else
    the median of where they see the corners of the crop. Raises BadInput if fewer than half show a face."""
    good = [t for t in found if t is not None]
    if 2 * len(good) < len(found) or not good:
        raise BadInput(f"a face is seen at {len(good)} of the {len(found)} moments looked at; expected at half of them: give a "
                       "video of one person, the face turned to the camera")
    whole = [t for t in good if _resizes(t)]
    if 2 * len(whole) >= len(good):
        return Framing(whole[0], len(good), len(found))
    target = corners(RESOLUTION / 2, RESOLUTION / 2, RESOLUTION)
    homogeneous = np.c_[target, np.ones(4)]
    seen = np.median([(homogeneous @ np.linalg.inv(t).T)[:, :2] for t in good], axis=0)
    return Framing(similarity(seen, target), len(good), len(found))


def frame_clip(path: str | Path, estimator: Estimate, model: "MorphableModel") -> Framing:
    """Where the face of a video is. Raises BadInput if the video can't be decoded or shows no face at half of the moments."""
    count = length(path)
    chosen = set(moments(max(1, count)).tolist()) if count else set(range(0, MOMENTS * 25, 25))
    frames = islice(stream_frames(path, LARGEST), max(chosen) + 1)
    return settle([place(frame, estimator, model) for i, frame in enumerate(frames) if i in chosen])


def cut(frame: UInt8[np.ndarray, "H W 3"], transform: np.ndarray, size: int = RESOLUTION) -> Float[Tensor, "3 s s"]:
    """The crop of a frame, size × size pixels in [-1, 1], by the transform to 256 × 256.

    A frame that only needs resizing passes through `shrunk`; one that has the size already is left as it is.
    """
    transform = np.diag([size / RESOLUTION, size / RESOLUTION, 1.0]) @ transform
    if _resizes(transform) and transform[0, 0] <= 1 and frame.shape[0] == frame.shape[1]:
        return shrunk(picture(frame), size / frame.shape[0])
    wanted = corners(size / 2, size / 2, size) @ np.linalg.inv(transform)[:2, :2].T + np.linalg.inv(transform)[:2, 2]
    margin = 4 / np.sqrt(np.linalg.det(transform[:2, :2])) + 2          # of the smoothing, in the frame's pixels
    left, top = np.maximum(0, np.floor(wanted.min(0) - margin)).astype(int)
    right, bottom = np.minimum(frame.shape[1::-1], np.ceil(wanted.max(0) + margin)).astype(int)
    shift = np.array([[1.0, 0, left], [0, 1, top], [0, 0, 1]])
    return warp(picture(np.ascontiguousarray(frame[top:bottom, left:right])), transform @ shift, (size, size))


def _resizes(transform: np.ndarray) -> bool:
    return bool(np.allclose(transform, np.diag(np.diag(transform))))


def stack(frames: Sequence[UInt8[np.ndarray, "H W 3"]], transform: np.ndarray) -> Float[Tensor, "T 3 s s"]:
    """The crops of several frames."""
    return torch.stack([cut(frame, transform) for frame in frames])
