"""Notebook 03: its figures show what they say, its checks tell right from wrong."""

import json
import math

import numpy as np
import pytest
import torch

from nfs_lib import inversion, samples
from nfs_lib.exercises import inversion as check
from nfs_lib.inversion import Inversion
from nfs_lib.measure_generator import psnr
from nfs_lib.stylenerf import FieldConfig, Generator, GeneratorConfig
from nfs_lib.viz import pti

SMALL = GeneratorConfig(
    z_dim=8, w_dim=8, z_bg_dim=2, mapping_layers=2, mapping_lr_mult=1.0, normalize_z=False,
    field=FieldConfig(hidden=16, n_blocks=2, n_frequencies=3, append_xyz=True, density="softplus", density_scale=150.0),
    feature_dim=8, ray_resolution=8, near=0.9, far=1.1, n_samples=6, n_fine=0, background_hidden=8, background_samples=1,
    background_frequencies=2, channels=(8, 8, 8), upsample_mode="pixelshuffle_noblur", clamp=None)  # fmt: skip


@pytest.fixture(scope="module")
def views():
    return pti.Views.of(samples.truth(1, resolution=64))


@pytest.fixture(scope="module")
def made(views):
    torch.manual_seed(0)
    generator = Generator(SMALL).eval().requires_grad_(False)
    generator.foreground.sigma_out.bias.fill_(1.0)
    return Inversion(generator, torch.randn(1, 8), torch.zeros(1, 2), torch.from_numpy(views.truth.pose)[None])


def titles(figure):
    return [a.get_title(loc="left") for a in figure.axes]


# --- what is measured


def test_views_are_the_truth_from_three_sides(views):
    assert list(views.pictures) == [-20, 0, 20]
    assert psnr(views.image, pti.as_picture(views.truth)) > 60 or torch.equal(views.image, pti.as_picture(views.truth))
    assert psnr(views.pictures[20], views.image) < 25
    assert torch.allclose(pti.turn(90), torch.tensor([[math.pi / 2, 0, 0]]))


def test_scores_turn_the_found_pose(views, made):
    scores = views.scores(made)
    turned = made.picture(made.pose + torch.tensor([[math.radians(20), 0, 0]]))[0]
    assert scores[20] == pytest.approx(psnr(turned, views.pictures[20]))
    assert scores[0] == pytest.approx(psnr(made.picture()[0], views.image))


def test_watch_counts_on_through_both_stages_and_can_be_kept(views, made, tmp_path):
    watch = pti.Watch(views, every=3)
    for stage, steps in (("project", 4), ("tune", 6)):
        for step in range(1, steps + 1):
            watch(stage, step, steps, 0.5, made)
    assert watch.steps == [1, 3, 4, 5, 7, 10]
    assert watch.lengths == {"project": 4, "tune": 6}
    watch.save(tmp_path / "watch.json")
    read = pti.Watch.read(tmp_path / "watch.json", views)
    assert (read.steps, read.lengths) == (watch.steps, watch.lengths)
    assert read.scores[5] == pytest.approx(watch.scores[5], abs=0.006)
    assert set(json.loads((tmp_path / "watch.json").read_text())["scores"]) == {"-20", "0", "20"}


def test_the_library_shows_a_watch_the_inversion_as_it_stands(views, made):
    seen = []

    def look(stage, step, steps, loss, now):
        seen.append((stage, now.w.clone(), now.generator, now.picture().shape))

    args = {"steps": 2, "on_step": look}
    w, z_bg, pose, _ = inversion.project(made.generator, views.image, made.pose, **args)
    tuned, _ = inversion.tune(made.generator, views.image, w, z_bg, pose, **args)
    assert [s[0] for s in seen] == ["project", "project", "tune", "tune"]
    assert not torch.equal(seen[0][1], seen[1][1]) and torch.equal(seen[1][1], w) and torch.equal(seen[3][1], w)
    assert seen[0][2] is made.generator and seen[2][2] is tuned
    assert seen[0][3] == (1, 3, 64, 64)


def test_the_depth_of_the_truth_is_a_head(views):
    depth = pti.true_depth(views.truth, unit_mm=113, resolution=32)
    tip = views.truth.landmarks[30] / 2                            # pixel of 64 → cell of 32
    nose = depth[int(tip[1]), int(tip[0])]
    assert torch.isnan(depth[0, 0])
    assert 60 < nose < 140 and nose > depth[~depth.isnan()].quantile(0.9)
    assert pti.depth_error(depth + 3, depth) == pytest.approx(3)
    assert pti.depth_error(depth, depth) == 0


def test_a_depth_map_is_empty_where_nothing_stands(views, made):
    depth = pti.depth_map(made, unit_mm=113, resolution=16)
    assert depth.shape == (16, 16)
    high, low = (1 - SMALL.near) / pti.HEAD_TO_NERF * 113, (1 - SMALL.far) / pti.HEAD_TO_NERF * 113
    assert low - 1 <= np.nanmin(depth) <= np.nanmax(depth) <= high + 1
    made.generator.foreground.sigma_out.bias.fill_(-100.0)
    assert pti.depth_map(made, unit_mm=113, resolution=16).isnan().all()
    made.generator.foreground.sigma_out.bias.fill_(1.0)


# --- figures


def test_schedule_draws_both_curves():
    t = torch.linspace(0, 1, 5)
    rate, noise = pti.schedule(t, t * 0.01, 0.05 * (1 - t)).axes
    assert np.allclose(rate.lines[0].get_ydata(), t * 0.01)
    assert np.allclose(noise.lines[0].get_ydata(), 5 * (1 - t))
    assert "% of σ_w" in noise.get_ylabel()


def test_loss_terms_are_those_of_the_loss(views):
    image = views.image
    brighter = (image * 0.5 + 0.2)[None]
    sizes = [torch.nn.functional.avg_pool2d(brighter, 64 // r) for r in (16, 32, 64)]
    figure = pti.loss_terms(sizes, image)
    shown = [float(t.removeprefix("L1 = ")) for t in titles(figure) if t.startswith("L1")]
    assert len(shown) == 4
    assert sum(shown) == pytest.approx(inversion.picture_loss(sizes, image[None]).item(), abs=0.02)
    assert titles(figure)[:3] == ["16 × 16", "32 × 32", "64 × 64"]


def test_ladder_has_a_row_a_view_and_a_column_a_stage(views, made):
    figure = pti.ladder(views, {"one": made, "two": made})
    assert len(figure.axes) == 9
    scores = views.scores(made)
    assert titles(figure)[0] == "truth"
    assert titles(figure)[1] == f"one\n{scores[-20]:.1f} dB"
    assert titles(figure)[4] == f"{scores[0]:.1f} dB"
    assert [t.get_text() for a in figure.axes for t in a.texts] == ["turned −20°", "input view", "turned +20°"]


def test_curves_share_a_scale_and_mark_the_stages(views):
    runs = {
        name: pti.Watch(views, steps=[1, 2, 3], scores=[{-20: s, 0: s + 1, 20: s + 2} for s in (10, 12, 14 + k)],
                        lengths={"project": 2, "tune": 1})
        for k, name in enumerate(("right", "wrong"))
    }  # fmt: skip
    left, right = pti.curves(runs).axes
    assert [left.get_title(loc="left"), right.get_title(loc="left")] == ["right", "wrong"]
    assert left.get_ylim() == right.get_ylim()
    curve = left.lines[1]                                           # the input view
    assert curve.get_label() == "input view" and curve.get_linestyle() == "-"
    assert list(curve.get_ydata()) == [11, 13, 15]
    assert [t.get_text() for t in left.texts] == ["project", "tune"]


def test_geometry_says_how_wrong_the_depth_is(views, made):
    figure = pti.geometry(views.truth, {"made": made}, unit_mm=113)
    error = pti.depth_error(pti.depth_map(made, 113), pti.true_depth(views.truth, 113))
    assert f"made\noff by {error:.1f} mm" in titles(figure)
    cut = next(a for a in figure.axes if a.get_xlabel() == "pixel")
    assert [line.get_label() for line in cut.lines] == ["truth", "made"]
    row = int(views.truth.landmarks[30, 1])
    assert np.allclose(cut.lines[0].get_ydata(), pti.true_depth(views.truth, 113)[row], equal_nan=True)


def test_beside_truth_turns_everything(views, made):
    figure = pti.beside_truth(views.truth, {"made": made}, yaw=20)
    score = views.scores(made)[20]
    assert titles(figure) == ["truth, turned +20°", f"made, {score:.1f} dB"]


# --- exercises


def hint(verdict):
    assert not verdict.right
    return verdict.text


def test_psnr():
    true = torch.zeros(3, 4, 4)
    made = true + 0.2
    mse = 0.04
    assert check.psnr(10 * math.log10(4 / mse), made, true).right
    assert check.psnr(torch.tensor(20.0), made, true).right
    assert "0 to 1" in hint(check.psnr(10 * math.log10(1 / mse), made, true))
    assert "sign" in hint(check.psnr(-20.0, made, true))
    assert "log10" in hint(check.psnr(10 * math.log(4 / mse), made, true))
    assert "square already" in hint(check.psnr(20 * math.log10(2 / mse), made, true))
    assert "itself" in hint(check.psnr(mse, made, true))
    assert "line" in hint(check.psnr(..., made, true))
    assert "one number" in hint(check.psnr((made - true) ** 2, made, true))


def test_rate():
    assert check.rate(0.0035).right or check.rate(0.003455).right
    assert check.rate(inversion.learning_rate(0.9)).right
    assert "straight line" in hint(check.rate(0.004))
    assert "peak" in hint(check.rate(0.01))
    assert "wrong way" in hint(check.rate(0.01 - inversion.learning_rate(0.9)))
    assert "left" in hint(check.rate(0.0027))
    assert "str" in hint(check.rate("much"))


def test_brighter():
    assert check.brighter(0.4).right
    assert check.brighter(0.1 + 0.1 + 0.1 + 0.1 + 0 + 0).right
    assert "one size" in hint(check.brighter(0.1))
    assert "neighbouring" in hint(check.brighter(0.6))
    assert "one of the gradients" in hint(check.brighter(0.5))
    assert "squared" in hint(check.brighter(0.04))
    assert "colours do" in hint(check.brighter(0))
    image = torch.rand(1, 3, 64, 64)
    sizes = [torch.nn.functional.avg_pool2d(image + 0.1, 64 // r) for r in (8, 16, 32, 64)]
    assert check.brighter(inversion.picture_loss(sizes, image)).right


def test_learners(made):
    g = made.generator
    parts = ("mapping", "foreground", "background", "upsampler")
    count = {n: sum(p.numel() for p in getattr(g, n).parameters()) for n in parts}
    assert check.learners(sum(count.values()) - count["mapping"], g).right
    assert "whole generator" in hint(check.learners(sum(p.numel() for p in g.parameters()), g))
    assert "not" in hint(check.learners(count["mapping"], g))
    assert "volume" in hint(check.learners(count["upsampler"], g))
    assert "background" in hint(check.learners(count["foreground"] + count["upsampler"], g))
    learnt, _ = inversion.tune(g, torch.rand(3, 64, 64), made.w, made.z_bg, made.pose, steps=1)
    changed = sum(a.numel() for a, b in zip(learnt.parameters(), g.parameters(), strict=True) if not torch.equal(a, b))
    assert changed <= sum(count.values()) - count["mapping"]
    assert torch.equal(learnt.mapping.layers[0].weight, g.mapping.layers[0].weight)


def test_neighbour():
    w, other = torch.randn(1, 8), torch.randn(1, 8)
    unit = (other - w) / (other - w).norm()
    assert check.neighbour(w + 3 * unit, w, other, 3.0).right
    assert "length 1" in hint(check.neighbour(w + 3 * (other - w), w, other, 3.0))
    assert "away" in hint(check.neighbour(w - 3 * unit, w, other, 3.0))
    assert "starts at the pivot" in hint(check.neighbour(3 * unit, w, other, 3.0))
    assert "shape" in hint(check.neighbour((w + 3 * unit)[0], w, other, 3.0))
    assert "numbers" in hint(check.neighbour(w + 1, w, other, 3.0))
