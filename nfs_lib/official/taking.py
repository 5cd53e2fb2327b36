"""Parts out of the content of official files: how each is recognised, checked and, where needed, converted.

A part is known by the names of its tensors, not by its file's name. Parts keep the official names, which are those of the
kit's modules; generator and discriminator are converted. What a file holds beyond its part (optimisers, classifiers) is
left out.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nfs_lib.errors import CorruptWeights
from nfs_lib.official.networks import Network
from nfs_lib.official.unpickle import printable

PREFIXES = ("", "module.", "netG.", "module.netG.", "audio2exp.", "face_3drecon.")  # of names, in files that hold more
FACE = ("meanshape", "meantex", "idBase", "exBase", "texBase", "tri", "point_buf", "keypoints", "tri_mask2", "frontmask2_idx",
        "skinmask")  # fmt: skip

Content = dict[str, Any]  # of a file, as `readers.read` gives it


class Taken(NamedTuple):
    """What `worlds` needs of a part."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]


Take = Callable[[Content], Taken | None]  # None: the part isn't in there


def tables(content: dict[str, Any], mark: str) -> Iterator[dict[str, Tensor]]:
    """Tables of tensors in a file's content that hold a tensor called `mark`, by their names without a prefix."""
    for table in (content, *(value for value in content.values() if type(value) is dict)):
        for prefix in PREFIXES:
            if isinstance(table.get(prefix + mark), Tensor):
                yield {
                    name.removeprefix(prefix): value
                    for name, value in table.items()
                    if isinstance(name, str) and name.startswith(prefix) and isinstance(value, Tensor)
                }


def checked(part: str, state: dict[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors that `shapes` names, in that order, floats as float32.

    A batch norm's count of its batches, which old files lack, becomes 0. Raises CorruptWeights if another one is missing, of
    another shape, or not finite.
    """
    fitting = {}
    for name, shape in shapes.items():
        value = state.get(name)
        if value is None and name.endswith("num_batches_tracked"):
            value = torch.tensor(0)
        if value is None or tuple(value.shape) != shape:
            given = "missing" if value is None else f"of shape {tuple(value.shape)}"
            raise CorruptWeights(f"this {part} isn't the official one: {printable(name)} is {given}, {shape} expected")
        if not value.isfinite().all():
            raise CorruptWeights(f"this {part} has numbers that aren't finite, in {printable(name)}; fetch it again")
        fitting[name] = value.float() if value.is_floating_point() else value
    return fitting


def module(part: str, mark: str, name: str, config: Callable[[dict[str, Tensor]], dict[str, Any]] = lambda state: {}) -> Take:
    """Takes the tensors of a module of the kit.

    mark: a tensor that only this part has; name: the module's, "metrics.syncnet.SyncNet"; config: its arguments.
    """

    def take(content: Content) -> Taken | None:
        for state in tables(content, mark):
            try:
                arguments = config(state)
            except (LookupError, ValueError) as error:
                raise CorruptWeights(f"this {part} isn't the official one; fetch it again") from error
            place, kind = name.rsplit(".", 1)
            with torch.device("meta"):
                built = getattr(importlib.import_module(f"nfs_lib.{place}"), kind)(**arguments)
            return Taken(arguments, checked(part, state, {key: tuple(v.shape) for key, v in built.state_dict().items()}))
        return None

    return take


def lipaint_sizes(state: dict[str, Tensor]) -> dict[str, Any]:
    w_dim = len(state["fc4.weight"])
    return {"w_dim": w_dim, "n_exp": state["fc1.weight"].shape[1] - w_dim}


def arcface_layers(state: dict[str, Tensor]) -> dict[str, Any]:
    from nfs_lib.metrics.arcface import BLOCKS

    blocks = tuple(sum(f"layer{stage}.{i}.prelu.weight" in state for i in range(100)) for stage in (1, 2, 3, 4))
    layers = next((layers for layers, known in BLOCKS.items() if known == blocks), None)
    if layers is None:
        raise CorruptWeights(f"this arcface has {blocks} blocks in its stages; the kit knows {BLOCKS} (layers: blocks)")
    return {"layers": layers}


def trunk(part: str, name: str) -> Take:
    """Takes the convolutions of a torchvision classifier that LPIPS looks with. name: "vgg" or "alex"."""

    def take(content: Content) -> Taken | None:
        from nfs_lib.lpips import Trunk

        with torch.device("meta"):
            shapes = {key: tuple(value.shape) for key, value in Trunk(name).state_dict().items()}
        return Taken({}, checked(part, content, shapes)) if shapes_of(content, "features.") == shapes else None

    return take


def linear_heads(part: str, name: str) -> Take:
    """Takes the weights with which LPIPS adds up differences."""

    def take(content: Content) -> Taken | None:
        from nfs_lib.lpips import CHANNELS

        shapes = {f"lin{i}.model.1.weight": (1, channels, 1, 1) for i, channels in enumerate(CHANNELS[name])}
        return Taken({}, checked(part, content, shapes)) if shapes_of(content, "lin") == shapes else None

    return take


def shapes_of(content: Content, prefix: str) -> dict[str, tuple[int, ...]]:
    return {name: tuple(v.shape) for name, v in content.items() if isinstance(v, Tensor) and str(name).startswith(prefix)}


def generator(content: Content) -> Taken | None:
    """The running mean of the generator's weights, which the official scripts use."""
    network = content.get("G_ema")
    if not isinstance(network, Network):
        return None
    from nfs_lib.stylenerf.official import convert_generator

    if max(depths(network.init_kwargs), default=0) > len(network.state_dict):
        raise CorruptWeights("this generator has fewer tensors than it says it has layers")
    config, tensors = convert_generator(network.init_kwargs, network.state_dict)
    return Taken(asdict(config), float32(tensors))


def depths(options: dict[str, Any]) -> Iterator[int]:
    """All numbers of layers in a network's arguments."""
    for name, value in options.items():
        if isinstance(value, dict):
            yield from depths(value)
        elif name in ("num_layers", "n_blocks") and isinstance(value, int):
            yield value


def discriminator(content: Content) -> Taken | None:
    network = content.get("D")
    if not isinstance(network, Network):
        return None
    from nfs_lib.stylenerf.official import convert_discriminator

    config, tensors = convert_discriminator(network.init_kwargs, network.state_dict)
    return Taken(config, float32(tensors))


def float32(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def face_model(content: Content) -> Taken | None:
    """The arrays of `BFM_model_front.mat` by their names there; indices count from 1."""
    if "idBase" not in content or "exBase" not in content:
        return None
    from nfs_lib.face.bfm import Bfm

    found = {name: content[name] for name in FACE if name in content}
    tensors = {name: torch.from_numpy(value.astype("f4" if value.dtype.kind == "f" else "i8")) for name, value in found.items()}
    Bfm(tensors)  # raises CorruptWeights unless they belong together
    return Taken({}, tensors)
