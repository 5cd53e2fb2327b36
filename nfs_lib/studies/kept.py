"""What a study begins with, and what it has measured so far, one file a case: a run that was stopped goes on where it was."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from nfs_lib.errors import BadInput
from nfs_lib.paths import check_output
from nfs_lib.writing import intact, replacing


def size(profile: str, sizes: Mapping[str, Any], out: str | Path) -> Any:
    """The study's size in this profile. Raises BadInput for another profile, and if `out` isn't a folder to write to."""
    if profile not in sizes:
        raise BadInput(f"there is no profile {profile!r}; use one of {', '.join(sizes)}")
    if not Path(out).is_dir():
        raise BadInput(f"{out} isn't a folder; make it first, or give another with --out")
    check_output(Path(out) / "study.csv", ".csv")     # whether anything can be written there
    return sizes[profile]


def key(*parts: nn.Module, about: Any = "") -> str:
    """Eight letters that change with the networks' weights and with what `about` shows: part of a file's name."""
    digest = hashlib.sha256(repr(about).encode())
    for part in parts:
        for tensor in part.state_dict().values():
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:8]


def save(path: Path, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """One case: what JSON can hold, and arrays by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"about": np.array(json.dumps(about)), **arrays}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **content)


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote: the entries of `about`, and "arrays"."""
    with np.load(path) as file:
        return {**json.loads(str(file["about"])), "arrays": {k: file[k] for k in file.files if k != "about"}}


def there(path: Path) -> bool:
    """Whether a case has been measured, and can be read; a damaged file is removed, which is said."""
    return intact(path, load)
