"""Where the kit's own data lies, and which paths from outside can be read from and written to."""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from nfs_lib.errors import BadInput, MissingWeights
from nfs_lib.writing import temporary_for, unsigned


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


def check_input(path: str | os.PathLike[str], wanted: str) -> Path:
    """Make sure that `path` is a file that can be read; returns it as a Path. wanted: what the message asks for, "a png".

    Raises BadInput for what isn't there, isn't a path, is a folder, a pipe or a device, and for a file without permission.
    """
    try:
        mode = os.stat(path).st_mode if isinstance(path, str | os.PathLike) else 0
        if stat.S_ISREG(mode):
            open(path, "rb").close()
            return Path(path)
        what = "is a folder" if stat.S_ISDIR(mode) else "isn't a regular file" if mode else "isn't a path"
    except (FileNotFoundError, NotADirectoryError):
        what = "doesn't exist"
    except (OSError, ValueError) as error:           # no permission; a name that is too long, or has a zero in it
        what = f"can't be opened ({getattr(error, 'strerror', None) or error})"
    raise BadInput(f"{str(path) or repr(path)} {what}; give {wanted}")


def check_output(path: str | os.PathLike[str], suffix: str = ".mp4") -> Path:
    """Make sure that a file can be written at `path`, before any long work; returns it as a Path.

    Raises BadInput if `path` is a folder, doesn't end in `suffix`, or lies in a folder that is missing or
    can't be written to.
    """
    try:
        path = Path(path)
        if "\0" in str(path):
            raise ValueError("a zero in it")
        unsigned(temporary_for(path)).is_file()         # raises for a name that is too long
        special = path.exists() and not path.is_file() and not path.is_dir()
    except (OSError, ValueError, TypeError) as error:  # a name that is too long, or has a zero in it; no name at all
        raise BadInput(f"{path!s} can't be the name of a file ({error}); give another, ending in {suffix}") from error
    if path.is_dir():
        raise BadInput(
            f"{path} is a folder; give the name of a file to write, such as {path / 'out'}{suffix}"
        )
    if special:
        raise BadInput(f"{path} is a pipe or a device, which would be replaced by a file; give another name")
    if path.suffix.lower() != suffix:
        raise BadInput(f"{path} doesn't end in {suffix}; give a name such as {path.stem or 'out'}{suffix}")
    if not path.parent.is_dir():
        raise BadInput(f"{path.parent} isn't a folder, so {path.name} can't be written there; make it first")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        reason = error.strerror or "no reason given"
        raise BadInput(f"{path.parent} can't be written to ({reason}); choose another folder") from error
    return path
