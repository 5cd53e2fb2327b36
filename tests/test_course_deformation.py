"""Notebook 06: its exercises, its figures, and what they measure."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection

from nfs_lib import deformation, portraits, samples, true_motion
from nfs_lib.alignment import match
from nfs_lib.camera import HEAD_TO_NERF, ORBIT_CENTRE, Camera, head_to_nerf
from nfs_lib.errors import BadInput
from nfs_lib.exercises import deformation as check
from nfs_lib.face import MorphableModel
from nfs_lib.measure_generator import as_picture
from nfs_lib.talking_head import TalkingHead
from nfs_lib.viz import deformation as plots


def cloud(n, seed):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


POINTS, V_INIT = cloud(80, 0), cloud(30, 1)
V_T = V_INIT + 0.4 * cloud(30, 2)
MATCHED, DELTA = match(POINTS, V_INIT), V_INIT - V_T
WAY = DELTA[MATCHED.index[:, 0]]
NOW = match(POINTS, V_T).index[:, 0]


@pytest.fixture(scope="module")
def head():
    model = MorphableModel.from_anny()
    inversion = samples.inverted()
    return TalkingHead(SimpleNamespace(face_model=model), inversion, inversion.face, lipaint=False)


@pytest.fixture(scope="module")
def truth():
    return samples.truth(1)


@pytest.mark.parametrize(("name", "arguments", "answer"), [
    ("in_the_generators_frame", (MATCHED, DELTA), 0.066 * torch.stack([V_INIT[i] - V_T[i] for i in MATCHED.index[:, 0]])),
    ("two_slopes", (), [-1.5, 4 / 14]),
    ("two_slopes", (), (-1.5, 0.286)),
    ("two_slopes", (6.0, 3.0), np.array([0.5, 2 / 3])),
    ("backward_warp", (POINTS, V_INIT, V_T), torch.stack([p + V_INIT[i] - V_T[i] for p, i in zip(POINTS, NOW, strict=True)])),
    ("forgotten_in_the_picture", (math.pi / 6, 10.0), 5.0),
    ("forgotten_in_the_picture", (math.pi / 2, 3.0), 3),
])  # fmt: skip
def test_right_answers_are_right(name, arguments, answer):
    assert getattr(check, name)(answer, *arguments).right


@pytest.mark.parametrize(("name", "arguments", "answer", "hint"), [
    ("in_the_generators_frame", (MATCHED, DELTA), WAY, "NeRF units"),
    ("in_the_generators_frame", (MATCHED, DELTA), head_to_nerf(WAY), "places"),
    ("in_the_generators_frame", (MATCHED, DELTA), WAY / HEAD_TO_NERF, "wrong way round"),
    ("in_the_generators_frame", (MATCHED, DELTA), -WAY * HEAD_TO_NERF, "sign"),
    ("in_the_generators_frame", (MATCHED, DELTA), DELTA * HEAD_TO_NERF, "each sample"),
    ("in_the_generators_frame", (MATCHED, DELTA), ..., "your line"),
    ("two_slopes", (), [4 / 14, -1.5], "order"),
    ("two_slopes", (), [3.5, 4 / 14], "sign"),
    ("two_slopes", (), [-1.5, 3.5], "upside down"),
    ("two_slopes", (), [-2.5, -10 / 14], "slopes of ΔV_t"),
    ("two_slopes", (), [-1.5, 0.4], "plus"),
    ("two_slopes", (), [1.5, 4 / 14], "asks above the upper"),
    ("two_slopes", (), -1.5, "shape"),
    ("backward_warp", (POINTS, V_INIT, V_T), POINTS + WAY, "as printed"),
    ("backward_warp", (POINTS, V_INIT, V_T), POINTS - DELTA[NOW], "along with the skin"),
    ("backward_warp", (POINTS, V_INIT, V_T), DELTA[NOW], "ways alone"),
    ("backward_warp", (POINTS, V_INIT, V_T), V_INIT[NOW], "keeps its distance"),
    ("backward_warp", (POINTS, V_INIT, V_T), POINTS, "Nothing"),
    ("forgotten_in_the_picture", (math.pi / 6, 10.0), 10 * math.cos(math.pi / 6), "line of sight"),
    ("forgotten_in_the_picture", (math.pi / 6, 10.0), 10, "all of it"),
    ("forgotten_in_the_picture", (math.pi / 6, 10.0), 0, "from the front"),
    ("forgotten_in_the_picture", (math.pi / 6, 10.0), -5, "without a sign"),
    ("forgotten_in_the_picture", (math.pi / 6, 10.0), 10 * math.tan(math.pi / 6), "tangent"),
    ("forgotten_in_the_picture", (math.pi / 6, 10.0), 10 * math.sin(30), "math.radians(30)"),
    ("forgotten_in_the_picture", (math.pi / 6, 10.0), "sin", "str"),
])  # fmt: skip
def test_wrong_answers_get_their_hint(name, arguments, answer, hint):
    verdict = getattr(check, name)(answer, *arguments)
    assert not verdict.right and hint in verdict.text


def test_a_cut_lies_in_its_plane_and_goes_round():
    """A tetrahedron is cut in a triangle: three segments, each corner the end of two."""
    corners = torch.tensor([[-1.0, 0, 0], [1.0, 1, 0], [1.0, -1, 1], [1.0, -1, -1]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    segments = plots.cut_mesh(corners, faces, 0.0)
    assert segments.shape == (3, 2, 3) and (segments[..., 0].abs() < 1e-6).all()
    ends = sorted(tuple(np.round(e, 4) + 0.0) for e in segments.view(-1, 3).tolist())
    assert ends[::2] == ends[1::2]
    assert ends[::2] == sorted(tuple((c[0] * 0, c[1] / 2, c[2] / 2)) for c in corners[1:].tolist())
    assert len(plots.cut_mesh(corners, faces, 2.0)) == 0


def test_density_is_per_head_unit_and_asked_where_samples_are_moved_to():
    field = SimpleNamespace(foreground=lambda p, ws: (p[..., 1], p))       # σ = height in the NeRF frame
    ws, points = torch.zeros(1, 2, 3), cloud(12, 3).view(3, 4, 3)
    plain = deformation.density(field, ws, points)
    assert torch.allclose(plain, (points[..., 1] - ORBIT_CENTRE[1]) * HEAD_TO_NERF**2, atol=1e-6)
    matched = match(points.view(-1, 3), V_INIT)
    moved = deformation.density(field, ws, points, deformation.deform_nerf(matched, DELTA))
    way = DELTA[matched.index[:, 0], 1].view(3, 4)
    assert torch.allclose(moved, plain + way * HEAD_TO_NERF**2, atol=1e-6)


def test_folds_can_be_sought_where_the_vertices_are_now():
    """Lips that part: matched at time t nothing but the middle of the gap is upside down."""
    height = torch.cat([torch.linspace(-1, -0.01, 100), torch.linspace(0.01, 1, 100)])
    rest = torch.stack([torch.zeros(200), height, torch.zeros(200)], 1)
    rest = torch.cat([rest + torch.tensor([x, 0.0, 0.0]) for x in (-0.5, 0.0, 0.5)])
    now = rest - torch.tensor([0.0, 0.4, 0.0]) * (rest[:, 1:2] < 0)
    line = torch.stack([torch.zeros(141), torch.linspace(-1, 0.4, 141), torch.zeros(141)], 1)
    on_init, on_t = (deformation.fold_over(line, rest, now, "paper", 0.02, matched_on=v) for v in (None, now))
    assert torch.equal(on_init, deformation.fold_over(line, rest, now, "paper", 0.02))
    assert line[on_init < 0, 1].abs().max() < 0.05                     # at the closed lips
    assert (line[on_t < 0, 1] + 0.2).abs().max() < 0.05 and (on_t < 0).any()


def test_the_place_of_folds_is_weighed_against_the_inner_lips():
    around = torch.linspace(0, 2 * math.pi, 13)[:-1]
    lips = torch.cat([torch.stack([2 * around.cos(), 2 * around.sin()], 1),
                      torch.tensor([[-1.0, -1], [0, -1], [1, -1], [1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0]])])  # fmt: skip
    points = torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0], [1.5, 0, 0], [0.2, 0, 0]])
    assert plots.share_in_mouth(points, torch.tensor([-1.0, -1, -1, 1]), lips) == pytest.approx(2 / 3)
    assert plots.share_in_mouth(points, torch.ones(4), lips) == 0


def test_every_rule_moves_the_lips_and_none_does_not(head):
    camera = Camera.from_pose(head.inversion.pose)
    beta = head.face.expression.clone()
    beta[0, head.model.action("jawOpen")] = 0.8
    rest = true_motion.deformed_picture(head, beta, camera, "none")
    assert torch.allclose(rest, head.inversion.picture()[0], atol=1e-5)
    paper = true_motion.deformed_picture(head, beta, camera)
    assert torch.allclose(paper, head.frame(beta, camera), atol=1e-5)
    for changes in ({"rule": "now"}, {"sign": -1}, {"planar": True}):
        picture = true_motion.deformed_picture(head, beta, camera, **changes)
        assert all((picture - other).abs().max() > 0.1 for other in (rest, paper))
    with pytest.raises(BadInput, match="nearest"):
        true_motion.deformed_picture(head, beta, camera, "nearest")


def test_actions_reach_the_fitted_face_and_the_true_one(head, truth):
    beta, scene = plots.with_actions(head, truth.scene, {"jawOpen": 0.3, "mouthSmile": 0.9})
    for name, strength in (("jawOpen", 0.3), ("mouthSmileLeft", 0.9), ("mouthSmileRight", 0.9)):
        assert beta[0, head.model.action(name)] == pytest.approx(strength)
        assert scene.expression[head.model.action(name)] == pytest.approx(strength)
    i = head.model.action("browInnerUp")
    assert beta[0, i] == head.face.expression[0, i] and scene.expression[i] == truth.scene.expression[i]
    camera, pose = plots.posed(head.inversion.pose, 30)
    assert pose[0] == pytest.approx(math.pi / 6) and pose[1] == pytest.approx(float(head.inversion.pose[0, 1]))
    assert torch.allclose(camera.rotation, Camera.from_pose(torch.from_numpy(pose)[None]).rotation)


def test_the_score_knows_the_mouth_from_the_skin(head, truth):
    _, scene = plots.with_actions(head, truth.scene, {"jawOpen": 1.0})
    opened = portraits.render(scene, truth.pose)
    true = as_picture(opened)
    mouth = torch.from_numpy(np.isin(opened.regions, plots.INSIDE))
    assert mouth.any()
    spoilt = torch.where(mouth, 1.0, true)
    spoilt[:, ~mouth] += 0.01
    read = SimpleNamespace(expression=torch.tensor([[0.1, 0.7]]))
    found = plots.score(spoilt, opened, lambda p: read, 1)
    assert found.skin == pytest.approx(10 * math.log10(4 / 0.01**2), abs=0.01)
    assert found.mouth < 25 and found.jaw == pytest.approx(0.7)
    assert math.isnan(plots.score(true + 0.1, opened).jaw)


def test_arrows_go_from_the_samples_to_where_they_ask():
    points, moved = torch.tensor([[0.0, -0.5, 0.8], [0.0, -0.9, 0.8]]), torch.tensor([[0.0, -0.5, 0.8], [0.0, -0.7, 0.9]])
    segments = torch.rand(4, 2, 3)
    seen, asked = plots.sample_arrows(points, moved, segments, segments + 1).axes
    arrows = seen.collections[-1]
    assert np.allclose(np.stack([arrows.U, arrows.V], 1), [[0, 0], [0.1, 0.2]], atol=1e-6)
    assert np.allclose(arrows.XY, points[:, [2, 1]])
    stay, go = asked.lines
    assert np.allclose(stay.get_xydata(), [[0.8, -0.5]]) and np.allclose(go.get_xydata(), [[0.9, -0.7]])
    outline = next(c for c in seen.collections if isinstance(c, LineCollection))
    assert np.allclose(outline.get_segments()[2], segments[2][:, [2, 1]])


def test_ways_in_space_lead_back_to_rest_and_stay_small(head):
    v_t = head.v_init + torch.tensor([0.0, -0.2, 0.0]) * (head.v_init[:, 1:2] < -0.6)
    unit = head.model.info["unit_mm"]
    figure = plots.ways_3d(head.v_init, v_t, unit, stride=3)
    rest, lines, now = figure.data
    assert np.nanmax(now.customdata) == pytest.approx(0.2 * unit, abs=0.1)
    z = np.array(lines.z).reshape(-1, 3)
    assert np.allclose(z[:, 0] - z[:, 1], 0.2, atol=0.002) and np.isnan(z[:, 2]).all()
    assert len(rest.x) == len(head.v_init[::3]) and len(figure.to_json()) < 300_000
    flat = plots.ways_flat(head.v_init, v_t, unit)
    for axes in flat.axes[:2]:
        arrows = axes.collections[0]
        assert np.allclose(arrows.V, 0.2, atol=1e-5) and np.allclose(arrows.get_array(), 0.2 * unit, atol=1e-3)


def test_the_cuts_show_density_per_millimetre(head):
    sigma = torch.full((3, 4), 113.4)
    plot = plots.density_cuts({"a": sigma, "b": 10 * sigma}, [(torch.rand(2, 2, 3), "mesh at rest")] * 2, (0, 1), (0, 1), 113.4)
    assert np.allclose(plot.axes[0].images[0].get_array(), 0) and np.allclose(plot.axes[1].images[0].get_array(), 1)


def test_the_other_figures_show_what_they_were_given():
    y, a = torch.linspace(-10, 10, 21), torch.rand(21)
    plot = plots.asked_along(y, {"rule": a, "other": y}, (y[:3], y[3:6]), (-5.0, 1.0))
    first = {line.get_label(): line.get_xydata() for line in plot.axes[0].lines}
    assert np.allclose(first["the rule"][:, 1], a) and np.allclose(first["truth, at vertices"], np.stack([y[:3], y[3:6]], 1))
    maps = {"p": {"jaw": torch.tensor([[1.0, -1.0], [1.0, 1.0]])}}
    fold = plots.fold_maps(maps, (0, 1, 0, 1), {"jaw": torch.rand(20, 2)})
    assert np.allclose(fold.axes[0].images[0].get_array(), maps["p"]["jaw"]) and fold.axes[0].get_title(loc="left") == "jaw, p"
    assert len(fold.axes[0].lines) == 2
    ways = plots.ways_along(y, {"one": a, "two": 2 * a}, y[::5], "here")
    assert np.allclose(ways.axes[0].lines[1].get_ydata(), 2 * a)
    scores = {"none": [plots.Score(20.0, 21.0, 0.1)], "paper": [plots.Score(22.0, 23.0, 0.5)]}
    curves = plots.score_curves([0.6], scores, [plots.Score(99.0, 99.0, 0.58)])
    for axes, values in zip(curves.axes, ((20, 22), (21, 23), (0.1, 0.5)), strict=True):
        drawn = [line.get_ydata()[0] for line in axes.lines if line.get_label() in scores]
        assert np.allclose(drawn, values)


def test_the_slider_shows_rest_deformed_and_truth(head, truth):
    plot = plots.play_lips(head, truth.scene, "jawOpen", 0.8, 10, "now")
    titles = [axes.get_title(loc="left") for axes in plot.axes[:3]]
    assert titles == ["as inverted", "jawOpen 0.8, now, sign +1", "truth"]
    pictures = [np.asarray(axes.images[0].get_array(), float) for axes in plot.axes]
    assert len(pictures) == 6 and np.abs(pictures[0] - pictures[1]).max() > 20
    corner = plots.mouth_crop(as_picture(truth), truth.landmarks, 20)
    x, y = truth.landmarks[48:].mean(0).round().astype(int)
    assert torch.equal(corner[:, 20, 20], as_picture(truth)[:, y, x])
