"""correspondence.py and true_motion.py: every number of the report against a case whose answer is known."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch

from nfs_lib import correspondence as co
from nfs_lib import deformation, true_motion
from nfs_lib.alignment import face_vertices, match
from nfs_lib.camera import Camera, frontal, nerf_to_head, pixel_directions, project, sample_depths
from nfs_lib.errors import BadInput
from nfs_lib.face import Coefficients, MorphableModel

RAYS, SAMPLES = 12, 9


def rays_of(camera, rays=RAYS, samples=SAMPLES):
    """Samples (P, 3) of a square grid of rays, as `TalkingHead.samples` orders them."""
    u = (torch.arange(rays) + 0.5) / rays * 2 - 1
    y, x = torch.meshgrid(-u, u, indexing="ij")
    direction = pixel_directions(camera, x.reshape(1, -1), y.reshape(1, -1))
    depth = sample_depths(0.925, 1.10, samples)
    return nerf_to_head(camera.eye[:, None, None] + depth[:, None] * direction[:, :, None])[0].flatten(0, 1)


def turned(yaw, pitch=0.0, roll=0.0):
    return Camera.from_pose(torch.tensor([[yaw, pitch, roll]]).deg2rad())


def wall(n=41, side=4.0, z=0.5):
    """A flat, even wall of vertices that faces the camera, spacing side / (n - 1), and its triangles."""
    u = torch.linspace(-side / 2, side / 2, n)
    y, x = torch.meshgrid(u, u, indexing="ij")
    number = torch.arange(n * n).view(n, n)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    triangles = torch.stack([torch.stack([a, b, c], -1), torch.stack([b, d, c], -1)]).view(-1, 3)
    return torch.stack([x.flatten(), y.flatten(), torch.full((n * n,), z)], 1), triangles


def columns():
    """Samples on a grid of whole numbers × 0.1, straight down z: 12 × 12 rays of 9 samples, z from 0.9 to 0.1."""
    u = (torch.arange(RAYS) - 5.0) * 0.1
    y, x, z = torch.meshgrid(-u, u, 0.9 - torch.arange(SAMPLES) * 0.1, indexing="ij")
    return torch.stack([x, y, z], -1).view(-1, 3)


@pytest.fixture(scope="module")
def head():
    model = MorphableModel.from_anny()
    face = Coefficients(torch.zeros(1, 40), torch.zeros(1, 52), torch.zeros(1, 3), torch.zeros(1, 27))
    config = SimpleNamespace(n_samples=SAMPLES)
    return SimpleNamespace(model=model, face=face, planar=False, samples=rays_of,
                           inversion=SimpleNamespace(generator=SimpleNamespace(config=config)))  # fmt: skip


def jaw(head, strength=1.0, name="jawOpen"):
    beta = head.face.expression.clone()
    beta[0, head.model.action(name)] = strength
    return beta


@pytest.mark.parametrize("camera", [frontal(), turned(30), turned(-20, 10, 5)])
def test_the_official_rule_looks_where_the_frontal_camera_has_the_same_sample(camera):
    believed = co.seen_frontally(rays_of(camera), camera)
    assert torch.allclose(believed, rays_of(frontal()), atol=1e-5)
    vertices, _ = wall()
    found = co.match_by(rays_of(camera), vertices, camera, "official")
    assert torch.equal(found.index, match(rays_of(frontal()), vertices).index)
    away = (rays_of(camera) - vertices[found.index[:, 0]])[:, :2].norm(dim=1)
    assert torch.allclose(found.distance, away)  # of the true place, not of the believed one


@pytest.mark.parametrize("rule", co.RULES)
def test_distances_are_those_on_xy_whatever_the_rule(rule):
    points, (vertices, _) = rays_of(turned(20)), wall()
    found = co.match_by(points, vertices, turned(20), rule)
    assert torch.allclose(found.distance, (points - vertices[found.index[:, 0]])[:, :2].norm(dim=1), atol=1e-5)


def test_an_unknown_rule_is_refused_with_those_there_are():
    with pytest.raises(BadInput, match="official"):
        co.match_by(torch.zeros(1, 3), torch.zeros(2, 3), frontal(), "nearest")


def test_a_wall_of_vertices_under_every_sample_has_distance_0_and_one_column_each():
    points = columns()
    vertices = points[points[:, 2] > 0.85] * torch.tensor([1.0, 1.0, 0.0]) + torch.tensor([0.0, 0.0, 0.5])
    pairs = co.correspond(points, vertices, SAMPLES, frontal(), unit_mm=100.0)
    assert len(vertices) == RAYS * RAYS
    assert pairs.over.all()
    assert pairs.matched.distance.max() < 1e-6
    # within 14 mm of z = 0.5 there are the samples at 0.4, 0.5 and 0.6; 0.5 and behind it are inside
    assert torch.equal(pairs.skin, (points[:, 2] - 0.5).abs() < 0.14)
    assert torch.equal(pairs.per_vertex, torch.full((RAYS * RAYS,), 3))
    assert torch.allclose(pairs.gap, 0.5 - points[:, 2])
    assert torch.equal(pairs.stale, torch.zeros(len(points)))
    some = torch.tensor([7, 30])
    assert torch.equal(pairs.followers(some), torch.cat([torch.arange(9) + 9 * int(v) for v in some]))


def test_the_back_of_the_head_ends_what_is_inside():
    points, (vertices, _) = columns(), wall(z=0.55)
    back, _ = wall(z=0.25)
    endless = co.correspond(points, vertices, SAMPLES, frontal(), unit_mm=100.0)
    assert torch.equal(endless.inside, points[:, 2] < 0.55)
    ended = co.correspond(points, vertices, SAMPLES, frontal(), unit_mm=100.0, back=back)
    assert torch.equal(ended.inside, (points[:, 2] < 0.55) & (points[:, 2] > 0.25))


def test_a_sample_beside_the_face_is_not_over_it():
    points = columns() + torch.tensor([1.95, 0.0, 0.0])
    pairs = co.correspond(points, wall()[0], SAMPLES, frontal(), unit_mm=100.0)
    assert torch.equal(pairs.over, points[:, 0] < 2.1 - 1e-4)
    assert not (pairs.skin & ~pairs.over).any()


@pytest.mark.parametrize("rule", co.RULES)
def test_a_translation_is_followed_exactly(rule):
    vertices, triangles = wall()
    shift = torch.tensor([0.05, -0.1, 0.02])
    everyone, camera = torch.arange(len(vertices)), turned(10)
    pairs = co.correspond(rays_of(camera), vertices, SAMPLES, camera, rule, unit_mm=100.0)
    motion = co.move(pairs, deformation.displacement(vertices, vertices + shift))
    assert torch.allclose(motion.way, (-shift).expand_as(motion.way), atol=1e-6)
    assert motion.jump.max() < 1e-6
    assert torch.allclose(motion.determinant, torch.ones(len(motion.determinant)), atol=1e-4)
    truth = co.against_truth(vertices, vertices + shift, triangles, everyone, camera, rule)
    assert len(truth.points) > 500 and truth.error.max() < 1e-6
    report = co.summary(pairs, motion, truth, rule, 1, 100.0)
    assert report.true_mean_mm == pytest.approx(100 * shift.norm().item(), rel=1e-4)
    assert report.error_max_mm < 1e-3 and report.error_share < 1e-4 and report.fold_share == 0


def test_without_motion_in_depth_the_error_is_the_motion_in_depth():
    vertices, triangles = wall()
    after = vertices + torch.tensor([0.03, 0.0, 0.04])
    truth = co.against_truth(vertices, after, triangles, torch.arange(len(vertices)), frontal(), planar=True)
    assert torch.allclose(truth.error, torch.full((len(truth.error),), 0.04), atol=1e-6)


@pytest.mark.parametrize("matrix", [[[1.2, 0.1], [-0.05, 0.9]], [[3.0, 0.0], [0.0, 1.0]]])
def test_the_grids_determinant_is_that_of_an_affine_motion(matrix):
    """p' = p + V - A V, with a vertex at each sample: the Jacobian is 2 I - A, exactly so from ray to ray."""
    points, a = columns(), torch.tensor(matrix)
    vertices = points[points[:, 2] > 0.85]
    after = torch.cat([vertices[:, :2] @ a.T, vertices[:, 2:]], 1)
    motion = co.move(co.correspond(points, vertices, SAMPLES, frontal()), deformation.displacement(vertices, after))
    grid = motion.determinant.view(RAYS, RAYS, SAMPLES)
    expected = torch.det(2 * torch.eye(2) - a)
    assert torch.allclose(grid[:-1, :-1], expected.expand(RAYS - 1, RAYS - 1, SAMPLES), atol=1e-3)
    assert torch.equal(grid[-1], torch.ones(RAYS, SAMPLES)) and torch.equal(grid[:, -1], torch.ones(RAYS, SAMPLES))
    inner = vertices[vertices[:, :2].abs().amax(1) < 0.35]
    smooth = deformation.fold_over(inner, vertices, after, rule="paper", step=0.1)
    assert torch.allclose(smooth, expected.expand(len(inner)), atol=1e-3)


def test_two_halves_that_pass_through_each_other_fold_over_along_the_seam():
    """The skin parts at y = 0.05, by 0.1 each way; so the samples move together by 0.2, where there is but 0.1 between them."""
    points = columns()
    vertices = points[points[:, 2] > 0.85]
    upper = vertices[:, 1] > 0.05
    after = vertices + torch.where(upper[:, None], 1.0, -1.0) * torch.tensor([0.0, 0.1, 0.0])
    motion = co.move(co.correspond(points, vertices, SAMPLES, frontal()), deformation.displacement(vertices, after))
    jump = motion.jump.view(RAYS, RAYS, SAMPLES)
    rows = points.view(RAYS, RAYS, SAMPLES, 3)[:, 0, 0, 1]
    seam = int((rows > 0.05).sum()) - 1                                     # the last row above it
    assert torch.allclose(jump[seam], torch.full((RAYS, SAMPLES), 0.2), atol=1e-6)
    assert jump[:seam].abs().max() < 1e-6 and jump[seam + 1 :].abs().max() < 1e-6
    determinant = motion.determinant.view(RAYS, RAYS, SAMPLES)[:, :-1]
    assert torch.allclose(determinant[seam], torch.full((RAYS - 1, SAMPLES), -1.0), atol=1e-4)  # 0.1 apart → -0.1
    assert (determinant[:seam] > 0.99).all() and (determinant[seam + 1 :] > 0.99).all()


def test_a_step_that_moves_over_still_skin_is_wrong_by_its_way_at_rest_and_right_now():
    """A strip of the wall slides by 0.4 over what lies beside it: there, "paper" finds what doesn't move."""
    low, low_triangles = wall(z=0.4)
    strip, strip_triangles = wall(n=21, side=1.0, z=0.5)
    vertices = torch.cat([low, strip])
    triangles = torch.cat([low_triangles, strip_triangles + len(low)])
    after = vertices.clone()
    after[len(low) :, 0] += 0.4
    chosen = torch.cat([torch.nonzero(low[:, :2].abs().amax(1) > 0.52)[:, 0], torch.arange(len(low), len(vertices))])
    found = {rule: co.against_truth(vertices, after, triangles, chosen, frontal(), rule) for rule in ("paper", "now")}
    for truth in found.values():
        assert torch.allclose(truth.true[truth.points[:, 2] > 0.45].norm(dim=1).min(), torch.tensor(0.4))
    beyond = (found["paper"].points[:, 0] > 0.6) & (found["paper"].points[:, 2] > 0.45)
    assert beyond.sum() > 200
    assert torch.allclose(found["paper"].error[beyond], torch.tensor(0.4).expand(int(beyond.sum())), atol=1e-6)
    inner = (found["now"].points[:, 2] > 0.45) & (found["now"].points[:, 0] < 0.45)
    assert found["now"].error[inner].max() < 1e-6
    above = (found["now"].points[:, 2] > 0.45) & (found["now"].points[:, 0] > 0.6)
    assert 0 < (found["now"].error[above] > 0.1).float().mean() < 1         # XY can't tell it from what lies under it
    uncovered = ~(found["paper"].points[:, 2] > 0.45)
    assert uncovered.any()                                                  # still, but the rule moves it: it counts


@pytest.mark.parametrize("camera", [frontal(), turned(40)])
def test_points_of_the_surface_are_visible_and_even(camera):
    vertices, triangles = wall()
    hidden, more = wall(n=5, z=-0.5)
    both, all_triangles = torch.cat([vertices, hidden]), torch.cat([triangles, more + len(vertices)])
    wanted = torch.ones(len(all_triangles), dtype=torch.bool)
    chosen, shares = true_motion.surface_points(both, all_triangles, wanted, camera)
    assert torch.allclose(shares.sum(1), torch.ones(len(shares))) and (shares >= 0).all()
    points = (both[all_triangles[chosen]] * shares[..., None]).sum(1)
    x, y, _ = project(points[None], camera, 4)[0].T
    if camera.rotation[0, 0, 0] > 0.99:
        assert (points[:, 2] > 0).all()                                     # the wall behind is hidden
        count = torch.bincount(y.long() * 4 + x.long(), minlength=16)
        assert count.min() > 0.8 * count.max()
    assert ((x >= 0) & (x <= 4) & (y >= 0) & (y <= 4)).all()
    away = true_motion.surface_points(vertices, triangles.flip(1), torch.ones(len(triangles), dtype=torch.bool), camera)
    assert len(away[0]) == 0                                                # it shows its back


def test_a_face_at_rest_has_no_motion_and_no_error(head):
    report = co.correspondence_report(head, head.face.expression, frontal())
    assert (report.true_mean_mm, report.error_max_mm, report.jump_max_mm, report.fold_share, report.error_share) == (0,) * 5
    assert report.samples == RAYS * RAYS * SAMPLES
    assert report.vertices == len(face_vertices(head.model))
    assert 0 < report.samples_at_skin < report.samples_over_face < report.samples


def test_the_report_of_a_jaw_tells_the_rules_apart(head):
    beta = jaw(head)
    front = {rule: co.correspondence_report(head, beta, frontal(), rule) for rule in co.RULES}
    side = {rule: co.correspondence_report(head, beta, turned(30), rule) for rule in co.RULES}
    official = dataclasses.replace(front["official"], rule="paper")
    assert official == front["paper"]                                       # one and the same for the frontal camera
    assert front["official"].stale_share == 0 < 0.7 < side["official"].stale_share
    assert side["official"].stale_mean_mm > 10 and side["official"].error_mean_mm > 1.5 * side["paper"].error_mean_mm
    assert side["paper"].stale_share == side["k-nearest"].stale_share == side["now"].stale_share == 0
    for reports in (front, side):
        assert reports["now"].error_mean_mm < 0.7 * reports["paper"].error_mean_mm
        assert reports["k-nearest"].error_mean_mm < reports["paper"].error_mean_mm
        assert reports["3d"].behind_share < reports["paper"].behind_share


def test_fewer_vertices_are_further_away_and_lead_more_samples(head):
    reports = [co.correspondence_report(head, jaw(head), frontal(), "now", stride) for stride in (1, 2, 4)]
    for finer, coarser in zip(reports, reports[1:], strict=False):
        assert coarser.vertices == -(-finer.vertices // 2)
        assert coarser.match_median_mm > finer.match_median_mm
        assert coarser.unmatched_share < finer.unmatched_share
        assert coarser.error_mean_mm > finer.error_mean_mm
        assert coarser.samples_at_skin == finer.samples_at_skin             # the skin is the same


def test_earlier_work_gives_the_same_numbers(head):
    beta, camera = jaw(head, 0.6), turned(15)
    first = co.examine(head, beta, camera, "official", 2)
    again = co.examine(head, beta, camera, "official", 2, body=co.anatomy(head), pairs=first.pairs)
    assert again.report == first.report
    assert torch.equal(first.chosen, face_vertices(head.model, 2))
    assert list(first.report.as_dict())[:2] == ["rule", "stride"]
    assert all(math.isfinite(v) for k, v in first.report.as_dict().items() if k != "rule")
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.report.rule = "paper"


def test_the_skin_that_is_asked_moves_as_the_model_says(head):
    seen = co.examine(head, jaw(head, 1.0), frontal())
    chin = seen.v_t[head.model.landmarks[8]]
    near = (seen.truth.points - chin).norm(dim=1).argmin()
    true_way = (seen.v_init - seen.v_t)[head.model.landmarks[8]]
    assert (seen.truth.points[near] - chin).norm() < 0.1
    assert (seen.truth.true[near] - true_way).norm() < 0.15 * true_way.norm()
