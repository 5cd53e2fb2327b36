"""The fit of the Basel Face Model to one picture, as the official code runs it (section 4.1; 3DMM-Fitting-Pytorch).

Everything starts at zero, not at ReconNet's reading: first turn and place from the landmarks alone, then all coefficients from
landmarks and colours. (The paper speaks of refining the estimator's reading.) Pictures are 224 × 224 here.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nfs_lib.errors import BadInput, MissingWeights
from nfs_lib.face.bfm import FOCAL, SIDE, Bfm, BfmCoefficients, pick, project, rotation, to_camera
from nfs_lib.face.fitting import landmark_weights
from nfs_lib.face.reconnet import ReconNet, resized
from nfs_lib.progress import progress

RATE = 0.01  # of Adam, in both stages
LANDMARKS, PHOTO, REFLECTANCE = 100.0, 1.6, 1.0  # weights of the terms
IDENTITY, EXPRESSION, TEXTURE = 1e-3, 0.8e-3, 1.7e-6  # weights of the squared coefficients
TINY = 1e-8  # under the root of the photometric term, whose gradient would be infinite where both pictures agree


class Fitted(NamedTuple):
    """One face's coefficients and the losses of all steps, each before its update."""

    coefficients: BfmCoefficients
    rigid: list[float]
    nonrigid: list[float]


def fit(bfm: Bfm, recon: ReconNet, picture: Float[Tensor, "B 3 H W"], landmarks: Float[Tensor, "L c"] | None = None,
        steps: tuple[int, int] = (1000, 500)) -> Fitted:
    """Both stages. As the official code uses it, the picture is the portrait's reconstruction seen from the front.

    picture: [-1, 1], square, at least 64 pixels; landmarks in its pixels, x right and y down, iBUG order. The official code
    takes them from the network of the package face-alignment, which isn't part of this kit; `landmarks68` finds some where
    dlib's predictor is installed, and without any those of ReconNet's reading are used. steps: of the two stages.
    Raises BadInput for another form.
    """
    small = resized(picture.detach())
    if len(small) != 1:
        raise BadInput(f"{len(small)} pictures were given; the fit takes one at a time")
    if landmarks is None:
        with torch.no_grad():
            landmarks = rows_down(bfm.landmarks(BfmCoefficients.from_vector(recon(small))))[0]
    elif landmarks.shape != (68, 2) or not landmarks.isfinite().all():
        raise BadInput(f"landmarks of shape {tuple(landmarks.shape)} were given, or some that aren't finite; expected 68 "
                       "points (x, y) in pixels of the picture")
    else:
        landmarks = landmarks.to(small) * (SIDE / picture.shape[-1])
    first, rigid = fit_rigid(bfm, start(bfm), landmarks, steps[0])
    last, nonrigid = fit_nonrigid(bfm, first, landmarks, small, steps[1])
    return Fitted(last, rigid, nonrigid)


def start(bfm: Bfm) -> BfmCoefficients:
    """All zero: the mean face straight ahead, in white light from everywhere."""
    return BfmCoefficients.from_vector(bfm.mean.new_zeros(1, sum(bfm.sizes) + 33), bfm.sizes)


def fit_rigid(bfm: Bfm, begin: BfmCoefficients, landmarks: Float[Tensor, "68 2"], steps: int = 1000
              ) -> tuple[BfmCoefficients, list[float]]:
    """Turn and place that bring the landmarks of the face `begin` nearest to these, (x, y) in pixels of 224, y down.

    Returns the coefficients and the loss of every step before its update.
    """
    shape = bfm.shape(begin.identity, begin.expression, bfm.keypoints)

    def loss(c: BfmCoefficients) -> Tensor:
        found = project(to_camera(shape @ rotation(c.angles) + c.translation[:, None]))
        return LANDMARKS * landmark_loss(rows_down(found), landmarks)

    return descend(loss, begin, ("angles", "translation"), steps, "rigid fit")


def fit_nonrigid(bfm: Bfm, begin: BfmCoefficients, landmarks: Float[Tensor, "68 2"],
                 picture: Float[Tensor, "1 3 224 224"] | None = None, steps: int = 500) -> tuple[BfmCoefficients, list[float]]:
    """All coefficients, from landmarks as `fit_rigid` takes them and the colours of a picture in [0, 1].

    Without a picture, shape, turn and place alone. Returns as `fit_rigid` does. A step takes 0.1 s with the official model's
    35 709 vertices, on one thread; which triangles are seen is found anew in each.
    """

    def shape_terms(c: BfmCoefficients, found: Float[Tensor, "1 68 2"]) -> Tensor:
        return (LANDMARKS * landmark_loss(rows_down(found), landmarks)
                + IDENTITY * c.identity.square().sum() + EXPRESSION * c.expression.square().sum())

    if picture is None:
        free: Sequence[str] = ("identity", "expression", "angles", "translation")
        return descend(lambda c: shape_terms(c, bfm.landmarks(c)), begin, free, steps, "landmark fit")
    seen = 255 * picture[0].permute(1, 2, 0)

    def loss(c: BfmCoefficients) -> Tensor:
        points, colours, texture = lit(bfm, c)
        face = visible(points, bfm.triangles)
        return (shape_terms(c, project(points[bfm.keypoints])[None])
                + PHOTO * photometric_loss(drawn(points, 255 * colours, bfm.triangles, face), seen[face >= 0])
                + TEXTURE * c.texture.square().sum() + REFLECTANCE * reflectance_loss(255 * texture, bfm.skin))

    free = ("identity", "expression", "light", "texture", "angles", "translation")
    return descend(loss, begin, free, steps, "non-rigid fit")


def descend(loss: Callable[[BfmCoefficients], Tensor], begin: BfmCoefficients, free: Sequence[str], steps: int, title: str
            ) -> tuple[BfmCoefficients, list[float]]:
    """Adam on the coefficients named `free`; the others stay. Returns them and the loss of every step before its update."""
    moved = {name: getattr(begin, name).detach().clone().requires_grad_() for name in free}
    optimiser, losses = torch.optim.Adam(moved.values(), lr=RATE), []
    for _ in progress(range(steps), title):
        value = loss(replace(begin, **moved))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    return replace(begin, **{name: value.detach() for name, value in moved.items()}), losses


# the terms


def rows_down(projections: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B 2"]:
    """(x, up) → (x, row): row = 224 − up."""
    return torch.stack([projections[..., 0], SIDE - projections[..., 1]], -1)


def landmark_loss(found: Float[Tensor, "B 68 2"], wanted: Float[Tensor, "*b 68 2"]) -> Tensor:
    """Weighted mean of the squared distances, the picture's side being 1; ridge of the nose and lips count ten times."""
    return (((found - wanted) / SIDE).square().sum(-1) * landmark_weights().to(found)).sum(-1).mean()


def photometric_loss(drawn: Float[Tensor, "P 3"], seen: Float[Tensor, "P 3"]) -> Tensor:
    """Mean distance of two pictures' colours (0 to 255) over P pixels, divided by 255; 0 without pixels."""
    return ((drawn - seen).square().sum(-1) + TINY).sqrt().sum() / 255 / max(len(seen), 1)


def reflectance_loss(texture: Float[Tensor, "B N 3"], skin: Float[Tensor, " N"]) -> Tensor:
    """How far the skin's texture (0 to 255) is from one colour: mean square over the skin mask, 255 being 1."""
    weight = skin[:, None]
    mean = (texture * weight).sum(1, keepdim=True) / skin.sum()
    return ((texture - mean) * weight / 255).square().sum() / (len(texture) * skin.sum())


# drawing


def lit(bfm: Bfm, c: BfmCoefficients) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"], Float[Tensor, "1 N 3"]]:
    """One face's vertices in the camera's axes, their colours in the light, and their texture, all colours from 0 to 1."""
    shape, turned, texture = bfm.shape(c.identity, c.expression), rotation(c.angles), bfm.texture(c.texture)
    points = to_camera(shape @ turned + c.translation[:, None])
    return points[0], bfm.colours(texture, bfm.normals(shape, by_area=True) @ turned, c.light)[0], texture


def visible(points: Float[Tensor, "N 3"], triangles: Int[Tensor, "F 3"]) -> Int[Tensor, "224 224"]:
    """Which triangle each pixel's centre sees, −1 for none. points: in the camera's axes. No gradient flows."""
    from nfs_lib.portraits.rasteriser import FAR, rasterise

    screen = torch.cat([rows_down(project(points)), points[:, 2:]], 1).detach().cpu().numpy()
    depth, face = np.full((SIDE, SIDE), FAR, np.float32), np.full((SIDE, SIDE), -1, np.int32)
    opaque = np.ones(len(screen), np.float32)
    rasterise(screen, triangles.int().cpu().numpy(), np.arange(len(triangles)), depth, face,
              np.zeros((SIDE, SIDE, 2), np.float32), depth, opaque, 0.0)
    return torch.from_numpy(face).long().to(points.device)


def drawn(points: Float[Tensor, "N 3"], colours: Float[Tensor, "N 3"], triangles: Int[Tensor, "F 3"],
          face: Int[Tensor, "224 224"]) -> Float[Tensor, "P 3"]:
    """Colours of the pixels that see a triangle (`visible`), row by row, clipped to 0 … 255.

    Perspective-correct interpolation of the vertices' colours, differentiable in colours and points.
    """
    row, column = (face >= 0).nonzero(as_tuple=True)
    corners = triangles[face[row, column]]
    at, colour = pick(torch.stack([points.T, colours.T]), corners)  # (3, P, 3): coordinate or colour, pixel, corner
    x, y = (FOCAL * at[:2] / at[2] + SIDE / 2).unbind(0)
    x, y = x - (column[:, None] + 0.5), y - (SIDE - row[:, None] - 0.5)
    area = x.roll(-1, 1) * y.roll(1, 1) - x.roll(1, 1) * y.roll(-1, 1)  # of the triangle that pixel and the other corners span
    weight = area / at[2]
    return ((weight * colour).sum(2) / weight.sum(1)).T.clamp(0, 255)


@torch.no_grad()
def render(bfm: Bfm, coefficients: BfmCoefficients) -> tuple[Float[Tensor, "1 3 224 224"], Bool[Tensor, "224 224"]]:
    """One face as the fit sees it, in [-1, 1] on black, and where it is."""
    points, colours, _ = lit(bfm, coefficients)
    face = visible(points, bfm.triangles)
    picture = points.new_zeros(SIDE, SIDE, 3)
    picture[face >= 0] = drawn(points, 255 * colours, bfm.triangles, face) / 127.5
    return picture.permute(2, 0, 1)[None] - 1, face >= 0


def landmarks68(picture: Float[Tensor, "3 H W"]) -> Float[Tensor, "68 2"] | None:
    """dlib's 68 landmarks of the surest face, (x, y) in pixels of the picture, iBUG order; None where no face is found.

    picture: [-1, 1]. Raises MissingWeights where the package face-recognition-models isn't installed.
    """
    import dlib

    from nfs_lib import cropping
    from nfs_lib.images import to_uint8

    predictor = cropping.predictor()
    if predictor is None:
        raise MissingWeights("dlib's landmarks aren't installed: pip install face-recognition-models (its files have terms of "
                             "their own), or fit with ReconNet's landmarks")
    pixels = np.ascontiguousarray(to_uint8(picture))
    found = cropping.detect(pixels)
    if not found:
        return None
    _, x, y, side = max(found)
    box = dlib.rectangle(*(round(v) for v in (x - side / 2, y - side / 2, x + side / 2, y + side / 2)))
    return torch.tensor([[p.x + 0.5, p.y + 0.5] for p in predictor(pixels, box).parts()])
