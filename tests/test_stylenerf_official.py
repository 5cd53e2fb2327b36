"""The authors' StyleNeRF: its numbers, its options, its names and axes, and what is refused."""

import copy
import dataclasses
import json
import math
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from nfs_lib import parity
from nfs_lib.blending import bicubic, blend_at
from nfs_lib.camera import FOV, Camera, frontal
from nfs_lib.errors import BadInput, CorruptWeights
from nfs_lib.parity import stylenerf as checks
from nfs_lib.parity import stylenerf_cases as cases
from nfs_lib.stylenerf import FFHQ_1024, Discriminator, Generator, official, options
from nfs_lib.stylenerf import official_cameras as cameras

HOME = Path(__file__).parent / "goldens" / "stylenerf"
PAPER = json.loads((HOME / "ffhq1024_names.json").read_text())


def kwargs(name="v2"):
    return copy.deepcopy(json.loads((HOME / f"{name}_config.json").read_text())["G"])


def changed(**changes):
    """The arguments of v2 with some options set: __ goes one level deeper."""
    given = kwargs()
    for path, value in changes.items():
        *way, last = path.split("__")
        at = given
        for step in way:
            at = at[step]
        at[last] = value
    return given


def state(name="v2", part="G"):
    return load_file(HOME / f"{name}_{part}.safetensors")


# the authors' numbers


@pytest.mark.parametrize("name", ["v1", "v2", "v3", "v4"])
def test_every_number_of_a_set_is_the_authors(name):
    found = checks.report(HOME, name)
    assert found.keys() == load_file(HOME / f"{name}_outputs.safetensors").keys()
    assert {tensor: e for tensor, e in found.items() if not e[0] <= e[1]} == {}


def test_a_set_is_one_line_of_parity():
    results = parity.run(HOME.parent, only="v4")
    assert [(r.name, r.ok) for r in results] == [("v4", True)]
    assert str(results[0]).split()[:3] == ["v4", "ok", "error"]
    assert results[0].worst in str(results[0])


def spoil_axes(monkeypatch):
    monkeypatch.setattr(official, "permute_inputs", lambda tensors, config: None)


def spoil_config(**changes):
    def spoil(monkeypatch):
        read = official.config_from_kwargs
        monkeypatch.setattr(official, "config_from_kwargs", lambda *a: dataclasses.replace(read(*a), **changes))

    return spoil


@pytest.mark.parametrize("spoil", [spoil_axes, spoil_config(background_pitch=0.2), spoil_config(align_corner=False),
                                   spoil_config(far=1.121), spoil_config(clamp=None, n_fine=4)])
def test_a_slip_is_noticed(monkeypatch, spoil):
    spoil(monkeypatch)
    (result,) = checks.check(HOME, "v2")
    assert result.ok is False and "OVER" in str(result)


def test_a_set_that_cannot_be_run_fails_and_says_why(tmp_path):
    for file in HOME.glob("v4_*"):
        shutil.copyfile(file, tmp_path / file.name)
    (tmp_path / "v4_G.safetensors").unlink()
    (result,) = checks.check(tmp_path)
    assert result.ok is False and "v4_G.safetensors isn't there" in str(result)
    config = json.loads((HOME / "v4_config.json").read_text())
    config["G"]["synthesis_kwargs"]["foreground_kwargs"]["use_viewdirs"] = True
    (tmp_path / "v4_config.json").write_text(json.dumps(config))
    shutil.copyfile(HOME / "v4_G.safetensors", tmp_path / "v4_G.safetensors")
    (result,) = checks.check(tmp_path)
    assert result.ok is False and "use_viewdirs = True" in str(result)


def test_tensors_that_nobody_knows_are_named(tmp_path):
    for file in HOME.glob("v4_*"):
        shutil.copyfile(file, tmp_path / file.name)
    outputs = load_file(HOME / "v4_outputs.safetensors")
    save_file(outputs | {"back.img": torch.zeros(1)}, tmp_path / "v4_outputs.safetensors")
    (result,) = checks.check(tmp_path)
    assert result.ok is True and "not compared: back.img" in str(result)


@pytest.mark.parametrize(("rays", "ok"), [(2, True), (5, False)])
def test_importance_samples_may_be_elsewhere_on_a_few_rays_only(tmp_path, rays, ok):
    """As they are where rounding decides: the pictures are compared all the same, with the recorded samples on those rays."""
    for file in HOME.glob("v3_*"):
        shutil.copyfile(file, tmp_path / file.name)
    outputs = load_file(HOME / "v3_outputs.safetensors")
    given = cases.Set(HOME, "v3")
    tau = outputs["front.di_fine"]
    tau[:, :rays] = (tau[:, :rays] + 0.15) % 1
    with torch.no_grad():
        g, ws, z_bg = given.generator, given.ws[:1], given.inputs["z_shape_bg"]
        features, rgb = g.features(ws, z_bg, frontal(), tau_fine=tau).maps()
        outputs |= {"front.feat": features, "front.img_nerf": rgb, "front.img": g.upsample(features, rgb, ws)}
    save_file({k: v.contiguous() for k, v in outputs.items()}, tmp_path / "v3_outputs.safetensors")
    (result,) = checks.check(tmp_path)
    assert result.ok is ok


# options


def test_the_published_arguments_make_the_published_configuration():
    config = official.config_from_kwargs(PAPER["G_init_kwargs"])
    assert config == FFHQ_1024
    assert options.discriminator_arguments(PAPER["D_init_kwargs"]) == {
        "resolution": 1024, "channels": (32, 64, 128, 256, 512, 512, 512, 512, 512), "clamp": 256, "group": 4}


def test_arguments_that_the_constructor_has_added_to_mean_the_same():
    given = kwargs()
    s = given["synthesis_kwargs"]
    for name, z_dim in (("foreground_kwargs", 0), ("background_kwargs", s["z_dim_bg"])):
        s[name] |= {"z_dim": z_dim, "w_dim": given["w_dim"], "rgb_out_dim": s["rgb_out_dim"], "activation": "lrelu"}
    s["upsampler_kwargs"] |= {"img_channels": 3, "in_res": 32, "out_res": 64}
    assert official.config_from_kwargs(given, state()) == official.config_from_kwargs(kwargs())


def test_flat_arguments_mean_the_same():
    flat = kwargs()
    s = flat["synthesis_kwargs"]
    for name in ("camera_kwargs", "renderer_kwargs", "upsampler_kwargs"):
        s |= {k: v for k, v in s.pop(name).items() if not k.startswith("channel_")}
    assert official.config_from_kwargs(flat, state()) == official.config_from_kwargs(kwargs())
    s["camera_kwargs"] = {"fov": 30}                       # a nested dictionary hides all the flat ones
    with pytest.raises(BadInput, match="angular_camera = False"):
        official.config_from_kwargs(flat)
    s["camera_kwargs"] = None
    assert official.config_from_kwargs(flat) == official.config_from_kwargs(kwargs())


def test_defaults_are_the_official_classes():
    given = kwargs()
    s = given["synthesis_kwargs"]
    s["camera_kwargs"] = {"angular_camera": True, "range_radius": (1, 1)}
    for name in ("kernel_size", "magnitude_ema_beta", "conv_clamp", "use_noise", "channel_base", "channel_max"):
        del s[name]
    del given["mapping_kwargs"]
    s["renderer_kwargs"] = {"hierarchical": True}
    s["background_kwargs"] = {"predict_rgb": True, "inverse_sphere": True}
    c = official.config_from_kwargs(given)
    assert (c.align_corner, c.near, c.far, c.background_start, c.kernel) == (True, 0.5, 6.0, 1.0, 3)
    assert c.fov == pytest.approx(math.radians(49.13))
    assert (c.magnitude_gain, c.clamp, c.noise, c.channels, c.mapping_layers) == (False, None, True, (512,), 8)
    assert (c.n_samples, c.n_fine, c.background_samples, c.background_hidden, c.background_blocks) == (14, 14, 4, 128, 8)


@pytest.mark.parametrize(("base", "limit", "widths"), [(1, 1024, (512, 256)), (2, 1024, (1024, 512)), (2, 600, (600, 512)),
                                                       (0.125, 48, (48, 32))])
def test_widths_of_the_blocks(base, limit, widths):
    given = changed(synthesis_kwargs__channel_base=base, synthesis_kwargs__channel_max=limit, img_resolution=128)
    assert official.config_from_kwargs(given).channels == widths


S = "synthesis_kwargs__"


@pytest.mark.parametrize("changes", [
    {"c_dim": 3}, {"mapping_kwargs__layer_features": 7}, {"mapping_kwargs__activation": "relu"},
    {S + "architecture": "resnet"}, {S + "upsample_mode": "bilinear"}, {S + "upsample_mode": "nearest_nn_cat"},
    {S + "z_dim": 5}, {S + "z_dim_bg": 0}, {S + "rgb_out_dim_bg": 8}, {S + "margin": 2}, {S + "predict_camera": True},
    {S + "activation": "relu"}, {S + "rectangular": [384, 512]}, {S + "use_single_layer": True},
    {S + "input_kwargs": {"output_mode": "tri_plane_reshape"}}, {S + "module_name": "training.networks.SynthesisNetwork"},
    {S + "foreground_kwargs__use_viewdirs": True}, {S + "foreground_kwargs__predict_rgb": False},
    {S + "foreground_kwargs__positional_encoding": "gauss"}, {S + "foreground_kwargs__downscale_p_by": 2},
    {S + "foreground_kwargs__use_sdf": "volsdf"}, {S + "foreground_kwargs__magnitude_ema_beta": 0.999},
    {S + "background_kwargs__inverse_sphere": False}, {S + "background_kwargs__use_pos": True},
    {S + "camera_kwargs__depth_transform": "LogWarp"}, {S + "camera_kwargs__dists_normalized": True},
    {S + "camera_kwargs__angular_camera": False}, {S + "camera_kwargs__range_radius": [1.0, 1.2]},
    {S + "renderer_kwargs__sigma_type": "shiftedsoftplus"}, {S + "renderer_kwargs__white_background": True},
    {S + "upsampler_kwargs__no_residual_img": True}, {S + "upsampler_kwargs__shared_rgb_style": True},
    {S + "upsampler_kwargs__no_2d_renderer": True}, {S + "upsampler_kwargs__block_reses": [64, 64]},
    {S + "resolution_vol": 64},
], ids=lambda c: next(iter(c)).split("__")[-1])
def test_another_network_is_refused_by_name(changes):
    name = next(iter(changes)).split("__")[-1]
    expected = {"resolution_vol": "no upsampling blocks"}.get(name, name)
    with pytest.raises(BadInput, match=expected):
        official.config_from_kwargs(changed(**changes))


@pytest.mark.parametrize("changes", [
    {S + "no_bbox": False}, {S + "margin": 0}, {S + "num_fp16_res": 0}, {S + "renderer_kwargs__abs_sigma": True},
    {S + "foreground_kwargs__use_style": "other"}, {S + "background_kwargs__skips": [2]}, {S + "progressive": False},
    {S + "upsampler_kwargs__upsample_type": "other"}, {S + "camera_kwargs__gaussian_camera": False},
    {S + "camera_kwargs__range_u": [-1, 1]}, {S + "n_reg_samples": 0}, {S + "something_new": 3}, {"something_new": 3},
    {S + "camera_kwargs__depth_transform": "None"}, {S + "upsampler_kwargs__channel_base": 7},
])
def test_options_without_effect_change_nothing(changes):
    assert official.config_from_kwargs(changed(**changes), state()) == official.config_from_kwargs(kwargs())


@pytest.mark.parametrize("broken", [{S + "camera_kwargs": 3}, {S + "rgb_out_dim": "many"}, {"z_dim": None},
                                    {"synthesis_kwargs": 5}, {S + "camera_kwargs__depth_range": [1]},
                                    {S + "channel_base": "wide"}])
def test_arguments_that_make_no_sense(broken):
    with pytest.raises(CorruptWeights, match="makes no sense"):
        official.config_from_kwargs(changed(**broken))


def test_arguments_that_lack_a_size():
    given = kwargs()
    del given["w_dim"]
    with pytest.raises(BadInput, match="no w_dim"):
        official.config_from_kwargs(given)


# names, shapes and axes


def paper_state(part, variant=None):
    """Tensors without content, of the published configuration's names and shapes."""
    shapes = PAPER[part] | (PAPER["variants"][variant] if variant else {})
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return tensors | {name: torch.ones(()) for name in tensors if name.endswith("alpha")}


@pytest.mark.parametrize(("variant", "changes", "parameters"), [
    (None, {}, 5_481_547),
    ("pixelshuffle_rgb64", {"upsample_mode": "pixelshuffle", "rgb_out_dim": 64}, 5_423_915),
    ("pixelshuffle_rgb256_cb2", {"upsample_mode": "pixelshuffle", "channel_base": 2}, 10_188_867),
])
def test_every_name_and_shape_of_the_published_generators_is_used(variant, changes, parameters):
    given = copy.deepcopy(PAPER["G_init_kwargs"])
    given["synthesis_kwargs"] |= changes
    with warnings.catch_warnings():
        warnings.simplefilter("error")                     # nothing is left over
        config, tensors = official.convert_generator(given, paper_state("G", variant))
    with torch.device("meta"):
        generator = Generator(config)
    assert {k: v.shape for k, v in tensors.items()} == {k: v.shape for k, v in generator.state_dict().items()}
    assert sum(p.numel() for p in generator.parameters()) == parameters
    assert (config.num_ws, config.n_nerf_ws, config.resolution) == (21, 10, 1024)


def test_every_name_and_shape_of_the_published_discriminator_is_used():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        arguments, tensors = official.convert_discriminator(PAPER["D_init_kwargs"], paper_state("D"))
    with torch.device("meta"):
        discriminator = Discriminator(**arguments)
    assert {k: v.shape for k, v in tensors.items()} == {k: v.shape for k, v in discriminator.state_dict().items()}
    assert sum(p.numel() for p in discriminator.parameters()) == 27_801_889


def test_the_field_sees_the_official_axes():
    """The kit's field at a point of its frame is theirs at the same point: by hand, for the layer's input and its style."""
    given = state()
    config, tensors = official.convert_generator(kwargs(), given)
    generator = Generator(config)
    generator.load_state_dict(tensors)
    p = torch.tensor([[0.01, -0.03, 0.07]])                                  # right, up, depth
    theirs = p[:, [2, 0, 1]]                                                 # depth, right, up
    encoded = torch.cat([f(2**k * math.pi * theirs) for k in range(10) for f in (torch.sin, torch.cos)], -1)
    w = torch.randn(1, config.w_dim, generator=torch.Generator().manual_seed(0))
    prefix = "synthesis.fg_nerf.fc_in."
    s = w @ given[prefix + "affine.weight"].T / math.sqrt(config.w_dim) + given[prefix + "affine.bias"]
    weight = given[prefix + "weight"][..., 0, 0] * s
    y = encoded @ (weight / (weight.square().sum(1, keepdim=True) + 1e-8).sqrt()).T + given[prefix + "bias"]
    expected = torch.where(y > 0, y, 0.2 * y) * math.sqrt(2)
    from nfs_lib.stylenerf.field import positional_encoding

    ours = generator.foreground.fc_in(positional_encoding(p[None], 10), w)[0]
    assert torch.allclose(ours, expected, atol=2e-5)


def test_missing_and_misshapen_tensors_are_named():
    for name in ("synthesis.b64.torgb.affine.bias", "mapping.w_avg", "synthesis.bg_nerf.sigma_out.weight"):
        given = state()
        del given[name]
        with pytest.raises(CorruptWeights, match=re.escape(name)):
            official.convert_generator(kwargs(), given)
    given = state()
    given["synthesis.b64.conv1.bias"] = torch.zeros(5)
    with pytest.raises(CorruptWeights, match=r"b64\.conv1\.bias has the shape \(5,\), expected \(48,\)"):
        official.convert_generator(kwargs(), given)
    with pytest.raises(CorruptWeights, match="no blocks"):
        official.convert_generator(kwargs(), {"a": torch.zeros(3)})


@pytest.mark.parametrize("changes", [{S + "rgb_out_dim": 17}, {S + "channel_max": 40}, {S + "kernel_size": 3}, {"w_dim": 33},
                                     {S + "upsample_mode": "nn_cat"}, {S + "use_noise": True}, {S + "magnitude_ema_beta": -1},
                                     {S + "foreground_kwargs__n_blocks": 7}, {S + "renderer_kwargs__no_background": True},
                                     {"mapping_kwargs__num_layers": 9}, {S + "z_dim_bg": 9}])
def test_arguments_and_shapes_must_agree(changes):
    with pytest.raises(CorruptWeights, match="but its tensors say"):
        official.convert_generator(changed(**changes), state())


def test_tensors_that_nobody_needs_are_reported_and_ignored():
    given = state() | {"synthesis.camera_generator.proj.bias": torch.zeros(2)}
    with pytest.warns(UserWarning, match=r"ignored 1 tensors .* synthesis\.camera_generator\.proj\.bias"):
        _, tensors = official.convert_generator(kwargs(), given)
    assert tensors.keys() == official.convert_generator(kwargs(), state())[1].keys()


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_without_arguments_sizes_are_those_of_the_tensors(name):
    with pytest.warns(UserWarning, match="description is missing"):
        found = official.convert_generator({}, state(name))[0]
    given = official.config_from_kwargs(kwargs(name))
    for size in ("z_dim", "w_dim", "z_bg_dim", "mapping_layers", "field", "feature_dim", "ray_resolution", "background_hidden",
                 "background_blocks", "channels", "kernel", "upsample_mode", "magnitude_gain", "noise", "background"):
        assert getattr(found, size) == getattr(given, size)
    assert (found.near, found.far, found.fov, found.align_corner) == (0.88, 1.12, FOV, False)
    with pytest.raises(BadInput, match="neither arguments nor tensors"):
        official.config_from_kwargs({})


def test_progressive_training_must_be_over():
    for alpha in (0.0, 0.4):
        with pytest.raises(BadInput, match="middle of progressive training"):
            official.convert_generator(kwargs(), state() | {"synthesis.alpha": torch.tensor(alpha)})
        with pytest.raises(BadInput, match="middle of progressive training"):
            official.convert_discriminator(discriminator_kwargs(), state(part="D") | {"alpha": torch.tensor(alpha)})
    config, _ = official.convert_generator(kwargs(), state() | {"synthesis.alpha": torch.tensor(-1.0)})
    assert (config.n_samples, config.n_fine) == (20, 20)
    given = changed(synthesis_kwargs__progressive=False)
    assert official.convert_generator(given, state() | {"synthesis.alpha": torch.tensor(0.4)})[0].n_samples == 5


# the discriminator


def discriminator_kwargs():
    return json.loads((HOME / "v2_config.json").read_text())["D"]


def test_a_second_branch_of_the_discriminator_is_reported_and_ignored():
    extra = {"c32.conv0.weight": torch.zeros(3), "projector.weight": torch.zeros(3), "mapping.fc0.weight": torch.zeros(3)}
    with pytest.warns(UserWarning, match=r"ignored 3 tensors that the discriminator's .*c32\.conv0"):
        arguments, tensors = official.convert_discriminator(discriminator_kwargs(), state(part="D") | extra)
    plain = official.convert_discriminator(discriminator_kwargs(), state(part="D"))
    assert arguments == plain[0] == {"resolution": 64, "channels": (12,) * 5, "clamp": 256, "group": 2}
    assert all(torch.equal(tensors[name], plain[1][name]) for name in plain[1])


def test_discriminators_that_the_kit_has_not():
    for changes in ({"architecture": "resnet"}, {"dual_input_ratio": 4}, {"epilogue_kwargs": {"mbstd_num_channels": 2}}):
        with pytest.raises(BadInput, match=next(iter(changes)).replace("epilogue_kwargs", "mbstd_num_channels")):
            official.convert_discriminator(discriminator_kwargs() | changes, state(part="D"))
    with pytest.raises(BadInput, match="together with its camera"):
        official.convert_discriminator(discriminator_kwargs(), state(part="D") | {"b4.out.weight": torch.zeros(20, 12)})
    with pytest.raises(CorruptWeights, match=r"b16\.fromrgb\.weight"):
        given = state(part="D")
        del given["b16.fromrgb.weight"]
        official.convert_discriminator(discriminator_kwargs(), given)
    with pytest.raises(CorruptWeights, match="expected"):
        official.convert_discriminator(discriminator_kwargs() | {"channel_max": 9}, state(part="D"))
    with pytest.raises(BadInput, match="no img_resolution"):
        official.convert_discriminator({"architecture": "skip"}, state(part="D"))


# NeRFFaceSpeech's blend


@pytest.mark.parametrize(("r", "size", "taps"), [(8, 128, 32), (8, 32, 32), (6, 90, 6), (5, 34, 20)])
def test_the_blend_is_that_of_enlarged_maps(r, size, taps):
    """Against torch's own resampling of everything; with an odd scale a single pixel lies under a cell's centre."""
    rng = torch.Generator().manual_seed(r)
    (a, b), mask = torch.randn(2, 2, 3, r, r, generator=rng), torch.rand(size, size, generator=rng)
    large = [F.interpolate(x, (size, size), mode="bicubic", align_corners=False) for x in (a, b)]
    expected = F.interpolate((1 - mask) * large[0] + mask * large[1], (r, r), mode="bicubic", align_corners=False)
    assert torch.allclose(blend_at(a, b, mask), expected, atol=2e-6)
    assert int(bicubic(size, r).ne(0).any(0).sum()) == taps
    unread = bicubic(size, r).eq(0).all(0)
    mask[unread] = math.nan                                                  # what isn't read can't matter
    assert torch.allclose(blend_at(a, b, mask), expected, atol=2e-6)


# cameras


def test_camera_matrices_there_and_back():
    camera = Camera.from_pose(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    matrix = cameras.world_from_camera(camera)
    assert torch.allclose(matrix[:, :3, :3].det(), torch.ones(5))
    assert torch.allclose(matrix[:, :3, 3], matrix[:, :3, 2])                # the eye, where its backward axis points to
    assert torch.equal(cameras.camera_from_world(matrix).rotation, camera.rotation)
    with pytest.raises(BadInput, match="unit sphere"):
        matrix[0, :3, 3] *= 1.1
        cameras.camera_from_world(matrix)


def test_angles_of_the_official_camera():
    """Azimuth and polar angle: the eye by its definition, in official axes, and a horizon that stays level."""
    u, v = torch.tensor([0.0, 0.3, -0.2]), torch.tensor([math.pi / 2, 1.4, 1.7])
    matrix = cameras.world_from_camera(cameras.camera_from_angles(u, v))
    eye = torch.stack([v.sin() * u.cos(), v.sin() * u.sin(), v.cos()], -1)
    assert torch.allclose(matrix[:, :3, 3], eye, atol=1e-6)
    assert matrix[:, 2, 0].abs().max() < 1e-6                                # "right" has no part of "up"
    assert (matrix[:, 2, 1] > 0.9).all()
    assert torch.allclose(matrix[0, :3, :3], torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]), atol=1e-6)
    frozen = cameras.camera_from_angles(torch.zeros(1), torch.tensor([math.pi / 2 + 0.2]))
    kit = Camera.from_pose(torch.tensor([[0, FFHQ_1024.background_pitch, 0]]))
    assert torch.allclose(frozen.rotation, kit.rotation, atol=1e-6)


def test_modes_are_shares_of_ranges_or_count_from_their_middle():
    given = kwargs()
    middle = cameras.camera_from_mode(torch.tensor([[0.5, 0.5, 0.5]]), given)
    assert torch.allclose(middle.rotation, frontal().rotation, atol=1e-6)
    edge = cameras.camera_from_angles(torch.tensor([0.3]), torch.tensor([math.pi / 2 - 0.155])).rotation
    assert torch.allclose(cameras.camera_from_mode(torch.tensor([[1.0, 0.0, 0.5]]), given).rotation, edge, atol=1e-6)
    assert torch.allclose(cameras.camera_from_uv(torch.tensor([[1.0, -1.0]]), given).rotation, edge, atol=1e-6)
    given["synthesis_kwargs"]["camera_kwargs"]["gaussian_camera"] = False
    assert torch.allclose(cameras.camera_from_uv(torch.tensor([[1.0, 0.0]]), given).rotation, edge, atol=1e-6)
    far = torch.tensor([[0.5, 0.5, 0.5, 1.2]])
    with pytest.raises(BadInput, match="distance"):
        cameras.camera_from_mode(far, given)
    far[:, 3] = 1
    assert torch.allclose(cameras.camera_from_mode(far, given).rotation, frontal().rotation, atol=1e-6)
