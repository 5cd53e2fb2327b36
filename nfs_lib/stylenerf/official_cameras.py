"""The official code's cameras: its axes, and its ways to say where a camera stands.

The official world has depth along x, towards the frontal camera, the image's right along y, and up along z. The kit's NeRF
frame is x right, y up, z towards the camera: ``kit = official[1, 2, 0]``, both right-handed.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nfs_lib.camera import Camera
from nfs_lib.errors import BadInput
from nfs_lib.stylenerf import options
from nfs_lib.stylenerf.config import GeneratorConfig

AXES = [1, 2, 0]                     # kit = official[AXES]
BACK = [2, 0, 1]                     # official = kit[BACK]


def camera_from_world(matrix: Float[Tensor, "B 4 4"]) -> Camera:
    """Official camera-to-world matrices, columns right, up, backward, eye → cameras of the kit.

    Raises BadInput unless the eye is where its backward axis points to, at distance 1 from the origin (within 1e-3).
    """
    rotation = matrix[:, AXES, :3].transpose(1, 2)
    eye = matrix[:, AXES, 3]
    if (eye - rotation[:, 2]).abs().max() > 1e-3:
        raise BadInput(f"a camera at {eye[0].tolist()} that looks along {(-rotation[0, 2]).tolist()}; expected one on the unit "
                       "sphere that looks at the origin")
    return Camera(rotation.contiguous())


def world_from_camera(camera: Camera) -> Float[Tensor, "B 4 4"]:
    """Cameras of the kit → official camera-to-world matrices (B, 4, 4)."""
    matrix = torch.eye(4, dtype=camera.rotation.dtype).repeat(len(camera.rotation), 1, 1)
    matrix[:, :3, :3] = camera.rotation.transpose(1, 2)[:, BACK]
    matrix[:, :3, 3] = camera.eye[:, BACK]
    return matrix


def camera_from_rotation(rotation: Float[Tensor, "B 3 3"]) -> Camera:
    """The camera that sees a face as Deep3DFaceRecon found it; rotation (B, 3, 3): its matrix for row vectors, (Rz·Ry·Rx)ᵀ.

    The official matrix is ``P·rotation``, with P from the kit's axes to the official ones, and its eye the third column.
    """
    return Camera(rotation.transpose(1, 2).contiguous())


def camera_from_angles(u: Float[Tensor, "B"], v: Float[Tensor, "B"]) -> Camera:
    """A camera at azimuth u (0: frontal, positive to the image's right) and polar angle v (π/2: level, 0: above), radians."""
    backward = torch.stack([v.sin() * u.sin(), v.cos(), v.sin() * u.cos()], -1)
    up = torch.tensor([0.0, 1.0, 0.0], dtype=u.dtype).expand_as(backward)
    right = F.normalize(torch.linalg.cross(up, backward), dim=-1)
    return Camera(torch.stack([right, F.normalize(torch.linalg.cross(backward, right), dim=-1), backward], 1))


def camera_from_mode(mode: Float[Tensor, "B n"], init_kwargs: dict[str, Any]) -> Camera:
    """Official `mode` lists, (B, 3): shares of the ranges of azimuth, polar angle and radius, from 0 to 1, beyond them too.

    The radius' range is a single value, so its share plays no part. A fourth number scales it; BadInput unless it is 1.
    """
    if mode.shape[1] == 4 and not mode[:, 3].eq(1).all():
        raise BadInput(f"a camera at {mode[:, 3].tolist()} times the distance; the kit's stand at distance 1")
    (u0, u1), (v0, v1) = options.camera_ranges(init_kwargs)
    return camera_from_angles(u0 + mode[:, 0] * (u1 - u0), v0 + mode[:, 1] * (v1 - v0))


def camera_from_uv(uv: Float[Tensor, "B 2"], init_kwargs: dict[str, Any]) -> Camera:
    """Official `mode` tensors (B, 2): azimuth and polar angle, of a Gaussian camera from the middle of their ranges in
    half-ranges, otherwise shares of the ranges as in `camera_from_mode`."""
    if not options.gaussian(init_kwargs):
        return camera_from_mode(uv, init_kwargs)
    (u0, u1), (v0, v1) = options.camera_ranges(init_kwargs)
    half = torch.tensor([(u1 - u0) / 2, (v1 - v0) / 2], dtype=torch.float64)
    u, v = (torch.tensor([(u0 + u1) / 2, (v0 + v1) / 2], dtype=torch.float64) + uv * half).to(uv.dtype).unbind(-1)
    return camera_from_angles(u, v)


def inverse_intrinsics(config: GeneratorConfig) -> Float[Tensor, "1 4 4"]:
    """The official inverse intrinsics, diag(tan(fov/2), tan(fov/2), 1, 1): an image position at depth 1 → the camera's axes."""
    tangent = math.tan(config.fov / 2)
    return torch.diag(torch.tensor([tangent, tangent, 1.0, 1.0]))[None]
