"""Cameras, rays and sample depths (paper section 3.1), and the two coordinate frames of the kit.

**Head frame** (all public geometry): right-handed; origin between the ears at mid-face; x to the image's right, y up, z out
of the face towards the camera; unit = the half-height of the mean face, chin to hairline = 2 units (113 mm for anny).

**NeRF frame** (the generator's own): same axis directions, orbit centre at its origin, scaled so that the camera sits at
radius 1: ``nerf = (head − ORBIT_CENTRE) · HEAD_TO_NERF``. StyleNeRF's field of view of 12° then sees ±0.105 at the centre.

**Pose** = (yaw, pitch, roll), radians, of the head as the camera sees it: yaw > 0 turns the nose to the image's right,
pitch > 0 looks down, roll > 0 leans counter-clockwise. Head and light stay put; the camera orbits.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

ORBIT_CENTRE = (0.0, 0.10, 0.30)
HEAD_TO_NERF = 0.066
FOV = math.radians(12)


@dataclass
class Camera:
    """B cameras on the unit sphere of the NeRF frame, looking at its origin; built by ``Camera.from_pose``.

    rotation (B, 3, 3): head axes → camera axes (x right, y up, z backward, towards the viewer).
    """

    rotation: Float[Tensor, "B 3 3"]

    @classmethod
    def from_pose(cls, pose: Float[Tensor, "B 3"]) -> "Camera":
        """pose (B, 3): yaw, pitch, roll in radians → Rz(roll) · Ry(yaw) · Rx(pitch)."""
        (cy, cp, cr), (sy, sp, sr) = pose.cos().unbind(-1), pose.sin().unbind(-1)
        rows = [
            cr * cy,
            cr * sy * sp - sr * cp,
            cr * sy * cp + sr * sp,
            sr * cy,
            sr * sy * sp + cr * cp,
            sr * sy * cp - cr * sp,
            -sy,
            cy * sp,
            cy * cp,
        ]
        return cls(torch.stack(rows, -1).view(-1, 3, 3))

    def to(self, there: Tensor | torch.device) -> "Camera":
        """The same cameras on another tensor's device, and in its precision; or on a device."""
        return Camera(self.rotation.to(there))

    @property
    def eye(self) -> Float[Tensor, "B 3"]:
        """The camera's position, (B, 3) NeRF frame."""
        return self.rotation[:, 2]


def frontal(batch: int = 1) -> Camera:
    """The camera straight in front of the face, for which Eq. 6 matches samples with vertices."""
    return Camera.from_pose(torch.zeros(batch, 3))


def head_to_nerf(points: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """(…, 3) head frame → NeRF frame."""
    return (points - points.new_tensor(ORBIT_CENTRE)) * HEAD_TO_NERF


def nerf_to_head(points: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """(…, 3) NeRF frame → head frame."""
    return points / HEAD_TO_NERF + points.new_tensor(ORBIT_CENTRE)


def project(points: Float[Tensor, "B V 3"], camera: Camera, resolution: int) -> Float[Tensor, "B V 3"]:
    """Perspective projection of head-frame points.

    Returns (B, V, 3): pixel x to the right and y down, 0 at the image's left and top edge (pixel centres lie at +0.5), and
    the depth along the optical axis in NeRF units (1 at the orbit centre).
    """
    p = head_to_nerf(points) @ camera.rotation.transpose(1, 2)
    depth = 1 - p[..., 2]
    focal = resolution / 2 / math.tan(FOV / 2)
    return torch.stack(
        [resolution / 2 + focal * p[..., 0] / depth, resolution / 2 - focal * p[..., 1] / depth, depth], -1
    )


def rays(camera: Camera, resolution: int) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B R 3"]]:
    """Rays through the centres of a resolution × resolution grid, row-major from the top left corner.

    Returns the origin (B, 3) and R = resolution² directions (B, R, 3), NeRF frame. A direction's component along the optical
    axis is 1, so the point at parameter t, ``origin + t · direction``, lies at depth t.
    """
    u = (torch.arange(resolution, device=camera.rotation.device) + 0.5) / resolution * 2 - 1
    y, x = torch.meshgrid(-u, u, indexing="ij")
    return camera.eye, pixel_directions(camera, x.reshape(1, -1), y.reshape(1, -1))


def pixel_directions(
    camera: Camera, x: Float[Tensor, "#B R"], y: Float[Tensor, "#B R"], fov: float = FOV
) -> Float[Tensor, "B R 3"]:
    """Ray directions (B, R, 3) through image positions x (right) and y (up) in [−1, 1]; fov in radians."""
    tangent = math.tan(fov / 2)
    d = torch.stack([x * tangent, y * tangent, torch.full_like(x, -1.0)], -1).to(camera.rotation.dtype)
    return d.expand(len(camera.rotation), -1, -1) @ camera.rotation


def sample_depths(near: float, far: float, n: int, *, jitter: Float[Tensor, "*B"] | None = None) -> Tensor:
    """Depths along a ray: ``t = far·τ + near·(1 − τ)`` with n values of τ from 0 to 1 (StyleNeRF's linspace).

    jitter (…, n) in [−0.5, 0.5], training only: shifts every sample within its own cell.
    """
    tau = torch.linspace(0, 1, n)
    if jitter is not None:
        tau = tau.to(jitter) + jitter / (n - 1)
    return far * tau + near * (1 - tau)
