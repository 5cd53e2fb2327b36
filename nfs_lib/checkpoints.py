"""Weight files of a world: the manifest, and safetensors that are checked against it before they are used."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from nfs_lib.errors import CorruptWeights, MissingWeights
from nfs_lib.paths import data_folder
from nfs_lib.writing import alone, replacing

KINDS = {"file": str, "sha256": str, "bytes": int, "licence": str, "made_by": str, "figures": dict, "config": dict, "seed": int,
         "steps": int, "seconds": int | float}  # fmt: skip
WIDEST = 100_000  # no size in a configuration is larger
M = TypeVar("M", bound=torch.nn.Module)


@dataclass(frozen=True)
class Part:
    """One entry of `manifest.json`: the file, how it was made, and what rebuilds the module."""

    name: str
    folder: Path
    file: str
    sha256: str
    bytes: int
    licence: str
    made_by: str
    figures: dict[str, float]
    config: dict[str, Any]
    seed: int = 0
    steps: int = 0
    seconds: float = 0.0

    @property
    def path(self) -> Path:
        return self.folder / self.file


def world_folder(world: str) -> Path:
    """data/weights/`world`; it need not exist."""
    return data_folder() / "weights" / world


def read_manifest(folder: Path) -> dict[str, Part]:
    """The parts that `folder`/manifest.json names; none if there is no manifest.

    Raises CorruptWeights if it isn't a manifest, or names a file outside its folder.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text())["parts"]
        parts = {name: Part(name=name, folder=folder, **entry) for name, entry in entries.items()}
        for name, entry in entries.items():
            if wrong := [key for key, value in entry.items() if not isinstance(value, KINDS[key])]:
                raise ValueError(f"{name}.{wrong[0]} is of the wrong kind")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptWeights(f"{path} isn't a manifest of weights ({error}); check it out again") from error
    for part in parts.values():
        if Path(part.file).name != part.file or "\0" in part.file or not part.file.strip("."):
            raise CorruptWeights(
                f"{path} names {part.file!r}, which isn't a plain file name; check it out again"
            )
    return parts


def find_part(world: str, name: str, made_with: str | None = None) -> Part:
    """The manifest entry of a part. Raises MissingWeights, naming the command that makes it, or, in the paper world, the
    official file that it comes in, whose it is, its terms and the command that imports it.

    made_with: the part in whose training this one is made, if it has none of its own.
    """
    folder = world_folder(world)
    part = read_manifest(folder).get(name)
    if part is None or not part.path.is_file():
        file = part.path if part else folder / f"{name}.safetensors"
        if world == "paper":
            from nfs_lib.official.files import how_to_bring

            raise MissingWeights(f"{file} isn't there. {how_to_bring(name)}")
        raise MissingWeights(
            f"{file} isn't there. It comes with a checkout of the repository: point NFS_DATA at its data/ "
            f"folder, or make it with `nfs train {made_with or name}`"
        )
    return part


def verified_bytes(part: Part) -> bytes:
    """The file's content. Raises CorruptWeights if its size or its sha256 isn't the manifest's."""
    content = part.path.read_bytes()
    if len(content) != part.bytes or hashlib.sha256(content).hexdigest() != part.sha256:
        raise CorruptWeights(
            f"{part.path} isn't the file that the manifest describes ({len(content)} bytes, expected "
            f"{part.bytes}): check it out again, or make it with `{part.made_by}`"
        )
    return content


def load_tensors(part: Part) -> dict[str, Tensor]:
    """A part's tensors, floats as float32. A safetensors file holds numbers only: nothing in it can run.

    Raises CorruptWeights if the file differs from the manifest or isn't a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = verified_bytes(part)  # what was hashed is what is parsed
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise CorruptWeights(f"{part.path} isn't a safetensors file ({error}); check it out again") from error
    return {k: v.to(torch.float32) if v.is_floating_point() else v for k, v in tensors.items()}


def built(make: Callable[[], M], config: Any, most: int) -> M:
    """The module that `make` makes of a configuration out of a file. Raises ValueError, before it takes any memory, if it would
    hold more than `most` numbers, and what the module raises for a configuration that it can't use."""
    if (widest := max(_whole_numbers(config), default=0)) > WIDEST:
        raise ValueError(f"a size of {widest} in the configuration")
    with torch.device("meta"):
        count = sum(tensor.numel() for tensor in make().state_dict().values())
    if count > most:
        raise ValueError(f"a configuration of {count} numbers for a file of {most}")
    return make()


def _whole_numbers(value: Any) -> Iterator[int]:
    if isinstance(value, dict | list | tuple):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _whole_numbers(entry)
    elif isinstance(value, int):
        yield abs(value)


def built_part(make: Callable[[], torch.nn.Module], part: Part) -> Any:
    """`built` from the manifest's entry, with the part's weights (`fill`). Raises CorruptWeights if they can't be used."""
    try:
        module = built(make, part.config, part.bytes)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        first = " ".join(str(error).split())[:200]
        raise CorruptWeights(f"{part.folder / 'manifest.json'}: the configuration of {part.name} can't be used ({first}); "
                             "check it out again") from error
    return fill(module, part)


def fill(module: torch.nn.Module, part: Part) -> Any:
    """Give `module` the part's weights and set it to evaluation. Raises CorruptWeights if they don't fit."""
    try:
        module.load_state_dict(load_tensors(part))
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise CorruptWeights(
            f"{part.path} doesn't fit this version's {part.name}; make it with `{part.made_by}` ({first})"
        ) from error
    return module.eval()


def write_part(folder: Path, name: str, tensors: dict[str, Tensor], licence: str, made_by: str, config: dict[str, Any],
               **about: Any) -> Part:  # fmt: skip
    """Write NAME.safetensors, numbers as they are given, and its entry in `folder`/manifest.json; both whole or not at all.

    A kill between the two renames leaves a file that isn't the manifest's, which is noticed when it is read.
    about: what else the entry says: figures, seed, steps, seconds.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    path, manifest = folder / f"{name}.safetensors", folder / "manifest.json"
    own = {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    with alone(folder, wait=True), replacing(manifest) as listing, replacing(path) as temporary:
        content = save(own)                           # its save_file leaves a file of its own behind when it is killed
        temporary.write_bytes(content)
        part = Part(name, folder, path.name, hashlib.sha256(content).hexdigest(), len(content), licence, made_by,
                    **{"figures": {}, **about}, config=config)  # fmt: skip
        entries = {}
        for key, value in sorted({**read_manifest(folder), name: part}.items()):
            entries[key] = {field: entry for field, entry in vars(value).items() if field not in ("name", "folder")}
        listing.write_text(json.dumps({"parts": entries}, indent=1) + "\n")
    return part


def list_weights(worlds: tuple[str, ...] = ("open", "paper")) -> list[Part]:
    """All parts in the manifests, for `nfs weights list`."""
    return [part for world in worlds for part in read_manifest(world_folder(world)).values()]


def verify_weights(part: Part) -> str:
    """ "ok", "missing" or "corrupt", for `nfs weights verify`."""
    if not part.path.is_file():
        return "missing"
    try:
        load_tensors(part)
    except CorruptWeights:
        return "corrupt"
    return "ok"
