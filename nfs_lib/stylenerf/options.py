"""What the official constructors' options mean: which have the kit's counterpart, which change nothing, which are refused.

Options come nested (`synthesis_kwargs` → `camera_kwargs`, …) or, from older code, flat in `synthesis_kwargs`. Whatever isn't
named here has no effect on a picture: it belongs to training, or no class knows it.
"""

import math
import re
from typing import Any

import torch
from torch import Tensor

from nfs_lib.errors import BadInput, CorruptWeights
from nfs_lib.stylenerf.config import FieldConfig, GeneratorConfig

Options = dict[str, Any]
Accepted = dict[str, tuple[Any, tuple[Any, ...]]]        # name: what the official code takes if not given; what the kit has

GENERATOR: Accepted = {"c_dim": (0, (0,)), "img_channels": (3, (3,))}
MAPPING: Accepted = {"activation": ("lrelu", ("lrelu",))}
SYNTHESIS: Accepted = {
    "architecture": ("skip", ("skip",)), "z_dim": (256, (0,)), "predict_camera": (False, (False,)), "mode": ("2d", ("2d",)),
    "rectangular": (None, (None,)), "margin": (0, (0,)), "activation": ("lrelu", ("lrelu",)),
    "use_single_layer": (False, (False,)), "use_group": (False, (False,)), "resample_filter": ([1, 3, 3, 1], ([1, 3, 3, 1],)),
    "block_name": ("SynthesisBlock", ("SynthesisBlock",)), "layer_name": ("SynthesisLayer", ("SynthesisLayer",)),
    "module_name": ("NeRFSynthesisNetwork", ("NeRFSynthesisNetwork",)),
}
FIELD: Accepted = {
    "positional_encoding": ("normal", ("normal",)), "downscale_p_by": (1, (1,)), "use_viewdirs": (False, (False,)),
    "predict_rgb": (False, (True,)), "add_rgb": (False, (False,)), "use_skip": (False, (False,)), "use_pos": (False, (False,)),
    "merge_sigma_feat": (False, (False,)), "no_sigma": (False, (False,)), "tcnn_backend": (False, (False,)),
    "use_normal": (False, (False,)), "use_sdf": (None, (None,)), "normalized_feat": (False, (False,)),
    "final_sigmoid_act": (False, (False,)), "shuffle_factor": (1, (1,)), "disable_latents": (False, (False,)),
    "magnitude_ema_beta": (-1, (-1, 0)), "inverse_sphere": (False, (False,)),
}
BACKGROUND: Accepted = FIELD | {"inverse_sphere": (False, (True,))}
CAMERA: Accepted = {
    "angular_camera": (False, (True,)), "dists_normalized": (False, (False,)), "depth_transform": (None, (None, "None")),
    "range_radius": ((2.732, 2.732), ([1, 1],)),
}
RENDERER: Accepted = {"white_background": (False, (False,)), "sigma_type": ("relu", ("relu",))}
UPSAMPLER: Accepted = {
    "no_2d_renderer": (False, (False,)), "no_residual_img": (False, (False,)), "shared_rgb_style": (False, (False,)),
    "block_reses": (None, (None,)), "channel_dict": (None, (None,)), "out_channel_dict": (None, (None,)),
}
DISCRIMINATOR: Accepted = {
    "architecture": ("resnet", ("skip",)), "img_channels": (3, (3,)), "dual_input_ratio": (None, (None,)),
}
EPILOGUE: Accepted = {"mbstd_num_channels": (1, (1,)), "activation": ("lrelu", ("lrelu",))}
UPSAMPLE_MODES = ("nn_cat", "pixelshuffle", "nn_cat_noblur", "pixelshuffle_noblur")


def refuse(given: Options, accepted: Accepted, where: str) -> None:
    """BadInput if an option, given or left at the official default, has a value that the kit has no counterpart for."""
    for name, (default, values) in accepted.items():
        value = given.get(name, default)
        if isinstance(value, tuple):
            value = list(value)
        elif name.endswith("_name"):
            value = str(value).split(".")[-1]            # a class of theirs, without its module
        if value not in values:
            raise BadInput(f"{where}: {name} = {value!r} makes another network than the kit's, which has {name} = "
                           f"{' or '.join(map(repr, values))}; bring a checkpoint with that")


def generator_config(init_kwargs: Options) -> GeneratorConfig:
    """The configuration that belongs to the arguments of an official generator; they may be those that its constructor has
    already added its own to. Raises BadInput for options without a counterpart, or for arguments that lack a size."""
    try:
        synthesis = init_kwargs["synthesis_kwargs"]
        z_dim, w_dim, resolution = (int(init_kwargs[name]) for name in ("z_dim", "w_dim", "img_resolution"))
    except KeyError as error:
        raise BadInput(f"the generator's arguments have no {error.args[0]}; expected those of StyleNeRF's Generator") from error
    mapping = init_kwargs.get("mapping_kwargs") or {}
    camera, renderer = camera_options(init_kwargs), nested(synthesis, "renderer_kwargs")
    upsampler = {**synthesis, **(synthesis.get("upsampler_kwargs") or {})}
    front, back = (synthesis.get(name) or {} for name in ("foreground_kwargs", "background_kwargs"))
    background = not renderer.get("no_background", False)
    refuse(init_kwargs, GENERATOR, "the generator")
    refuse({**mapping, "layer_features": mapping.get("layer_features") or w_dim},
           MAPPING | {"layer_features": (w_dim, (w_dim,))}, "mapping_kwargs")
    for given, accepted, where in ((synthesis, SYNTHESIS, "synthesis_kwargs"), (camera, CAMERA, "camera_kwargs"),
                                   (renderer, RENDERER, "renderer_kwargs"), (upsampler, UPSAMPLER, "upsampler_kwargs"),
                                   (front, FIELD, "foreground_kwargs")):
        refuse(given, accepted, where)
    feature_dim = int(synthesis.get("rgb_out_dim", 256))
    z_bg_dim = int(synthesis.get("z_dim_bg", 128)) if background else 0
    if background:
        refuse(back, BACKGROUND, "background_kwargs")
        refuse({"rgb_out_dim_bg": synthesis.get("rgb_out_dim_bg") or feature_dim},
               {"rgb_out_dim_bg": (feature_dim, (feature_dim,))}, "synthesis_kwargs")
        if z_bg_dim == 0:
            raise BadInput("synthesis_kwargs: z_dim_bg = 0 makes a background that follows the style; the kit's has a latent "
                           "of its own")
    if (synthesis.get("input_kwargs") or {}).get("output_mode", "none") != "none":
        raise BadInput("synthesis_kwargs: input_kwargs makes a field with learned inputs, which the kit doesn't have")
    mode = upsample_mode(synthesis)
    rays = int(synthesis.get("resolution_vol", 32))
    if rays >= resolution:
        raise BadInput(f"the generator has no upsampling blocks ({resolution} pixels from {rays} rays); the kit's has")
    base = synthesis_channels(synthesis, upsampler)
    sides = [rays * 2 ** (i + 1) for i in range(int(math.log2(resolution // rays)))]
    near, far = camera.get("depth_range", (0.5, 6.0))
    n_samples = int(renderer.get("n_ray_samples", 14))
    return GeneratorConfig(
        z_dim=z_dim, w_dim=w_dim, z_bg_dim=z_bg_dim, mapping_layers=int(mapping.get("num_layers", 8)),
        mapping_lr_mult=float(mapping.get("lr_multiplier", 0.01)),
        field=FieldConfig(hidden=int(front.get("hidden_size", 128)), n_blocks=int(front.get("n_blocks", 8)),
                          n_frequencies=int(front.get("n_freq_posenc", 10))),
        feature_dim=feature_dim, ray_resolution=rays, align_corner=bool(camera.get("ray_align_corner", True)),
        fov=math.radians(camera.get("fov", 49.13)), near=float(near), far=float(far), n_samples=n_samples,
        n_fine=n_samples if renderer.get("hierarchical", True) else 0, background=background,
        background_hidden=int(back.get("hidden_size", 128)), background_blocks=int(back.get("n_blocks", 8)),
        background_samples=int(renderer.get("n_bg_samples", 4)), background_frequencies=int(back.get("n_freq_posenc", 10)),
        background_start=float(camera.get("bg_start", 1.0)),
        channels=tuple(min(base // side, int(synthesis.get("channel_max", 1024))) for side in sides),
        kernel=int(synthesis.get("kernel_size", 3)), upsample_mode=mode, clamp=synthesis.get("conv_clamp"),
        magnitude_gain=synthesis.get("magnitude_ema_beta", -1) > 0, noise=bool(synthesis.get("use_noise", True)))


def upsample_mode(synthesis: Options) -> str:
    """The kit's name of the mode. Raises BadInput for another way of upsampling."""
    given = synthesis.get("upsample_mode", "default")
    mode = next((m for m in ("pixelshuffle", "nn_cat") if m in given), given) + "_noblur" * ("noblur" in given)
    first = any(part in given for part in ("bilinear", "nearest", "bicubic", "ada"))           # as the official code tests them
    if mode not in UPSAMPLE_MODES or first:
        raise BadInput(f"synthesis_kwargs: upsample_mode = {given!r} makes another network than the kit's, which has "
                       f"{', '.join(UPSAMPLE_MODES)}; bring a checkpoint with one of them")
    return mode


def synthesis_channels(synthesis: Options, upsampler: Options) -> int:
    """Channels × resolution of a block, before the upper limit."""
    exact = upsampler.get("channel_base_sz")
    return int(synthesis.get("channel_base", 1) * 32768) if exact is None else int(exact)


def nested(synthesis: Options, name: str) -> Options:
    """A nested dictionary of options; if it is empty, the flat ones of older checkpoints."""
    return synthesis.get(name) or synthesis


def camera_options(init_kwargs: Options) -> Options:
    """The camera's options, nested or flat."""
    return nested(init_kwargs["synthesis_kwargs"], "camera_kwargs")


def camera_ranges(init_kwargs: Options) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ranges of azimuth and polar angle, radians."""
    given = camera_options(init_kwargs)
    (u0, u1), (v0, v1) = given.get("range_u", (0, 0)), given.get("range_v", (0.25, 0.25))
    return (float(u0), float(u1)), (float(v0), float(v1))


def gaussian(init_kwargs: Options) -> bool:
    """Whether a camera's numbers count from the middle of the ranges."""
    return bool(camera_options(init_kwargs).get("gaussian_camera", False))


def progressive(init_kwargs: Options) -> bool:
    """Whether `alpha` chooses the resolution."""
    return bool(init_kwargs["synthesis_kwargs"].get("progressive", True))


def sizes(state: dict[str, Tensor], background_frequencies: int = 10) -> dict[str, Any]:
    """The fields of a `GeneratorConfig` that the shapes of an official generator's tensors fix.

    Raises CorruptWeights if one of these tensors is missing.
    """
    def shape(name: str) -> torch.Size:
        if name not in state:
            raise CorruptWeights(f"the generator has no tensor {name}; it isn't StyleNeRF's, or the file is incomplete")
        return state[name].shape

    resolutions = sorted({int(m[1]) for m in map(re.compile(r"synthesis\.b(\d+)\.conv0\.weight").fullmatch, state) if m})
    if not resolutions:
        raise CorruptWeights("the generator has no blocks b64, b128, …; it isn't StyleNeRF's, or the file is incomplete")
    def layers(prefix: str) -> int:
        return sum(re.fullmatch(re.escape(prefix) + r"\d+\.weight", name) is not None for name in state)

    first = f"synthesis.b{resolutions[0]}.conv0"
    width, adapted = shape(f"{first}.weight")[0], shape(f"{first}.adapter.0.weight")[1]
    hidden, columns = shape("synthesis.fg_nerf.fc_in.weight")[:2]
    background = "synthesis.bg_nerf.fc_in.weight" in state
    found = {
        "z_dim": shape("mapping.fc0.weight")[1], "w_dim": shape("synthesis.fg_nerf.fc_in.affine.weight")[1],
        "mapping_layers": layers("mapping.fc"),
        "field": FieldConfig(hidden=hidden, n_blocks=layers("synthesis.fg_nerf.blocks.") + 1, n_frequencies=columns // 6),
        "feature_dim": shape("synthesis.fg_nerf.feat_out.weight")[0], "ray_resolution": resolutions[0] // 2,
        "channels": tuple(shape(f"synthesis.b{r}.conv0.weight")[0] for r in resolutions),
        "kernel": shape(f"{first}.weight")[-1],
        "upsample_mode": "nn_cat" if adapted == 2 * width else "pixelshuffle",
        "magnitude_gain": f"{first}.w_avg" in state, "noise": f"{first}.noise_const" in state, "background": background,
    }
    if background:
        hidden, columns = shape("synthesis.bg_nerf.fc_in.weight")
        found |= {"background_hidden": hidden, "background_blocks": layers("synthesis.bg_nerf.blocks.") + 1,
                  "z_bg_dim": columns - 8 * background_frequencies}
    return found


def discriminator_arguments(init_kwargs: Options) -> dict[str, Any]:
    """The arguments of the kit's `Discriminator`. Raises BadInput for options without a counterpart."""
    epilogue = init_kwargs.get("epilogue_kwargs") or {}
    refuse(init_kwargs, DISCRIMINATOR, "the discriminator")
    refuse(epilogue, EPILOGUE, "epilogue_kwargs")
    if "img_resolution" not in init_kwargs:
        raise BadInput("the discriminator's arguments have no img_resolution; expected those of StyleNeRF's Discriminator")
    resolution, base = int(init_kwargs["img_resolution"]), int(init_kwargs.get("channel_base", 1) * 32768)
    sides = [resolution // 2**i for i in range(int(math.log2(resolution)) - 1)]
    return {"resolution": resolution,
            "channels": tuple(min(base // side, int(init_kwargs.get("channel_max", 512))) for side in sides),
            "clamp": init_kwargs.get("conv_clamp"), "group": int(epilogue.get("mbstd_group_size", 4))}
