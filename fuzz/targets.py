"""One function per loader that a user's file reaches: it takes the file's content and lets nothing out but NfsError.

Where a checksum or a compression stands between a mutated byte and the code behind it, the target puts the outer layer on
itself, as somebody who means harm would.
"""

import hashlib
import io
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nfs_lib.errors import NfsError

HELD = tempfile.TemporaryDirectory(prefix="nfs_fuzz_")  # goes with the process
FOLDER = Path(HELD.name)
PNG = b"\x89PNG\r\n\x1a\n"
MATLAB = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"
FRAMES = 300  # of a video; a long one isn't a fault


def written(content: bytes, name: str) -> Path:
    path = FOLDER / name
    path.write_bytes(content)
    return path


def image(content: bytes) -> None:
    from nfs_lib.images import load_portrait

    picture = load_portrait(written(with_checksums(content), "a.png"))
    assert picture.shape[0] == 3 and max(picture.shape) <= 2048 and bool((picture.abs() <= 1).all())


def with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks have the right checksums; anything else as it is."""
    at, pieces = len(PNG), [PNG]
    if not content.startswith(PNG):
        return content
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        if end + 4 > len(content):
            break
        pieces += [content[at:end], struct.pack(">I", zlib.crc32(content[at + 4 : end]))]
        at = end + 4
    return b"".join([*pieces, content[at:]])


def audio(content: bytes) -> None:
    from nfs_lib.audio import load_speech

    wave = load_speech(written(content, "a.wav"))
    assert wave.dtype == np.float32 and wave.ndim == 1 and bool((np.abs(wave) <= 1).all())


def video(content: bytes) -> None:
    from itertools import islice

    from nfs_lib.video import comment, length, read_sound, stream_frames

    path = written(content, "a.mp4")
    length(path)
    comment(path)
    for frame in islice(stream_frames(path, 64), FRAMES):
        assert frame.dtype == np.uint8 and frame.shape[2:] == (3,)
    wave = read_sound(path)
    assert wave is None or wave.dtype == np.float32


def poses_csv(content: bytes) -> None:
    poses(content, "a.csv")


def poses_json(content: bytes) -> None:
    poses(content, "a.json")


def poses(content: bytes, name: str) -> None:
    from nfs_lib.driving import read_poses

    read = read_poses(written(content, name))
    assert read.shape[1:] == (3,) and len(read) > 0 and bool((read.abs() <= 1.05).all())


def manifest(content: bytes) -> None:
    """A manifest whose one file is there."""
    from nfs_lib.checkpoints import read_manifest, verify_weights

    written(b"", "sync.safetensors")
    written(content, "manifest.json")
    for part in read_manifest(FOLDER).values():
        f"{part.folder.name}/{part.name}  {part.bytes / 1e6:.2f} MB  {part.licence}  {part.made_by}"  # nfs weights list
        verify_weights(part)


def safetensors(content: bytes) -> None:
    """A weight file with the right sum."""
    from nfs_lib.checkpoints import Part, load_tensors

    path = written(content, "a.safetensors")
    load_tensors(Part("a", FOLDER, path.name, hashlib.sha256(content).hexdigest(), len(content), "", "", {}, {}))


def checkpoint(content: bytes) -> None:
    """A file of official weights of any kind."""
    from nfs_lib.official.readers import read

    read(written(content, "a.pth"))


def torch_pickle(content: bytes) -> None:
    """The pickle inside a torch checkpoint."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in (("data.pkl", content), ("byteorder", b"little"), ("data/0", bytes(64)), ("data/1", bytes(4))):
            archive.writestr(f"a/{name}", data)
    checkpoint(file.getvalue())


def matlab(content: bytes) -> None:
    """What is compressed inside a MATLAB file."""
    packed = zlib.compress(content, 1)
    checkpoint(MATLAB + struct.pack("<II", 15, len(packed)) + packed)


def official(content: bytes) -> None:
    """The parts that an official file is recognised to hold, from a table of tensors: nfs weights import."""
    from nfs_lib.official.importing import import_file

    import_file(written(content, "a.safetensors"), FOLDER / "paper")


def inversion(content: bytes) -> None:
    from nfs_lib.inversion import load

    load(written(content, "a.safetensors"))


def ballot(content: bytes) -> None:
    from nfs_lib.studies.user_study import read_ballot

    read_ballot(written(content, "ballot_ann.csv"))


def paper_table(content: bytes) -> None:
    from nfs_lib.studies.paper import load

    written(content, "table1.csv")
    str(load(1, FOLDER))


def study_table(content: bytes) -> None:
    from nfs_lib.studies.tables import read_csv

    read_csv(written(content, "flip.csv"))


def prepared(content: bytes) -> None:
    """The manifest of an earlier run of nfs prepare."""
    from nfs_lib.studies import prepare

    out = FOLDER / "prepared"
    out.mkdir(exist_ok=True)
    written(content, "prepared/manifest.json")
    found = prepare.opened(out)
    prepare.forget(found, {"source": "a.mp4", "sha256": "0"}, out)
    prepare.save(found, out)
    prepare.printed(found, out)


def time_stamps(content: bytes) -> None:
    """HDTF's lines of names and times."""
    from nfs_lib.studies import prepare

    folder = FOLDER / "stamps"
    folder.mkdir(exist_ok=True)
    written(content, "stamps/RD_annotion_time.txt")
    prepare.intervals("RD_Radio11", prepare.time_stamps(folder))


def goldens(content: bytes) -> None:
    """The index of a folder of golden numbers."""
    from nfs_lib.parity import run

    folder = FOLDER / "goldens"
    folder.mkdir(exist_ok=True)
    written(content, "goldens/index.json")
    run(folder)


TARGETS: dict[str, Callable[[bytes], None]] = {
    f.__name__: f
    for f in (image, audio, video, poses_csv, poses_json, manifest, safetensors, checkpoint, torch_pickle, matlab, official,
              inversion, ballot, paper_table, study_table, prepared, time_stamps, goldens)
}  # fmt: skip


def throw(name: str, content: bytes) -> bool:
    """Give the content to a target; whether it was taken. Raises what comes out of it, but for NfsError."""
    try:
        TARGETS[name](content)
    except NfsError as error:
        assert len(str(error)) > 20, "the message says nothing"
        return False
    return True
