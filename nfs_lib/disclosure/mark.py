"""The visible mark: the word "synthetic" in a quiet lozenge in the lower right corner; drawn, and found again by matching."""

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image, ImageDraw, ImageFont

WORD = "synthetic"
MASTER = 1024                                        # shorter side of the frame that the mark is laid out for, pixels
LETTERS, PADDING, MARGIN = 46, 22, 28                # pixels there: size of the letters, room around them, to the frame's edge
INK, GROUND = 0.92, 0.42                             # opacity of the white letters and of the black lozenge
SMALLEST = 192                                       # pixels: on a smaller frame nobody could read it, none is drawn
SEEN = 96                                            # pixels: in a frame scaled below that it isn't looked for
SOUGHT = 256                                         # pixels: shorter side of the frames in which it is sought
FOUND = 0.4                                          # correlation with the drawn word from which the mark counts as there


class Plate(NamedTuple):
    """The mark for one size of frame: where its upper left corner is, and the opacity of its letters and of its lozenge."""

    top: int
    left: int
    letters: Float32[np.ndarray, "h w"]
    lozenge: Float32[np.ndarray, "h w"]


def marked(frame: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """A frame with the mark drawn into it; frames smaller than 192 pixels stay as they are."""
    height, width = frame.shape[:2]
    if min(height, width) < SMALLEST:
        return frame
    top, left, letters, lozenge = plate(height, width)
    out = frame.copy()
    under = out[top : top + len(letters), left : left + letters.shape[1]]
    ink = letters[..., None]
    under[:] = np.rint(under * (1 - lozenge[..., None]) * (1 - ink) + 255.0 * ink)
    return out


@cache
def plate(height: int, width: int) -> Plate:
    """The mark for frames of this size; it grows with their shorter side."""
    scale = min(height, width) / MASTER
    layers = [layer.resize([max(1, round(side * scale)) for side in layer.size], Image.Resampling.BOX) for layer in master()]
    letters, lozenge = (np.asarray(layer, np.float32) / 255 for layer in layers)
    margin = round(MARGIN * scale)
    return Plate(height - margin - len(letters), width - margin - letters.shape[1], letters * INK, lozenge * GROUND)


@cache
def master() -> tuple[Image.Image, Image.Image]:
    """Letters and lozenge, white on black, as they are on a frame of 1024 × 1024."""
    font = ImageFont.load_default(LETTERS)
    left, top, right, bottom = font.getbbox(WORD)
    size = (round(right - left) + 2 * PADDING, round(bottom - top) + PADDING)
    letters, lozenge = Image.new("L", size), Image.new("L", size)
    ImageDraw.Draw(letters).text((PADDING - left, PADDING / 2 - top), WORD, fill=255, font=font)
    ImageDraw.Draw(lozenge).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), size[1] / 2, fill=255)
    return letters, lozenge


class MarkSeeker:
    """Looks for the mark in the frames of a clip, one by one; they may have been scaled as a whole.

        seeker.add(frame)               # (H, W, 3) uint8; all of one size
        seeker.match()                  # at least `FOUND`: the mark is there
    """

    def __init__(self) -> None:
        self._sum: Float[np.ndarray, "h w"] | None = None
        self._plate: Plate | None = None

    def add(self, frame: UInt8[np.ndarray, "H W 3"]) -> None:
        """Take one frame into account."""
        height, width = frame.shape[:2]
        if min(height, width) < SEEN:
            return
        scale = SOUGHT / min(height, width)
        size = round(width * scale), round(height * scale)
        frame = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
        self._plate = plate(*frame.shape[:2])
        top, left, letters, _ = self._plate
        seen = frame[top : top + len(letters), left : left + letters.shape[1]].mean(2)
        self._sum = seen if self._sum is None or self._sum.shape != seen.shape else self._sum + seen

    def match(self) -> float:
        """Correlation of the mean frame with the drawn word, inside the lozenge; 0 if the frames are too small for a mark."""
        if self._sum is None or self._plate is None:
            return 0.0
        inside = self._plate.lozenge > GROUND / 2
        seen, word = self._sum[inside], self._plate.letters[inside]
        return 0.0 if np.ptp(seen) == 0 else float(np.corrcoef(seen, word)[0, 1])
