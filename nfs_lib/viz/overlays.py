"""What can be laid over the picture to see where Eq. 6 goes wrong: one number for each ray, from an examination."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nfs_lib.camera import project
from nfs_lib.correspondence import Examination


@dataclass(frozen=True)
class Overlay:
    """How to draw one: a title with its unit, what to look for, the range of colours and their scale (a name that both
    matplotlib and plotly know). high None: the largest value there is."""

    title: str
    look: str
    low: float = 0.0
    high: float | None = None
    scale: str = "magma"


OVERLAYS = {
    "error": Overlay("error against the truth (mm)", "bright: the rule moves this skin to a wrong place"),
    "way": Overlay("way of the sample (mm)", "bright: moves far"),
    "match distance": Overlay("distance to the vertex, on XY (mm)", "bright: nobody near", high=10.0),
    "samples per vertex": Overlay("samples that share the vertex", "bright: many rays, one vertex"),
    "behind": Overlay("deepest sample behind its vertex (mm)", "bright: a long column follows one vertex"),
    "jump": Overlay("jump to the next ray (mm)", "bright: neighbours part company"),
    "fold-over": Overlay("XY determinant", "dark: stretched; below 0: the picture is inside out", -1.0, 2.0, "RdBu"),
    "stale": Overlay("vertex used to nearest vertex (mm)", "bright: the match belongs to another camera"),
}


def ray_values(seen: Examination, name: str) -> Float[np.ndarray, "r r"]:
    """The overlay `name` of OVERLAYS, one number for each ray, rows from the top; NaN where there is nothing to say.

    Of several samples at the skin the worst counts. "error" is the mean over the points of the skin that the ray's cell shows.
    """
    pairs, mm = seen.pairs, seen.unit_mm
    side = round((len(pairs.points) / pairs.n_samples) ** 0.5)
    if name == "error":
        x, y, _ = project(seen.truth.points[None], seen.camera, side)[0].T
        cell = y.long().clamp(0, side - 1) * side + x.long().clamp(0, side - 1)
        count = torch.bincount(cell, minlength=side * side)
        total = torch.bincount(cell, seen.truth.error * mm, minlength=side * side)
        return torch.where(count > 0, total / count, torch.nan).view(side, side).numpy().astype(np.float32)
    values, where = {
        "way": lambda: (seen.motion.way.norm(dim=1) * mm, pairs.skin),
        "match distance": lambda: (pairs.matched.distance * mm, pairs.skin),
        "samples per vertex": lambda: (pairs.per_vertex[pairs.matched.index[:, 0]].float(), pairs.skin),
        "behind": lambda: (pairs.gap * mm, pairs.inside),
        "jump": lambda: (seen.motion.jump * mm, pairs.skin),
        "fold-over": lambda: (-seen.motion.determinant, pairs.skin),
        "stale": lambda: (pairs.stale * mm, pairs.skin),
    }[name]()
    worst = torch.where(where, values, -torch.inf).view(side, side, -1).amax(2)
    worst = torch.where(worst.isinf(), torch.nan, -worst if name == "fold-over" else worst)
    return worst.numpy()


def limits(name: str, values: Float[np.ndarray, "..."]) -> tuple[float, float]:
    """The range of colours for these values."""
    o = OVERLAYS[name]
    known = values[np.isfinite(values)]
    return o.low, o.high if o.high is not None else max(float(known.max()) if known.size else 0.0, 1.0)


def vertex_values(seen: Examination, name: str, vertices: Float[Tensor, "N 3"]) -> Float[np.ndarray, "N"]:
    """The overlay at the cell of the picture where each of these points lies; 0 (determinant: 1) where it has no value."""
    grid = ray_values(seen, name)
    x, y, _ = project(vertices[None], seen.camera, len(grid))[0].long().clamp(0, len(grid) - 1).T
    return np.nan_to_num(grid[y.numpy(), x.numpy()], nan=1.0 if name == "fold-over" else 0.0)
