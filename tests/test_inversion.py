"""PTI on a little random generator: it must find pictures of its own, then learn pictures that it can't make."""

import copy
import math

import numpy as np
import pytest
import torch

from nfs_lib import inversion, pti
from nfs_lib.bench import inversion as bench
from nfs_lib.camera import Camera
from nfs_lib.errors import BadInput, CorruptWeights
from nfs_lib.face import Coefficients
from nfs_lib.stylenerf import FieldConfig, Generator, GeneratorConfig
from nfs_lib.viz.pti import race

TINY = GeneratorConfig(
    z_dim=8,
    w_dim=8,
    z_bg_dim=2,
    mapping_layers=2,
    mapping_lr_mult=1.0,
    normalize_z=False,
    field=FieldConfig(hidden=16, n_blocks=2, n_frequencies=3, append_xyz=True, density="softplus", density_scale=150.0),
    feature_dim=8,
    ray_resolution=8,
    near=0.9,
    far=1.1,
    n_samples=6,
    n_fine=0,
    background_hidden=8,
    background_samples=1,
    background_frequencies=2,
    channels=(8, 8),
    upsample_mode="pixelshuffle_noblur",
    clamp=None,
)
POSE = torch.tensor([[0.15, -0.05, 0.02]])


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(3)
    g = Generator(TINY).eval().requires_grad_(False)
    for torgb in g.upsampler.torgb:  # so that pictures lie within [-1, 1]
        torgb.weight.mul_(0.3)
    g.foreground.to_rgb.weight.mul_(0.3)
    return g


@torch.no_grad()
def sample(g, seed, pose=POSE):
    rng = torch.Generator().manual_seed(seed)
    z, z_bg = torch.randn(1, 8, generator=rng), torch.randn(1, 2, generator=rng)
    return g(g.broadcast(g.mapping(z)), z_bg, Camera.from_pose(pose))[0].clamp(-1, 1)


def psnr(a, b):
    return -10 * math.log10(((a - b) ** 2).mean().item() / 4)


@pytest.fixture(scope="module")
def inverted(generator):
    image, steps = sample(generator, 5), []
    made = inversion.invert(
        generator, image, POSE, steps_project=80, steps_tune=80, on_step=lambda *a: steps.append(a)
    )
    return image, made, steps


@torch.no_grad()
def test_projection_finds_the_generators_own_picture_and_tuning_improves_it(generator, inverted):
    image, made, _ = inverted
    mean = inversion.Inversion(generator, inversion.style_spread(generator)[0], torch.zeros(1, 2), POSE)
    projected = inversion.Inversion(generator, made.w, made.z_bg, made.pose)
    start, found, tuned = (psnr(i.picture()[0], image) for i in (mean, projected, made))
    assert found > start + 5
    assert tuned > found + 1
    assert made.losses["project"][-1] < made.losses["project"][0]


def test_the_callers_generator_stays_as_it_was(generator, inverted):
    torch.manual_seed(3)
    fresh = Generator(TINY)
    assert torch.equal(generator.foreground.fc_in.weight, fresh.foreground.fc_in.weight)
    assert not torch.equal(inverted[1].generator.foreground.fc_in.weight, fresh.foreground.fc_in.weight)
    assert not any(p.requires_grad for p in [*generator.parameters(), *inverted[1].generator.parameters()])


def test_every_step_is_reported(inverted):
    _, made, steps = inverted
    assert [s[:3] for s in steps[:2]] == [("project", 1, 80), ("project", 2, 80)]
    assert [s[3] for s in steps if s[0] == "project"] == made.losses["project"]
    assert [s[3] for s in steps if s[0] == "tune"] == made.losses["tune"]
    assert made.seconds > 0


def test_the_same_seed_gives_the_same_inversion(generator):
    image = sample(generator, 6)
    a, b, c = (inversion.invert(generator, image, POSE, steps_project=5, steps_tune=5, seed=s) for s in (1, 1, 2))
    assert torch.equal(a.w, b.w) and a.losses == b.losses
    assert torch.equal(a.picture(), b.picture())
    assert not torch.equal(a.w, c.w)


def test_a_good_start_is_kept(generator):
    """From the true latents, a few steps of projection stay near them."""
    rng = torch.Generator().manual_seed(5)
    w = generator.mapping(torch.randn(1, 8, generator=rng))
    image = sample(generator, 5)
    _, _, _, cold = inversion.project(generator, image, POSE, steps=8)
    _, _, _, warm = inversion.project(generator, image, POSE, steps=8, start=w)
    assert warm[0] < cold[0]


def test_tuning_holds_other_views(generator):
    """Other views than those that it remembers stay closer to what the first steps have made of them."""
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8  # not a picture of its own
    w, z_bg, remembered, drift = inversion.style_spread(generator)[0], torch.zeros(1, 2), [], []

    def look(stage, step, steps, loss, now):
        if step == inversion.REMEMBER:
            remembered[:] = inversion.neighbours(now.generator, now.w, now.z_bg, now.pose, seed=98)[1::2]

    for weight in (0.0, 1.0):
        tuned, losses = inversion.tune(generator, image, w, z_bg, POSE, steps=60, hold=weight, on_step=look)
        with torch.no_grad():
            moved = [(inversion.pictures_of(tuned, *latents)[-1] - was).abs().mean() for latents, was in remembered]
        drift.append(float(sum(moved)))
        assert losses[-1] < losses[0]
    assert drift[1] < 0.7 * drift[0]


@torch.no_grad()
def test_neighbours_are_the_generators_own_pictures_of_near_people_and_other_sides(generator):
    w, z_bg = inversion.style_spread(generator)[0], torch.zeros(1, 2)
    near = inversion.neighbours(generator, w, z_bg, POSE, seed=0, n=4)
    for i, ((who, z, pose), picture) in enumerate(near):
        assert torch.equal(generator(generator.broadcast(who), z, Camera.from_pose(pose)), picture)
        assert torch.equal(who, w) == bool(i % 2) and not torch.equal(pose, POSE)


def test_features_take_part_in_the_loss(generator):
    image, seen = sample(generator, 7), []

    def features(picture):
        seen.append(picture.shape)
        return [picture.mean((2, 3)) * 3]

    inversion.invert(generator, image, POSE, steps_project=2, steps_tune=2, features=features)
    assert set(seen) == {(1, 3, 32, 32)}
    wrong = image.clone().add(0.1)
    wanted = features(image[None])
    without = inversion.picture_loss([wrong[None]], image[None])
    assert inversion.picture_loss([wrong[None]], image[None], features, wanted) > without
    assert inversion.picture_loss([image[None]], image[None], features, wanted) == 0


def test_the_schedule_is_ptis():
    rates = [inversion.learning_rate(t) for t in (0, 0.025, 0.05, 0.5, 0.75, 0.875, 1)]
    assert np.allclose(rates, [0, 0.005, 0.01, 0.01, 0.01, 0.005, 0], atol=1e-12)


@torch.no_grad()
def test_the_spread_of_styles_is_ptis(generator):
    mean, spread = inversion.style_spread(generator)
    w = generator.mapping(torch.randn(600, 8, generator=torch.Generator().manual_seed(123))).numpy()
    assert np.allclose(mean.numpy(), w.mean(0), atol=1e-5)
    assert spread == pytest.approx(np.sqrt(((w - w.mean(0)) ** 2).sum() / 600), rel=1e-4)


def test_tuning_stops_when_nothing_moves():
    assert not inversion.stands_still([1.0] * 79)
    assert inversion.stands_still([1.0] * 80)
    assert not inversion.stands_still(np.linspace(1, 0.5, 80).tolist())


def test_a_saved_inversion_makes_the_same_picture(inverted, tmp_path):
    made = inverted[1]
    made.face = Coefficients(*(torch.randn(1, n) for n in (40, 52)), made.pose, torch.randn(1, 27))
    path = tmp_path / "person.safetensors"
    inversion.save(made, path)
    read = inversion.load(path)
    assert torch.equal(read.w, made.w) and torch.equal(read.pose, made.pose) and torch.equal(read.z_bg, made.z_bg)
    assert all(torch.equal(a, b) for a, b in zip(vars(read.face).values(), vars(made.face).values(), strict=True))
    assert read.losses == made.losses and read.generator.config == TINY
    turned = torch.tensor([[0.3, 0.0, 0.0]])
    assert (read.picture(turned) - made.picture(turned)).abs().max() < 0.02  # float16 weights
    assert [p.name for p in tmp_path.iterdir()] == ["person.safetensors"]


def test_files_that_are_no_inversion_are_refused(tmp_path):
    with pytest.raises(BadInput, match="doesn't exist"):
        inversion.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CorruptWeights, match="invert again"):
        inversion.load(tmp_path / "text.safetensors")


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (torch.rand(3, 16, 16), "crop it first"),
        (torch.rand(3, 32, 40), "crop it first"),
        (torch.rand(3, 32, 32) * 255, r"expects \[-1, 1\]"),
        (torch.full((3, 32, 32), torch.nan), "aren't finite"),
        (torch.full((3, 32, 32), 0.3), "flat colour"),
    ],
)
def test_pictures_that_cannot_be_inverted_are_refused(generator, image, says):
    with pytest.raises(BadInput, match=says):
        inversion.invert(generator, image, POSE)


def test_an_unknown_profile_is_refused(generator):
    with pytest.raises(BadInput, match="fast, full"):
        inversion.invert(generator, sample(generator, 1), POSE, profile="quick")


# against the paper's recipe


def test_the_tuning_loss_of_a_picture_that_is_evenly_off():
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pictures = [torch.nn.functional.avg_pool2d(image, n) + 0.1 for n in (4, 2, 1)]
    assert float(inversion.tuning_loss(pictures, image)) == pytest.approx(3 * 0.1 + 4 * 0.1**2, rel=1e-4)


def test_the_benchs_plain_recipe_is_the_paper_worlds(generator):
    """`pti`, which is checked against the authors' run, goes the same way step by step."""
    image, looked = sample(generator, 8), []
    made = bench.paper_recipe(generator, image, POSE, steps=(12, 6), seed=4, on_step=lambda *a: looked.append(a[:4]))
    seen = {}

    def synthesis(g, w, z_bg):
        seen["pictures"] = inversion.pictures_of(g, w, z_bg, POSE)
        return seen["pictures"][-1]

    mean, spread = pti.style_statistics(generator.mapping, 8)
    w, (z_bg,), projected = pti.project(
        lambda w, latents: synthesis(generator, w, latents[0]),
        lambda _: inversion.picture_loss(seen["pictures"], image[None]), mean, spread, (2,), steps=12, seed=4)
    tuned = copy.deepcopy(generator).requires_grad_(True)
    losses = pti.tune(
        lambda: synthesis(tuned, w, z_bg), tuned.parameters(), image[None],
        lambda made: inversion.tuning_loss(seen["pictures"], image[None]) - (made - image).square().mean(), steps=6, enough=0)
    assert [a[:3] for a in looked] == [("project", i + 1, 12) for i in range(12)] + [("tune", i + 1, 6) for i in range(6)]
    assert [a[3] for a in looked] == pytest.approx(projected + losses, rel=1e-4)
    assert torch.allclose(made.w, w, atol=1e-5) and torch.equal(made.pose, POSE)
    assert torch.allclose(made.generator.upsampler.conv1[0].bias, tuned.upsampler.conv1[0].bias, atol=1e-4)
    assert not any(p.requires_grad for p in generator.parameters())


def test_the_watch_stops_while_it_looks(generator, monkeypatch):
    """A clock that a step moves by 1 and a look by 100."""
    image, clock = sample(generator, 5), [0.0]
    monkeypatch.setattr(bench.time, "perf_counter", lambda: clock[0])
    truly = inversion.tuning_loss

    def slow(*args):
        clock[0] += 100
        return truly(*args)

    monkeypatch.setattr(inversion, "tuning_loss", slow)
    now = inversion.Inversion(generator, generator.mapping(torch.ones(1, 8)), torch.ones(1, 2), POSE)
    watch = bench.Watch(image, spent=5.0, since=0.0)
    for step in range(1, 26):
        clock[0] += 1
        watch("tune", step, 25, 0.0, now)
    assert watch.seconds == [6, 15, 25, 30]  # after steps 1, 10, 20, 25
    with torch.no_grad():
        assert watch.losses == [truly(inversion.pictures_of(generator, now.w, now.z_bg, POSE), image[None]).item()] * 4


def test_the_benchs_figures_by_hand():
    def pair(paper, ours):
        return bench.Run([1, 100], [9, paper], 30, 20), bench.Run([1, 10, 20, 25], ours, 31, 22)

    figures = bench.summary([pair(3, [9, 4, 3, 1]), pair(1, [9, 4, 3, 1]), pair(0.5, [9, 4, 3, 1])])  # 20 s, 25 s, never
    assert figures == {
        "ratio": 4, "reached": pytest.approx(2 / 3), "seconds_paper": 100, "seconds_ours": 25, "psnr_paper": 30,
        "psnr_ours": 31, "novel_psnr_paper": 20, "novel_psnr_ours": 22, "loss_paper": 1.5, "loss_ours": 1}


def test_the_race_is_drawn_as_shares_with_a_dot_at_the_end():
    figure = race({"slow": [([1, 90], [8, 4])], "fast": [([2, 5, 7, 9], [8, 5, 3, 2])], "never": [([1], [9])]}, [4])
    lines = [tuple(line.get_xydata().ravel().tolist()) for line in figure.axes[0].lines[1:]]  # the first one is the goal
    assert lines == [(1, 2, 90, 1), (90, 1), (2, 2, 5, 1.25, 7, 0.75, 9, 0.5), (7, 0.75), (1, 2.25), ()]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["slow", "fast", "never"]
