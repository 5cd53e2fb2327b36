"""Figures of notebook 06: moved samples, cuts through the volume, where the field is asked, folds, and what it is worth.

Points are in the head frame, head units, unless a name says mm; unit_mm: millimetres per head unit.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.path import Path
from torch import Tensor

from nfs_lib import portraits
from nfs_lib.camera import Camera
from nfs_lib.checks import by_hand
from nfs_lib.measure_generator import MOUTH, as_picture, box, psnr
from nfs_lib.portraits import REGIONS, Portrait, Scene
from nfs_lib.true_motion import deformed_picture
from nfs_lib.viz.plots import picture_grid
from nfs_lib.viz.style import COLOURS, Plot, panels, styled

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Interactive

    from nfs_lib.face.estimator import Estimator
    from nfs_lib.talking_head import TalkingHead

INSIDE = [REGIONS.index(name) for name in ("mouth", "teeth")]
REST, NOW = "#56b4e9", "#e69f00"  # the face at rest, the face at time t


def cut_mesh(vertices: Float[Tensor, "V 3"], triangles: Int[Tensor, "F 3"], x: float = 0.0) -> Float[Tensor, "n 2 3"]:
    """The line in which the plane at `x` cuts a mesh: n short segments, two ends each."""
    corners = vertices[triangles]
    side = corners[:, :, 0] - x
    corners, side = (c[((side > 0).any(1)) & ((side <= 0).any(1))] for c in (corners, side))
    begin, end = corners, corners.roll(-1, 1)
    share = side / (side - side.roll(-1, 1))
    crossing = (side > 0) != (side.roll(-1, 1) > 0)                  # two of a triangle's three edges
    return (begin + share[..., None] * (end - begin))[crossing].view(-1, 2, 3)


def draw_cut(axes: Axes, segments: Float[Tensor, "n 2 3"], colour: str, label: str, width: float = 1.6) -> None:
    """The segments of `cut_mesh`, z to the right, y up."""
    axes.add_collection(LineCollection(list(segments[:, :, [2, 1]].numpy()), colors=colour, linewidths=width, label=label))


def frame_cut(axes: Axes, z: tuple[float, float], y: tuple[float, float], title: str) -> None:
    """Limits and labels of a cut seen from the side."""
    axes.set(xlim=z, ylim=y, aspect="equal", xlabel="z, out of the face (head units)", ylabel="y (head units)", title=title)


@styled
def sample_arrows(
    points: Float[Tensor, "P 3"],
    moved: Float[Tensor, "P 3"],
    before: Float[Tensor, "n 2 3"],
    after: Float[Tensor, "m 2 3"],
    z: tuple[float, float] = (0.1, 1.2),
    y: tuple[float, float] = (-1.25, -0.15),
) -> Plot:
    """Samples of one column of rays from the side, an arrow to where each asks the field instead, and both faces' outlines.

    before, after: cuts of the mesh at rest and at time t (`cut_mesh`).
    """
    figure, axes = panels(1, 2, 10, 4.7)
    seen, asked = axes[0]
    low, high = points.new_tensor([y[0] - 0.3, z[0] - 0.1]), points.new_tensor([y[1] + 0.3, z[1] + 0.1])
    inside = ((points[:, 1:] > low) & (points[:, 1:] < high)).all(1)
    p, q = points[inside].numpy(), moved[inside].numpy()
    for axis in axes[0]:
        draw_cut(axis, before, REST, "face at rest: what the field knows")
        draw_cut(axis, after, NOW, "face at time t: what shall be seen")
    seen.quiver(p[:, 2], p[:, 1], *(q - p)[:, [2, 1]].T, angles="xy", scale_units="xy", scale=1, width=0.0035, color="#666666")
    seen.plot(p[:, 2], p[:, 1], ".", color="black", markersize=4.5, label="sample p")
    frame_cut(seen, z, y, "each sample p asks where its arrow ends, p'")
    far = np.linalg.norm(q - p, axis=1) > 0.05 * np.linalg.norm(q - p, axis=1).max()
    asked.plot(q[~far, 2], q[~far, 1], ".", color="#999999", markersize=6, label="p' of samples that stay")
    asked.plot(q[far, 2], q[far, 1], ".", color=COLOURS[1], markersize=6, label="p' of samples that move")
    frame_cut(asked, z, y, "only the p': the moved ones come in between those that stayed")
    for axis in axes[0]:
        axis.legend(loc="lower left", handlelength=1.2, frameon=True, framealpha=1, edgecolor="none")
    return figure


@styled
def density_cuts(
    sigmas: Mapping[str, Float[Tensor, "h w"]],
    outlines: Sequence[tuple[Float[Tensor, "_ 2 3"], str]],
    z: tuple[float, float],
    y: tuple[float, float],
    unit_mm: float,
) -> Plot:
    """Density σ (per head unit) on planes seen from the side, by title, each with the outline (segments, name) of a face.

    Rows are y from bottom to top, columns z; colours show powers of ten of σ per millimetre.
    """
    figure, axes = panels(1, len(sigmas), 8.6, 8.6 / len(sigmas) * (y[1] - y[0]) / (z[1] - z[0]) * 0.66 + 0.7)
    for axis, (title, sigma), (segments, name) in zip(axes[0], sigmas.items(), outlines, strict=True):
        drawn = axis.imshow((sigma / unit_mm).clamp(min=1e-4).log10().numpy(), origin="lower", extent=(*z, *y), cmap="magma",
                            vmin=-3, vmax=0.5)  # fmt: skip
        draw_cut(axis, segments, REST if name.endswith("rest") else NOW, name)
        frame_cut(axis, z, y, title)
        axis.legend(loc="lower left", labelcolor="white", handlelength=1.2)
    figure.colorbar(drawn, ax=list(axes[0]), label="density σ (1/mm, powers of ten)", shrink=0.85)
    return figure


def moving(v_init: Float[Tensor, "V 3"], v_t: Float[Tensor, "V 3"], least: float = 0.02) -> Int[Tensor, "n"]:
    """The numbers of the vertices that move further than `least` of the longest way."""
    way = (v_t - v_init).norm(dim=1)
    return torch.nonzero(way > least * way.max())[:, 0]


def ways_3d(v_init: Float[Tensor, "V 3"], v_t: Float[Tensor, "V 3"], unit_mm: float, stride: int = 3) -> "Interactive":
    """Every stride-th vertex at time t and the line back to its place at rest, ΔV_t, to be turned with the mouse.

    Colours: the way in millimetres. A click on the legend hides what it names.
    """
    from plotly import graph_objects as go

    at, start = v_t[::stride], v_init[::stride]
    way = (at - start).norm(dim=1) * unit_mm
    some = moving(start, at)
    lines = torch.stack([start[some], at[some], torch.full_like(at[some], torch.nan)], 1).view(-1, 3)
    rest = start.numpy().round(3)
    x, y, z = at.numpy().round(3).T
    lx, ly, lz = lines.numpy().round(3).T
    shown = "%{customdata:.1f} mm<extra></extra>"
    figure = go.Figure([
        go.Scatter3d(x=rest[:, 0], y=-rest[:, 2], z=rest[:, 1], mode="markers", name="V_init, at rest", hoverinfo="skip",
                     marker={"size": 1.5, "color": "#bbbbbb"}),
        go.Scatter3d(x=lx, y=-lz, z=ly, mode="lines", name="ΔV_t, back to rest", hoverinfo="skip",
                     line={"width": 3, "color": COLOURS[1]}),
        go.Scatter3d(x=x, y=-z, z=y, mode="markers", name="V_t, at time t", customdata=way.numpy().round(1),
                     hovertemplate=shown, marker={"size": 2.5, "color": way.numpy().round(1), "colorscale": "Viridis",
                                                  "colorbar": {"title": {"text": "way (mm)"}, "len": 0.6}})])  # fmt: skip
    scene: dict[str, Any] = {name: {"visible": False} for name in ("xaxis", "yaxis", "zaxis")}
    scene |= {"aspectmode": "data", "camera": {"eye": {"x": 1.1, "y": -1.4, "z": 0.1}, "center": {"x": 0, "y": 0, "z": -0.1}}}
    figure.update_layout(width=760, height=520, scene=scene, margin={"l": 0, "r": 0, "t": 40, "b": 0},
                         title="which vertex moved how far? (turn me)", legend={"x": 0, "y": 1})  # fmt: skip
    return figure


@styled
def ways_flat(v_init: Float[Tensor, "V 3"], v_t: Float[Tensor, "V 3"], unit_mm: float) -> Plot:
    """The still twin of `ways_3d`: ΔV_t of every vertex that moves, from the front and from the side."""
    figure, axes = panels(1, 2, 10, 4.6)
    some = moving(v_init, v_t)
    start, end = v_t[some].numpy(), v_init[some].numpy()
    way = np.linalg.norm(end - start, axis=1) * unit_mm
    low, high = np.minimum(start, end).min(0) - 0.1, np.maximum(start, end).max(0) + 0.1
    views = ((0, "x (head units)", "from the front"), (2, "z, out of the face (head units)", "from the side"))
    for axis, (across, label, title) in zip(axes[0], views, strict=True):
        axis.plot(*v_init[:, [across, 1]].T, ".", color="#cccccc", markersize=1.5)
        drawn = axis.quiver(*start[:, [across, 1]].T, *(end - start)[:, [across, 1]].T, way, angles="xy", scale_units="xy",
                            scale=1, width=0.004, cmap="viridis")  # fmt: skip
        middle, half = (low[across] + high[across]) / 2, 0.55 * (high[1] - low[1])
        axis.set(xlim=(middle - 1.3 * half, middle + 1.3 * half), ylim=(low[1], high[1]), aspect="equal", xlabel=label,
                 ylabel="y (head units)", title=f"{title}: ΔV_t leads from the moved vertex back to rest")  # fmt: skip
    figure.colorbar(drawn, ax=list(axes[0]), label="way (mm)", shrink=0.85)
    return figure


@styled
def asked_along(
    y_mm: Float[Tensor, "n"],
    asked_mm: Mapping[str, Float[Tensor, "n"]],
    truth_mm: tuple[Float[Tensor, "m"], Float[Tensor, "m"]],
    lips_mm: tuple[float, float],
) -> Plot:
    """Along an upright line through the mouth: at which height the field is asked (y axis) for what is seen at y (x axis).

    All heights in mm from the closed lips at rest. truth_mm: heights of vertices near the line at time t and at rest; lips_mm:
    the heights at time t of the lower and the upper lip, between which there is the open mouth.
    """
    figure, axes = panels(1, len(asked_mm), 10, 10 / len(asked_mm) + 0.75)
    low, high = float(y_mm.min()), float(y_mm.max())
    for axis, (title, asked), colour in zip(axes[0], asked_mm.items(), COLOURS, strict=False):
        axis.axvspan(*lips_mm, color="#e4e4e4", label="open mouth")
        axis.plot([low, high], [low, high], "--", color="#999999", linewidth=1, label="nothing moves")
        axis.plot(*truth_mm, "o", color="black", markersize=3.4, label="truth, at vertices")
        axis.plot(y_mm, asked, color=colour, label="the rule")
        axis.set(xlim=(low, high), ylim=(low, high), aspect="equal", title=title, xlabel="seen at this height (mm)")
    axes[0, 0].set_ylabel("field asked at this height (mm)")
    axes[0, 0].legend(loc="lower right", frameon=True, framealpha=1, edgecolor="none")
    return figure


@styled
def fold_maps(
    determinants: Mapping[str, Mapping[str, Float[Tensor, "h w"]]],
    extent: tuple[float, float, float, float],
    lips: Mapping[str, Float[Tensor, "20 2"]],
) -> Plot:
    """Determinants of the XY Jacobian over the frontal plane, by the rule's name and the column's; hatched: where negative.

    Rows of each map from bottom to top; extent: x and y limits; lips: the 20 landmarks of the mouth at time t (48–67: 12 of the
    outer, 8 of the inner outline of the lips), by column title.
    """
    rows, columns = len(determinants), len(lips)
    size = 9.0 / columns
    figure, axes = panels(rows, columns, 10, rows * (0.9 * size * (extent[3] - extent[2]) / (extent[1] - extent[0]) + 0.3))
    for line, (name, maps) in zip(axes, determinants.items(), strict=True):
        for axis, (title, values) in zip(line, maps.items(), strict=True):
            drawn = axis.imshow(values.numpy(), origin="lower", extent=extent, cmap="RdBu", vmin=-1, vmax=3)
            if (values < 0).any():
                axis.contourf(values, levels=[-np.inf, 0], extent=extent, colors="none", hatches=["////"])
                axis.contour(values, levels=[0], extent=extent, colors="black", linewidths=0.9)
            for outline in lips[title].split([12, 8]):
                axis.plot(*torch.cat([outline, outline[:1]]).T, color=NOW, linewidth=1.4)
            axis.set(xticks=[], yticks=[], title=f"{title}, {name}")
    bar = figure.colorbar(drawn, ax=list(axes.ravel()), label="XY determinant", shrink=0.9, ticks=[-1, 0, 1, 2, 3])
    bar.ax.set_yticklabels(["−1: inside out", "0: smeared", "1: as it is", "2", "3: squeezed"])
    return figure


def share_in_mouth(
    points: Float[Tensor, "P 3"], values: Float[Tensor, "P"], lips: Float[Tensor, "20 2"]
) -> float:
    """Share of the points with negative values that lie within the inner outline of the lips; 0 where there are none."""
    negative = points[values < 0, :2].numpy()
    return float(Path(lips[12:].numpy()).contains_points(negative).mean()) if len(negative) else 0.0


@styled
def ways_along(x_mm: Float[Tensor, "n"], ways_mm: Mapping[str, Float[Tensor, "n"]], rays_mm: Float[Tensor, "r"], where: str
               ) -> Plot:
    """How far the samples on a line across the face are moved, by rule, in mm; rays_mm: where rays pass."""
    figure, axes = panels(1, 1, 10, 3.2)
    axis = axes[0, 0]
    for (name, way), colour in zip(ways_mm.items(), COLOURS, strict=False):
        axis.plot(x_mm, way, color=colour, label=name, linewidth=1.3)
    axis.plot(rays_mm, np.zeros(len(rays_mm)), "|", color="black", markersize=9, label="rays of the 32 × 32 grid")
    highest = max(float(way.max()) for way in ways_mm.values())
    axis.set(xlabel="x (mm)", ylabel="way of the sample (mm)", xlim=(float(x_mm.min()), float(x_mm.max())),
             ylim=(-0.05 * highest, 1.25 * highest), title=where)  # fmt: skip
    axis.legend(loc="upper center", ncols=len(ways_mm) + 1)
    return figure


class Score(NamedTuple):
    """mouth: PSNR in the mouth's box (landmarks 48–67, 4 pixels wider), dB; skin: the same without the pixels inside the true
    mouth; jaw: jawOpen as the estimator reads it, NaN without one."""

    mouth: float
    skin: float
    jaw: float


@torch.no_grad()
def score(picture: Float[Tensor, "3 H W"], truth: Portrait, estimator: "Estimator | None" = None, jaw: int = 0) -> Score:
    """A picture against the rendered truth of the same person, expression and pose; jaw: the place of jawOpen in β."""
    rows, columns = box(truth.landmarks[MOUTH], 4)
    made, true = picture[:, rows, columns], as_picture(truth)[:, rows, columns]
    skin = torch.from_numpy(~np.isin(truth.regions[rows, columns], INSIDE))
    read = float(estimator(picture[None]).expression[0, jaw]) if estimator else math.nan
    return Score(psnr(made, true), psnr(made[:, None, skin], true[:, None, skin]), read)


@styled
def score_curves(asked: Sequence[float], scores: Mapping[str, Sequence[Score]], floor: Sequence[Score] | None = None) -> Plot:
    """`Score`s by rule over the jaw that was asked for; floor: of the rendered truth itself, for the jaw that is read."""
    figure, axes = panels(1, 3, 10, 3.5)
    for (name, values), colour in zip(scores.items(), ("#999999", *COLOURS), strict=False):
        for axis, number in zip(axes[0], zip(*values, strict=True), strict=True):
            axis.plot(asked, number, "o-", color=colour, markersize=3.5, label=name, linewidth=1.3)
    axes[0, 0].set(title="mouth box", ylabel="PSNR against the truth (dB)")
    axes[0, 1].set(title="mouth box, skin and lips only", ylabel="PSNR (dB)")
    axes[0, 2].plot([0, max(asked)], [0, max(asked)], "--", color="#bbbbbb", linewidth=1)
    if floor is not None:
        axes[0, 2].plot(asked, [s.jaw for s in floor], "x", color="black", label="read off the truth")
    axes[0, 2].set(title="jaw read by the estimator", ylabel="jawOpen")
    for axis in axes[0]:
        axis.set_xlabel("jawOpen asked for")
    axes[0, 2].legend(loc="upper left")
    return figure


def with_actions(head: "TalkingHead", scene: Scene, actions: Mapping[str, float]) -> tuple[Float[Tensor, "1 E"], Scene]:
    """The same facial actions for the fitted face (β) and for the true scene; all others stay as they are.

    "mouthSmile" without a side means both.
    """
    beta, true = head.face.expression.clone(), scene.expression.copy()
    for name, strength in actions.items():
        sides = [name] if name in head.model.expression_names else [f"{name}Left", f"{name}Right"]
        for i in map(head.model.action, sides):
            beta[0, i] = true[i] = strength
    return beta, scene.replace(expression=true)


def posed(pose: Float[Tensor, "1 3"], yaw: float) -> tuple[Camera, Float[np.ndarray, "3"]]:
    """The camera of this pose turned to `yaw` degrees, and the pose itself for the renderer."""
    turned = pose.clone()
    turned[0, 0] = math.radians(yaw)
    return Camera.from_pose(turned), turned[0].numpy()


def mouth_crop(picture: Float[Tensor, "3 H W"], landmarks: Float[np.ndarray, "68 2"], half: int = 40) -> Float[Tensor, "3 n n"]:
    """A square of 2·half pixels around the mouth; landmarks in pixels of the picture."""
    x, y = landmarks[MOUTH].mean(0).round().astype(int).clip(half, 256 - half)
    return picture[:, y - half : y + half, x - half : x + half]


@by_hand(strength=(-2, 2), yaw=(-90, 90), planar=bool, sign=[1, -1])
def play_lips(head: "TalkingHead", scene: Scene, action: str = "jawOpen", strength: float = 0.6, yaw: float = 8.0,
              rule: str = "paper", planar: bool = False, sign: int = 1) -> Plot:
    """The portrait at rest, deformed with one facial action, and the truth, the mouth enlarged below; what a slider calls.

    rule, planar, sign: see `true_motion.deformed_picture`; yaw in degrees.
    """
    beta, true = with_actions(head, scene, {action: strength})
    camera, pose = posed(head.inversion.pose, yaw)
    truth = portraits.render(true, pose)
    pictures = [deformed_picture(head, beta, camera, "none"),
                deformed_picture(head, beta, camera, rule, planar=planar, sign=sign), as_picture(truth)]
    closer = [torch.nn.functional.interpolate(mouth_crop(p, truth.landmarks)[None], 256, mode="bilinear")[0] for p in pictures]
    names = ["as inverted", f"{action} {strength:g}, {rule}, sign {sign:+d}", "truth"]
    return picture_grid([pictures, closer], names, size=1.9)
