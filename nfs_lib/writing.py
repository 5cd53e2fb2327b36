"""How files are written: whole or not at all, and not by two runs at once."""

import errno
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zlib import error as BadDeflate

from nfs_lib.errors import BadInput, CantWrite, CorruptWeights, NfsError

try:
    import fcntl
except ImportError:                                   # not on Windows: there nothing is locked, and what a kill left stays
    fcntl = None  # type: ignore[assignment]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the temporary path that this yields; it takes `path`'s place only if the block succeeds.

    The temporary lies in the same folder, keeps the suffix, and is removed on any failure, Ctrl-C included; what a killed run
    left of it goes when `path` is next written. Of two runs that write the same path, the later one's file stays.
    Raises CantWrite if the disk is full, or the folder goes away meanwhile.
    """
    temporary = temporary_for(path)
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


def temporary_for(path: Path) -> Path:
    """A new name beside `path`, hidden, with its suffix."""
    return path.parent / f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}"


def unsigned(video: Path) -> Path:
    """Where a video lies until its manifest is signed: beside it."""
    return video.with_name(f"{video.stem}.unsigned{video.suffix}")


def remove_left_over(path: Path) -> None:
    """Remove the temporaries of `path` that no living run holds."""
    name = re.compile(rf"\.{re.escape(path.stem)}\.[0-9a-f]{{8}}\.part{re.escape(path.suffix)}")
    for left in [entry for entry in path.parent.iterdir() if fcntl and name.fullmatch(entry.name)]:
        with suppress(OSError), left.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
            unsigned(left).unlink(missing_ok=True)


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
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, BadDeflate, CorruptWeights) as error:
        print(f"{path} is damaged ({' '.join(str(error).split())}); it is made again", file=sys.stderr)
        path.unlink()
        return False
    return True
