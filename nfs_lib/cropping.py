"""Any picture with a face → the open world's framing: 256 × 256 pixels, the head where the camera of a portrait would see it.

The face is found by dlib's frontal detector, which comes without a file of weights and finds the open world's portraits as
well as photographs (119 of 120 held-out portraits; none in noise, gradients, text and shapes). Its box is coarse, so that the
boxes found at several scales are averaged. Where the optional package face-recognition-models is installed, its 68 landmarks
give the frame instead.
"""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nfs_lib.camera import Camera, project
from nfs_lib.checks import check_array
from nfs_lib.errors import BadInput
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.images import to_uint8

Estimate = Callable[[Tensor], Coefficients]  # an Estimator, or anything that reads pictures as it does
RESOLUTION = 256
EYES_AND_MOUTH = slice(36, 68)  # iBUG-68; brows and nose sit elsewhere on dlib's faces than on the model's
BOX_SIZE = 129.0  # side of dlib's box around a face of the open world, in pixels of its 256 × 256 portrait
BOX_CENTRE = (0.0, -0.21, 0.83)  # the point of the head (head frame) on which that box is centred, at any pose
SCALES = 6  # small changes of scale at which the detector looks; half of them must show the face
PHOTO_NOTE = (
    "the picture isn't a framed portrait of the open world, so it was cut to its frame: a photograph becomes the open "
    "world's nearest look, not a likeness"
)


@dataclass
class Crop:
    """image (3, R, R) in [-1, 1], R = 256 in the open world; transform (3, 3): pixels of the given picture (x right, y down, 0
    at the edge) → pixels of the crop; notes: what the user should know, one sentence each."""

    image: Float[Tensor, "3 R R"]
    transform: np.ndarray
    notes: list[str]


def crop_portrait(
    image: Float[Tensor, "3 H W"],
    estimator: Estimate | None = None,
    model: MorphableModel | None = None,
    name: str = "the picture",
) -> Crop:
    """The largest face of a picture, upright and centred as the open world's portraits are.

    image: [-1, 1], any size. estimator: says how the head is turned, which shifts a face within the frame; without it the
    head is taken to look straight ahead. model: its landmarks are needed only where dlib's 68 landmarks are installed.
    A square picture that is framed well already is left as it is, but for its size. Where the crop reaches beyond the
    picture, that is continued by reflection, blurred.
    Raises BadInput, naming `name`, if there is no face in it, or it isn't a picture.
    """
    check_array(image, name, "torch.float32", 3, "H", "W", limit=1.01)
    found = find_faces(image)
    if not found:
        height, width = image.shape[1:]
        raise BadInput(
            f"no face found in {name} ({width}×{height} pixels): give a portrait, upright, the face turned to the "
            "camera and at least a tenth of the picture wide"
        )
    notes = [] if len(found) == 1 else [f"{len(found)} faces found in {name}: the largest is taken"]
    resize = whole_frame(image)
    if len(found) == 1 and resize is not None and well_framed(image, resize, estimator):
        return Crop(warp(image, resize), resize, notes)
    x, y, side = found[0]
    less = min(1.0, 2 * BOX_SIZE / side)  # a smaller copy will do until the last step
    whole, image = image, shrunk(image, less)
    shrink = np.diag([image.shape[2] / whole.shape[2], image.shape[1] / whole.shape[1], 1.0])
    transform = similarity(corners(x * less, y * less, side * less), corners(*expected_box(None)))
    transform = upright(image, transform) @ transform
    points = landmarks(image, transform)
    for _ in range(2):
        picture = warp(image, transform)
        with torch.no_grad():
            read = estimator(picture[None]) if estimator else None
        if points is not None and model is not None:
            transform = similarity(points, model_landmarks(model, read))
        elif (box := average_box(picture)) is not None:
            transform = similarity(corners(*box), corners(*expected_box(read))) @ transform
    transform = transform @ shrink
    return Crop(warp(whole, transform), transform, [*notes, PHOTO_NOTE])


# finding faces


@lru_cache(maxsize=1)
def detector() -> Any:
    """dlib's frontal face detector (histograms of gradients; five views)."""
    import dlib

    return dlib.get_frontal_face_detector()


def detect(pixels: np.ndarray, least: float = 0.0) -> list[tuple[float, float, float, float]]:
    """(score, centre x, centre y, side) of every face of at least 80 pixels in (H, W, 3) bytes, scores above `least`."""
    boxes, scores, _ = detector().run(np.ascontiguousarray(pixels), 0, least)
    return [(s, (b.left() + b.right() + 1) / 2, (b.top() + b.bottom() + 1) / 2, float(b.width()))
            for s, b in zip(scores, boxes, strict=True)]


def average_box(image: Float[Tensor, "3 256 256"], least: float = 0.0) -> tuple[float, float, float] | None:
    """Centre x, y and side of the face about where a portrait has it, averaged over several scales; None if fewer than half
    of them show it. image: a portrait's frame; least: score of the detector from which a face counts.

    One detection is good to 4 pixels of 256 and 8 % of the size, the mean of six to 2 (4 downwards) and 5 %.
    """
    seen = []
    x0, y0, usual = expected_box(None)
    for k in range(SCALES):
        scale, pad = 1.2 ** (k / SCALES), round(8 * (k * 0.618 % 1))
        size = (round(image.shape[1] * scale), round(image.shape[2] * scale))
        larger = F.interpolate(image[None], size, mode="bilinear", align_corners=False)
        boxes = detect(to_uint8(F.pad(larger, (pad, 0, pad, 0), mode="replicate")[0]), least)
        boxes = [(s, (x - pad) / scale, (y - pad) / scale, side / scale) for s, x, y, side in boxes]
        seen += [b for b in boxes if math.hypot(b[1] - x0, b[2] - y0) < usual / 2 and 0.6 < b[3] / usual < 1.7][:1]
    if len(seen) < SCALES / 2:
        return None
    table = np.array(seen)
    x, y, side = np.average(table[:, 1:], axis=0, weights=np.maximum(table[:, 0], 0.05))
    return float(x), float(y), float(side)


def find_faces(image: Float[Tensor, "3 H W"]) -> list[tuple[float, float, float]]:
    """Centre x, y and side in pixels of the faces of a picture, the largest first.

    Looks for large faces in a small version of the picture first, then for small ones, and last for tilted heads. What is
    found counts only if `average_box` sees it too.
    """
    height, width = image.shape[1:]
    for size, tilt in ((512, 0), (1200, 0), (512, -35), (512, 35)):
        scale = size / max(height, width)
        if size > 512 and scale > 2:
            continue
        view = shrunk(image, scale)
        scaled = np.diag([view.shape[2] / width, view.shape[1] / height, 1.0])
        margin = size // 7  # a face may touch the border
        view = F.pad(view[None], (margin,) * 4, mode="replicate")[0]
        rotation = turn(tilt, (view.shape[2] / 2, view.shape[1] / 2))
        place = rotation @ np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1.0]]) @ scaled
        faces = []
        for _, x, y, side in detect(to_uint8(warp(view, rotation, view.shape[1:]) if tilt else view)):
            at = np.linalg.inv(place) @ (x, y, 1)
            frame = similarity(corners(x, y, side), corners(*expected_box(None))) @ rotation
            if average_box(warp(view, frame)) is not None:
                faces.append((float(at[0]), float(at[1]), side / scale))
        if faces:
            return sorted(faces, key=lambda face: -face[2])
    return []


def upright(image: Float[Tensor, "3 H W"], transform: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) of the crop about the face at which the detector, made for upright faces, is surest.

    Good to about 4°; the identity within ±5°, for portraits tilt their heads too.
    """
    centre = expected_box(None)[:2]
    angles = np.arange(-60, 61, 10)
    scores = []
    for angle in angles:
        boxes = detect(to_uint8(warp(image, turn(float(angle), centre) @ transform)))
        scores.append(max((s for s, *_ in boxes), default=0.0))
    weights = np.array(scores) ** 2
    best = float((weights * angles).sum() / weights.sum()) if weights.any() else 0.0
    return turn(best, centre) if abs(best) > 5 else np.eye(3)


@lru_cache(maxsize=1)
def predictor() -> Any:
    """dlib's 68-landmark predictor from the package face-recognition-models, None where that isn't installed.

    The file is opened by its path: importing the package needs a module that new setuptools no longer has.
    """
    import dlib

    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / "models" / "shape_predictor_68_face_landmarks.dat"
    return dlib.shape_predictor(str(path)) if path.is_file() else None


def landmarks(image: Float[Tensor, "3 H W"], transform: np.ndarray) -> np.ndarray | None:
    """Landmarks of eyes and mouth (32, 2) in pixels of the picture, seen in the crop of `transform`; None without predictor."""
    if predictor() is None:
        return None
    import dlib

    zoom = np.diag([2.0, 2.0, 1.0])
    x, y, side = (2 * v for v in expected_box(None))
    box = dlib.rectangle(*(round(v) for v in (x - side / 2, y - side / 2, x + side / 2, y + side / 2)))
    parts = predictor()(to_uint8(warp(image, zoom @ transform, (2 * RESOLUTION,) * 2)), box).parts()
    points = np.array([[p.x + 0.5, p.y + 0.5, 1] for p in parts])[EYES_AND_MOUTH]
    return (points @ np.linalg.inv(zoom @ transform).T)[:, :2]


# where a face belongs in the frame


def expected_box(read: Coefficients | None) -> tuple[float, float, float]:
    """Centre x, y and side of dlib's box in a portrait's frame, for the pose that was read (straight ahead without)."""
    pose = torch.zeros(1, 3) if read is None else read.pose.clamp(-0.7, 0.7)
    x, y, _ = project(torch.tensor([[BOX_CENTRE]]), Camera.from_pose(pose), RESOLUTION)[0, 0].tolist()
    return x, y, BOX_SIZE


def model_landmarks(model: MorphableModel, read: Coefficients | None) -> np.ndarray:
    """Landmarks of eyes and mouth (32, 2) of the face that was read (the mean face without), in a portrait's frame."""
    if read is None:
        zeros = torch.zeros
        read = Coefficients(zeros(1, 1), zeros(1, 1), zeros(1, 3), zeros(1, 27))
    return model.project_landmarks(read, RESOLUTION)[0, EYES_AND_MOUTH].double().numpy()


def whole_frame(image: Float[Tensor, "3 H W"]) -> np.ndarray | None:
    """The transform (3, 3) that only resizes a square picture of at least 128 pixels; None for others."""
    height, width = image.shape[1:]
    return np.diag([RESOLUTION / width, RESOLUTION / width, 1.0]) if height == width >= 128 else None


def well_framed(
    image: Float[Tensor, "3 H W"], transform: np.ndarray, estimator: Estimate | None, least: float = 0.0
) -> bool:
    """Whether the face of the resized picture is where a portrait of the open world has it, as far as a box can tell; least:
    see `average_box`."""
    picture = warp(image, transform)
    box = average_box(picture, least)
    if box is None:
        return False
    if estimator:
        with torch.no_grad():
            x, y, side = expected_box(estimator(picture[None]))
        near = math.hypot(box[0] - x, box[1] - y) < 16
    else:  # the box wanders with the head's turn
        x, y, side = expected_box(None)
        near = abs(box[0] - x) < 36 and abs(box[1] - y) < 24
    return near and 0.8 < box[2] / side < 1.25


# similarity transforms


def corners(x: float, y: float, side: float) -> np.ndarray:
    """The corners (4, 2) of a square around (x, y)."""
    return np.array([x, y]) + side / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])


def turn(degrees: float, centre: tuple[float, float]) -> np.ndarray:
    """Rotation (3, 3) about a point of the picture, clockwise as seen."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = centre
    return np.array([[c, -s, x - c * x + s * y], [s, c, y - s * x - c * y], [0, 0, 1.0]])


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift (3, 3) that brings points (n, 2) nearest to others, in least squares (Umeyama)."""
    a, b = source - source.mean(0), target - target.mean(0)
    c, s = (a * b).sum(), (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()
    linear = np.array([[c, -s], [s, c]]) / (a**2).sum()
    out = np.eye(3)
    out[:2, :2], out[:2, 2] = linear, target.mean(0) - linear @ source.mean(0)
    return out


def shrunk(image: Float[Tensor, "3 H W"], scale: float) -> Float[Tensor, "3 h w"]:
    """The picture `scale` times as large, to whole pixels, smoothed where it gets smaller."""
    size = [max(2, round(n * scale)) for n in image.shape[1:]]
    if size == list(image.shape[1:]):
        return image
    return F.interpolate(image[None], size, mode="bicubic", antialias=True, align_corners=False)[0].clamp(-1, 1)


def warp(
    image: Float[Tensor, "3 H W"], transform: np.ndarray, size: tuple[int, ...] = (RESOLUTION, RESOLUTION)
) -> Float[Tensor, "3 h w"]:
    """The picture under a similarity transform (3, 3) of its pixels, smoothed where it gets smaller.

    size: height and width of the result. Beyond the picture: its reflection, blurred.
    """
    scale = math.sqrt(abs(np.linalg.det(transform[:2, :2])))
    picture = shrunk(image, min(1.0, scale))
    sides = np.array([image.shape[2], image.shape[1]])[:, None, None]
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    at = np.linalg.inv(transform) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    u = at[:2].reshape(2, *size) / sides * 2 - 1
    grid = torch.from_numpy(u).float().permute(1, 2, 0)[None]
    out = F.grid_sample(picture[None], grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    beyond = torch.from_numpy(((np.abs(u) - 1) * sides / 2 * scale).max(0)).float()  # pixels of the result
    if beyond.max() > 0:
        coarse = F.avg_pool2d(out, 16, ceil_mode=True)
        soft = F.interpolate(coarse, size, mode="bicubic", align_corners=False)
        out = torch.lerp(out, soft, (beyond / 16).clamp(0, 1))
    return out[0].clamp(-1, 1)
