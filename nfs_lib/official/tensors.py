"""Tensors as torch writes them: in its zip files, in its older files, and in pieces of those inside other pickles.

All three are a pickle that says how tensors lie in storages, and the storages' bytes. Sizes are compared with what is
there before anything is allocated.
"""

import math
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from io import BufferedIOBase, BytesIO
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nfs_lib.errors import CorruptWeights, UnsafeCheckpoint
from nfs_lib.official.unpickle import Budget, Global, Makers, Source, containers, unpickle

MAGIC = 0x1950A86A20F9469CFC6C  # begins an older file
LEGACY = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")
DTYPES = {
    f"torch.{kind}Storage": dtype
    for kind, dtype in (("Float", torch.float32), ("Double", torch.float64), ("Half", torch.float16), ("Long", torch.int64),
                        ("BFloat16", torch.bfloat16), ("Int", torch.int32), ("Short", torch.int16), ("Char", torch.int8),
                        ("Byte", torch.uint8), ("Bool", torch.bool))
} | {"torch.storage.UntypedStorage": torch.uint8}  # fmt: skip
MENTIONED = [*DTYPES, *(str(dtype) for dtype in DTYPES.values())]  # storages and types, by name only
DIMENSIONS = 8
DIRECTORY = 2**24  # bytes of a zip file's list of contents


class Storage(NamedTuple):
    """Numbers in a row, of which tensors are views."""

    flat: Tensor


def makers(budget: Budget) -> dict[str, Callable[..., Any] | None]:
    """The names that a file of tensors consists of."""
    return {
        **containers(budget),
        **dict.fromkeys(MENTIONED),
        "torch.Size": partial(size, budget),
        "torch.device": lambda *name: "cpu",
        "torch._utils._rebuild_tensor": partial(tensor, budget),
        "torch._utils._rebuild_tensor_v2": partial(tensor, budget),
        "torch._utils._rebuild_parameter": parameter,
        "torch.storage._load_from_bytes": partial(nested, budget),
    }


def size(budget: Budget, numbers: Any) -> tuple:
    budget.step(len(numbers))
    return tuple(numbers)


def tensor(budget: Budget, storage: Storage, offset: int, size: tuple, stride: tuple, *rest: Any) -> Tensor:
    """A view of a storage. Raises ValueError if it would reach beyond it, or show its numbers many times over."""
    if not isinstance(storage, Storage) or len(size) > DIMENSIONS or len(stride) != len(size):
        raise ValueError("a tensor without numbers, or of too many dimensions")
    if min(offset, *size, *stride, 0) < 0:
        raise ValueError("a tensor of negative size")
    count, last = math.prod(size), offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and (last >= len(storage.flat) or count > len(storage.flat)):
        raise ValueError(f"a tensor of size {size} in a storage of {len(storage.flat)} numbers")
    budget.allocate(count * storage.flat.itemsize)
    return storage.flat.as_strided(size, stride, offset) if count else torch.empty(size, dtype=storage.flat.dtype)


def parameter(data: Any, *rest: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError("a parameter that isn't a tensor")
    return data


def nested(budget: Budget, content: bytes) -> Storage:
    """A storage that was written as a file of its own inside a pickle."""
    storage = legacy(BytesIO(content), budget, dict.fromkeys(MENTIONED))
    if not isinstance(storage, Storage):
        raise ValueError("a storage that holds something else")
    return storage


class Storages:
    """The storages that the persistent ids of one pickle name; `make` (key, type, count) is asked once for each."""

    def __init__(self, make: Callable[[str, torch.dtype, int], Storage]) -> None:
        self.make, self.known = make, dict[str, Storage]()

    def __call__(self, identity: Any) -> Storage:
        if identity[0] == "module":
            raise UnsafeCheckpoint("it holds a whole network with its program; bring a file of the state dict")
        kind, storage_type, key, _, count, *views = identity
        if kind != "storage" or not isinstance(storage_type, Global) or not isinstance(key, str) or any(views) or count < 0:
            raise ValueError("a storage of an unknown kind")
        dtype = DTYPES[storage_type.name]
        if key not in self.known:
            self.known[key] = self.make(key, dtype, count)
        if self.known[key].flat.dtype != dtype or len(self.known[key].flat) != count:
            raise ValueError("a storage of two kinds")
        return self.known[key]


def filled(count: int, dtype: torch.dtype, content: bytes) -> Storage:
    """Raises ValueError unless the content has exactly so many numbers."""
    if len(content) != count * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes for {count} numbers of {dtype}")
    return Storage(torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype))


def empty(budget: Budget, key: str, dtype: torch.dtype, count: int) -> Storage:
    budget.allocate(count * dtype.itemsize)
    return Storage(torch.empty(count, dtype=dtype))


def legacy(file: Source, budget: Budget, names: Makers) -> Any:
    """The content of torch's older format: five pickles, then the storages one after the other."""
    magic, version, system = (unpickle(file, {}, budget) for _ in range(3))
    if magic != MAGIC or version != 1001 or not system["little_endian"]:
        raise CorruptWeights("it isn't a torch file, or one of a big-endian machine")
    storages = Storages(partial(empty, budget))
    content = unpickle(file, names, budget, storages)
    keys = unpickle(file, {}, budget)
    if not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages.known):
        raise ValueError("the list of storages isn't that of the tensors")
    for key in keys:
        flat = storages.known[key].flat
        (count,) = struct.unpack("<q", file.read(8))
        if count != len(flat):
            raise ValueError(f"a storage of {count} numbers, {len(flat)} expected")
        flat.copy_(filled(count, flat.dtype, file.read(flat.nbytes)).flat)
    if file.read(1):
        raise ValueError("something follows after the last storage")
    return content


def zipped(file: BufferedIOBase, budget: Budget, names: Makers) -> Any:
    """The content of torch's zip format. Nothing is unpacked to the disk, and compressed entries are refused."""
    if directory_size(file) > DIRECTORY:
        raise CorruptWeights("its list of contents is far longer than an official file's")
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        if len(entries) != len(archive.infolist()):
            raise CorruptWeights("two of its entries have the same name")
        for name, info in entries.items():
            if name.startswith("/") or "\\" in name or name[1:2] == ":" or ".." in name.split("/"):
                raise UnsafeCheckpoint(f"its entry {name[:80]!a} lies outside the archive's folder")
            if name.endswith("/constants.pkl") or "/code/" in name:
                raise UnsafeCheckpoint("it is a TorchScript archive, a program; bring a file of the state dict")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
                raise UnsafeCheckpoint(f"its entry {name[:80]!a} is compressed or encrypted, which torch's never are")
        pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise CorruptWeights("it is a zip file, but none that torch wrote (it has no data.pkl)")
        root = pickles[0].removesuffix("data.pkl")

        def content(name: str) -> bytes:
            budget.allocate(entries[name].file_size)
            return archive.read(name)  # compares the checksum

        if f"{root}byteorder" in entries and content(f"{root}byteorder") != b"little":
            raise CorruptWeights("its numbers are big-endian")
        storages = Storages(lambda key, dtype, count: filled(count, dtype, content(f"{root}data/{key}")))
        return unpickle(BytesIO(content(pickles[0])), names, budget, storages)


def directory_size(file: BufferedIOBase) -> int:
    """Bytes of the list of contents, which `zipfile` reads whole. Raises ValueError if there is none."""
    end = file.seek(0, 2)
    file.seek(max(0, end - 2**16 - 2**10))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + 22:
        raise ValueError("a zip file without its end")
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    if at >= 76 and tail[at - 20 : at - 16] == b"PK\6\7":  # then the record of large files counts, which lies before
        size = int.from_bytes(tail[at - 36 : at - 28], "little")
    return size
