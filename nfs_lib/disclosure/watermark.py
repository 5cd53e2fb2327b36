"""An invisible watermark in the luma of every frame, and its detector: quantisation index modulation (Chen and Wornell, 2001).

Soft waves, nine in each of 4 × 4 parts of the picture, are measured in every frame, and changed so little that each measure
falls on a secret lattice: to multiples of `STEP` that are shifted by a pseudo-random number of its own. What the picture shows
cancels that way; what is added stays where the picture is still, so a still background doesn't flicker. Slow waves are what
H.264 keeps. The detector asks how close to its lattice each measure is: Σ m / √Σ m² over all waves, m the mean over time of
cos(2π · distance / step). In a video without the watermark every m is as likely to be −m, as its shift is random; so whatever
the video shows, the score is z or more with a probability of at most exp(−z²/2) (Hoeffding).
"""

import hashlib
import math
from functools import cache

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from scipy.ndimage import uniform_filter

SIDE, PART = 128, 32                                 # pixels of the picture that is measured, and of one of its parts
FREQUENCIES = ((2, 1), (1, 2), (2, 2), (3, 2), (2, 3), (4, 1), (1, 4), (4, 3), (3, 4))
STEP = 76.0                                          # of the lattice; a wave of size 32 has an rms of one level
FLAT, BUSY, QUIET = 12.0, 40.0, 0.4                   # a wave changes by FLAT + BUSY × (the luma's activity − QUIET) at most
KEY = b"NeRFFaceSpeech kit, watermark 1"
THRESHOLD = 4.3                                      # exp(-4.3² / 2) < 1e-4


def watermarked(frame: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """A frame with the watermark; it depends on nothing but the frame."""
    picture = small(frame)
    distance = measured(picture)
    bound = FLAT + BUSY * np.maximum(np.median(parts(activity(picture)), 1) - QUIET, 0)[:, None]
    change = np.clip((np.rint(distance) - distance) * STEP, -bound, bound).astype(np.float32) @ waves()
    count = SIDE // PART
    change = change.reshape(count, count, PART, PART).swapaxes(1, 2).reshape(SIDE, SIDE)
    large = Image.fromarray(change).resize(frame.shape[1::-1], Image.Resampling.BICUBIC)
    return np.clip(frame + np.rint(np.asarray(large)).astype(np.int16)[..., None], 0, 255).astype(np.uint8)


class Detector:
    """Reads the watermark of a clip, frame by frame; where the clip was cut doesn't matter, its frames must be whole.

        detector.add(frame)             # (H, W, 3) uint8, any size
        detector.score()                # at least `THRESHOLD`: the watermark is there
    """

    def __init__(self, key: bytes = KEY) -> None:
        self.key, self._sum = key, np.zeros(())

    def add(self, frame: UInt8[np.ndarray, "H W 3"]) -> None:
        """Take one frame into account."""
        self._sum = self._sum + closeness(small(frame), self.key)

    def score(self) -> float:
        """In standard deviations of a video without the watermark; 0 for no frame."""
        return strength(self._sum)


def closeness(picture: Float32[np.ndarray, "128 128"], key: bytes = KEY) -> Float[np.ndarray, "16 9"]:
    """Of every wave to its lattice: 1 on it, −1 between two of its points."""
    return np.cos(2 * math.pi * measured(picture, key))


def strength(total: Float[np.ndarray, "*waves"]) -> float:
    """The score of a clip, from the sum of its frames' `closeness`."""
    return float(total.sum() / (np.linalg.norm(total) or 1.0))


def false_alarm(score: float) -> float:
    """The most likely that a video without the watermark has this score or more, whatever it shows."""
    return math.exp(-(max(score, 0.0) ** 2) / 2)


# what is measured


def small(frame: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "128 128"]:
    """The luma of a frame (BT.709, as the encoder gets it), scaled to 128 × 128."""
    luma = Image.fromarray(frame).convert("L", (0.2126, 0.7152, 0.0722, 0))
    kind = Image.Resampling.BOX if min(luma.size) >= SIDE else Image.Resampling.BICUBIC
    return np.asarray(luma.resize((SIDE, SIDE), kind), np.float32)


def measured(picture: Float32[np.ndarray, "128 128"], key: bytes = KEY) -> Float[np.ndarray, "16 9"]:
    """Size of every wave in steps, from where its lattice begins: whole numbers are points of the lattice."""
    return parts(picture) @ waves().T / STEP - shifts(key)


def parts(picture: Float32[np.ndarray, "128 128"]) -> Float32[np.ndarray, "16 1024"]:
    """A picture's parts, row by row."""
    count = SIDE // PART
    return picture.reshape(count, PART, count, PART).swapaxes(1, 2).reshape(count**2, -1)


def activity(picture: Float32[np.ndarray, "128 128"]) -> Float32[np.ndarray, "128 128"]:
    """How much the luma varies around each pixel: standard deviation in squares of 5 × 5, levels."""
    return np.sqrt(uniform_filter((picture - uniform_filter(picture, 5)) ** 2, 5))


@cache
def waves() -> Float32[np.ndarray, "9 1024"]:
    """The waves of one part, orthonormal; at its edges they and their slopes are zero, so that no edge is seen."""
    at = (np.arange(PART) + 0.5) / PART
    window = np.sin(np.pi * at)
    products = [np.outer(window * np.sin(np.pi * u * at), window * np.sin(np.pi * v * at)).ravel() for u, v in FREQUENCIES]
    waves, triangle = np.linalg.qr(np.stack(products, 1))
    return (waves * np.sign(np.diag(triangle))).T.astype(np.float32)         # of either sign, else, as the library likes


@cache
def shifts(key: bytes) -> Float[np.ndarray, "16 9"]:
    """Where each wave's lattice begins, in steps: as good as random, the same for ever."""
    count = (SIDE // PART) ** 2 * len(FREQUENCIES)
    return np.frombuffer(hashlib.shake_256(key).digest(4 * count), "<u4").reshape(-1, len(FREQUENCIES)) / 2.0**32
