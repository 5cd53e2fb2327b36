"""PTI with the official schedule: its pieces in closed form, and a little generator inverted. The authors' run: test_parity."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from nfs_lib import pti
from nfs_lib.camera import Camera
from nfs_lib.errors import BadInput
from nfs_lib.stylenerf import FieldConfig, Generator, GeneratorConfig

TINY = GeneratorConfig(
    z_dim=8, w_dim=8, z_bg_dim=3, mapping_layers=2, field=FieldConfig(hidden=16, n_blocks=2, n_frequencies=3), feature_dim=8,
    ray_resolution=8, n_samples=4, n_fine=4, background_hidden=8, background_samples=2, background_frequencies=2, channels=(8,),
    magnitude_gain=True, noise=True)  # fmt: skip
POSE = torch.tensor([[0.15, -0.05, 0.02]])


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(3)
    g = Generator(TINY).eval().requires_grad_(False)
    g.upsampler.torgb[0].weight.normal_(0, 0.3)
    g.upsampler.conv0[0].noise_strength.fill_(0.1)
    g.foreground.to_rgb.weight.mul_(0.3)
    return g


@pytest.fixture(scope="module")
def image(generator):
    z, z_bg = torch.randn(1, 8, generator=torch.Generator().manual_seed(5)), torch.ones(1, 3)
    picture = generator(generator.broadcast(generator.mapping(z)), z_bg, Camera.from_pose(POSE))[0]
    waves = torch.sin(torch.arange(16) * torch.tensor([1.0, 0.5, 0.2])[:, None, None]).expand(3, 16, 16)  # for tuning to learn
    return (picture + 0.3 * waves).clamp(-1, 1)


def test_style_statistics_are_of_600_fixed_samples():
    z = np.random.RandomState(123).randn(600, 5)  # noqa: NPY002
    mean, spread = pti.style_statistics(lambda z: 2 * z + 1, 5)
    assert np.allclose(mean.numpy(), 2 * z.mean(0) + 1, atol=1e-6)
    assert spread == pytest.approx(2 * np.sqrt(((z - z.mean(0)) ** 2).sum() / 600), rel=1e-6)


def test_noise_penalty_of_plain_pictures():
    flat, chess = torch.full((16, 16), 0.5), (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    rows = torch.tensor([1.0, 1, -1, -1, 1, 1, -1, -1])[:, None].expand(8, 8)  # alike sideways, unrelated downwards
    assert float(pti.noise_penalty([flat])) == pytest.approx(4 * 0.5**4)  # two scales, two directions
    assert float(pti.noise_penalty([chess])) == pytest.approx(2)  # its half size is all 0
    assert float(pti.noise_penalty([rows, rows.T])) == pytest.approx(2)
    assert float(pti.noise_penalty([rows])) == float(pti.noise_penalty([rows.T])) == 1
    assert float(pti.noise_penalty([])) == 0


def test_normalised_noise():
    buffer = torch.randn(16, 16, generator=torch.Generator().manual_seed(0)) * 3 + 2
    expected = (buffer - buffer.mean()) / buffer.std(correction=0)
    pti.normalise(buffer)
    assert torch.allclose(buffer, expected, atol=1e-6)


def test_random_numbers_come_in_the_official_order():
    torch.manual_seed(11)
    for size in (2, 3):
        torch.randn(1, size)
        last = torch.randn(1, size)
    grain = torch.randn(16, 16)
    noise = torch.zeros(16, 16)
    moved = []
    mean = torch.arange(4.0)[None]

    def synthesis(w, latents):
        moved.append(w.detach())
        return (w.sum() + latents[0].sum()) * noise[None, None]

    w, latents, losses = pti.project(
        synthesis, lambda made: made.square().sum(), mean, 0.5, (2, 3), steps=1, seed=11, noise=[noise])
    assert torch.equal(latents[1], last) and latents[0].shape == (1, 2)
    assert torch.equal(moved[0], mean + torch.randn(1, 4) * (0.5 * 0.05))  # at the start the noise is 5 % of the spread
    assert torch.equal(w, mean) and len(losses) == 1  # the first learning rate is 0
    assert torch.allclose(noise.detach(), (grain - grain.mean()) / grain.std(correction=0), atol=1e-5)


def test_features_see_256_pixels_at_most():
    sizes = []

    def features(picture):
        sizes.append(picture.shape[-1])
        return picture.flatten(1)

    large = torch.rand(1, 3, 768, 768, generator=torch.Generator().manual_seed(0))
    distance = pti.feature_distance(features, large)
    third = large.reshape(1, 3, 256, 3, 256, 3).mean((3, 5))
    made = torch.zeros(1, 3, 768, 768, requires_grad=True)
    found = distance(made)
    assert found.item() == pytest.approx(third.square().sum().item(), rel=1e-5)
    assert sizes == [256, 256] and found.requires_grad
    pti.feature_distance(features, large[..., :64, :64])
    assert sizes[-1] == 64


def test_tuning_stops_before_the_update_of_a_good_picture():
    seen = iter([0.5, 0.07, 0.06, 0.01])
    weight, image = nn.Parameter(torch.zeros(1, 3, 2, 2)), torch.full((1, 3, 2, 2), 0.5)
    losses = pti.tune(lambda: weight, [weight], image, lambda made: torch.tensor(next(seen)))
    assert losses == pytest.approx([0.25 + 0.5, 0.07 + (0.5 - 3e-4) ** 2, 0.06 + (0.5 - 6e-4) ** 2], abs=1e-6)
    assert torch.allclose(weight.detach(), torch.tensor(6e-4), atol=1e-8)  # two of Adam's steps, each as long as its rate
    assert len(pti.tune(lambda: weight, [weight], image, lambda made: made.mean() * 0 + 1, steps=5)) == 5


def features(picture):
    return torch.cat([picture.flatten(1), picture.diff(dim=3).flatten(1)], 1)


def lpips(a, b):
    return (a - b).abs().mean((1, 2, 3))


def test_a_picture_is_found_and_then_learned(generator, image):
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    found = pti.invert(generator, image, POSE, features, lpips, steps=(60, 20), seed=2)
    assert [len(losses) for losses in found.losses.values()] == [60, 20]
    assert found.losses["project"][-1] < 0.5 * found.losses["project"][0]
    assert found.losses["tune"][-1] < 0.95 * found.losses["tune"][0]
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())
    rng = torch.Generator().manual_seed(2)
    torch.randn(1, 3, generator=rng)
    assert 0.01 < float((found.z_bg - torch.randn(1, 3, generator=rng)).abs().max()) < 1  # moved, from the first of its two
    assert torch.equal(found.pose, POSE) and found.face is None and not next(found.generator.parameters()).requires_grad
    missed = (found.picture() - image).square().mean() + lpips(found.picture(), image[None]).mean()
    assert float(missed) < found.losses["tune"][0]
    noise = "upsampler.conv0.0.noise_const"  # searched on a copy, thrown away
    assert torch.equal(found.generator.state_dict()[noise], before[noise])


def test_a_good_picture_is_not_tuned(generator, image):
    found = pti.invert(generator, image, POSE, features, lambda a, b: torch.tensor([0.05]), steps=(1, 50))
    assert len(found.losses["tune"]) == 1
    assert all(torch.equal(a, b) for a, b in zip(found.generator.parameters(), generator.parameters(), strict=True))


def test_without_lpips_the_kits_own_distance_takes_its_place(generator, image, monkeypatch):
    found = pti.invert(generator, image, POSE, None, None, steps=(60, 20))
    assert [len(losses) for losses in found.losses.values()] == [60, 20]
    assert found.losses["project"][-1] < 0.6 * found.losses["project"][0]
    assert found.losses["tune"][-1] < 0.95 * found.losses["tune"][0]
    monkeypatch.setattr(pti, "plain_distance", lambda image: lambda made: 0.01 * made.square().mean())
    found = pti.invert(generator, image, POSE, None, None, steps=(1, 3))
    assert len(found.losses["tune"]) == 3  # no early end


def test_a_generator_without_noise_or_background(image):
    torch.manual_seed(3)
    plain = Generator(dataclasses.replace(TINY, noise=False, background=False))
    assert len(pti.invert(plain, image, POSE, features, lpips, steps=(2, 1)).losses["project"]) == 2


def test_pictures_of_another_size_are_refused(generator):
    with pytest.raises(BadInput, match="crop"):
        pti.invert(generator, torch.zeros(3, 64, 64), POSE, None, None)
