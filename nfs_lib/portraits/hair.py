"""Hair as a soft shell: a cap that flows from the whorl to the hairline, and a curtain that hangs from its
sides and back.

Two angles about the skull's centre place everything: azimuth θ (0 = front, ±π/2 = ears) and elevation. The
shell follows the face's identity through the scalp vertices near it; its opacity fades out at the hairline
and at the tips.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator, RBFInterpolator
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from nfs_lib.portraits.chart import N_IDENTITY, Hair, face_model

CENTRE = np.array([0.0, 0.25, 0.0])
COLUMNS, CAP, HANG = 97, 24, 16  # first and last column coincide at the back
ROWS = CAP + HANG
AZIMUTH = np.linspace(-np.pi, np.pi, COLUMNS)
_KNOTS = np.array([0, 0.35, 0.62, 0.82, 1.0, 1.15, 1.25, 1.36, 1.48, 1.62, 1.78, 2.0, 2.35, np.pi])
_SHORT = np.array([0.80, 0.81, 0.80, 0.68, 0.42, 0.05, -0.22, -0.22, 0.02, 0.06, -0.10, -0.42, -0.66, -0.74])
_FRINGE = np.array([-0.50, -0.48, -0.42, -0.30, -0.12, 0, 0, 0, 0, 0, 0, 0, 0, 0])
_RECEDE = np.array([0.22, 0.30, 0.42, 0.42, 0.30, 0.1, 0, 0, 0, 0, 0, 0, 0, 0])


def smoothstep(a, b, x):
    """0 below a, 1 above b, a cubic between."""
    t = np.clip((x - a) / (b - a), 0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Skull:
    """Smooth radius of the scalp by azimuth (rows) and elevation (columns), and how the shell follows
    identity."""

    radius: np.ndarray
    elevations: np.ndarray
    follow: np.ndarray  # (16, ROWS·COLUMNS, 3) id modes carried to the shell
    triangles: np.ndarray


def directions(azimuth, elevation):
    """Unit vectors (…, 3) of two angles."""
    return np.stack(
        [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], -1
    )


@lru_cache(maxsize=1)
def skull() -> Skull:
    """Fit the smooth skull to the mean face's scalp and forehead (ears left out), once."""
    model = face_model()
    mean, region = model.mean.numpy().astype(np.float64), {k: v.numpy() for k, v in model.regions.items()}
    x, y, z = mean.T
    around = (np.abs(x) > 0.62) & (y < 0.3) & (y > -0.5) & (np.abs(z + 0.05) < 0.35)
    keep = (
        (region["skin"] > 0.5)
        & (region["ears"] < 0.05)
        & ~around
        & (y > -0.9)
        & ((y > 0.45) | (z < 0.35))
        & (z > -1.2)
    )
    points = mean[keep] - CENTRE
    length = np.linalg.norm(points, axis=1)
    unit, first = np.unique((points / length[:, None]).round(3), axis=0, return_index=True)
    fit = RBFInterpolator(unit, length[first], smoothing=2e-2, neighbors=60)
    elevations = np.linspace(-1.1, np.pi / 2, 48)
    grid = np.meshgrid(np.linspace(-np.pi, np.pi, 96), elevations, indexing="ij")
    radius = fit(directions(*grid).reshape(-1, 3)).reshape(grid[0].shape)
    scalp = np.where((region["skin"] > 0.5) & (y > -0.1) & (region["ears"] < 0.3) & ((y > 0.5) | (z < 0.4)))[
        0
    ]
    bare = Skull(radius, elevations, np.zeros(0), np.zeros(0))
    shell = build(Hair(0.4, 0.1, 0.3, 0.0, 0.0, 0.0), np.zeros(N_IDENTITY), bare)[0]
    shell[:, 1] = np.maximum(shell[:, 1], 0.0)
    distance, index = cKDTree(mean[scalp]).query(shell, k=14)
    weight = 1 / (distance + 0.06) ** 2
    weight /= weight.sum(1, keepdims=True)
    modes = model.id_basis[:N_IDENTITY].numpy()
    follow = (modes[:, scalp[index]] * weight[None, ..., None]).sum(2).astype(np.float32)
    corner = (np.arange(ROWS - 1)[:, None] * COLUMNS + np.arange(COLUMNS - 1)).ravel()
    triangles = np.concatenate(
        [
            np.stack([corner, corner + COLUMNS, corner + 1], 1),
            np.stack([corner + 1, corner + COLUMNS, corner + COLUMNS + 1], 1),
        ]
    ).astype(np.int32)
    return Skull(radius, elevations, follow, triangles)


def hairline(hair: Hair, azimuth=AZIMUTH) -> np.ndarray:
    """Elevation of the hairline at each azimuth (radians)."""
    a = np.abs(azimuth)
    sweep = 1 + 0.45 * hair.part * np.sin(np.clip(azimuth * 1.6, -np.pi / 2, np.pi / 2))
    line = PchipInterpolator(_KNOTS, _SHORT)(a) + hair.fringe * sweep * PchipInterpolator(_KNOTS, _FRINGE)(a)
    line = line + hair.recede * PchipInterpolator(_KNOTS, _RECEDE)(a)
    cover = smoothstep(0, 0.22, hair.length) * smoothstep(1.0, 1.3, a)
    return line + (np.maximum(line, 0.16) - line) * cover


def build(hair: Hair, identity: np.ndarray, on: Skull | None = None):
    """The shell for a hairdo and 16 identity coefficients.

    Returns vertices (N, 3) head frame, opacity (N,), coordinates (N, 3): azimuth, path (0 whorl, 1 hairline,
    2 tips), depth shade (0 = deep inside, 1 = outside), and strand tangents (N, 3). N = ROWS·COLUMNS, row-
    major.
    """
    on = on or skull()
    line = hairline(hair)
    edge = directions(AZIMUTH, line)
    pole = np.array([0.22 * hair.part, 1.0, -0.42])
    pole /= np.linalg.norm(pole)
    t = (np.linspace(0, 1, CAP) + 0.12 * np.sin(np.pi * np.linspace(0, 1, CAP)))[
        :, None
    ]  # denser at the hairline
    angle = np.arccos(np.clip(edge @ pole, -1, 1))[None]
    d = (np.sin((1 - t) * angle)[..., None] * pole + np.sin(t * angle)[..., None] * edge) / np.sin(angle)[
        ..., None
    ]
    azimuth, elevation = np.arctan2(d[..., 0], d[..., 2]), np.arcsin(np.clip(d[..., 1], -1, 1))
    at = [
        (azimuth + np.pi) / (2 * np.pi) * (len(on.radius) - 1),
        (elevation - on.elevations[0]) / (on.elevations[-1] - on.elevations[0]) * (len(on.elevations) - 1),
    ]
    radius = map_coordinates(on.radius, at, order=1, mode="nearest")

    side = np.abs(AZIMUTH)
    hanging = smoothstep(0.94, 1.22, side) * smoothstep(
        0, 0.22, hair.length
    )  # 1 where a curtain follows the cap
    top = smoothstep(-0.25, 0.95, d[..., 1])
    front = smoothstep(0.1, 0.8, d[..., 2])
    thick = (
        0.035 * (1 - 0.6 * hair.recede)
        + hair.volume * (0.04 + 0.095 * top + 0.05 * front * top)
        + 0.02 * hair.length
    )
    thick = thick + hair.curl * (0.05 + 0.16 * hair.volume) * (0.55 + 0.45 * top)
    bare = smoothstep(0.35, 0.95, hair.recede) * smoothstep(0.25, 0.8, d[..., 1] + 0.35 * d[..., 2])
    thick = thick * (1 - bare) - 0.05 * bare
    valley = (
        np.exp(-(((d[..., 0] - 0.30 * hair.part) / 0.06) ** 2))
        * smoothstep(0.0, 0.4, d[..., 1])
        * smoothstep(-0.35, 0.1, d[..., 2])
    )
    thick = thick * (1 - 0.15 * valley * (1 - hair.curl) * (1 - 0.5 * hair.fringe))
    thick = thick + 0.12 * hanging * t**2
    kept = np.maximum(hanging, 0.30 * hair.fringe * smoothstep(1.1, 0.7, side))
    profile = kept + (1 - kept) * np.sqrt(np.clip(1 - (t / 0.96) ** (4 + 2 * hair.curl), 0, 1))
    thick = thick - 0.012 * (1 - kept) * smoothstep(0.88, 1, t)
    thick = (
        thick * profile
        + 0.012
        * (1 + hair.curl)
        * np.sin(4 * azimuth + 2 * hair.part)
        * np.sin(5 * elevation + 1)
        * (1 - t)
        * hair.volume
    )
    cap = CENTRE + (radius + thick)[..., None] * d

    ring = cap[-1]
    s = np.linspace(0, 1, HANG + 1)[1:, None]
    drop = hanging * hair.length * (ring[:, 1] + 0.45 + 1.55 * hair.length)
    flat = np.hypot(ring[:, 0], ring[:, 2])
    behind = smoothstep(1.5, 2.6, side)
    goal = np.maximum(flat, 0.925 + 0.03 * behind) + 0.07 * hair.volume + 0.10 * hair.curl
    r = flat + (goal - flat) * smoothstep(0, 0.42, drop * s)
    r = r + hanging * hair.length * (
        0.10 * np.sin(np.pi * s) * (0.4 + hair.volume) - (0.16 + 0.22 * behind) * s**2
    )
    r = r + 0.018 * hanging * hair.length * np.sin(7 * AZIMUTH + 9 * s * hair.length) * (0.3 + hair.curl)
    hang = np.stack([np.sin(AZIMUTH) * r, ring[:, 1] - drop * s, np.cos(AZIMUTH) * r], -1)
    ring_flat = np.arctan2(ring[:, 0], ring[:, 2])
    hang[..., 0], hang[..., 2] = np.sin(ring_flat) * r, np.cos(ring_flat) * r
    grid = np.concatenate([cap, hang])

    path = np.concatenate([t + 0 * side, 1 + s + 0 * side])
    soft = 0.09
    opacity_cap = 1 - (1 - hanging) * smoothstep(1 - soft, 1, t)
    thin = 1 - smoothstep(0.02, 0.45, bare)
    burn = 1 - 0.85 * (1 - smoothstep(0, 0.22, hair.length)) * np.exp(
        -(((side - 1.27) / 0.16) ** 2)
    ) * smoothstep(0.15, -0.3, d[..., 1])
    tips = 0.02 * np.sin(7 * AZIMUTH)
    opacity_hang = smoothstep(0.08, 0.4, hanging) * smoothstep(1.01, 0.95, s + tips)
    opacity = np.concatenate([opacity_cap * thin * burn, opacity_hang * np.ones_like(s)])
    deep = np.concatenate(
        [1 - 0.18 * valley * (1 - hair.curl), 1 - 0.30 * hanging * smoothstep(0, 1, s) * (0.4 + 0.6 * behind)]
    )
    tangent = np.gradient(grid, axis=0)
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True) + 1e-9
    vertices = grid.reshape(-1, 3)
    if on.follow.size:
        vertices = vertices + np.tensordot(identity, on.follow, 1)
    coordinates = np.stack([np.broadcast_to(AZIMUTH, path.shape), path, deep], -1).reshape(-1, 3)
    return vertices, opacity.ravel(), coordinates, tangent.reshape(-1, 3)


def scalp_alpha(hair: Hair) -> np.ndarray:
    """How strongly the scalp is painted at each azimuth (97,): weaker at the sideburns."""
    return 1 - 0.3 * np.exp(-(((np.abs(AZIMUTH) - 1.27) / 0.16) ** 2)) * (
        1 - smoothstep(0, 0.22, hair.length)
    )
