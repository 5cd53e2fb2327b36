"""Parity of safe loading: pickles made by the official code give its arguments and tensors; hostile ones run nothing.

Beside NAME.pkl may lie NAME_init_kwargs_expected.json (network → arguments) and NAME_G_expected.safetensors. Tensors without
a file of the pickle's own are compared with the collection's X_G (for G_ema), X_D and X_G_expected that have their names and
shapes.
"""

import json
import math
import tempfile
from pathlib import Path

from torch import Tensor

from nfs_lib.errors import NfsError
from nfs_lib.official.networks import Network
from nfs_lib.official.readers import read
from nfs_lib.parity.golden import Parity

MARKER = "PWNED"  # what the hostile pickles would leave in the temporary folder
BESIDE = {"G": "*_G_expected.safetensors", "G_ema": "*_G.safetensors", "D": "*_D.safetensors"}


def check(home: Path, only: str | None = None) -> list[Parity]:
    """One result for each *.pkl in a folder; only: the one of this name, without the suffix, or all of the folder so called."""
    pickles = [path for path in sorted(home.glob("*.pkl")) if only in (None, path.stem, home.name)]
    return [hostile(path) if path.stem.startswith("malicious") else benign(path) for path in pickles]


def hostile(path: Path) -> Parity:
    """ok if nothing was run. It must be refused, too, unless its only fault is the program text that is never read."""
    marker = Path(tempfile.gettempdir()) / MARKER
    before = marker.exists() and marker.stat().st_mtime_ns
    try:
        refused = not read(path)
    except NfsError:
        refused = True
    run = before != (marker.exists() and marker.stat().st_mtime_ns)
    well = (refused or "module_src" in path.stem) and not run
    return Parity(path.stem, 0.0 if well else math.inf, 0.0, well)


def benign(path: Path) -> Parity:
    """The largest difference of any tensor; infinite if an argument, a name or a shape differs. Tolerance 0."""
    arguments = path.with_name(f"{path.stem}_init_kwargs_expected.json")
    expected = json.loads(arguments.read_text()) if arguments.exists() else {}
    try:
        content = read(path)
    except NfsError:
        return Parity(path.stem, math.inf, 0.0, False)
    errors = [0.0 if name in content and content[name].init_kwargs == kwargs else math.inf for name, kwargs in expected.items()]
    for name, network in content.items():
        own = path.with_name(f"{path.stem}_{name}_expected.safetensors")
        given = [own] if own.exists() else sorted(path.parent.glob(BESIDE[name]))
        differences = [difference(network, file) for file in given]
        if name == "G" and not own.exists():  # the file may be another pickle's; then G is like G_ema at least
            differences = [error for error in differences if not math.isinf(error)]
            errors += [math.inf] if "G_ema" in content and shapes(network) != shapes(content["G_ema"]) else []
        errors += [min(differences)] if differences else []
    if not errors:
        return Parity(path.stem, math.nan, math.nan, None)
    return Parity(path.stem, max(errors), 0.0, max(errors) == 0)


def shapes(network: Network) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict.items()}


def difference(network: Network, file: Path) -> float:
    """The largest difference to the tensors of a safetensors file; infinite if names or shapes differ."""
    from safetensors.torch import load_file

    ours, theirs = network.state_dict, load_file(file)
    if shapes(network) != {name: tuple(value.shape) for name, value in theirs.items()}:
        return math.inf
    return max(largest(ours[name], theirs[name]) for name in theirs)


def largest(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.double() - theirs.double()).abs().max()) if theirs.numel() else 0.0
