"""alignment.py, deformation.py, blending.py: matching, moved samples and the blended mouth, against closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from nfs_lib import alignment, blending, deformation
from nfs_lib import camera as cam
from nfs_lib.camera import Camera
from nfs_lib.errors import BadInput
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.nearest import nearest


def cloud(n, seed, scale=1.0):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)) * scale


def lattice(n=41, side=4.0):
    """Vertices on an even grid of the XY plane, spacing side / (n - 1)."""
    u = torch.linspace(-side / 2, side / 2, n)
    y, x = torch.meshgrid(u, u, indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), torch.zeros(n * n)], 1)


@pytest.fixture(scope="module")
def model():
    return MorphableModel.from_anny()


def test_match_is_the_exhaustive_search():
    points, vertices = cloud(500, 0), cloud(300, 1)
    matched = alignment.match(points, vertices)
    assert torch.equal(matched.index[:, 0], alignment.match_naive(points, vertices))
    nearest = (points[:, :2] - vertices[matched.index[:, 0], :2]).norm(dim=1)
    assert torch.allclose(matched.distance, nearest, atol=1e-5)
    assert torch.equal(matched.weight, torch.ones(500, 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(0, 2**31), st.sampled_from(["cloud", "line", "clusters", "one place", "lattice"]),
       st.sampled_from([0.1, 1.0, 40.0]))
def test_the_nearest_vertex_is_the_nearest_whatever_the_vertices_look_like(n, seed, shape, spread):
    """Against a KD-tree's distances, far outside too; the lowest number among equals, as an exhaustive search has it."""
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(n, 2))
    if shape == "line":
        vertices[:, rng.integers(2)] = 0.3
    if shape == "clusters":
        vertices = vertices * 1e-3 + rng.integers(-3, 4, (n, 2))
    if shape == "one place":
        vertices[:] = vertices[0]
    if shape == "lattice":
        vertices = np.round(vertices * 2) / 2
    points = np.round(rng.normal(size=(200, 2)) * spread, 3)
    index, distance = nearest(points, vertices)
    squared = ((points[:, None] - vertices[None]) ** 2).sum(-1)
    assert np.array_equal(index, squared.argmin(1))
    assert np.allclose(distance, cKDTree(vertices).query(points)[0], rtol=1e-12)


def test_coordinates_that_are_no_numbers_are_refused():
    for bad in (float("nan"), float("inf")):
        points, vertices = cloud(5, 0), cloud(4, 1)
        points[2, 0] = bad
        with pytest.raises(BadInput, match="finite"):
            alignment.match(points, vertices)
        with pytest.raises(BadInput, match="finite"):
            alignment.match(vertices, points)


def test_depth_plays_no_part_unless_it_is_asked_for():
    points, vertices = cloud(200, 2), cloud(100, 3)
    shifted = points + torch.tensor([0.0, 0.0, 5.0])
    index = alignment.match(points, vertices).index
    assert torch.equal(alignment.match(shifted, vertices).index, index)
    in_space = torch.cdist(shifted, vertices).argmin(1)
    assert torch.equal(alignment.match(shifted, vertices, "3d").index[:, 0], in_space)
    assert not torch.equal(in_space, index[:, 0])


def test_k_nearest_takes_the_k_nearest_and_favours_the_closest():
    points, vertices = cloud(200, 4), cloud(100, 5)
    matched = alignment.match(points, vertices, "k-nearest", k=5)
    distances = torch.cdist(points[:, :2].double(), vertices[:, :2].double())
    assert torch.equal(matched.index.sort(1).values, distances.topk(5, largest=False).indices.sort(1).values)
    assert torch.allclose(matched.weight.sum(1), torch.ones(200))
    assert (matched.weight.diff(dim=1) <= 0).all()
    mean = matched.gather(vertices)
    expected = torch.stack([w @ vertices[i] for w, i in zip(matched.weight, matched.index, strict=True)])
    assert torch.allclose(mean, expected, atol=1e-6)


def test_an_unknown_rule_is_refused():
    with pytest.raises(BadInput, match="paper"):
        alignment.match(cloud(3, 0), cloud(3, 1), "nearest")


def test_the_vertices_of_matching_lie_in_front_and_reach_the_mouth(model):
    chosen = alignment.face_vertices(model)
    assert (model.mean[chosen, 2] > -0.6).all()
    assert len(chosen) > 500
    assert len(alignment.face_vertices(model, 4)) == -(-len(chosen) // 4)
    lips = model.mean[model.landmarks[48:60]]
    distance = torch.cdist(lips, model.mean[chosen]).min(1).values
    assert distance.max() < 0.05


def test_equation_7_moves_every_sample_with_its_vertex():
    points, before, after = cloud(100, 6), cloud(50, 7), cloud(50, 8)
    matched = alignment.match(points, before)
    moved = deformation.deform(points, matched, deformation.displacement(before, after))
    n = alignment.match_naive(points, before)
    assert torch.allclose(moved, points + before[n] - after[n], atol=1e-6)


@pytest.mark.parametrize("rule", alignment.RULES)
def test_a_face_that_stays_moves_nothing_and_a_rigid_shift_moves_all(rule):
    points, before = cloud(100, 9), cloud(50, 10)
    matched = alignment.match(points, before, rule)
    still = deformation.displacement(before, before)
    assert torch.equal(deformation.deform(points, matched, still), points)
    shift = torch.tensor([0.1, -0.2, 0.3])
    moved = deformation.deform(points, matched, deformation.displacement(before, before + shift))
    assert torch.allclose(moved, points - shift, atol=1e-6)
    planar = deformation.displacement(before, before + shift, planar=True)
    flat = deformation.deform(points, matched, planar)
    assert torch.allclose(flat, points - torch.tensor([0.1, -0.2, 0.0]), atol=1e-6)


def test_the_generators_form_of_equation_7_is_the_same_in_the_other_frame():
    points, before, after = cloud(60, 11, 0.5), cloud(40, 12), cloud(40, 13)
    matched, delta = alignment.match(points, before), deformation.displacement(before, after)
    in_nerf = deformation.deform_nerf(matched, delta)(cam.head_to_nerf(points)[None])[0]
    assert torch.allclose(cam.nerf_to_head(in_nerf), deformation.deform(points, matched, delta), atol=1e-5)


def test_fold_over_is_one_where_nothing_moves():
    vertices = lattice()
    inner = cloud(50, 14, 0.3)
    assert torch.allclose(deformation.fold_over(inner, vertices, vertices), torch.ones(50), atol=1e-4)


@pytest.mark.parametrize("matrix", [[[1.2, 0.1], [-0.05, 0.9]], [[0.5, 0.0], [0.3, 0.8]], [[3.0, 0.0], [0.0, 1.0]]])
def test_fold_over_is_the_determinant_of_an_affine_motion(matrix):
    """V_t = A V moves samples by p' = p + V - A V: its Jacobian is 2 I - A, exactly so from vertex to vertex."""
    vertices, a = lattice(), torch.tensor(matrix)
    after = torch.cat([vertices[:, :2] @ a.T, vertices[:, 2:]], 1)
    inner = vertices[vertices[:, :2].abs().amax(1) < 0.5]
    expected = np.linalg.det(2 * np.eye(2) - np.array(matrix))
    found = deformation.fold_over(inner, vertices, after, rule="paper", step=0.1)
    assert torch.allclose(found, torch.full_like(found, float(expected)), atol=1e-3)
    smooth = deformation.fold_over(inner, vertices, after, rule="k-nearest", step=0.1)
    assert smooth.mean().item() == pytest.approx(expected, abs=0.1)
    assert (expected < 0) == (matrix[0][0] == 3.0)  # the last motion turns the picture inside out


def mouth(model, jaw=0.7, pose=(0.0, 0.0, 0.0), resolution=32, grow=0.0):
    expression = torch.zeros(1, len(model.expression_names))
    expression[0, model.action("jawOpen")] = jaw
    pose = torch.tensor([pose])
    c = Coefficients(torch.zeros(1, len(model.id_basis)), expression, pose, torch.zeros(1, 27))
    landmarks, camera = model.landmark_points(c)[0], Camera.from_pose(pose)
    mask = blending.mouth_mask(landmarks, camera, resolution, grow)
    outline = cam.project(landmarks[None, 48:60], camera, resolution)[0, :, :2].double().numpy()
    x, y = outline.T
    return mask, 0.5 * abs(x @ np.roll(y, -1) - y @ np.roll(x, -1))  # the shoelace formula


@pytest.mark.parametrize("pose", [(0, 0, 0), (0, 0, 0.5), (0.5, 0.1, 0), (0, 0, -1.2)])
@pytest.mark.parametrize("resolution", [32, 128])
def test_the_mouth_mask_covers_the_area_of_the_lips(model, pose, resolution):
    mask, area = mouth(model, pose=tuple(map(float, pose)), resolution=resolution)
    assert mask.shape == (resolution, resolution)
    assert mask.min() >= 0 and mask.max() <= 1
    assert mask.sum().item() == pytest.approx(area, rel=0.10)


def test_the_mouth_mask_grows_when_the_mouth_opens_and_when_it_is_widened(model):
    closed, opened = mouth(model, jaw=0.0)[0], mouth(model, jaw=1.0)[0]
    widened = mouth(model, jaw=1.0, grow=0.04)[0]
    assert closed.sum() < opened.sum() < widened.sum()
    assert (widened >= opened - 1e-6).all()


def test_the_mask_mean_is_that_of_the_last_n_with_the_present_one():
    masks = torch.rand(9, 4, 4, generator=torch.Generator().manual_seed(0))
    mean = blending.MaskMean(3)
    found = [mean(m) for m in masks]
    for i, value in enumerate(found):
        assert torch.allclose(value, masks[max(0, i - 2) : i + 1].mean(0), atol=1e-6)


def test_blending_is_one_or_the_other_at_the_limits_and_even_between():
    a, b = torch.randn(1, 5, 4, 4), torch.randn(1, 5, 4, 4)
    assert torch.equal(blending.blend(a, b, torch.zeros(4, 4)), a)
    assert torch.allclose(blending.blend(a, b, torch.ones(4, 4)), b, atol=1e-6)
    assert torch.allclose(blending.blend(a, b, torch.full((4, 4), 0.25)), 0.75 * a + 0.25 * b, atol=1e-6)
