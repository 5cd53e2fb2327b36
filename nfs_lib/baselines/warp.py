"""The 2D mesh warp: the portrait, pulled about in the image plane by the projected face model.

The core of what image-warping methods do (MakeItTalk, SadTalker and their kin): a face model says where each piece of skin was
in the portrait and where it is now; this flow is spread smoothly over hair, background and the open mouth, and the portrait is
sampled along it. Nothing is drawn that the portrait doesn't show: lips that part are stretched over the gap, and where a head
that turns should bare its side, the little that the portrait shows there is stretched. Published methods let a network paint
over the damage; this is the warp alone, and so a lower bound of what they can do.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, UInt8
from scipy.sparse import csc_array, eye_array
from scipy.sparse.linalg import spsolve
from torch import Tensor

from nfs_lib.camera import Camera, head_to_nerf, project
from nfs_lib.errors import BadInput
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.images import to_uint8
from nfs_lib.portraits.rasteriser import FAR, rasterise

SURFACE = ("skin", "torso", "eye_left", "eye_right")  # parts that a portrait shows; the inner mouth isn't among them
GRAZING = 0.2  # cosine to the camera's direction: skin that the portrait shows at more than 78° doesn't say where things are


def warp_frames(
    picture: Float[Tensor, "3 H W"], face: Coefficients, betas: Float[Tensor, "T E"], poses: Float[Tensor, "N 3"],
    model: MorphableModel,
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The picture with the face moved to each expression β_t and pose (yaw, pitch, roll in radians).

    picture: [-1, 1], square, in the kit's framing; face: its fitted coefficients, batch of 1, with the pose in the picture.
    Raises BadInput for a picture that isn't square, or numbers of expressions and poses that differ.
    """
    height, width = picture.shape[1:]
    if height != width or height < 16:
        raise BadInput(f"a picture of {width}×{height} pixels was given; expected the kit's square crop: crop it first")
    if len(betas) != len(poses) or betas.shape[1] != face.expression.shape[1]:
        raise BadInput(
            f"expressions {tuple(betas.shape)} and poses {tuple(poses.shape)} were given; expected one of each per frame, "
            f"with {face.expression.shape[1]} facial actions"
        )
    return _warped(picture, face, betas, poses, model)


def _warped(
    picture: Tensor, face: Coefficients, betas: Tensor, poses: Tensor, model: MorphableModel
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """`warp_frames` after its checks, which so come before the first frame is asked for."""
    size = picture.shape[-1]
    before, facing = projected(model, face, size)
    for beta, pose in zip(betas, poses, strict=True):
        after, _ = projected(model, face.replace(expression=beta[None], pose=pose[None]), size)
        yield to_uint8(sample(picture, flow(before, after, facing, model, size)))


@torch.no_grad()
def projected(
    model: MorphableModel, face: Coefficients, size: int
) -> tuple[Float32[np.ndarray, "V 3"], Float32[np.ndarray, " V"]]:
    """The vertices in the picture: pixel x right, y down, depth in NeRF units; and the cosine between each one's normal and the
    way to the camera."""
    vertices, camera = model.vertices(face.identity, face.expression), Camera.from_pose(face.pose)
    to_eye = F.normalize(camera.eye[:, None] - head_to_nerf(vertices), dim=-1)
    return project(vertices, camera, size)[0].numpy(), (model.normals(vertices) * to_eye).sum(-1)[0].numpy()


def flow(
    before: Float32[np.ndarray, "V 3"], after: Float32[np.ndarray, "V 3"], facing: Float32[np.ndarray, " V"],
    model: MorphableModel, size: int,
) -> Float[np.ndarray, "H W 2"]:
    """From each pixel of the frame to where its content is in the portrait, in pixels.

    before, after: the projected vertices in the portrait and in the frame; facing: cosines in the portrait. The flow is known
    where the frame shows skin, eyes or torso that faced the portrait's camera; `spread` does the rest.
    """
    triangles = model.triangles.numpy().astype(np.int32)
    depth, number = np.full((size, size), FAR, np.float32), np.full((size, size), -1, np.int32)
    weight, one = np.zeros((size, size, 2), np.float32), np.ones(len(after), np.float32)
    rasterise(after, triangles, np.arange(len(triangles)), depth, number, weight, depth, one, 0.0)
    surface = np.isin(np.asarray(model.triangle_part), [model.info["parts"].index(name) for name in SURFACE])
    share = np.concatenate([weight, 1 - weight.sum(2, keepdims=True)], 2)
    cosine = (facing[triangles[number]] * share).sum(2)
    known = (number >= 0) & surface[number] & (cosine > GRAZING)
    way = ((before - after)[triangles[number], :2] * share[..., None]).sum(2)
    return spread(way, known)


def spread(way: Float[np.ndarray, "H W 2"], known: Bool[np.ndarray, "H W"]) -> Float[np.ndarray, "H W 2"]:
    """Fill the unknown pixels with the smoothest continuation of the known ones (Laplace's equation); zero past the border."""
    number = np.where(known, -1, np.cumsum(~known).reshape(known.shape) - 1)
    number, edge = np.pad(number, 1, constant_values=-1), np.pad(way * known[..., None], ((1, 1), (1, 1), (0, 0)))
    y, x = np.nonzero(number >= 0)
    beside = [(y, x + 1), (y, x - 1), (y + 1, x), (y - 1, x)]
    column = np.stack([number[at] for at in beside])
    row = np.broadcast_to(number[y, x], column.shape)[column >= 0]
    free = csc_array((np.ones(len(row)), (row, column[column >= 0])), (len(y), len(y)))
    out = way.copy()
    out[~known] = spsolve(4 * eye_array(len(y), format="csc") - free, sum(edge[at] for at in beside))
    return out


def sample(picture: Float[Tensor, "3 H W"], way: Float[np.ndarray, "H W 2"]) -> Float[Tensor, "3 H W"]:
    """The picture's values at each pixel's place plus `way` (bicubic)."""
    size = picture.shape[-1]
    y, x = np.mgrid[:size, :size] + 0.5
    grid = torch.from_numpy((np.stack([x, y], -1) + way) * (2 / size) - 1).to(picture.dtype)
    return F.grid_sample(picture[None], grid[None], mode="bicubic", padding_mode="border", align_corners=False)[0]
