"""MATLAB's files (version 5 to 7): their numeric arrays, and nothing else.

A file is a row of elements, each a type, a length and content; compressed ones are inflated up to a limit. Text, cells,
structures and objects are passed over unread.
"""

import math
import zlib
from io import BufferedIOBase

import numpy as np

from nfs_lib.errors import CorruptWeights

HEADER = 128  # bytes
INFLATED = 300 * 2**20  # bytes by which all elements together may grow; the official face model has 200 MB
ARRAY, COMPRESSED = 14, 15  # types of elements
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
COMPLEX = 0x800


def arrays(file: BufferedIOBase) -> dict[str, np.ndarray]:
    """All numeric arrays by name. Raises CorruptWeights, or one of Python's own errors for a damaged file."""
    head = file.read(HEADER)
    if not head.startswith(b"MATLAB 5.0") or head[126:128] != b"IM":
        raise CorruptWeights("it is a MATLAB file of version 4 or 7.3 (HDF5), or big-endian; versions 5 to 7 can be read: save "
                             "it as one, in MATLAB with save(…, '-v7')")
    found, room = dict[str, np.ndarray](), INFLATED
    end = file.seek(0, 2)
    file.seek(HEADER)
    while tag := file.read(8):
        kind, length = (int.from_bytes(tag[i : i + 4], "little") for i in (0, 4))
        if length > end - file.tell():
            raise CorruptWeights("an element is longer than the file")
        content = memoryview(file.read(length))
        if kind == COMPRESSED:
            content = memoryview(inflated(content, room))
            kind, length = (int.from_bytes(content[i : i + 4], "little") for i in (0, 4))
            content = content[8 : 8 + length]
            room -= len(content)
        if kind == ARRAY and (array := numeric(content, room)):
            found[array[0]] = array[1]
            room -= max(array[1].nbytes - len(content), 0)
    return found


def inflated(content: memoryview | bytes, room: int) -> bytearray:
    """The content of a compressed element, inflated in pieces. Raises CorruptWeights if it takes more than `room` bytes."""
    inflater, pieces = zlib.decompressobj(), bytearray()
    while not inflater.eof:
        piece = inflater.decompress(content, 2**24)
        pieces += piece
        if len(pieces) > room or not (piece or inflater.eof):
            raise CorruptWeights("its compressed parts are damaged, or inflate to far more than an official file has")
        content = inflater.unconsumed_tail
    return pieces


def element(content: memoryview, at: int) -> tuple[int, memoryview, int]:
    """(type, content, where the next one begins). Raises ValueError if it ends beyond the content."""
    word, length = (int.from_bytes(content[i : i + 4], "little") for i in (at, at + 4))
    if word >> 16:  # up to four bytes stand in the tag itself
        word, length, start, following = word & 0xFFFF, word >> 16, at + 4, at + 8
    else:
        start, following = at + 8, at + 8 + (length + 7) // 8 * 8
    if start + length > len(content):
        raise ValueError("a piece of an array ends beyond it")
    return word, content[start : start + length], following


def numeric(content: memoryview, room: int) -> tuple[str, np.ndarray] | None:
    """Name and values of an array of real numbers in MATLAB's order of axes; None for any other."""
    _, flags, at = element(content, 0)
    kind = int.from_bytes(flags[:4], "little")
    if kind & 0xFF not in CLASSES or kind & COMPLEX:
        return None
    _, sizes, at = element(content, at)
    _, name, at = element(content, at)
    stored, values, _ = element(content, at)
    shape = tuple(np.frombuffer(sizes, "<i4").tolist())
    wanted = np.dtype(f"<{CLASSES[kind & 0xFF]}")
    flat = np.frombuffer(values, f"<{STORED[stored]}")
    if len(shape) > 8 or min(shape, default=0) < 0 or math.prod(shape) != len(flat):
        raise ValueError(f"an array of shape {shape[:8]} with {len(flat)} values")
    if flat.size * wanted.itemsize - len(content) > room:
        raise CorruptWeights("its numbers would take far more room than any official file's")
    return bytes(name).decode("ascii"), flat.astype(wanted, copy=False).reshape(shape, order="F")
