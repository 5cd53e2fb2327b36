"""The colours of skin, eyes, teeth, hair and clothes as functions of a place on the rest face (head frame, no
light)."""

from typing import no_type_check

import numpy as np
from numba import njit

from nfs_lib.portraits.light import options

EYE_X, EYE_Y = 0.302, 0.104  # eye centres at (±EYE_X, EYE_Y) in rest coordinates
# canonical edges between the teeth, distance from the middle along the arch
TEETH_EDGES = np.array([0.0, 0.078, 0.140, 0.207, 0.270, 0.335])


@njit(**options)
@no_type_check
def step(a, b, x):
    """Cubic step from 0 at a to 1 at b (a > b: falling)."""
    t = min(1.0, max(0.0, (x - a) / (b - a)))
    return t * t * (3 - 2 * t)


@njit(**options)
@no_type_check
def bell(x, width):
    """exp(−(x/width)²)."""
    q = x * x / (width * width)
    return np.exp(-q) if q < 12 else 0.0


@njit(**options)
@no_type_check
def blend(out, colour, t):
    """out ← out + (colour − out)·t."""
    for k in range(3):
        out[k] += (colour[k] - out[k]) * t


@njit(**options)
@no_type_check
def tint(out, r, g, b, t):
    """out ← out·(1 − (r, g, b)·t)."""
    out[0] *= 1 - r * t
    out[1] *= 1 - g * t
    out[2] *= 1 - b * t


@njit(**options)
@no_type_check
def brow_mask(ax, y, z, thick, arch):
    """Opacity of the eyebrow at rest position (|x|, y, z): soft ends, thinning outwards."""
    if y < 0.22 or y > 0.56 or ax > 0.70 or ax < 0.08 or z < 0.3:
        return 0.0
    peak = 0.44
    q = (ax - peak) / (peak - 0.12) if ax < peak else (ax - peak) / 0.25
    line = (
        0.385 + 0.035 * arch - (0.018 + 0.035 * arch) * q * q
        if ax < peak
        else 0.385 + 0.035 * arch - 0.075 * q * q
    )
    half = (
        (0.030 + 0.030 * thick) * (1.1 - 0.75 * step(0.28, 0.68, ax)) * (0.70 + 0.30 * step(0.10, 0.24, ax))
    )
    v = (y - line) / half
    hairs = 1 + 0.10 * np.sin(70 * ax - 45 * (y - line)) * (1 - abs(min(1.0, max(-1.0, v))))
    return step(1.25, 0.25, abs(v)) * step(0.09, 0.24, ax) * step(0.66, 0.50, ax) * min(1.0, hairs)


@njit(**options)
@no_type_check
def skin_albedo(out, x, y, z, lip, rim, ear, look, line, hair_alpha):
    """Skin, lips, brows, beard and painted scalp at rest position (x, y, z). Returns (region, gloss)."""
    ax, region, gloss = abs(x), 1, 0.055
    for k in range(3):
        out[k] = look.skin[k]
    if z > 0.1:  # blush, warm nose, darker lids, beard
        flush = (
            0.75 * bell(ax - 0.40, 0.20) * bell(y + 0.22, 0.17)
            + 0.55 * bell(ax, 0.12) * bell(y + 0.30, 0.13)
            + 0.25 * bell(ax, 0.2) * bell(y + 0.92, 0.16)
        )
        tint(out, 0.02, 0.17, 0.15, flush * (0.45 + 0.75 * look.blush + 0.3 * look.makeup))
        ex, ey = ax - EYE_X, y - EYE_Y
        tint(out, 0.10, 0.17, 0.16, bell(ex, 0.21) * bell(ey - 0.02, 0.11) * (0.75 + 0.2 * look.makeup))
        shadow = step(-0.02, 0.05, ey) * step(0.20, 0.06, ey) * bell(ex - 0.02, 0.17)
        tint(out, 0.30, 0.42, 0.40, shadow * look.makeup * 0.55)
        gloss += 0.03 * bell(ax, 0.10) * step(-0.5, 0.0, y) * step(0.9, 0.3, y)
        if look.beard > 0.003:
            jaw = step(-0.22, -0.62, y - 0.5 * step(0.35, 0.75, ax) * step(0.75, 0.3, z)) * step(
                0.20, 0.42, ax
            ) + step(-0.70, -0.82, y) * step(0.48, 0.32, ax)
            moustache = step(0.31, 0.20, ax) * step(-0.37, -0.46, y) * step(-0.66, -0.54, y)
            side = step(0.20, 0.29, ax) * step(0.48, 0.38, ax) * step(-0.45, -0.60, y)
            cover = (
                min(1.0, max(max(jaw, moustache * 0.9), side))
                * step(-1.22, -1.02, y - 0.25 * step(0.7, 0.2, z))
                * (1 - min(1.0, 2 * lip))
            )
            cover *= min(1.0, look.beard)
            blend(out, look.brow, cover * (0.30 + 0.52 * look.beard * look.beard))
            gloss *= 1 - 0.6 * cover
    if ear > 0.05:
        tint(out, 0.0, 0.12, 0.11, ear * 0.9)
    if rim > 0.01:
        tint(out, 0.75, 0.80, 0.82, step(0.25, 1.0, rim) * (0.45 + 0.5 * look.makeup))
    if lip > 0.02:
        m = step(0.20, 0.75, lip)
        blend(out, look.lips, m * 0.95)
        tint(out, 0.35, 0.40, 0.40, m * bell(y + 0.605, 0.018) * step(0.9, 1.1, z) * 0.4)
        gloss += (0.10 + 0.14 * look.makeup) * m
        region = 4 if m > 0.5 else 1
    brow = brow_mask(ax, y, z, look.brow_thick, look.brow_arch)
    if brow > 0:
        blend(out, look.brow, brow * (0.62 + 0.28 * look.brow_thick))
        region = 2 if brow > 0.45 else region
    if ear < 0.4 and hair_alpha > 0.001:  # the scalp takes the hair's colour, without an edge
        blend(out, look.hair, hair_alpha)
        gloss *= 1 - hair_alpha
        region = 7 if hair_alpha > 0.5 else region
    return region, gloss


@njit(**options)
@no_type_check
def collar_distance(ax, y, z, collar):
    """> 0 below the collar's edge: from a high round neck (0) over a crew neck to a V (1)."""
    vee = step(0.55, 0.95, collar)
    edge = (
        -1.06
        - 0.12 * step(0.0, 0.6, collar)
        - 0.30 * z
        - vee * 0.40 * max(0.0, 1 - np.sqrt(ax * ax + 0.002) / 0.50) * step(-0.2, 0.4, z)
    )
    return edge - y


@njit(**options)
@no_type_check
def eye_albedo(out, x, y, z, look):
    """White, iris with limbus, pupil, and the upper lid's shadow."""
    dx, dy = abs(x) - EYE_X, y - EYE_Y
    r = np.sqrt(dx * dx + dy * dy)
    if z < 0.70:
        r = 1.0
    out[0], out[1], out[2] = 0.93, 0.915, 0.90
    tint(out, 0.06, 0.20, 0.20, step(0.075, 0.15, abs(dx)))
    iris = step(0.084, 0.074, r)
    inner = 0.72 + 0.75 * step(0.028, 0.068, r) * (0.75 - 4.5 * dy)
    for k in range(3):
        out[k] += (look.iris[k] * inner - out[k]) * iris
        out[k] *= 1 - 0.55 * bell(r - 0.077, 0.010)
        out[k] *= 1 - 0.95 * step(0.038, 0.030, r)
    shade = 1 - 0.42 * step(-0.01, 0.075, dy)
    for k in range(3):
        out[k] *= shade


@njit(**options)
@no_type_check
def tooth_albedo(out, x, y, z, upper):
    """Enamel, soft gaps by rest position along the arch, a scalloped gum line. Darker towards the molars."""
    along = abs(x) if z > 0.86 else abs(x) + 0.9 * (0.86 - z) * step(0.10, 0.25, abs(x))
    gap = 1.0
    for i in range(TEETH_EDGES.shape[0]):
        gap = min(gap, abs(along - TEETH_EDGES[i]))
    out[0], out[1], out[2] = 0.96, 0.93, 0.87
    tint(out, 0.22, 0.26, 0.30, bell(gap, 0.013) * 0.55)
    gum = (y + 0.482 - 0.012 * bell(gap, 0.02)) if upper else (-0.715 - y)
    m = step(-0.010, 0.012, gum)
    out[0] += (0.72 - out[0]) * m
    out[1] += (0.38 - out[1]) * m
    out[2] += (0.38 - out[2]) * m
    dark = 0.25 + 0.75 * step(0.55, 0.93, z)
    for k in range(3):
        out[k] *= dark * (1.0 if upper else 0.90)


@njit(**options)
@no_type_check
def hair_albedo(out, azimuth, path, deep, look):
    """Hair colour with soft strands that run along the path from the whorl. Returns the strand brightness."""
    fade = min(1.0, 1.6 * path) * (1 - 0.7 * look.curl)
    strand = 1 + fade * (
        0.10 * np.sin(11 * azimuth + 2.2 * np.sin(2.3 * path))
        + 0.07 * np.sin(29 * azimuth + 1.7 * path)
        + 0.04 * np.sin(61 * azimuth - 2 * path)
    )
    strand += 0.07 * look.curl * np.sin(23 * azimuth + 3 * np.sin(9 * path)) * np.sin(26 * path)
    for k in range(3):
        out[k] = look.hair[k] * strand * deep
    return strand
