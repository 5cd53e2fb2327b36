"""The licensed originals of the Basel Face Model → the arrays of `BFM_model_front.mat`.

The model of 2009 (`01_MorphableModel.mat`, micrometres, 53 490 vertices) is cut to the front of the face, and expressions of
another set (`Exp_Pca.bin`, 53 215 of those vertices) are added. All sizes are read from the files.
"""

from pathlib import Path

import numpy as np

from nfs_lib.errors import CorruptWeights, MissingWeights
from nfs_lib.official.readers import read

ORIGINALS = {
    "01_MorphableModel.mat": "the Basel Face Model 2009, from the University of Basel (registration, non-commercial research)",
    "Exp_Pca.bin": "the expression basis of Guo et al., from the page of Juyong/3DFace",
    "std_exp.txt": "Deep3DFaceRecon_pytorch, folder BFM",
    "BFM_exp_idx.mat": "Deep3DFaceRecon_pytorch, folder BFM",
    "BFM_front_idx.mat": "Deep3DFaceRecon_pytorch, folder BFM",
    "facemodel_info.mat": "Deep3DFaceRecon_pytorch, folder BFM",
}
COPIED = ("tri", "point_buf", "tri_mask2", "keypoints", "frontmask2_idx", "skinmask")
MICROMETRES = 1e5  # in a decimetre
IDENTITIES, EXPRESSIONS, TEXTURES = 80, 64, 80


def convert(folder: str | Path) -> dict[str, np.ndarray]:
    """Arrays by the names of `BFM_model_front.mat`: float32, shapes in decimetres, texture 0–255; 1-based indices as int32.

    folder: holds the six files of `ORIGINALS`. Raises MissingWeights naming those that aren't there and where they come from,
    CorruptWeights for a file that can't be read or whose sizes don't fit the others'.
    """
    folder = Path(folder)
    if absent := [f"{name} ({origin})" for name, origin in ORIGINALS.items() if not (folder / name).is_file()]:
        raise MissingWeights(f"{folder} lacks {'; '.join(absent)}: put them into that folder and import it again")
    basel = read_mat(folder / "01_MorphableModel.mat", "shapePC", "shapeEV", "shapeMU", "texPC", "texEV", "texMU")
    info = read_mat(folder / "facemodel_info.mat", *COPIED)
    trimmed = read_mat(folder / "BFM_exp_idx.mat", "trimIndex")["trimIndex"].ravel().astype(int) - 1
    front = read_mat(folder / "BFM_front_idx.mat", "idx")["idx"].ravel().astype(int) - 1
    expressions = expression_basis(folder / "Exp_Pca.bin")
    deviations = numbers(folder / "std_exp.txt")
    components = expressions.shape[1]
    vertices = check_index(front, len(trimmed), "BFM_front_idx.mat")
    if len(expressions) != 3 * len(trimmed) or len(deviations) != components:
        raise CorruptWeights(f"{folder}: Exp_Pca.bin holds {components} expressions of {len(expressions) // 3} vertices, but "
                             f"std_exp.txt has {len(deviations)} numbers and BFM_exp_idx.mat {len(trimmed)}; get them anew")
    check_index(trimmed, len(basel["shapePC"]) // 3, "BFM_exp_idx.mat")
    original = trimmed[vertices]

    def cut(basis: np.ndarray, deviation: np.ndarray | float, at: np.ndarray, unit: float = 1.0) -> np.ndarray:
        rows = (3 * at[:, None] + np.arange(3)).ravel()
        return (basis[rows].astype(np.float64) * deviation / unit).astype(np.float32)

    def modes(kind: str, count: int, unit: float = 1.0) -> np.ndarray:
        return cut(basel[f"{kind}PC"][:, :count], basel[f"{kind}EV"].ravel()[:count], original, unit)

    try:
        arrays = {
            "meanshape": cut(basel["shapeMU"], 1.0, original, MICROMETRES).reshape(1, -1),
            "meantex": cut(basel["texMU"], 1.0, original).reshape(1, -1),
            "idBase": modes("shape", IDENTITIES, MICROMETRES),
            "exBase": cut(expressions[:, :EXPRESSIONS], deviations[:EXPRESSIONS], vertices, MICROMETRES),
            "texBase": modes("tex", TEXTURES),
        }
    except (ValueError, IndexError) as error:
        raise CorruptWeights(f"{folder / '01_MorphableModel.mat'}: its arrays don't fit each other ({error}); download it anew"
                             ) from error
    return arrays | {name: info[name].astype(np.int32) for name in COPIED}


def read_mat(path: Path, *names: str) -> dict[str, np.ndarray]:
    """The numeric arrays of a MATLAB file. Raises CorruptWeights if it can't be read or lacks one of `names`."""
    arrays = read(path)
    if absent := [name for name in names if name not in arrays]:
        raise CorruptWeights(f"{path} lacks {', '.join(absent)}: it is another file than its name says; download it anew")
    return arrays


def expression_basis(path: Path) -> np.ndarray:
    """(3 · vertices, components) float32, micrometres: int32 number of components, the mean (not used), one component after the
    other; all little endian."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        components = int(np.frombuffer(file.read(4).ljust(4, b"\0"), "<i4")[0])
        if components < 1 or size < 8 or (size - 4) % (12 * (components + 1)):
            raise CorruptWeights(f"{path} of {size} bytes isn't Exp_Pca.bin: it should hold a number of components, a mean and "
                                 "that many components; download it anew")
        return np.fromfile(file, "<f4").reshape(components + 1, -1)[1:].T


def numbers(path: Path) -> np.ndarray:
    """The numbers of a text file. Raises CorruptWeights if there is something else in it."""
    try:
        return np.array(path.read_text().split(), np.float64)
    except ValueError as error:
        raise CorruptWeights(f"{path} should hold numbers only ({error}); download it anew") from error


def check_index(index: np.ndarray, count: int, name: str) -> np.ndarray:
    """The index itself, if all of it lies in 0 … count − 1; otherwise CorruptWeights."""
    if not len(index) or index.min() < 0 or index.max() >= count:
        raise CorruptWeights(f"{name} names vertices that the model of {count} doesn't have; download it anew")
    return index
