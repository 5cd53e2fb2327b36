"""Which vertex does a ray sample belong to? (paper section 4.3, Eq. 6)

The generator's field knows nothing of the face model. They share the head frame, though, so a sample can be tied to the vertex
that lies nearest to it on the frontal XY plane: ``n(p) = argmin_v ‖p_xy − v_xy‖``. Depth plays no part: a whole column of
samples, skin, lips and what is behind them, follows the vertex in front.

The official code matches the samples of the *frontal* camera and reuses those vertex numbers, ray by ray, for every other
camera, where sample k of ray j is another point in space (`rule="official"`). By default each sample is matched where it
really is ("paper").
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from nfs_lib.camera import FOV, head_to_nerf, nerf_to_head
from nfs_lib.errors import BadInput
from nfs_lib.face import MorphableModel

RULES = ("paper", "k-nearest", "3d")


@dataclass
class Match:
    """index (P, k): vertices of each sample; weight (P, k): their shares, rows sum to 1; distance (P,): to the nearest one,
    head units, on the plane of the rule."""

    index: Int[Tensor, "P k"]
    weight: Float[Tensor, "P k"]
    distance: Float[Tensor, "P"]

    def gather(self, values: Float[Tensor, "V c"]) -> Float[Tensor, "P c"]:
        """Each sample's mean of its vertices' values (for one vertex a sample: that vertex's value)."""
        if self.index.shape[1] == 1:
            return values[self.index[:, 0]]
        return (values[self.index] * self.weight[..., None]).sum(1)


def face_vertices(model: MorphableModel, stride: int = 1) -> Int[Tensor, "n"]:
    """The vertices that take part in matching: skin, neck and shoulders whose mean normal looks forward.

    The same choice as BFM's cropped face: with the back of the head in, a sample at the mouth could follow a vertex behind it
    that never moves. Of a model that is cropped already, as BFM is, all. stride 4 is what the official code uses.
    """
    if model.info.get("cropped"):
        return torch.arange(len(model.mean))[::stride]
    forward = model.normals(model.mean[None])[0, :, 2] > 0.05
    outside = (model.regions["skin"] + model.regions["neck"] > 0) & (model.regions["mouth_cavity"] < 0.5)
    return torch.nonzero(forward & outside & (model.mean[:, 2] > -0.6))[::stride, 0]


def on_official_square(vertices: Float[Tensor, "V 3"]) -> Float[Tensor, "V 3"]:
    """Where the official code believes the vertices to be, head frame: it projects them with Deep3DFaceReconstruction's camera
    (focal length 1015 for 224 pixels, 10 dm away) and lays the picture on the square of ±0.1 NeRF units.

    The generator's own camera sees ±0.105 at its centre, so this square is 5 % too small there. Depth stays.
    """
    p, focal = head_to_nerf(vertices), 1015 / 112
    across = 0.1 * focal * p[:, :2] / (focal * math.tan(FOV / 2) - p[:, 2:])
    return nerf_to_head(torch.cat([across, p[:, 2:]], 1))


def match(points: Float[Tensor, "P 3"], vertices: Float[Tensor, "V 3"], rule: str = "paper", k: int = 6) -> Match:
    """Eq. 6: the nearest vertex of every sample, both in the head frame.

    rule "paper": one vertex, nearest on XY. "k-nearest": the k nearest on XY, weighted by inverse distance, which smooths the
    jumps between neighbouring cells. "3d": one vertex, nearest in space. Raises BadInput for another rule, no points, or
    coordinates that aren't finite.
    """
    if rule not in RULES:
        raise BadInput(f"unknown rule {rule!r}: one of {', '.join(RULES)}")
    if not (len(points) and len(vertices) and torch.isfinite(points).all() and torch.isfinite(vertices).all()):
        raise BadInput(f"{len(points)} samples and {len(vertices)} vertices to match, or coordinates that aren't finite; give "
                       "finite points, one at least of each")
    if rule == "paper":
        from nfs_lib.nearest import nearest

        found, far = (torch.from_numpy(a) for a in nearest(*(a.detach()[:, :2].double().numpy() for a in (points, vertices))))
        return Match(found[:, None], torch.ones(len(found), 1), far.float())
    axes = 3 if rule == "3d" else 2
    tree = cKDTree(vertices[:, :axes].numpy())
    distance, index = tree.query(points[:, :axes].detach().numpy(), k=k if rule == "k-nearest" else 1, workers=-1)
    distance, index = (np.asarray(a).reshape(len(points), k if rule == "k-nearest" else 1) for a in (distance, index))
    weight = torch.from_numpy(1 / (distance + 0.01)).float()
    return Match(torch.from_numpy(index), weight / weight.sum(1, keepdim=True), torch.from_numpy(distance[:, 0]).float())


def match_naive(points: Float[Tensor, "P 3"], vertices: Float[Tensor, "V 3"]) -> Int[Tensor, "P"]:
    """The "paper" rule by comparing everything with everything: slow, and obviously right."""
    return ((points[:, None, :2] - vertices[None, :, :2]) ** 2).sum(-1).argmin(1)
