"""A file of weights, whatever its kind: read without running anything in it, and without trusting its sizes."""

import os
from io import BufferedReader
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from nfs_lib.errors import CorruptWeights, NfsError
from nfs_lib.paths import check_input

LARGEST = 2**31  # bytes of a file
HEADER = 2**22  # bytes of a safetensors header
KINDS = "network pickles (.pkl), torch checkpoints (.pth, .pt, .model), safetensors and MATLAB files (.mat)"


def read(path: str | Path) -> dict[str, Any]:
    """What a file holds. Its content decides of which kind it is, not its name.

    A network pickle: G, D, G_ema as `networks.Network`. A torch checkpoint: its table as it was saved, with tensors on the
    CPU. Safetensors: names → tensors. A MATLAB file: names → arrays.
    Raises BadInput for a file that isn't there; UnsafeCheckpoint if it asks for code to be run, or could; CorruptWeights if it
    is damaged, of another kind, or needs far more memory or time than an official one. Nothing else.
    """
    path = check_input(path, "a file of official weights")
    with path.open("rb") as file:
        try:
            return content(path, file)
        except NfsError as error:
            raise type(error)(f"{path}: {error}") from error
        except Exception as error:
            what = " ".join(f"{type(error).__name__}: {error}".split())[:120]
            raise CorruptWeights(f"{path}: it is damaged or cut short ({what}); fetch it from its authors again") from error


def content(path: Path, file: BufferedReader) -> dict[str, Any]:
    """`read` of an open file. Raises Python's own errors, too."""
    from nfs_lib.official import matfile, networks, tensors
    from nfs_lib.official.unpickle import Budget

    size, head = os.fstat(file.fileno()).st_size, file.read(16)
    file.seek(0)
    budget = Budget(size)
    if size > LARGEST:
        raise CorruptWeights(f"it has {size / 1e9:.1f} GB, more than any official file")
    if head.startswith((b"MATLAB", b"\x89HDF")):
        return matfile.arrays(file)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= min(HEADER, size):
        from safetensors.torch import load_file

        return load_file(path)
    if head.startswith(b"PK"):
        table = tensors.zipped(file, budget, tensors.makers(budget))
    elif head.startswith(b"\x80"):
        with mmap(file.fileno(), 0, access=ACCESS_READ) as source:
            if not head.startswith(tensors.LEGACY):
                return networks.networks(source, budget)
            table = tensors.legacy(source, budget, tensors.makers(budget))
    else:
        raise CorruptWeights(f"it is none of the kinds that official weights come in: {KINDS}")
    if type(table) is not dict:
        raise CorruptWeights(f"it holds a {type(table).__name__}, not a table of tensors")
    return table
