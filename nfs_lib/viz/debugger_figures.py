"""The debugger's plotly figure, the picture (2D) beside the head (3D), and the arrays that fill it.

plotly's 3D scenes have no lasso: things are picked in the picture and shown in the head. Both halves are one figure, because
of two figure widgets in one Voila page only one gets its updates (plotly 7.1, Voila 0.5.13). Every trace has a name; `contents`
gives the arrays for each name, so that a change touches only what it has to.
"""

import base64
import io
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from nfs_lib.camera import project
from nfs_lib.correspondence import Examination
from nfs_lib.viz.overlays import OVERLAYS, limits, ray_values, vertex_values
from nfs_lib.viz.style import COLOURS

FLAT, SOLID = ("overlay", "vertices", "samples"), ("mesh", "picked", "followers", "skin moves", "samples move", "axes")
DEPTH = "depth"                   # the mesh's colours where no overlay is wanted
MOST_ARROWS, MOST_SAMPLES = 400, 1500
# on a lit head magma's black would hide the shape
SCALES: dict[str, Any] = {"magma": [[0, "#d9d5d1"], [0.15, "#f3cf9c"], [0.5, "#e8643c"], [1, "#6d0f33"]]}
Contents = dict[str, dict[str, Any]]


def picture_uri(picture: UInt8[np.ndarray, "H W 3"]) -> str:
    """An 8-bit picture as a data URI, which needs no file and no server."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def flat_traces(rays: int, size: int) -> list[dict[str, Any]]:
    """The traces of the picture, empty: the overlay (a cell a ray), the vertices (to be picked), the samples picked."""
    y, x = ((np.indices((rays, rays)) + 0.5) * size / rays).reshape(2, -1).astype(np.float32)
    return [
        dict(type="heatmap", name="overlay", x=x, y=y, opacity=0.6, hoverongaps=False,
             colorbar=dict(thickness=10, len=0.9, x=0.44, title=dict(side="right")), hovertemplate="%{z:.1f}<extra></extra>"),
        dict(type="scatter", name="vertices", mode="markers", marker=dict(size=4, color=COLOURS[5]),
             selected=dict(marker=dict(color=COLOURS[1], size=6)), unselected=dict(marker=dict(opacity=0.35)),
             hovertemplate="vertex %{pointNumber}<extra></extra>"),
        dict(type="scatter", name="samples", mode="markers", hoverinfo="skip",
             marker=dict(size=7, symbol="square-open", color=COLOURS[1])),
    ]  # fmt: skip


def solid_traces(triangles: Int[Tensor, "F 3"]) -> list[dict[str, Any]]:
    """The traces of the head, empty but for the mesh's triangles, which are sent once, and the axes."""
    i, j, k = triangles.int().numpy().T
    lines: dict[str, Any] = dict(type="scatter3d", mode="lines", hoverinfo="skip")
    axes = np.full((3, 3, 3), np.nan, np.float32)
    axes[:, 0], axes[:, 1] = (-1.9, -1.9, 0), np.array([-1.9, -1.9, 0]) + 0.5 * np.eye(3)
    x, y, z = axes.reshape(9, 3).T
    return [
        dict(type="mesh3d", name="mesh", i=i, j=j, k=k, hoverinfo="skip", flatshading=False, opacity=1.0,
             lighting=dict(ambient=0.45, diffuse=0.75, specular=0.1), lightposition=dict(x=-200, y=300, z=400)),
        dict(type="scatter3d", name="picked", mode="markers", marker=dict(size=3, color=COLOURS[1]),
             hovertemplate="vertex %{text}<extra></extra>"),
        dict(type="scatter3d", name="followers", mode="markers",
             marker=dict(size=2.5, colorscale="viridis", cmin=-20, cmax=120, symbol="square"),
             hovertemplate="%{marker.color:.0f} mm behind its vertex<extra></extra>"),
        lines | dict(name="skin moves", line=dict(color=COLOURS[1], width=4)),
        lines | dict(name="samples move", line=dict(color=COLOURS[0], width=3)),
        lines | dict(name="axes", mode="lines+text", x=x, y=y, z=z, line=dict(color="#444444", width=4),
                     text=["", "x", "", "", "y", "", "", "z", ""]),
    ]  # fmt: skip


def traces(triangles: Int[Tensor, "F 3"], rays: int, size: int) -> list[dict[str, Any]]:
    """All traces, in this order."""
    return flat_traces(rays, size) + solid_traces(triangles)


def layout(size: int, source: str) -> dict[str, Any]:
    """The picture on the left, pixels as `camera.project` counts; the head frame on the right, y up, seen from slightly beside.

    A turn or a zoom by hand stays when something else changes.
    """
    axis = dict(range=[0, size], visible=False, constrain="domain")
    span = {"xaxis": [-2.0, 2.0], "yaxis": [-2.1, 1.7], "zaxis": [-1.6, 1.8]}
    scene: dict[str, Any] = {name: dict(visible=False, range=limit) for name, limit in span.items()}
    scene |= dict(aspectmode="data", dragmode="orbit", uirevision="stays", domain=dict(x=[0.5, 1.0], y=[0.0, 1.0]),
                  camera=dict(up=dict(x=0, y=1, z=0), eye=dict(x=0.4, y=0.1, z=1.5)))  # fmt: skip
    said = ((0.0, "lasso, box or click: pick vertices"), (0.52, "head frame: orange, the skin's way; blue, the samples'"))
    return dict(
        width=1020, height=480, margin=dict(l=4, r=4, t=36, b=4), dragmode="lasso", showlegend=False, hovermode="closest",
        plot_bgcolor="white", uirevision="stays", scene=scene, modebar=dict(orientation="v"),
        xaxis=axis | dict(domain=[0.0, 0.43]), yaxis=axis | dict(range=[size, 0], scaleanchor="x"),
        annotations=[dict(text=text, x=x, y=1.0, yshift=24, xref="paper", yref="paper", showarrow=False, xanchor="left",
                          font=dict(size=13)) for x, text in said],
        images=[dict(source=source, xref="x", yref="y", x=0, y=0, sizex=size, sizey=size, sizing="stretch", layer="below")],
    )  # fmt: skip


def segments(start: Float[Tensor, "n 3"], end: Float[Tensor, "n 3"]) -> dict[str, np.ndarray]:
    """Lines from start to end as x, y, z of one trace; NaN parts them. At most MOST_ARROWS, evenly chosen."""
    step = -(-len(start) // MOST_ARROWS) or 1
    both = torch.stack([start, end, torch.full_like(start, torch.nan)], 1)[::step].reshape(-1, 3).numpy()
    return dict(x=both[:, 0], y=both[:, 1], z=both[:, 2])


def place(points: Float[Tensor, "n 3"]) -> dict[str, np.ndarray]:
    """x, y, z of a 3D trace."""
    return dict(zip("xyz", points.numpy().T, strict=True))


# an array of one dimension goes to the browser as it is, NaN and all; one of two would become a list, which can't hold NaN
def contents(seen: Examination, picked: Int[Tensor, "n"], overlay: str, size: int) -> Contents:
    """The arrays of every trace but the axes. picked: numbers within the vertices that take part; size: the picture's."""
    pairs, mm = seen.pairs, seen.unit_mm
    samples = pairs.followers(picked)
    samples = samples[:: -(-len(samples) // MOST_SAMPLES) or 1]
    v_init, v_t = seen.v_init[seen.chosen], seen.v_t[seen.chosen]
    moving = torch.nonzero((v_t - v_init).norm(dim=1) * mm > 0.5)[:, 0] if not len(picked) else picked
    at, seen_at = project(v_init[None], seen.camera, size)[0], project(pairs.points[None, samples], seen.camera, size)[0]
    if overlay == DEPTH:
        grid, colours, span = np.zeros(1, np.float32), seen.v_t[:, 2].numpy(), (-1.2, 1.2)
        scale: Any = "Greys_r"
    else:
        grid, named = ray_values(seen, overlay), OVERLAYS[overlay].scale
        scale = SCALES.get(named, named)
        colours, span = vertex_values(seen, overlay, seen.v_t), limits(overlay, grid)
    bar = "" if overlay == DEPTH else OVERLAYS[overlay].title
    p = pairs.points[samples]
    return {
        "overlay": dict(z=grid.flatten(), zmin=span[0], zmax=span[1], colorscale=scale, visible=overlay != DEPTH,
                        colorbar_title_text=bar),
        "vertices": dict(x=at[:, 0].numpy(), y=at[:, 1].numpy()),
        "samples": dict(x=seen_at[:, 0].numpy(), y=seen_at[:, 1].numpy()),
        "mesh": place(seen.v_t) | dict(intensity=colours, cmin=span[0], cmax=span[1], colorscale=scale, showscale=False,
                                      opacity=0.5 if len(picked) else 1.0),
        "picked": place(v_t[picked] + 0.02 * (v_t[picked] - v_t.mean(0))) | dict(text=[str(i) for i in picked.tolist()]),
        "followers": place(p) | dict(marker_color=(pairs.gap[samples] * mm).numpy()),
        "skin moves": segments(v_init[moving], v_t[moving]),
        "samples move": segments(p, p + seen.motion.way[samples]),
    }  # fmt: skip
