"""Where the kit's own data lies, and how files are written: whole or not at all."""

import errno
import hashlib
import os
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from nfs_lib.errors import BadInput, CantWrite, CorruptWeights, MissingWeights, NfsError

try:
    import fcntl
except ImportError:                                   # not on Windows: there nothing is locked, and what a kill left stays
    fcntl = None  # type: ignore[assignment]


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
        _temporary(path).is_file()                   # raises for a name that is too long
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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the temporary path that this yields; it takes `path`'s place only if the block succeeds.

    The temporary lies in the same folder, keeps the suffix, and is removed on any failure, Ctrl-C included; what a killed run
    left of it goes when `path` is next written. Of two runs that write the same path, the later one's file stays.
    Raises CantWrite if the disk is full, or the folder goes away meanwhile.
    """
    temporary = _temporary(path)
    try:
        remove_left_over(path)
        file = temporary.open("xb")
    except OSError as error:
        raise cant_write(path, error) from error
    try:
        with file:
            with suppress(OSError):                   # a file system without locks
                if fcntl:
                    fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed: a run that lives writes here
            yield temporary
            os.replace(temporary, path)
    except NfsError:
        raise
    except Exception as error:
        if reason := why_not(temporary, error):
            raise cant_write(path, reason) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def _temporary(path: Path) -> Path:
    return path.parent / f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}"


def remove_left_over(path: Path) -> None:
    """Remove the temporaries of `path` that no living run holds."""
    name = re.compile(rf"\.{re.escape(path.stem)}\.[0-9a-f]{{8}}\.part{re.escape(path.suffix)}")
    for left in [entry for entry in path.parent.iterdir() if fcntl and name.fullmatch(entry.name)]:
        with suppress(OSError), left.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
            left.with_name(f"{left.stem}.unsigned{left.suffix}").unlink(missing_ok=True)  # of a video


def why_not(file: Path, failed: Exception) -> OSError | None:
    """Why no more could be written to a file; None if that isn't it. Some writers hide what the system told them: then the file
    itself is asked."""
    if isinstance(failed, OSError) and failed.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OSError(failed.errno, os.strerror(failed.errno))
    try:
        with file.open("r+b") as more:
            more.seek(0, os.SEEK_END)
            more.write(bytes(2**20))
    except OSError as error:
        return error
    return None


def cant_write(path: Path, reason: OSError) -> CantWrite:
    """What happened and what to do, for a file that couldn't be written."""
    if isinstance(reason, FileNotFoundError):
        return CantWrite(f"{path} couldn't be written: {path.parent} isn't there any more, or was emptied meanwhile; make it "
                         "again and keep it while this runs")
    return CantWrite(f"{path} couldn't be written ({reason.strerror}); make room or choose another folder, then run it again")


@contextmanager
def alone(folder: Path, wait: bool = False) -> Iterator[None]:
    """Nobody else is in such a block with this folder, which must exist, at the same time.

    Waits for them, or else raises BadInput. Where the file system has no locks, nothing is checked.
    """
    handle = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        if handle is not None:
            lock(handle, folder, wait)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def lock(handle: int, folder: Path, wait: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BadInput(f"another run is writing to {folder}; let it end, or choose another folder (--out)") from error
    except OSError:                                   # a file system without locks
        pass


def intact(path: Path, read: Callable[[Path], Any]) -> bool:
    """Whether a file that can be made again is there and `read` can read it; a damaged one is removed, which is said."""
    if not path.is_file():
        return False
    try:
        read(path)
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, CorruptWeights) as error:
        print(f"{path} is damaged ({' '.join(str(error).split())}); it is made again", file=sys.stderr)
        path.unlink()
        return False
    return True
