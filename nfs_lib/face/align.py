"""The face where Deep3DFaceReconstruction's networks expect it: a crop of 224 × 224 pixels, from 68 landmarks.

Landmarks are in iBUG's order, pixels of the picture, x right; y as each function says. Five of them are set against five
points of a standard face; a camera without perspective that fits them best says how large the face is and where.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from nfs_lib.errors import BadInput

SIDE = 224  # pixels
SCALE = 102.0  # pixels of the crop per unit of the standard face
STANDARD = np.array([  # eyes, nose, corners of the mouth; x right, y up, z to the camera
    (-0.31148657, 0.29036078, 0.13377953), (0.30979887, 0.28972036, 0.13179526), (0.0032535, -0.04617932, 0.55244243),
    (-0.25216928, -0.38133916, 0.22405732), (0.2484662, -0.38128236, 0.22235769),
])  # fmt: skip


class Aligned(NamedTuple):
    """A crop and how it came about: landmarks in the crop, y up; size (w, h) of the resized picture and corner (left, up) of
    the crop in it, rows downwards; transform: width and height of the picture, scale, centre x and y (up) of the face in it."""

    image: Image.Image
    landmarks: Float[np.ndarray, "68 2"]
    box: tuple[int, int, int, int]
    transform: tuple[int, int, float, float, float]


def five_points(landmarks: Float[np.ndarray, "*B 68 2"]) -> Float[np.ndarray, "*B 5 2"]:
    """Centres of both eyes (the mean of an eye's two corners), tip of the nose, corners of the mouth."""
    eyes = [(landmarks[..., a, :] + landmarks[..., b, :]) / 2 for a, b in ((36, 39), (42, 45))]
    return np.stack([*eyes, landmarks[..., 30, :], landmarks[..., 48, :], landmarks[..., 54, :]], axis=-2)


def scale_and_centre(five: Float[np.ndarray, "5 2"], standard: Float[np.ndarray, "5 3"] = STANDARD
                     ) -> tuple[float, Float[np.ndarray, " 2"]]:
    """Pixels per unit of the standard face, and where its origin lies in the picture.

    Least squares of x = A X + t with A (2, 3) free; the scale is the mean length of A's rows.
    """
    points = np.concatenate([standard, np.ones((5, 1))], 1)
    fit = np.linalg.lstsq(points, np.asarray(five, np.float64), rcond=None)[0]  # (4, 2): A and t, transposed
    return float(np.linalg.norm(fit[:3], axis=0).mean()), fit[3]


def align(image: Image.Image, landmarks: Float[np.ndarray, "68 2"], standard: Float[np.ndarray, "5 3"] = STANDARD) -> Aligned:
    """Resize the picture (bicubic) and cut the face out; beyond the picture it is black.

    landmarks: y up, y = H − 1 − row. Raises BadInput for landmarks that no face can have.
    """
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.shape != (68, 2) or not np.isfinite(landmarks).all() or np.ptp(landmarks, axis=0).min() < 1:
        raise BadInput(f"landmarks of shape {landmarks.shape} were given, or some that aren't finite or don't spread; expected "
                       "68 points (x, y) in pixels, in iBUG's order")
    wide, high = image.size
    usual, (tx, ty) = scale_and_centre(five_points(landmarks), standard)
    scale = SCALE / usual
    w, h = int(wide * scale), int(high * scale)
    left = int(w / 2 - SIDE / 2 + (tx - wide / 2) * scale)
    up = int(h / 2 - SIDE / 2 + (high / 2 - ty) * scale)
    crop = image.resize((w, h), Image.Resampling.BICUBIC).crop((left, up, left + SIDE, up + SIDE))
    moved = (landmarks - (tx, ty) + (wide / 2, high / 2)) * scale - (w / 2 - SIDE / 2, h / 2 - SIDE / 2)
    return Aligned(crop, moved, (w, h, left, up), (wide, high, scale, float(tx), float(ty)))
