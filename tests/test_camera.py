"""camera.py against scipy's rotations and a projection matrix written out by the book."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nfs_lib import camera as cam
from nfs_lib.camera import Camera


def poses(n=6, seed=0):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)) * 0.4


def test_the_rotation_is_roll_after_yaw_after_pitch():
    pose = poses()
    yaw, pitch, roll = pose.double().numpy().T[..., None]
    expected = Rotation.from_euler("z", roll) * Rotation.from_euler("y", yaw) * Rotation.from_euler("x", pitch)
    assert np.allclose(Camera.from_pose(pose).rotation.numpy(), expected.as_matrix(), atol=1e-6)


@pytest.mark.parametrize(
    ("pose", "point", "axis", "sign"),
    [
        ((0.3, 0, 0), (0, 0, 1), 0, 1),  # yaw > 0: the nose to the image's right
        ((0, 0.3, 0), (0, 0, 1), 1, 1),  # pitch > 0: the nose down (pixel y grows downwards)
        ((0, 0, 0.3), (0, 1, 0), 0, -1),  # roll > 0: the crown to the left, counter-clockwise
    ],
)
def test_signs_of_the_angles(pose, point, axis, sign):
    head = torch.tensor(cam.ORBIT_CENTRE) + torch.tensor(point, dtype=torch.float32)
    at = cam.project(head.view(1, 1, 3), Camera.from_pose(torch.tensor([pose])), 256)[0, 0]
    straight = cam.project(head.view(1, 1, 3), cam.frontal(), 256)[0, 0]
    assert sign * (at[axis] - straight[axis]) > 5


def test_the_camera_stands_on_the_unit_sphere_and_looks_at_the_orbit_centre():
    camera = Camera.from_pose(poses())
    assert torch.allclose(camera.eye.norm(dim=1), torch.ones(6), atol=1e-6)
    centre = torch.tensor(cam.ORBIT_CENTRE).expand(6, 1, 3)
    expected = torch.tensor([64.0, 64.0, 1.0]).expand(6, 1, 3)
    assert torch.allclose(cam.project(centre, camera, 128), expected, atol=1e-4)


def test_projection_is_that_of_a_perspective_matrix():
    """The textbook chain: look-at matrix, perspective matrix of 12 degrees, viewport."""
    pose, points = poses(1, 3), torch.randn(1, 20, 3, generator=torch.Generator().manual_seed(1)) * 0.5
    camera = Camera.from_pose(pose)
    eye = camera.eye[0].double().numpy()
    backward = eye / np.linalg.norm(eye)
    up_hint = camera.rotation[0, 1].double().numpy()
    right = np.cross(up_hint, backward)
    view = np.eye(4)
    view[:3, :3] = [right, np.cross(backward, right), backward]
    view[:3, 3] = -view[:3, :3] @ eye
    f, near, far = 1 / math.tan(math.radians(12) / 2), 0.5, 2.0
    perspective = np.array(
        [
            [f, 0, 0, 0],
            [0, f, 0, 0],
            [0, 0, (far + near) / (near - far), 2 * far * near / (near - far)],
            [0, 0, -1, 0],
        ]
    )
    nerf = (points[0].double().numpy() - cam.ORBIT_CENTRE) * cam.HEAD_TO_NERF
    clip = np.c_[nerf, np.ones(20)] @ (perspective @ view).T
    x, y = clip[:, 0] / clip[:, 3], clip[:, 1] / clip[:, 3]
    expected = np.c_[(x + 1) * 50, (1 - y) * 50, clip[:, 3]]
    assert np.allclose(cam.project(points, camera, 100)[0].numpy(), expected, atol=1e-3)


def test_a_point_of_a_ray_projects_onto_the_rays_pixel_at_its_depth():
    camera, resolution = Camera.from_pose(poses(3, 5)), 8
    origin, direction = cam.rays(camera, resolution)
    t = torch.rand(3, resolution**2, generator=torch.Generator().manual_seed(2)) * 0.2 + 0.9
    points = cam.nerf_to_head(origin[:, None] + t[..., None] * direction)
    at = cam.project(points, camera, resolution)
    column = (torch.arange(resolution) + 0.5).repeat(resolution)
    row = (torch.arange(resolution) + 0.5).repeat_interleave(resolution)
    assert torch.allclose(at[..., 0], column.expand(3, -1), atol=1e-3)
    assert torch.allclose(at[..., 1], row.expand(3, -1), atol=1e-3)
    assert torch.allclose(at[..., 2], t, atol=1e-5)


def test_the_frames_differ_by_shift_and_scale():
    points = torch.randn(5, 7, 3)
    assert torch.allclose(cam.nerf_to_head(cam.head_to_nerf(points)), points, atol=1e-5)
    assert torch.equal(cam.head_to_nerf(torch.tensor(cam.ORBIT_CENTRE)), torch.zeros(3))
    a, b = torch.zeros(3), torch.tensor([0.0, 2.0, 0.0])
    assert (cam.head_to_nerf(b) - cam.head_to_nerf(a)).norm().item() == pytest.approx(2 * cam.HEAD_TO_NERF)


def test_the_field_of_view_is_twelve_degrees():
    _, direction = cam.rays(cam.frontal(), 512)
    rows = direction[0].view(512, 512, 3)
    across = rows[256, 0] / rows[256, 0].norm() @ (rows[256, -1] / rows[256, -1].norm())
    expected = 2 * math.atan(math.tan(math.radians(6)) * 511 / 512)  # between the centres of the outer pixels
    assert math.acos(across.item()) == pytest.approx(expected, abs=2e-4)


def test_sample_depths_are_even_and_jitter_stays_in_its_cell():
    depth = cam.sample_depths(0.9, 1.1, 11)
    assert np.allclose(depth.numpy(), np.linspace(0.9, 1.1, 11), atol=1e-6)
    jitter = torch.rand(4, 5, 11) - 0.5
    moved = cam.sample_depths(0.9, 1.1, 11, jitter=jitter)
    assert torch.allclose(moved - depth, jitter * 0.02, atol=1e-6)
    assert (moved.diff(dim=-1) > 0).all()
