"""How sharp is a picture, without another one to compare with? Cumulative probability of blur detection (CPBD).

Narvekar and Karam, 2011: an edge looks blurred to a person if it is wider than one "just noticeable blur", which depends on the
contrast around it; CPBD is the share of edges that don't look blurred. It counts edges of noise and of JPEG blocks as sharp.
"""

import numpy as np
from jaxtyping import Float, Int, UInt8

from nfs_lib.errors import BadInput

BLOCK = 64  # side in pixels of the blocks whose contrast counts
EDGE_SHARE = 0.002  # of a block's pixels that Canny must find for its edges to count
LOW_CONTRAST, WIDE, NARROW = 50, 5.0, 3.0  # grey levels; just noticeable blur in pixels up to there and beyond
BETA = 3.6
NOTICED = 63  # percent: chance of seeing the blur of an edge that is just as wide as the just noticeable blur
LONGEST = 100  # pixels that an edge is followed to each side


def cpbd(grey: Float[np.ndarray, "H W"] | UInt8[np.ndarray, "H W"]) -> float:
    """Share of the vertical edges that don't look blurred, 0 (no edge, or all blurred) to 1.

    grey: 0–255, as `luminance` gives it. Only edges of 64 × 64 blocks that hold enough of them count; the picture's remainder
    to the right and below is left out. Raises BadInput for less than one block, or numbers that aren't finite.
    """
    widths, contrasts = edge_widths(grey)
    if not len(widths):
        return 0.0
    noticeable = np.where(contrasts <= LOW_CONTRAST, WIDE, NARROW)
    chance = 1.0 - np.exp(-((widths / noticeable) ** BETA))
    return float((np.rint(100.0 * chance) <= NOTICED).mean())


def luminance(picture: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
    """Grey 0–255 of RGB bytes, ITU-R 601 weights."""
    red, green, blue = picture.astype(np.float64).transpose(2, 0, 1)
    return 0.299 * red + 0.587 * green + 0.114 * blue    # a fixed order: equal greys must stay equal, however the picture lies


def edge_widths(
    grey: Float[np.ndarray, "H W"] | UInt8[np.ndarray, "H W"]
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Width in pixels of every edge pixel that counts, and the contrast (grey levels) of its block."""
    from skimage.feature import canny

    grey = np.asarray(grey, np.float64)
    if min(grey.shape) < BLOCK or not np.isfinite(grey).all():
        kind = "finite" if np.isfinite(grey).all() else "not finite"
        raise BadInput(f"a grey picture of {grey.shape[1]}×{grey.shape[0]} pixels, {kind}, was given; CPBD needs finite values "
                       f"0–255 and at least {BLOCK}×{BLOCK} pixels")
    measured = all_widths(grey)
    rows, columns = grey.shape[0] // BLOCK, grey.shape[1] // BLOCK
    blocks = [a[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK**2)
              for a in (grey, measured, canny(grey))]
    contrast = (blocks[0].max(1) - blocks[0].min(1)).astype(int)
    enough = blocks[2].mean(1) > EDGE_SHARE
    block, at = np.nonzero((blocks[1] > 0) & enough[:, None])
    return blocks[1][block, at], contrast[block]


def all_widths(grey: Float[np.ndarray, "H W"]) -> Int[np.ndarray, "H W"]:
    """Widths of the vertical edges (0: no edge): how far the grey goes on rising or falling to both sides of the pixel."""
    edge = sobel_edges(grey)
    down, across = np.gradient(grey)
    angle = np.rint(np.degrees(np.arctan2(down, across)) / 45) * 45
    angle[across == 0] = 0
    edge[[0, -1]] = edge[:, [0, -1]] = False
    rising = edge & (angle == 0)
    falling = edge & (np.abs(angle) == 180)
    return np.where(rising, _extent(grey), 0) + np.where(falling, _extent(-grey), 0)


def sobel_edges(grey: Float[np.ndarray, "H W"]) -> np.ndarray:
    """Where the horizontal gradient is strong and larger than beside, or than above and below."""
    from scipy.ndimage import sobel

    power = (sobel(grey, axis=1, mode="reflect") / 8) ** 2
    power[power <= 2 * np.sqrt(power.mean())] = 0
    p = np.pad(power, 1)
    beside = (power > p[1:-1, :-2]) & (power > p[1:-1, 2:])
    above = (power > p[:-2, 1:-1]) & (power > p[2:, 1:-1])
    return beside | above


def _extent(grey: Float[np.ndarray, "H W"]) -> Int[np.ndarray, "H W"]:
    """Pixels over which grey rises from left to right around each pixel: at least 1 to each side, at most LONGEST + 1.

    The first step to either side is taken for granted; only the border columns have no neighbour there and get 0.
    """
    left = 1 + np.minimum(_run(grey), LONGEST)
    right = 1 + np.minimum(_run(-grey[:, ::-1])[:, ::-1], LONGEST)
    return np.pad(left[:, :-2] + right[:, 2:], ((0, 0), (1, 1)))


def _run(grey: Float[np.ndarray, "H W"]) -> Int[np.ndarray, "H W"]:
    """Steps that can be taken from each pixel to the left with grey falling strictly at every one."""
    column = np.arange(grey.shape[1])
    stop = np.ones(grey.shape, bool)
    stop[:, 1:] = grey[:, :-1] >= grey[:, 1:]
    return column - np.maximum.accumulate(np.where(stop, column, 0), axis=1)
