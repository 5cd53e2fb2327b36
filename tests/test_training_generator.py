"""Pairs and losses of the generator's training."""

import dataclasses
import math

import pytest
import torch

from nfs_lib.stylenerf import OPEN, Discriminator, Generator
from nfs_lib.stylenerf.generator import Rendered
from nfs_lib.training import generator as training
from nfs_lib.training.common import step_rng
from nfs_lib.training.pairs import Pairs, draw_patch, draw_rays, load_pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Pairs:
    folder = tmp_path_factory.mktemp("pairs")
    made = load_pairs(folder, 3, first_seed=77, workers=1)
    again = load_pairs(folder, 3, first_seed=77)                      # from the files
    assert torch.equal(made.pictures, again.pictures)
    return made


def test_pairs_hold_what_was_rendered(pairs):
    from nfs_lib import portraits

    first, second = portraits.portrait_pair(78)
    assert (pairs.pictures[1, 0].numpy() == first.image).all() and (pairs.pictures[1, 1].numpy() == second.image).all()
    assert (pairs.latents[1, 1].numpy() == second.latent).all() and (pairs.pose[1].numpy() == first.pose).all()
    depth = torch.from_numpy(first.depth[96:100, 124:128])
    assert pairs.depth[1, 0, 24, 31].item() == pytest.approx(depth[depth > 0].mean().item(), abs=2e-3)


def test_rays_see_the_pictures_and_go_where_the_pair_differs(pairs):
    index = torch.tensor([0, 2])
    x, y, colour, alpha, _ = draw_rays(pairs, index, 4000, step_rng(0, 0))
    row, column = ((1 - y) * 64 - 0.5).round().long(), ((x + 1) * 64 - 0.5).round().long()
    seen = pairs.small[2, 1][row[3], column[3]].float() / 127.5 - 1
    assert torch.allclose(colour[3], seen) and torch.equal(x[0], x[1])
    assert alpha.min() >= 0 and alpha.max() <= 1
    changed = (pairs.small[0, 0].float() - pairs.small[0, 1].float()).abs().mean(-1) > 8
    assert changed[row[0], column[0]].float().mean() > 2 * changed.float().mean()


def test_patches_stay_inside(pairs):
    corners = [draw_patch(pairs, torch.tensor([0]), 12, step_rng(0, s)) for s in range(200)]
    assert all(0 <= r <= 20 and 0 <= c <= 20 for r, c in corners) and len(set(corners)) > 20


def test_geometry_loss():
    """A ray that is rightly clear or solid costs (almost) nothing; wrongly solid grows with the optical depth."""
    def ray(optical: float, depth: float) -> Rendered:
        tau = torch.tensor([[optical]])
        return Rendered(torch.zeros(1, 1, 4), torch.zeros(1, 1, 3), torch.tensor([[depth]]), 1 - torch.exp(-tau), tau)

    clear, solid, at = torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([[1.0]])
    assert training.geometry_loss(ray(0.0, 1.0), clear, at).item() == pytest.approx(0, abs=1e-6)
    assert training.geometry_loss(ray(9.0, 1.0), solid, at).item() == pytest.approx(0, abs=1e-3)
    assert training.geometry_loss(ray(5.0, 1.0), clear, at).item() == pytest.approx(0.2 * 5, rel=1e-5)
    wrong_depth = training.geometry_loss(ray(9.0, 1.066), solid, at).item()
    assert wrong_depth == pytest.approx(1.0, rel=0.01)           # one head unit


def test_change_and_gradient_losses():
    true = torch.rand(4, 3, 8, 8)
    assert training.change_loss(true + 0.3, true) == pytest.approx(0, abs=1e-6)      # what both pictures share is no change
    moved = true.clone()
    moved[1] += 0.5
    assert training.change_loss(moved, true).item() == pytest.approx(0.25, rel=1e-5)
    one = torch.ones(4, 1, 8, 8)
    assert training.gradient_loss(true + 0.3, true, one).item() == pytest.approx(0, abs=1e-6)
    ramp = true + torch.arange(8.0) * 0.1
    assert training.gradient_loss(ramp, true, one).item() == pytest.approx(0.1, rel=1e-4)


def test_discriminator_loss_and_penalty():
    d = Discriminator(32, (4, 8, 8, 8))
    real, made = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        d.out.weight.zero_()
    assert training.discriminator_loss(d, real, made).item() == pytest.approx(2 * math.log(2), rel=1e-3)
    assert training.r1_penalty(d, real).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("stage", ["rays", "patches", "pictures"])
def test_every_stage_learns_the_pairs_that_it_sees(pairs, stage):
    torch.manual_seed(0)
    small = dataclasses.replace(OPEN, field=dataclasses.replace(OPEN.field, hidden=32), n_samples=8, channels=(12, 8, 8))
    g, d = Generator(small), Discriminator(256, (4, 4, 8, 8, 8, 8, 8))
    optimiser = torch.optim.Adam(g.parameters(), lr=3e-3, betas=(0.9, 0.99))
    d_optimiser = torch.optim.Adam(d.parameters(), lr=1e-3)
    steps = {"rays": 60, "patches": 60, "pictures": 12}[stage]
    losses = []
    for step in range(steps):
        rng = step_rng(0, step)
        if stage == "rays":
            loss, _ = training.ray_step(g, pairs, rng, batch=3, rays=64)
        elif stage == "patches":
            loss, _ = training.patch_step(g, pairs, rng, batch=2)
        else:
            loss, figures = training.picture_step(g, d, d_optimiser, pairs, rng, step, batch=1)
            assert all(math.isfinite(float(v)) for v in figures.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    n = len(losses) // 4                                               # a patch can be hard or easy: compare many
    assert sum(losses[-n:]) < 0.85 * sum(losses[:n])
