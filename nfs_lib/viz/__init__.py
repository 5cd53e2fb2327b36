"""Figures of every stage, in one style, and what the notebooks' sliders call."""

from nfs_lib.viz.play import Stopwatch, expression_with, pose_face
from nfs_lib.viz.plots import (
    costs,
    film_strip,
    fitted_face,
    framing,
    inverted,
    matching,
    motion,
    mouths,
    picture_grid,
    speech,
)
from nfs_lib.viz.style import Plot

__all__ = [
    "Plot",
    "Stopwatch",
    "costs",
    "expression_with",
    "film_strip",
    "fitted_face",
    "framing",
    "inverted",
    "matching",
    "motion",
    "mouths",
    "picture_grid",
    "pose_face",
    "speech",
]
