"""`nfs weights import`: an official file becomes parts of the paper world."""

from pathlib import Path

from nfs_lib.checkpoints import Part, read_manifest, world_folder, write_part
from nfs_lib.errors import BadInput, CorruptWeights, NfsError
from nfs_lib.official.files import OFFICIAL, Official
from nfs_lib.official.readers import read
from nfs_lib.paths import digest


def import_file(path: str | Path, folder: str | Path | None = None) -> list[Part]:
    """The parts that a file holds, read safely, converted, and written to `folder` (data/weights/paper) as safetensors.

    path: an official file under any name, or a folder with the licensed originals of the face model.
    Raises BadInput if there is no such file or nothing in it is known; UnsafeCheckpoint and CorruptWeights as
    `readers.read` does, and for a part that isn't the official one.
    """
    path = Path(path)
    folder = world_folder("paper") if folder is None else Path(folder)
    if path.is_dir():
        from nfs_lib.official.bfm_originals import convert

        content, made_by = dict(convert(path)), f"nfs weights import {path.name}"
    else:
        content = read(path)
        made_by = f"nfs weights import {path.name} (sha256 {digest(path)})"
    try:
        taken = {official: official.take(content) for official in OFFICIAL}
    except NfsError as error:
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:  # options or shapes that no converter was made for
        raise CorruptWeights(f"{path}: it isn't like the official file ({type(error).__name__}: {error})") from error
    parts = [
        write_part(folder, official.part, part.tensors, licence=official.terms, made_by=made_by, config=part.config)
        for official, part in taken.items()
        if part is not None
    ]
    if not parts:
        names = ", ".join(dict.fromkeys(official.file for official in OFFICIAL))
        raise BadInput(f"{path} holds none of the parts of the paper world; these files are known, whatever they are called: "
                       f"{names}, and a folder with 01_MorphableModel.mat and Exp_Pca.bin")
    return parts


def missing(folder: str | Path | None = None) -> list[Official]:
    """The parts that the paper world still lacks, and what it can't do without each."""
    folder = world_folder("paper") if folder is None else Path(folder)
    there = {name for name, part in read_manifest(folder).items() if part.path.is_file()}
    return [official for official in OFFICIAL if official.part not in there]
