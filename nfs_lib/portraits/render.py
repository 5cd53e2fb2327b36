"""From a scene and a pose to a picture with its ground truth: depth, opacity, regions and landmarks."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from nfs_lib import camera as cam
from nfs_lib.errors import BadInput
from nfs_lib.portraits import hair as hair_shell
from nfs_lib.portraits import shading
from nfs_lib.portraits.chart import (
    N_EXPRESSION,
    N_IDENTITY,
    Z_BG,
    Z_DIM,
    Scene,
    chart,
    expression_axes,
    face_model,
)
from nfs_lib.portraits.rasteriser import FAR, rasterise, vertex_normals

HAIR_PART, LASHES = 10, 8
JAW = N_IDENTITY  # place of the jaw's number in z


@dataclass(frozen=True)
class Portrait:
    """A picture and what it shows.

    image (H, W, 3) uint8; depth (H, W) float32 NeRF units along the optical axis, 0 = background; alpha (H,
    W) float32 in [0, 1]; regions (H, W) uint8, names in ``shading.REGIONS``; landmarks (68, 2) float32
    pixels; pose (3,) radians; scene.
    """

    image: np.ndarray
    depth: np.ndarray
    alpha: np.ndarray
    regions: np.ndarray
    landmarks: np.ndarray
    scene: Scene
    pose: np.ndarray

    @property
    def latent(self) -> np.ndarray:
        """The latent (Z_DIM + Z_BG,) that the scene was made from."""
        return self.scene.latent


class Fixed(NamedTuple):
    """What all portraits share, as contiguous arrays."""

    mean: np.ndarray
    modes: np.ndarray
    actions: np.ndarray
    triangles: np.ndarray
    parts: np.ndarray
    attributes: np.ndarray
    landmarks: np.ndarray


@lru_cache(maxsize=1)
def fixed() -> Fixed:
    """Mesh, modes and per-vertex attributes of face and hair (hair vertices follow the face's)."""
    model, skull = face_model(), hair_shell.skull()
    n, regions = len(model.mean), model.regions
    total = n + hair_shell.ROWS * hair_shell.COLUMNS
    attributes = np.zeros((total, shading.COLUMNS), np.float32)
    attributes[:n, shading.REST : shading.REST + 3] = model.mean.numpy()
    attributes[:n, shading.OCCLUSION] = np.asarray(model.occlusion)
    for column, name in ((shading.LIP, "lips"), (shading.RIM, "eye_rim"), (shading.EAR, "ears")):
        attributes[:n, column] = regions[name].numpy()
    attributes[:, shading.OPACITY] = 1
    triangles = np.concatenate([model.triangles.numpy(), skull.triangles + n]).astype(np.int32)
    parts = np.concatenate([model.triangle_part, np.full(len(skull.triangles), HAIR_PART)]).astype(np.int32)
    return Fixed(
        model.mean.numpy(),
        model.id_basis[:N_IDENTITY].numpy().reshape(N_IDENTITY, -1),
        model.exp_basis.numpy().reshape(len(model.expression_names), -1),
        triangles,
        parts,
        attributes,
        model.landmarks.numpy(),
    )


def check_resolution(resolution: int) -> None:
    """Raises BadInput unless resolution is a whole number from 16 to 2048."""
    if not isinstance(resolution, int | np.integer) or not 16 <= resolution <= 2048:
        raise BadInput(f"resolution {resolution!r} was given; expected a whole number from 16 to 2048")


def geometry(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V + N, 3) of face and hair in the head frame, their shading attributes, and the hairline
    (97,)."""
    f = fixed()
    n = len(f.mean)
    face = f.mean + (scene.identity @ f.modes + scene.expression @ f.actions).reshape(-1, 3)
    shell, opacity, coordinates, tangent = hair_shell.build(scene.hair, scene.identity)
    vertices = np.concatenate([face, shell]).astype(np.float32)
    attributes = f.attributes.copy()
    attributes[:, :3] = vertex_normals(vertices, f.triangles)
    attributes[n:, shading.REST : shading.REST + 2] = coordinates[:, :2]
    attributes[n:, shading.DEEP], attributes[n:, shading.OPACITY] = coordinates[:, 2], opacity
    attributes[n:, shading.TANGENT :] = tangent
    return vertices, attributes, hair_shell.hairline(scene.hair)


def render(scene: Scene, pose: np.ndarray, resolution: int = 256, supersample: int = 2) -> Portrait:
    """Draw a scene as the camera at ``pose`` (yaw, pitch, roll in radians) sees it.

    supersample² samples per pixel are averaged. Raises BadInput for a pose that isn't three finite numbers,
    or a resolution outside 16 … 2048.
    """
    check_resolution(resolution)
    pose = np.asarray(pose, np.float32)
    if pose.shape != (3,) or not np.isfinite(pose).all():
        raise BadInput(
            f"pose {pose.tolist()} was given; expected three finite angles: yaw, pitch, roll in radians"
        )
    f = fixed()
    vertices, attributes, line = geometry(scene)
    camera = cam.Camera.from_pose(torch.from_numpy(pose)[None])
    size = resolution * supersample
    screen = cam.project(torch.from_numpy(vertices)[None], camera, size)[0].numpy()

    opacity = attributes[:, shading.OPACITY]
    lowest = opacity[f.triangles].min(1)
    solid = np.flatnonzero((f.parts != LASHES) & (lowest > 0.985))
    soft = np.flatnonzero((f.parts == LASHES) | ((lowest <= 0.985) & (opacity[f.triangles].max(1) > 0.04)))
    layers, test = [], np.full((size, size), FAR, np.float32)
    for chosen in (solid, soft):
        depth, face = np.full((size, size), FAR, np.float32), np.full((size, size), -1, np.int32)
        weight = np.empty((size, size, 2), np.float32)
        rasterise(screen, f.triangles, chosen, depth, face, weight, test, opacity, 0.04)
        layers.append((depth, face, weight))
        test = depth
    image = np.empty((resolution, resolution, 3), np.float32)
    depth, alpha = (
        np.empty((resolution, resolution), np.float32),
        np.empty((resolution, resolution), np.float32),
    )
    regions = np.empty((resolution, resolution), np.uint8)
    shared = (
        f.triangles,
        f.parts,
        attributes,
        scene.light.astype(np.float64),
        tuple(camera.eye[0].double().tolist()),
        line,
        hair_shell.scalp_alpha(scene.hair),
        scene.look,
    )
    shading.shade_image(
        supersample, shared, *layers, np.empty((6, shading.COLUMNS)), image, depth, alpha, regions
    )
    landmarks = (screen[f.landmarks, :2] / supersample).astype(np.float32)
    return Portrait((image * 255 + 0.5).astype(np.uint8), depth, alpha, regions, landmarks, scene, pose)


def sample_latent(seed: int) -> np.ndarray:
    """The latent (Z_DIM + Z_BG,) float32 of a seed. Training uses seeds below 1 000 000, measurements 9 000
    000 and above."""
    return np.random.default_rng([int(seed), 0]).standard_normal(Z_DIM + Z_BG).astype(np.float32)


def sample_pose(seed: int) -> np.ndarray:
    """Pose (3,) float32, radians: yaw ~ N(0, 17°) within ±45°, pitch ~ N(0, 7°) within ±20°, roll ~ N(0, 3°)
    within ±8°."""
    draw = np.random.default_rng([int(seed), 1]).standard_normal(3) * (17, 7, 3)
    return np.radians(np.clip(draw, (-45, -20, -8), (45, 20, 8))).astype(np.float32)


def portrait(seed: int, resolution: int = 256) -> Portrait:
    """The portrait of a seed: its person, expression, pose, light and background."""
    return render(chart(sample_latent(seed)), sample_pose(seed), resolution)


def portrait_pair(seed: int, resolution: int = 256) -> tuple[Portrait, Portrait]:
    """Two portraits that differ in nothing but the expression; in at least 60 % of the pairs one jaw is wide
    open (> 0.4)."""
    first, rng = sample_latent(seed), np.random.default_rng([int(seed), 2])
    second = first.copy()
    second[N_IDENTITY : N_IDENTITY + N_EXPRESSION] = rng.standard_normal(N_EXPRESSION)
    if rng.random() < 0.6:
        wide = second if rng.random() < 0.5 else first
        if expression_axes(wide[JAW : JAW + N_EXPRESSION])["jaw_open"] <= 0.4:
            wide[JAW] = rng.uniform(0.45, 1.8)
    pose = sample_pose(seed)
    return render(chart(first), pose, resolution), render(chart(second), pose, resolution)
