"""Where the kit's own data lies, and how files are written: whole or not at all."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nfs_lib.errors import MissingWeights


def data_folder() -> Path:
    """The `data/` folder; it need not exist. NFS_DATA overrides the one beside the package."""
    override = os.environ.get("NFS_DATA")
    return Path(override) if override else Path(__file__).resolve().parent.parent / "data"


def data_file(name: str, made_by: str) -> Path:
    """Path of data/`name`, for example `data_file("face/anny.npz", "nfs train face")`.

    Raises MissingWeights with `made_by`, the command that makes the file, if it isn't there.
    """
    path = data_folder() / name
    if not path.is_file():
        raise MissingWeights(
            f"{path} isn't there. It comes with a checkout of the repository: point NFS_DATA at its "
            f"data/ folder, or make the file with `{made_by}`"
        )
    return path


def digest(path: Path) -> str:
    """sha256 of a file."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            total.update(piece)
    return total.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the temporary path that this yields; it takes `path`'s place only if the block succeeds.

    The temporary lies in the same folder, keeps the suffix, and is removed on any failure, Ctrl-C included.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
