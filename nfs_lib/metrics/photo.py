"""Is it the same person, on photographs? dlib's face descriptor, an optional backend for identity only.

Needs the package face-recognition-models (`pip install face-recognition-models`), whose files have terms of their own.
The descriptor isn't ArcFace's: 128 numbers that aren't of length 1 and share a large mean, so that their plain cosine is near 1
for anybody. Their distance tells people apart; don't set it beside a published CSIM.
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nfs_lib.cropping import RESOLUTION, expected_box
from nfs_lib.errors import MissingWeights
from nfs_lib.images import to_uint8

SAME = 0.6  # dlib's own threshold: nearer than this is the same person


def photo_distance(source: Float[Tensor, "1 3 H W"], frames: Float[Tensor, "T 3 h w"]) -> Float[Tensor, " T"]:
    """How far each frame's person is from the source's; 0 for the same picture, `SAME` divides persons from others.

    On photographs the same person had 0.16–0.40 (30 pairs), strangers 0.51–1.15 (139 pairs). The open world's people it can't
    tell apart (same 0.32, others 0.41 on the mean). source, frames: as `descriptors` takes them.
    """
    return torch.linalg.vector_norm(descriptors(frames) - descriptors(source), dim=1)


def descriptors(pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 128"]:
    """dlib's descriptor of each face crop, [-1, 1], framed as `cropping` does; some 0.2 s a picture.

    Raises MissingWeights without the package.
    """
    import dlib

    x, y, side = (v * pictures.shape[-1] / RESOLUTION for v in expected_box(None))
    box = dlib.rectangle(*(round(v) for v in (x - side / 2, y - side / 2, x + side / 2, y + side / 2)))
    predictor, network = _models()
    vectors = []
    for pixels in to_uint8(pictures):
        pixels = np.ascontiguousarray(pixels)
        vectors.append(np.array(network.compute_face_descriptor(pixels, predictor(pixels, box))))
    return torch.from_numpy(np.stack(vectors)).float()


@cache
def _models() -> tuple[Any, Any]:
    """dlib's five-point predictor and its recognition network. Their files are opened by path: importing the package needs a
    module that new setuptools no longer has."""
    import dlib

    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise MissingWeights("the face descriptor for photographs isn't installed: pip install face-recognition-models (its "
                             "files have terms of their own), or use the open backend")
    folder = Path(next(iter(spec.submodule_search_locations))) / "models"
    return (dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat")),
            dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat")))
