"""From the authors' StyleNeRF networks to the kit's: what their constructors were given, their tensors' names, their axes.

A network of theirs is known by `init_kwargs`, the arguments that its constructor got (a plain nested dictionary), and its
state dictionary. Options that would make another function than the kit's are refused by name (`options`); unknown ones are
ignored, as the official classes do.

The official world has other axes (`official_cameras`), so the columns of the fields' first layers are permuted; rendering
needs no other change.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nfs_lib.errors import BadInput, CorruptWeights
from nfs_lib.stylenerf import options
from nfs_lib.stylenerf.config import FFHQ_1024, GeneratorConfig
from nfs_lib.stylenerf.discriminator import Discriminator
from nfs_lib.stylenerf.generator import Generator
from nfs_lib.stylenerf.official_cameras import AXES

CONSTANT = re.compile(r"(.*\.)?resample_filter|(synthesis\.)?alpha")     # buffers that carry nothing to convert


# the generator


def config_from_kwargs(init_kwargs: dict[str, Any], state: dict[str, Tensor] | None = None) -> GeneratorConfig:
    """The configuration of a generator that the official code made with these arguments.

    state: its state dictionary. Then sizes are compared with the tensors' shapes, and a generator whose progressive training
    never began (`alpha` −1) gets the 20 samples that the official code gives it. Without arguments (an empty dictionary) sizes
    are read from the shapes; what no shape shows, field of view, depths, ray grid, is taken from the published configuration,
    with a warning.

    Raises BadInput for an option that the kit doesn't have, or a generator in the middle of progressive training;
    CorruptWeights if arguments and shapes contradict each other, or can't be understood.
    """
    with readable("generator"):
        return read_config(init_kwargs, state)


def read_config(init_kwargs: dict[str, Any], state: dict[str, Tensor] | None) -> GeneratorConfig:
    """`config_from_kwargs`, where broken arguments raise whatever Python makes of them."""
    if not init_kwargs:
        if state is None:
            raise BadInput("the generator has neither arguments nor tensors; give at least its state dictionary")
        warnings.warn("the generator's own description is missing: sizes are read from its tensors, camera and ray grid are "
                      "assumed to be those of the published configuration", stacklevel=4)
        return replace(FFHQ_1024, **options.sizes(state))
    config = options.generator_config(init_kwargs)
    if state is not None:
        for name, value in options.sizes(state, config.background_frequencies).items():
            given = getattr(config, name)
            if name == "upsample_mode":
                value = value + "_noblur" * given.endswith("_noblur")
            if value != given:
                raise CorruptWeights(f"the generator says {name} = {given}, but its tensors say {value}; get the file again")
        if options.progressive(init_kwargs) and float(state.get("synthesis.alpha", torch.ones(()))) not in (-1.0, 1.0):
            raise BadInput(f"the generator is a snapshot from the middle of progressive training (alpha "
                           f"{float(state['synthesis.alpha']):.3g}); bring the one from its end (alpha 1)")
        if float(state.get("synthesis.alpha", torch.ones(()))) == -1.0:
            config = replace(config, n_samples=20, n_fine=20 if config.n_fine else 0)
    return config


def convert_generator(init_kwargs: dict[str, Any], state: dict[str, Tensor]) -> tuple[GeneratorConfig, dict[str, Tensor]]:
    """An official generator → its configuration and the state dictionary of the kit's `Generator` (float32, kit's axes).

    Tensors that the kit doesn't know are ignored with a warning that names them. Raises CorruptWeights if one is missing or
    has the wrong shape, BadInput as `config_from_kwargs`.
    """
    config = config_from_kwargs(init_kwargs, state)
    with readable("generator"):
        tensors = renamed(state, generator_names(config), Generator, config)
    permute_inputs(tensors, config)
    for i in range(len(config.channels)):               # where the official code upsamples, it convolves: kernels turned round
        name = f"upsampler.conv0.{i}.conv.weight"
        tensors[name] = tensors[name].flip(2, 3)
    return config, tensors


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Whatever goes wrong in reading arguments or shapes that make no sense becomes CorruptWeights."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CorruptWeights(f"the {what}'s description makes no sense ({type(error).__name__}: {error}); "
                             "get the file again") from error


def generator_names(config: GeneratorConfig) -> dict[str, str]:
    """The kit's names → the official ones."""
    def modulated(ours: str, theirs: str, bias: bool = True) -> dict[str, str]:
        ends = ["weight", "affine.weight", "affine.bias", *(["bias"] if bias else [])]
        return {f"{ours}.{end}": f"{theirs}.{end}" for end in ends}

    def plain(ours: str, theirs: str) -> dict[str, str]:
        return {f"{ours}.{end}": f"{theirs}.{end}" for end in ("weight", "bias")}

    names = {"mapping.w_avg": "mapping.w_avg"}
    for i in range(config.mapping_layers):
        names |= plain(f"mapping.layers.{i}", f"mapping.fc{i}")
    hidden = [f"blocks.{i}" for i in range(config.field.n_blocks - 1)]
    for layer in ("fc_in", *hidden, "sigma_out", "feat_out"):
        names |= modulated(f"foreground.{layer}", f"synthesis.fg_nerf.{layer}")
    names |= plain("foreground.to_rgb", "synthesis.fg_nerf.to_rgb")
    if config.background:
        hidden = [f"blocks.{i}" for i in range(config.background_blocks - 1)]
        for layer in ("fc_in", *hidden, "sigma_out", "feat_out", "to_rgb"):
            names |= plain(f"background.{layer}", f"synthesis.bg_nerf.{layer}")
    for i in range(len(config.channels)):
        block = f"synthesis.b{config.ray_resolution * 2 ** (i + 1)}"
        for layer in ("conv0", "conv1"):
            ours, theirs = f"upsampler.{layer}.{i}", f"{block}.{layer}"
            names |= modulated(f"{ours}.conv", theirs, bias=False) | {f"{ours}.bias": f"{theirs}.bias"}
            names |= {f"{ours}.magnitude": f"{theirs}.w_avg"} if config.magnitude_gain else {}
            names |= {f"{ours}.{n}": f"{theirs}.{n}" for n in ("noise_const", "noise_strength") if config.noise}
        for part in (0, 1):
            names |= plain(f"upsampler.conv0.{i}.adapter.{part}", f"{block}.conv0.adapter.{part}")
        names |= modulated(f"upsampler.torgb.{i}", f"{block}.torgb", bias=False)
        names[f"upsampler.rgb_bias.{i}"] = f"{block}.torgb.bias"
    return names


def renamed(state: dict[str, Tensor], names: dict[str, str], kind: type, *arguments: Any) -> dict[str, Tensor]:
    """The tensors under the kit's names, as `kind(*arguments)` needs them. 1 × 1 convolutions of the fields become matrices.

    Raises CorruptWeights for a missing tensor or a wrong shape; warns about tensors that nobody asked for.
    """
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in kind(*arguments).state_dict().items()}
    missing = sorted(theirs for theirs in names.values() if theirs not in state)
    if missing:
        raise CorruptWeights(f"{len(missing)} tensors are missing, the first of them {missing[0]}; get the file again")
    extra = sorted(name for name in state if name not in names.values() and not CONSTANT.fullmatch(name))
    if extra:
        warnings.warn(f"ignored {len(extra)} tensors that the {kind.__name__.lower()}'s forward pass doesn't need: "
                      + ", ".join(extra[:8]) + (" …" if len(extra) > 8 else ""), stacklevel=4)
    tensors = {}
    for ours, shape in expected.items():
        value = state[names[ours]].detach().to(torch.float32)
        if value.ndim == 4 and len(shape) == 2 and value.shape[2:] == (1, 1):
            value = value.flatten(1)
        if value.shape != shape:
            raise CorruptWeights(f"{names[ours]} has the shape {tuple(value.shape)}, expected {tuple(shape)}; "
                                 "get the file again")
        tensors[ours] = value.clone()
    return tensors


def permute_inputs(tensors: dict[str, Tensor], config: GeneratorConfig) -> None:
    """Give the fields' first layers their inputs in the kit's order of axes, in place.

    The positional encoding goes frequency by frequency, sines before cosines, so every run of 3 (background: 4) columns is one
    point's coordinates. The style of the foreground's first layer scales the same columns.
    """
    def axes(runs: int, order: Sequence[int]) -> list[int]:
        return [run * len(order) + axis for run in range(runs) for axis in order]

    order = axes(2 * config.field.n_frequencies, AXES)
    tensors["foreground.fc_in.weight"] = tensors["foreground.fc_in.weight"][:, order]
    for end in ("weight", "bias"):
        tensors[f"foreground.fc_in.affine.{end}"] = tensors[f"foreground.fc_in.affine.{end}"][order]
    if config.background:
        weight = tensors["background.fc_in.weight"]
        order = axes(2 * config.background_frequencies, [*AXES, 3])
        tensors["background.fc_in.weight"] = weight[:, [*order, *range(len(order), weight.shape[1])]]


# the discriminator


def convert_discriminator(init_kwargs: dict[str, Any], state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """An official discriminator → the arguments of the kit's `Discriminator` and its state dictionary (float32).

    What the picture's logit doesn't need (a second branch c8, c16, …, a camera's projector) is ignored with a warning. Raises
    BadInput for an option that changes the logit and that the kit doesn't have, CorruptWeights as `convert_generator`.
    """
    with readable("discriminator"):
        return read_discriminator(init_kwargs, state)


def read_discriminator(init_kwargs: dict[str, Any], state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """`convert_discriminator`, where broken arguments raise whatever Python makes of them."""
    arguments = options.discriminator_arguments(init_kwargs)
    alpha = float(state.get("alpha", torch.ones(())))
    if init_kwargs.get("progressive", False) and alpha not in (-1.0, 1.0):
        raise BadInput(f"the discriminator is a snapshot from the middle of progressive training (alpha {alpha:.3g}); "
                       "bring the one from its end (alpha 1)")
    out = state.get("b4.out.weight")
    if out is not None and len(out) != 1:
        raise BadInput(f"the discriminator judges a picture together with its camera ({len(out)} outputs), which the kit "
                       "can't; expected one output")
    names: dict[str, str] = {}
    resolutions = [arguments["resolution"] // 2**i for i in range(len(arguments["channels"]) - 1)]
    pairs = [(f"{layer}.{i}", f"b{r}.{layer}") for layer in ("fromrgb", "conv0", "conv1") for i, r in enumerate(resolutions)]
    for ours, theirs in [*pairs, ("fromrgb4", "b4.fromrgb"), ("conv4", "b4.conv"), ("fc", "b4.fc"), ("out", "b4.out")]:
        names |= {f"{ours}.{end}": f"{theirs}.{end}" for end in ("weight", "bias")}
    return arguments, renamed(state, names, Discriminator, *arguments.values())
