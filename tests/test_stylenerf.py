"""stylenerf/ against closed forms, brute-force loops, and the operations of torch and scipy written out plainly."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import upfirdn

from nfs_lib.camera import Camera, frontal
from nfs_lib.stylenerf import FFHQ_1024, OPEN, Discriminator, FieldConfig, Generator, GeneratorConfig, upsampler
from nfs_lib.stylenerf import layers as L
from nfs_lib.stylenerf.discriminator import batch_deviation
from nfs_lib.stylenerf.field import inverted_sphere, positional_encoding
from nfs_lib.stylenerf.regulariser import path_loss, pixel_places, random_pixels, tiled, untiled
from nfs_lib.stylenerf.rendering import importance_samples, ray_weights
from nfs_lib.stylenerf.upsampler import StyledConv, neighbour_mean

SMALL = GeneratorConfig(
    z_dim=6,
    w_dim=8,
    z_bg_dim=2,
    mapping_layers=2,
    mapping_lr_mult=1.0,
    field=FieldConfig(hidden=12, n_blocks=2, n_frequencies=3, density="softplus", density_scale=200.0),
    feature_dim=5,
    ray_resolution=4,
    n_samples=7,
    n_fine=0,
    background_hidden=8,
    background_frequencies=2,
    channels=(6, 4),
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(seed=0, **changes):
    """A little generator with random biases, so that nothing is zero by accident."""
    torch.manual_seed(seed)
    g = Generator(dataclasses.replace(SMALL, **changes)).eval()
    with torch.no_grad():
        for name, p in g.named_parameters():
            if name.endswith("bias"):
                p.add_(0.3 * torch.randn_like(p))
    return g


# volume rendering


def test_a_slab_of_constant_density_absorbs_as_beer_and_lambert_say():
    depth = torch.linspace(0.9, 1.1, 21, dtype=torch.float64).expand(2, 21)
    sigma = torch.tensor([[4.0], [30.0]], dtype=torch.float64).expand(2, 21)
    length = torch.tensor([1.0, 1.05], dtype=torch.float64)
    weights, transmittance = ray_weights(sigma, depth, length)
    step = 0.01 * length[:, None]
    i = torch.arange(20)
    expected = torch.exp(-sigma[:, :1] * step * i) * (1 - torch.exp(-sigma[:, :1] * step))
    assert torch.allclose(weights[:, :-1], expected, atol=1e-12)
    assert (weights[:, -1] == 0).all()
    assert torch.allclose(transmittance, torch.exp(-sigma[:, 0] * 0.2 * length), atol=1e-12)
    assert torch.allclose(weights.sum(1) + transmittance, torch.ones(2, dtype=torch.float64))


def test_compositing_weights_are_those_of_a_loop_over_the_samples():
    rng = np.random.default_rng(0)
    sigma, depth = rng.gamma(0.5, 40, (3, 5, 9)), np.sort(rng.uniform(0.9, 1.1, (3, 5, 9)), -1)
    length = rng.uniform(1, 1.1, (3, 5))
    weights, transmittance = ray_weights(*map(torch.from_numpy, (sigma, depth, length)))
    for at in np.ndindex(3, 5):
        light = 1.0
        for i in range(9):
            delta = (depth[at][i + 1] - depth[at][i]) * length[at] if i < 8 else 0.0
            alpha = 1 - math.exp(-sigma[at][i] * delta)
            assert weights[at][i].item() == pytest.approx(light * alpha, abs=1e-12)
            light *= 1 - alpha
        assert transmittance[at].item() == pytest.approx(light, abs=1e-12)


def test_importance_samples_invert_the_cumulative_distribution():
    rng = np.random.default_rng(1)
    tau, weights = np.linspace(0, 1, 12), rng.uniform(0.05, 1, (4, 12))
    found = importance_samples(torch.from_numpy(tau), torch.from_numpy(weights), 9).numpy()
    middle = (tau[1:] + tau[:-1]) / 2
    for row, w in zip(found, weights, strict=True):
        p = (w[1:-1] + 1e-5) / (w[1:-1] + 1e-5).sum()
        expected = np.interp(np.linspace(0, 1, 9), np.r_[0, p.cumsum()], middle)
        assert np.allclose(row, expected, atol=1e-9)


def test_importance_samples_go_where_the_weight_is():
    weights = torch.full((1, 21), 1e-6)
    weights[0, 14] = 1.0
    found = importance_samples(torch.linspace(0, 1, 21), weights, 11)[0, 1:-1]
    assert (found > 0.675 - 1e-3).all() and (found < 0.725 + 1e-3).all()


# the generator


def by_hand(g, ws, z_bg, camera, depth):
    """Features and RGB of every ray, sample by sample: both heads at every point, then the sums of Eq. 1."""
    c, (x, y) = g.config, g.grid()
    tangent = math.tan(math.radians(6))
    d = torch.stack([x * tangent, y * tangent, -torch.ones_like(x)], -1) @ camera.rotation
    points = camera.eye[:, None, None] + depth[..., None] * d[:, :, None]
    b, r, s, _ = points.shape
    sigma, hidden = g.foreground(points.reshape(b, r * s, 3), ws)
    rgb, features = g.foreground.head(hidden, torch.ones_like(sigma), ws)
    sigma, rgb, features = sigma.view(b, r, s), rgb.view(b, r, s, 3), features.view(b, r, s, -1)
    light, total_rgb, total = torch.ones(b, r), torch.zeros(b, r, 3), torch.zeros(b, r, c.feature_dim)
    for i in range(s - 1):
        alpha = 1 - torch.exp(-sigma[..., i] * (depth[..., i + 1] - depth[..., i]) * d.norm(dim=-1))
        total_rgb = total_rgb + (light * alpha)[..., None] * rgb[:, :, i]
        total = total + (light * alpha)[..., None] * features[:, :, i]
        light = light * (1 - alpha)
    behind_rgb, behind = g.background(*g.background_rays(x, y, b), z_bg)
    return total + light[..., None] * behind, total_rgb + light[..., None] * behind_rgb, 1 - light


@torch.no_grad()
def test_linear_heads_commute_with_compositing():
    """The generator applies them once a ray; here they're applied at every sample."""
    g = small()
    ws, z_bg, camera = g.broadcast(random(2, 8)), random(2, 2), Camera.from_pose(random(2, 3) * 0.2)
    r = g.features(ws, z_bg, camera)
    depth = torch.linspace(0.88, 1.12, 7).expand(2, 16, 7)
    features, rgb, alpha = by_hand(g, ws, z_bg, camera, depth)
    assert 0.2 < alpha.mean() < 0.98  # neither empty nor a wall
    assert torch.allclose(r.features, features, atol=2e-5)
    assert torch.allclose(r.rgb, rgb, atol=2e-5)
    assert torch.allclose(r.alpha, alpha, atol=1e-5)
    assert torch.allclose(r.optical, -torch.log(1 - alpha), atol=1e-3)


@torch.no_grad()
def test_the_fine_pass_composites_both_sets_of_samples_in_order():
    g = small(n_fine=6)
    ws, z_bg, camera = g.broadcast(random(1, 8)), random(1, 2), frontal()
    coarse = torch.linspace(0.88, 1.12, 7).expand(1, 16, 7)
    x, y = g.grid()
    direction = torch.stack([x, y, -torch.ones_like(x)], -1) * torch.tensor([math.tan(math.radians(6))] * 2 + [1.0])
    points = camera.eye[:, None, None] + coarse[..., None] * (direction @ camera.rotation)[:, :, None]
    sigma, _ = g.foreground(points.reshape(1, -1, 3), ws)
    weights, _ = ray_weights(sigma.view(1, 16, 7), coarse, direction.norm(dim=-1))
    tau = importance_samples(torch.linspace(0, 1, 7), weights, 6)
    depth = torch.cat([coarse, 0.88 + 0.24 * tau], -1).sort(-1).values
    features, _, _ = by_hand(g, ws, z_bg, camera, depth)
    assert torch.allclose(g.features(ws, z_bg, camera).features, features, atol=5e-5)


@torch.no_grad()
def test_no_deformation_is_the_identity_and_a_shift_looks_elsewhere():
    g = small()
    ws, z_bg, camera = g.broadcast(random(1, 8)), random(1, 2), frontal()
    plain = g.features(ws, z_bg, camera)
    same = g.features(ws, z_bg, camera, deform=lambda p: p)
    assert torch.equal(plain.features, same.features)
    seen = []
    shifted = g.features(ws, z_bg, camera, deform=lambda p: seen.append(p) or p + 0.05)
    assert seen[0].shape == (1, 16 * 7, 3)
    sigma, _ = g.foreground(seen[0] + 0.05, ws)
    x, y = g.grid()
    length = torch.stack([x, y, -torch.ones_like(x)], -1).mul(torch.tensor([math.tan(math.radians(6))] * 2 + [1])).norm(dim=-1)
    depth = torch.linspace(0.88, 1.12, 7).expand(1, 16, 7)  # cells keep the lengths of the straight ray
    weights, _ = ray_weights(sigma.view(1, 16, 7), depth, length)
    assert torch.allclose(shifted.alpha, weights.sum(-1), atol=1e-5)
    assert not torch.allclose(shifted.features, plain.features, atol=1e-3)


@torch.no_grad()
def test_the_background_stays_where_it_is_when_the_camera_moves():
    g = small()
    g.foreground.sigma_out.weight.zero_()
    g.foreground.sigma_out.bias.fill_(-100.0)  # nothing in front of it
    ws, z_bg = g.broadcast(random(1, 8)), random(1, 2)
    straight = g(ws, z_bg, frontal())
    assert torch.allclose(g(ws, z_bg, Camera.from_pose(torch.tensor([[0.6, 0.2, 0.1]]))), straight, atol=1e-6)
    assert not torch.allclose(g(ws, z_bg + 1, frontal()), straight, atol=1e-4)


@torch.no_grad()
def test_rays_one_by_one_are_the_pixels_of_the_feature_map():
    g = small()
    ws, z_bg, camera = g.broadcast(random(2, 8)), random(2, 2), Camera.from_pose(random(2, 3) * 0.2)
    whole = g.features(ws, z_bg, camera)
    x, y = g.grid()
    some = [3, 9, 14]
    rays = g.render_rays(ws, z_bg, camera, x[:, some], y[:, some])
    assert torch.allclose(rays.features, whole.features[:, some], atol=1e-5)
    features, rgb = whole.maps()
    assert torch.equal(features[1, :, 2, 1], whole.features[1, 9])
    assert torch.equal(rgb[1, :, 2, 1], whole.rgb[1, 9])


@torch.no_grad()
def test_depth_is_where_a_thin_wall_stands():
    """The field is made to be a wall at z = 0.02 (NeRF frame): the mean depth of every ray is 1 − 0.02."""
    g = small(n_samples=200)
    g.foreground.forward = lambda p, ws: (4000.0 * ((p[..., 2] - 0.02).abs() < 0.005), p.new_ones(*p.shape[:2], 12))
    r = g.features(g.broadcast(random(1, 8)), random(1, 2), frontal())
    assert r.alpha.min() > 0.99
    assert torch.allclose(r.depth, torch.full_like(r.depth, 0.98), atol=0.007)


def test_the_official_configuration_has_the_official_sizes():
    g = Generator(FFHQ_1024)
    assert (FFHQ_1024.num_ws, FFHQ_1024.n_nerf_ws, FFHQ_1024.resolution) == (21, 10, 1024)
    assert sum(p.numel() for p in g.parameters()) == 5_481_547
    d = Discriminator(1024, (32, 64, 128, 256, 512, 512, 512, 512, 512))
    assert sum(p.numel() for p in d.parameters()) == 27_801_889


def test_the_open_configuration_makes_256_pixels_and_is_small():
    g = Generator(OPEN)
    assert OPEN.resolution == 256
    assert sum(p.numel() for p in g.parameters()) < 1_000_000


@torch.no_grad()
@pytest.mark.parametrize("mode", ["nn_cat", "pixelshuffle", "nn_cat_noblur", "pixelshuffle_noblur"])
def test_a_torgb_shares_its_style_with_the_next_block(mode):
    g = small(upsample_mode=mode)
    with torch.no_grad():
        for layer in g.upsampler.torgb:  # zero before training
            layer.weight.fill_(1.0)
    ws, z_bg = random(1, SMALL.num_ws, 8), random(1, 2)
    features, rgb = g.features(ws, z_bg, frontal()).maps()
    before = g.upsampler(features, rgb, ws)
    assert [p.shape for p in before] == [(1, 3, 8, 8), (1, 3, 16, 16)]
    slot = SMALL.n_nerf_ws + 2
    changed = ws.clone()
    changed[:, slot] += 1
    after = g.upsampler(features, rgb, changed)
    assert not torch.allclose(after[0], before[0])  # torgb of the first block
    changed = ws.clone()
    changed[:, -1] += 1
    after = g.upsampler(features, rgb, changed)
    assert torch.equal(after[0], before[0]) and not torch.allclose(after[1], before[1])
    changed = ws.clone()
    changed[:, : SMALL.n_nerf_ws] += 1  # the field's slots aren't the upsampler's
    assert torch.equal(g.upsampler(features, rgb, changed)[1], before[1])


@torch.no_grad()
def test_the_mapping_normalises_where_it_should():
    g, z = small(normalize_z=True), random(3, 6)
    assert torch.allclose(g.mapping(z), g.mapping(5 * z), atol=1e-4)
    g = small(normalize_z=False, append_cdf=True)
    assert not torch.allclose(g.mapping(z), g.mapping(5 * z), atol=1e-2)
    assert g.mapping(z).shape == (3, 8)


@torch.no_grad()
def test_truncation_moves_the_first_slots_towards_the_mean():
    g = small()
    g.mapping.w_avg.copy_(random(8))
    ws, mean = random(2, SMALL.num_ws, 8, seed=1), g.mapping.w_avg
    assert torch.allclose(g.mapping.truncate(ws, 0.3), mean + 0.3 * (ws - mean), atol=1e-6)
    some = g.mapping.truncate(ws, 0.3, cutoff=2)
    assert torch.allclose(some[:, :2], mean + 0.3 * (ws[:, :2] - mean), atol=1e-6)
    assert torch.equal(some[:, 2:], ws[:, 2:])


# what the official configurations can choose


def test_the_corner_aligned_grid_is_every_nth_pixel_of_the_image():
    g = small(align_corner=True)                           # 4 × 4 rays, 16 × 16 pixels
    x, y = (a.view(4, 4) for a in g.grid())
    pixel = torch.linspace(-1, 1, 16)
    assert torch.equal(x[0], pixel[[0, 4, 8, 12]]) and torch.equal(x[3], x[0])
    assert torch.equal(y[:, 0], -pixel[[0, 4, 8, 12]]) and torch.equal(y[:, 3], y[:, 0])
    assert torch.equal(g.grid(16)[0].view(16, 16)[5], pixel)
    assert torch.equal(g.grid(32)[0].view(32, 32)[5], torch.linspace(-1, 1, 32))
    centres = small().grid()[0].view(4, 4)[0]
    assert torch.allclose(centres, torch.tensor([-0.75, -0.25, 0.25, 0.75]))


@torch.no_grad()
def test_a_wider_field_of_view_spreads_the_rays():
    points = []
    for fov in (12, 24):
        g = small(fov=math.radians(fov))
        g.march(g.broadcast(random(1, 8)), frontal(), *g.grid(), deform=lambda p: points.append(p) or p)
    ratio = points[1][..., :2] / points[0][..., :2]
    assert torch.allclose(ratio, torch.tensor(math.tan(math.radians(12)) / math.tan(math.radians(6))), rtol=1e-4)
    assert torch.allclose(points[0][..., 2], points[1][..., 2], atol=1e-6)


@torch.no_grad()
def test_without_a_background_the_last_sample_is_a_wall():
    g = small(background=False)
    assert not any(name.startswith("background") for name, _ in g.named_parameters())
    ws = g.broadcast(random(1, 8))
    seen = g.features(ws, random(1, 0), frontal())
    assert torch.allclose(seen.alpha, torch.ones(1, 16), atol=1e-6)
    depth = torch.linspace(0.88, 1.12, 7).expand(1, 16, 7)
    sigma, hidden = g.foreground(g_points(g, depth), ws)
    rgb, features = g.foreground.head(hidden, torch.ones_like(sigma), ws)
    x, y = g.grid()
    length = torch.stack([x, y, torch.ones_like(x)], -1).mul(torch.tensor([math.tan(math.radians(6))] * 2 + [1])).norm(dim=-1)
    light, total = torch.ones(1, 16), torch.zeros(1, 16, 5)
    for i in range(7):
        alpha = 1 - torch.exp(-sigma.view(1, 16, 7)[..., i] * 0.04 * length) if i < 6 else torch.ones(1, 16)
        total = total + (light * alpha)[..., None] * features.view(1, 16, 7, 5)[:, :, i]
        light = light * (1 - alpha)
    assert torch.allclose(seen.features, total, atol=2e-5)


def g_points(g, depth):
    """Points of the frontal camera's rays at these depths."""
    x, y = g.grid()
    tangent = math.tan(math.radians(6))
    d = torch.stack([x * tangent, y * tangent, -torch.ones_like(x)], -1)
    return (frontal().eye[:, None, None] + depth[..., None] * d[:, :, None]).flatten(1, 2)


@torch.no_grad()
def test_given_places_are_sampled_in_one_go_and_come_back():
    g = small(n_fine=6)
    ws, z_bg, camera = g.broadcast(random(1, 8)), random(1, 2), frontal()
    drawn, calls = g.features(ws, z_bg, camera), []
    again = g.features(ws, z_bg, camera, deform=lambda p: calls.append(p) or p, tau_fine=drawn.tau_fine)
    assert [c.shape for c in calls] == [(1, 16 * 13, 3)]
    assert torch.allclose(again.features, drawn.features, atol=1e-6) and torch.equal(again.tau_fine, drawn.tau_fine)
    depth = torch.cat([torch.linspace(0.88, 1.12, 7).expand(1, 16, 7), 0.88 + 0.24 * drawn.tau_fine], -1)
    assert torch.allclose(calls[0], g_points(g, depth), atol=1e-6)           # on each ray the coarse ones first
    two = []
    g.features(ws, z_bg, camera, deform=lambda p: two.append(p) or p)
    assert [c.shape for c in two] == [(1, 16 * 7, 3), (1, 16 * 6, 3)]
    elsewhere = g.features(ws, z_bg, camera, tau_fine=torch.full((1, 16, 3), 0.2))
    mixed = torch.cat([depth[..., :7], torch.full((1, 16, 3), 0.928)], -1).sort(-1).values
    features, _, _ = by_hand(g, ws, z_bg, camera, mixed)
    assert torch.allclose(elsewhere.features, features, atol=5e-5)
    assert small().features(ws, z_bg, camera).tau_fine is None


@torch.no_grad()
def test_the_background_can_be_seen_by_another_camera():
    g = small(background_samples=2)
    g.foreground.sigma_out.weight.zero_()
    g.foreground.sigma_out.bias.fill_(-100.0)  # nothing in front of it
    ws, z_bg = g.broadcast(random(1, 8)), random(1, 2)
    frozen = Camera.from_pose(torch.tensor([[0.0, g.config.background_pitch, 0.0]]))
    usual = g.features(ws, z_bg, frontal()).features
    assert torch.equal(g.features(ws, z_bg, frontal(), background=frozen).features, usual)
    turned = g.features(ws, z_bg, frontal(), background=frontal()).features
    assert not torch.allclose(turned, usual, atol=1e-3)
    x, y = g.grid()
    plain = g.background(frontal().eye, torch.stack([x, y, -torch.ones_like(x)], -1)
                         * torch.tensor([math.tan(math.radians(6))] * 2 + [1]), z_bg)[1]
    assert torch.allclose(turned, plain, atol=1e-5)


def test_the_backgrounds_samples_run_from_its_start_to_infinity():
    assert torch.allclose(small(background_samples=4).background.depth(), torch.tensor([-1 / 2, -1 / 3, -1 / 6, 0]))
    assert torch.allclose(small(background_samples=3, background_start=0.8).background.depth(), torch.tensor([-0.8, -0.4, 0]))
    assert len(small(background_blocks=6).background.blocks) == 5


@torch.no_grad()
@pytest.mark.parametrize("up", [True, False])
def test_the_magnitude_gain_divides_the_input(up):
    config = dataclasses.replace(SMALL, kernel=3)
    plain = StyledConv(5, 4, config, up=up)
    scaled = StyledConv(5, 4, dataclasses.replace(config, magnitude_gain=True), up=up)
    assert scaled.state_dict().keys() - plain.state_dict().keys() == {"magnitude"}
    scaled.load_state_dict(plain.state_dict() | {"magnitude": torch.tensor(2.5)})
    x, w = random(1, 5, 3, 3), random(1, 8)
    assert torch.allclose(scaled(x, w), plain(x / math.sqrt(2.5), w), atol=1e-5)
    assert "magnitude" not in {name.split(".")[-1] for name in Generator(OPEN).state_dict()}


@torch.no_grad()
def test_noise_is_added_before_the_bias():
    layer = StyledConv(5, 4, dataclasses.replace(SMALL, noise=True), up=False, side=6)
    layer.noise_strength.fill_(0.7)
    layer.bias.copy_(random(4))
    x, w = random(2, 5, 6, 6), random(2, 8)
    y = layer.conv(x, w) + 0.7 * layer.noise_const + layer.bias[:, None, None]
    assert torch.allclose(layer(x, w), torch.where(y > 0, y, 0.2 * y) * math.sqrt(2), atol=1e-5)
    shapes = {k: tuple(v.shape) for k, v in small(noise=True).state_dict().items() if k.endswith("noise_const")}
    assert shapes == {"upsampler.conv0.0.noise_const": (8, 8), "upsampler.conv1.0.noise_const": (8, 8),
                      "upsampler.conv0.1.noise_const": (16, 16), "upsampler.conv1.1.noise_const": (16, 16)}


@torch.no_grad()
def test_a_picture_of_the_official_size():
    """One of 1024 × 1024 pixels, from few samples on few rays."""
    config = dataclasses.replace(FFHQ_1024, n_samples=2, n_fine=0, channels=(8, 8, 8, 8, 8), feature_dim=8)
    g = Generator(config).eval()
    assert g(g.broadcast(random(1, 512)), random(1, 32), frontal()).shape == (1, 3, 1024, 1024)


# the regulariser


def test_one_pixel_of_each_cell_at_the_same_place():
    pixels = random_pixels(4, 32, 3, torch.Generator().manual_seed(0))
    row, column = pixels // 32, pixels % 32
    for b in range(3):
        assert (row[b] // 8).tolist() == [i for i in range(4) for _ in range(4)]
        assert (column[b] // 8).tolist() == list(range(4)) * 4
        assert len(set((row[b] % 8).tolist())) == len(set((column[b] % 8).tolist())) == 1
    assert len({p.item() for p in pixels[:, 0]}) > 1
    g = small()
    x, y = pixel_places(g, torch.tensor([[0, 17, 255]]))                     # 16 × 16 pixels
    assert torch.allclose(x, torch.tensor([[-15 / 16, -13 / 16, 15 / 16]]))
    assert torch.allclose(y, torch.tensor([[15 / 16, 13 / 16, -15 / 16]]))


def test_samples_as_tiles_and_back():
    samples = random(2, 9, 6, 4)
    picture = tiled(samples)
    assert picture.shape == (2, 4, 6, 9)                                     # 2 × 3 tiles of 3 × 3
    for b, ray, s in np.ndindex(2, 9, 6):
        assert torch.equal(picture[b, :, 3 * (s // 3) + ray // 3, 3 * (s % 3) + ray % 3], samples[b, ray, s])
    assert torch.equal(untiled(picture, 6), samples)


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"n_fine": 3, "upsample_mode": "pixelshuffle"}, {"background": False},
                                     {"noise": True, "magnitude_gain": True}])
def test_the_path_loss_compares_with_samples_that_went_through_the_blocks_alone(changes):
    g = small(background_samples=3, **changes)
    for layer in g.upsampler.torgb:
        layer.weight.normal_(generator=torch.Generator().manual_seed(5))
    ws, z_bg, pixels = random(1, SMALL.num_ws, 8), random(1, 2), torch.tensor([[3, 60, 130, 255]])
    image = random(1, 3, 16, 16, seed=2)
    found = path_loss(g, image, ws, z_bg, frontal(), pixels)
    x, y = pixel_places(g, pixels)
    samples = g.march(ws, frontal(), x, y)
    weights, light = ray_weights(samples.sigma, samples.depth, samples.length, wall=not g.config.background)

    def colour(rgb, features):
        """The 2D blocks as layers on one point, without their upsampling."""
        for i in range(2):
            conv0, conv1, torgb = g.upsampler.conv0[i], g.upsampler.conv1[i], g.upsampler.torgb[i]
            slot = g.upsampler.first + 2 * i
            for layer, w in ((conv0, ws[:, slot]), (conv1, ws[:, slot + 1])):
                if g.config.magnitude_gain:
                    features = features / layer.magnitude.sqrt()
                features = plain_modulated(features, layer.conv.weight, layer.conv.affine(w), True) + layer.bias[:, None, None]
                features = torch.where(features > 0, features, 0.2 * features) * math.sqrt(2)
            rgb = rgb + plain_modulated(features, torgb.weight, torgb.affine(ws[:, slot + 2]), False)
            rgb = rgb + g.upsampler.rgb_bias[i][:, None, None]
        return rgb[0, :, 0, 0]

    total = 0.0
    for ray, pixel in enumerate(pixels[0].tolist()):
        made = torch.zeros(3)
        for i in range(samples.depth.shape[-1]):
            rgb, features = g.foreground.head(samples.hidden[:, ray, i][:, None], torch.ones(1, 1), ws)
            made += weights[0, ray, i] * colour(rgb.view(1, 3, 1, 1), features.view(1, -1, 1, 1))
        if g.config.background:
            origin, direction = g.background_rays(x, y, 1)
            behind, hidden = g.background.march(inverted_sphere(origin, direction, -g.background.depth()), z_bg)
            for i in range(3):
                rgb, features = g.background.head(hidden[:, ray, i])
                made += light[0, ray] * behind[0, ray, i] * colour(rgb.view(1, 3, 1, 1), features.view(1, -1, 1, 1))
        total += (image[0, :, pixel // 16, pixel % 16] - made).square().sum().item()
    assert found.shape == (1, 1) and found.item() == pytest.approx(2 * total / 4, rel=1e-4)


# fields


def test_positional_encoding_runs_frequency_by_frequency():
    p = random(2, 3, 3)
    encoded = positional_encoding(p, 4, first=1)
    assert encoded.shape == (2, 3, 24)
    expected = []
    for k in range(1, 5):
        expected += [math.sin(2**k * math.pi * v) for v in p[1, 2]] + [math.cos(2**k * math.pi * v) for v in p[1, 2]]
    assert torch.allclose(encoded[1, 2], torch.tensor(expected), atol=2e-4)


def test_inverted_sphere_points_lie_on_their_rays_at_their_radius():
    """NeRF++: the point direction / inverse radius is on the ray, outside the unit sphere."""
    origin = F.normalize(random(3, 3).double(), dim=1) * torch.tensor([[1.0], [0.9], [0.3]])
    direction = -origin[:, None] + 0.3 * random(3, 4, 3).double()
    q = torch.tensor([0.5, 0.3, 0.1], dtype=torch.float64)
    p = inverted_sphere(origin, direction, q)
    assert torch.allclose(p[..., :3].norm(dim=-1), torch.ones(3, 4, 3, dtype=torch.float64))
    assert torch.equal(p[..., 3], q.expand(3, 4, 3))
    point = p[..., :3] / p[..., 3:]
    offset = point - origin[:, None, None]
    along = F.normalize(direction, dim=-1)[:, :, None]
    t = (offset * along).sum(-1, keepdim=True)
    assert (t > 0).all()
    assert torch.allclose(offset, t * along, atol=1e-6)


# layers


def plain_modulated(x, weight, s, demodulate):
    """Modulated convolution as StyleGAN2's paper has it, one image at a time through torch's grouped convolution."""
    b, n_in, h, w = x.shape
    n_out, _, k, _ = weight.shape
    scaled = weight[None] * s[:, None, :, None, None]
    if demodulate:
        scaled = scaled / (scaled.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    else:
        scaled = scaled / math.sqrt(n_in * k * k)
    y = F.conv2d(x.reshape(1, b * n_in, h, w), scaled.reshape(b * n_out, n_in, k, k), padding=k // 2, groups=b)
    return y.view(b, n_out, h, w)


@torch.no_grad()
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("demodulate", [True, False])
def test_the_modulated_convolution_is_a_grouped_convolution(kernel, demodulate):
    torch.manual_seed(0)
    layer, x, w = L.ModulatedConv(5, 7, 4, kernel, demodulate=demodulate), random(3, 5, 6, 6), random(3, 4, seed=1)
    s = F.linear(w, layer.affine.weight / 2, layer.affine.bias)  # √4 = 2
    assert torch.allclose(layer(x, w), plain_modulated(x, layer.weight, s, demodulate), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("demodulate", [True, False])
def test_the_modulated_linear_layer_is_the_same_as_a_1x1_convolution(demodulate, shift):
    torch.manual_seed(0)
    layer, x, w = L.ModulatedLinear(5, 7, 4, demodulate=demodulate, shift=shift), random(3, 10, 5), random(3, 4, seed=1)
    layer.bias.copy_(random(7, seed=2))
    s = F.linear(w, layer.affine.weight / 2, layer.affine.bias)
    y = plain_modulated(x.transpose(1, 2)[..., None], layer.weight[..., None, None], s, demodulate)[..., 0].transpose(1, 2)
    y = y + layer.bias + (F.linear(w, layer.shift.weight / 2, layer.shift.bias)[:, None] if shift else 0)
    expected = F.leaky_relu(y, 0.2) * math.sqrt(2) if demodulate else y
    assert torch.allclose(layer(x, w), expected, atol=1e-5)


@torch.no_grad()
def test_equalised_layers_scale_their_weights_not_their_outputs():
    torch.manual_seed(0)
    layer, x = L.FullyConnected(9, 4, lr_mult=0.01, bias=1.0), random(5, 9)
    assert torch.allclose(layer(x), x @ layer.weight.T * (0.01 / 3) + 1.0, atol=1e-5)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.5)
    conv, image = L.Conv(3, 4, 3, clamp=0.5), random(1, 3, 5, 5)
    conv.bias.copy_(random(4))
    y = F.conv2d(image, conv.weight / math.sqrt(27), conv.bias, padding=1)
    expected = torch.where(y > 0, y, 0.2 * y).mul(math.sqrt(2)).clamp(-0.5, 0.5)
    assert torch.allclose(conv(image), expected, atol=1e-5)


def fir_1d(x, up=1, down=1):
    """scipy's upsample, filter, downsample along both axes with [1, 3, 3, 1] / 8."""
    h = np.array([1.0, 3, 3, 1]) / 8 * up
    return upfirdn(h, upfirdn(h, x, up, down, axis=-1), up, down, axis=-2)


def test_fir_resampling_is_scipys_upfirdn():
    x = random(2, 3, 6, 8).double()
    up = L.upsample2d(x).numpy()
    assert up.shape == (2, 3, 12, 16)
    assert np.allclose(up, fir_1d(x.numpy(), up=2)[..., 1:13, 1:17], atol=1e-12)
    blurred = L.filter2d(x, (2, 1)).numpy()
    assert np.allclose(blurred, fir_1d(x.numpy())[..., 1:7, 1:9], atol=1e-12)
    halved = L.downsample2d(x).numpy()
    assert halved.shape == (2, 3, 3, 4)
    assert np.allclose(halved, fir_1d(x.numpy())[..., 2:8:2, 2:10:2], atol=1e-12)


def test_resampling_keeps_a_constant_picture():
    x = torch.full((1, 1, 8, 8), 0.7)
    assert torch.allclose(L.upsample2d(x)[..., 2:-2, 2:-2], torch.tensor(0.7), atol=1e-6)
    assert torch.allclose(L.downsample2d(x)[..., 1:-1, 1:-1], torch.tensor(0.7), atol=1e-6)


def test_neighbour_mean_gives_each_quarter_the_cells_that_it_touches():
    x = random(1, 2, 3, 4)
    y = neighbour_mean(x)
    for c, i, j in np.ndindex(2, 6, 8):
        row, column = i // 2, j // 2
        beside = (row, column + (1 if j % 2 else -1))
        above = (row + (1 if i % 2 else -1), column)
        inside = [x[0, c, a, b].item() for a, b in (beside, above) if 0 <= a < 3 and 0 <= b < 4]
        assert y[0, c, i, j].item() == pytest.approx(sum(inside) / 2, abs=1e-6)


@torch.no_grad()
def test_a_styled_convolution_without_correction_is_nearest_neighbour():
    torch.manual_seed(0)
    block = StyledConv(5, 4, dataclasses.replace(SMALL, upsample_mode="pixelshuffle_noblur"), up=True)
    block.adapter[1].weight.zero_()
    x, w = random(1, 5, 3, 3), random(1, 8)
    large = block.conv(x, w).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(block(x, w), F.leaky_relu(large, 0.2) * math.sqrt(2), atol=1e-5)


@torch.no_grad()
def test_the_adapters_first_layer_may_come_before_the_enlargement():
    """nn_cat as it is written down: cells and their neighbours' means, side by side at the double size, through the adapter."""
    torch.manual_seed(0)
    block = StyledConv(5, 8, SMALL, up=True)
    for layer in block.adapter:
        layer.bias.copy_(random(len(layer.bias)))
    x = random(2, 8, 3, 4)
    large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = L.filter2d(large + block.adapter(torch.cat([large, neighbour_mean(x)], 1)), (2, 1))
    gain = math.sqrt(2)                                  # that of the activation which follows
    assert torch.allclose(block.upsample(x * gain), expected * gain, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kernel", (1, 3))
@pytest.mark.parametrize("mode", ("nn_cat", "pixelshuffle_noblur"))
def test_strips_are_the_whole_picture(monkeypatch, kernel, mode):
    """Rows of a block that are computed a few at a time are those that are computed at once, at every seam, with noise too."""
    torch.manual_seed(0)
    g = Generator(dataclasses.replace(SMALL, kernel=kernel, upsample_mode=mode, noise=True))
    for name, p in g.upsampler.named_parameters():
        if "bias" in name or "strength" in name or "torgb" in name:
            torch.nn.init.normal_(p) if p.dim() else p.fill_(0.7)
    r, ws = g.config.ray_resolution * 2, random(2, g.config.num_ws, g.config.w_dim)
    features, rgb = random(2, g.config.feature_dim, r, r), random(2, 3, r, r)
    for conv in (*g.upsampler.conv0, *g.upsampler.conv1):
        conv.noise_const = random(2 * conv.noise_const.shape[0], 2 * conv.noise_const.shape[0])
    whole, blocks = g.upsampler(features, rgb, ws), []
    once = g.upsampler.block
    monkeypatch.setattr(upsampler, "STRIP", 1)
    monkeypatch.setattr(g.upsampler, "block", lambda *a, **k: blocks.append(a[1].shape[2]) or once(*a, **k))
    strips = g.upsampler(features, rgb, ws)
    assert len(blocks) > len(whole) and max(blocks) < whole[-2].shape[2]
    for a, b in zip(whole, strips, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


# the discriminator


@torch.no_grad()
def test_the_discriminator_judges_one_number_a_picture():
    torch.manual_seed(0)
    d = Discriminator(32, (4, 6, 8, 8))
    logits, seen = d.judge(random(3, 3, 32, 32))
    assert logits.shape == (3, 1)
    assert [a.shape for a in seen] == [(3, 6, 16, 16), (3, 8, 8, 8), (3, 8, 4, 4)]
    assert torch.equal(logits, d(random(3, 3, 32, 32)))


def test_batch_deviation_is_the_mean_spread_of_each_group():
    x = random(8, 3, 2, 2).double()
    found = batch_deviation(x)
    assert found.shape == (8, 1, 2, 2)
    for first in range(2):  # StyleGAN2's interleaved groups: pictures 0, 2, 4, 6 and 1, 3, 5, 7
        group = x[first::2].numpy()
        expected = np.sqrt(group.var(axis=0) + 1e-8).mean()
        assert np.allclose(found[first::2].numpy(), expected)
    assert batch_deviation(x[:1].expand(4, -1, -1, -1)).max().item() == pytest.approx(1e-4)
    assert batch_deviation(x[:3]).shape == (3, 1, 2, 2)


@torch.no_grad()
def test_the_size_of_the_groups_is_the_discriminators():
    torch.manual_seed(0)
    pairs, fours = Discriminator(16, (4, 4, 4), group=2), Discriminator(16, (4, 4, 4))
    fours.load_state_dict(pairs.state_dict())
    x = random(4, 3, 16, 16)
    assert not torch.allclose(pairs(x), fours(x))
    assert torch.allclose(pairs(x[:2]), fours(x[:2]))      # fewer than a group are one group
    assert torch.allclose(pairs(x[::2]), pairs(x)[::2], atol=1e-6)
