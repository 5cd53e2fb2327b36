"""The Basel Face Model as the paper's code uses it (section 3.2, Eq. 3): shape, texture, light, pose and projection.

Its arrays are those of `BFM_model_front.mat`, which Deep3DFaceReconstruction cuts out of the licensed originals (see
`official.bfm_originals.convert`).

**Deep3D's frame**: decimetres, origin at the middle of the mean face, x to the image's right, y up, z out of the face. Points
are row vectors, and a rotation is given transposed: V = S·R + t. The camera stands at z = 10 and sees 224 × 224 pixels.
**Projections grow upwards**: (x, up), 0 at the picture's left and bottom edge; the row is 224 − up.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from nfs_lib.camera import FOV, HEAD_TO_NERF, ORBIT_CENTRE
from nfs_lib.errors import BadInput, CorruptWeights
from nfs_lib.face.fitting import shade
from nfs_lib.face.model import Coefficients, MorphableModel

__all__ = ["Bfm", "BfmCoefficients", "as_morphable", "camera_matrix", "plane", "project", "rotation", "to_camera"]

SIDE = 224  # pixels
FOCAL = 1015.0  # pixels
DISTANCE = 10.0  # of the camera, decimetres
SIZES = (80, 64, 80)  # modes of identity, expression and texture that ReconNet and the paper's Audio2Exp know
HALF_WIDTH = SIDE / 2 / FOCAL * DISTANCE  # what the camera sees to each side at the origin's depth, decimetres
DM_TO_HEAD = math.tan(FOV / 2) / HALF_WIDTH / HEAD_TO_NERF
NEEDED = ("meanshape", "meantex", "idBase", "exBase", "texBase", "tri", "point_buf", "keypoints")


@dataclass(frozen=True)
class BfmCoefficients:
    """The 257 numbers of B faces: what ReconNet reads off a picture.

    identity (B, 80), expression (B, 64), texture (B, 80) in standard deviations; angles (B, 3) about x, y, z in radians; light
    (B, 27): spherical harmonics, 3 colours × 9 bands; translation (B, 3) in decimetres.
    """

    identity: Float[Tensor, "B K"]
    expression: Float[Tensor, "B E"]
    texture: Float[Tensor, "B T"]
    angles: Float[Tensor, "B 3"]
    light: Float[Tensor, "B 27"]
    translation: Float[Tensor, "B 3"]

    @classmethod
    def from_vector(cls, vector: Float[Tensor, "B n"], sizes: tuple[int, int, int] = SIZES) -> "BfmCoefficients":
        """Cut (B, 257) into its parts; sizes: modes of identity, expression and texture. Raises BadInput for another width."""
        widths = (*sizes, 3, 27, 3)
        if vector.ndim != 2 or vector.shape[1] != sum(widths):
            raise BadInput(f"coefficients of shape {tuple(vector.shape)} were given; expected (B, {sum(widths)}): identity, "
                           "expression, texture, angles, light and translation in one row")
        return cls(*vector.split(widths, 1))

    def vector(self) -> Float[Tensor, "B n"]:
        """(B, 257), the inverse of `from_vector`."""
        return torch.cat([getattr(self, f.name) for f in fields(self)], 1)

    def pose(self) -> Float[Tensor, "B 3"]:
        """Yaw, pitch, roll in radians, as `camera.Camera.from_pose` takes them: the same three turns in the same order, so only
        their places differ."""
        return self.angles[:, [1, 0, 2]]

    def face(self) -> Coefficients:
        """What the rest of the kit knows of a face: identity, expression, pose and light."""
        return Coefficients(self.identity, self.expression, self.pose(), self.light)


class Bfm(nn.Module):
    """The face model of B faces, N vertices (35 709 of the official one) and F triangles (70 789).

    arrays: those of `BFM_model_front.mat` by their names, from the file or from its conversion. Indices in there are 1-based,
    here 0-based; the mean shape is moved so that its vertices' mean is 0. skin (N,): 1 where the reflectance term of the fit
    counts (everywhere, if the file doesn't say).
    Raises CorruptWeights if an array is missing or doesn't belong to the others.
    """

    mean: Tensor
    mean_texture: Tensor
    id_basis: Tensor
    exp_basis: Tensor
    tex_basis: Tensor
    triangles: Tensor
    ring: Tensor
    keypoints: Tensor
    skin: Tensor

    def __init__(self, arrays: Mapping[str, Tensor | np.ndarray]) -> None:
        super().__init__()
        if absent := [name for name in NEEDED if name not in arrays]:
            raise CorruptWeights(f"the face model lacks {', '.join(absent)}: it isn't a BFM_model_front.mat; import it anew")
        real = {name: torch.as_tensor(arrays[name]).float() for name in (*NEEDED, "skinmask") if name in arrays}
        mean = real["meanshape"].reshape(-1, 3)
        n, faces = len(mean), len(real["tri"])
        sound = real["meantex"].numel() == 3 * n and all(
            real[name].ndim == 2 and len(real[name]) == 3 * n for name in ("idBase", "exBase", "texBase"))
        sound = sound and real["tri"].shape[1:] == (3,) and real["point_buf"].ndim == 2 and len(real["point_buf"]) == n
        sound = sound and ("skinmask" not in real or real["skinmask"].numel() == n)
        if not sound or not all(value.isfinite().all() for value in real.values()):
            sizes = {name: tuple(value.shape) for name, value in real.items()}
            raise CorruptWeights(f"the face model's arrays don't belong together, or aren't finite: {sizes}; import it anew")
        self.register_buffer("mean", mean - mean.mean(0), persistent=False)
        self.register_buffer("mean_texture", real["meantex"].reshape(-1, 3), persistent=False)
        for name, key in (("id_basis", "idBase"), ("exp_basis", "exBase"), ("tex_basis", "texBase")):
            self.register_buffer(name, real[key].contiguous(), persistent=False)
        for name, key, most in (("triangles", "tri", n), ("ring", "point_buf", faces + 1), ("keypoints", "keypoints", n)):
            self.register_buffer(name, zero_based(real[key], key, most), persistent=False)
        self.keypoints = self.keypoints.flatten()
        self.register_buffer("skin", real.get("skinmask", torch.ones(n)).flatten(), persistent=False)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Modes of identity, expression and texture."""
        return self.id_basis.shape[1], self.exp_basis.shape[1], self.tex_basis.shape[1]

    def shape(self, identity: Float[Tensor, "B K"], expression: Float[Tensor, "B E"], at: Int[Tensor, " V"] | None = None
              ) -> Float[Tensor, "B V 3"]:
        """Eq. 3: S = S̄ + α·S_id + β·S_exp, decimetres, not yet turned; at: these vertices only."""
        mean, bases = self.mean, [self.id_basis, self.exp_basis]
        if at is not None:
            mean, bases = mean[at], [basis.unflatten(0, (-1, 3))[at].flatten(0, 1) for basis in bases]
        return mean + (identity @ bases[0].T + expression @ bases[1].T).unflatten(1, (-1, 3))

    def texture(self, texture: Float[Tensor, "B T"]) -> Float[Tensor, "B N 3"]:
        """Colours of the vertices without light, RGB, 0 to 1 (beyond for unlikely faces)."""
        return (self.mean_texture + (texture @ self.tex_basis.T).unflatten(1, (-1, 3))) / 255

    def normals(self, vertices: Float[Tensor, "B N 3"], by_area: bool = False) -> Float[Tensor, "B N 3"]:
        """Unit vertex normals: the mean of the normals of up to eight triangles about each vertex.

        by_area: larger triangles count more, as in 3DMM-Fitting-Pytorch; otherwise all count the same, as in Deep3D.
        """
        a, b, c = pick(vertices.transpose(1, 2), self.triangles.T).unbind(2)
        face = torch.cross(a - b, b - c, dim=1)
        if not by_area:
            face = F.normalize(face, dim=1)
        face = F.pad(face, (0, 1))  # the triangle that `ring` is padded with
        return F.normalize(pick(face, self.ring).sum(3), dim=1).transpose(1, 2)

    def colours(self, texture: Float[Tensor, "B N 3"], normals: Float[Tensor, "B N 3"], light: Float[Tensor, "B 27"]
                ) -> Float[Tensor, "B N 3"]:
        """Texture in the light. normals: of the turned face."""
        return texture * shade(normals, light)

    def landmarks(self, coefficients: BfmCoefficients) -> Float[Tensor, "B 68 2"]:
        """The 68 landmarks in the picture, (x, up) in pixels, iBUG order."""
        c = coefficients
        shape = self.shape(c.identity, c.expression, self.keypoints)
        return project(to_camera(shape @ rotation(c.angles) + c.translation[:, None]))


def pick(values: Float[Tensor, "B 3 n"], index: Int[Tensor, "*shape"]) -> Float[Tensor, "B 3 *shape"]:
    """values[:, :, index]. With the coordinate's axis first this is several times faster backwards than picking rows."""
    return values.gather(2, index.flatten().expand(len(values), 3, -1)).unflatten(2, index.shape)


def zero_based(numbers: Tensor, name: str, most: int) -> Int[Tensor, "*shape"]:
    """1-based numbers up to `most`, which the file holds as floats, as indices. Raises CorruptWeights if some can't be."""
    index = numbers.round().long()
    if not index.numel() or index.min() < 1 or index.max() > most or (index != numbers).any():
        raise CorruptWeights(f"{name} of the face model holds something else than numbers from 1 to {most}; import it anew")
    return index - 1


# from the model to the picture


def rotation(angles: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3 3"]:
    """(Rz·Ry·Rx)ᵀ of angles about x, y, z in radians: to be multiplied from the right."""
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    columns = [cz * cy, sz * cy, -sy,
               cz * sy * sx - sz * cx, sz * sy * sx + cz * cx, cy * sx,
               cz * sy * cx + sz * sx, sz * sy * cx - cz * sx, cy * cx]  # fmt: skip
    return torch.stack(columns, -1).unflatten(-1, (3, 3))


def to_camera(points: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """Turned and moved points → the camera's axes: x right, y up, z the depth (about 10 decimetres)."""
    x, y, z = points.unbind(-1)
    return torch.stack([x, y, DISTANCE - z], -1)


def project(points: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 2"]:
    """Points in the camera's axes → (x, up) in pixels of 224."""
    return FOCAL * points[..., :2] / points[..., 2:] + SIDE / 2


def plane(projections: Float[Tensor, "B N 2"], stride: int = 4) -> Float[Tensor, "B n 2"]:
    """Where the official code ties the generator's rays to the face (Eq. 6): the picture as the square of ±0.1, every fourth
    vertex."""
    return projections[:, ::stride] / SIDE * 0.2 - 0.1


def camera_matrix(turned: Float[Tensor, "B 3 3"] | None = None) -> Float[Tensor, "B 4 4"]:
    """The official generator's camera, camera-to-world, for a head turned by `rotation`'s R (without: from the front).

    Its world has x out of the face, y to the image's right, z up; the camera stands at distance 1 on its own third axis.
    """
    if turned is None:
        turned = torch.eye(3)[None]
    axes = turned[:, [2, 0, 1]]  # P·R
    last = turned.new_tensor([[[0.0, 0, 0, 1]]]).expand(len(turned), 1, 4)
    return torch.cat([torch.cat([axes, axes[..., 2:]], 2), last], 1)


def as_morphable(bfm: Bfm, turned: Float[Tensor, "3 3"] | None = None, translation: Float[Tensor, "3"] | None = None
                 ) -> MorphableModel:
    """The face model in the kit's head frame, a fitted turn and place baked in, so that the rest of the kit can use it.

    turned: `rotation` of the fitted angles; translation in decimetres (without: upright in the middle). A vertex lies at
    head = k·(S·R + t) + ORBIT_CENTRE, which keeps Eq. 3 linear. k is chosen so that what Deep3D's camera sees to each side at
    depth 10 dm (1.103 dm) is what the generator's camera sees at depth 1 (tan 6° = 0.105): one head unit is 69.3 mm. The two
    cameras' perspectives differ a little: 10 dm are 0.952 NeRF units.
    regions: the cut ends before the neck and has no mouth cavity; "face" is BFM's skin mask. info["cropped"]: all its vertices
    take part in the matching of Eq. 6.
    """
    turned = torch.eye(3).to(bfm.mean) if turned is None else turned
    translation = bfm.mean.new_zeros(3) if translation is None else translation
    mean = DM_TO_HEAD * (bfm.mean @ turned + translation) + bfm.mean.new_tensor(ORBIT_CENTRE)
    identity, expression = (DM_TO_HEAD * (basis.unflatten(0, (-1, 3)).permute(2, 0, 1) @ turned)
                            for basis in (bfm.id_basis, bfm.exp_basis))
    nowhere = torch.zeros_like(bfm.skin)
    regions = {"skin": torch.ones_like(bfm.skin), "face": bfm.skin, "neck": nowhere, "mouth_cavity": nowhere}
    names = [f"exp{i}" for i in range(len(expression))]
    info = {"unit_mm": 100 / DM_TO_HEAD, "cropped": True, "expression_names": names}
    bases = (identity.contiguous(), expression.contiguous())
    return MorphableModel(mean, *bases, bfm.triangles, bfm.keypoints, regions, names, info)
