"""Figures of Eq. 6 and of what goes wrong with it: cells, columns, rules against the truth, and the report on one page."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from scipy.spatial import Voronoi
from torch import Tensor

from nfs_lib.camera import Camera, project
from nfs_lib.correspondence import BEHIND_MM, Correspondence, CorrespondenceReport, Examination, examine
from nfs_lib.talking_head import TalkingHead
from nfs_lib.viz.overlays import OVERLAYS, limits, ray_values
from nfs_lib.viz.play import expression_with
from nfs_lib.viz.plots import Picture, place_colours
from nfs_lib.viz.style import COLOURS, Plot, panels, pixels, show, styled

ROWS = (  # what the tables say: label, how it is written from a report
    ("samples: all / over the face / at its skin", lambda r: f"{r.samples} / {r.samples_over_face} / {r.samples_at_skin}"),
    ("vertices that take part", lambda r: f"{r.vertices}"),
    ("to the vertex: median, 95 %, max (mm)",
     lambda r: f"{r.match_median_mm:.1f}, {r.match_p95_mm:.1f}, {r.match_max_mm:.1f}"),
    ("samples at the skin per vertex: median, max", lambda r: f"{r.per_vertex_median:.0f}, {r.per_vertex_max}"),
    ("vertices in view without any", lambda r: f"{r.unmatched_share:.0%}"),
    (f"in the head, > {BEHIND_MM:.0f} mm behind their vertex", lambda r: f"{r.behind_share:.0%}"),
    ("jump to the next ray: 95 %, max (mm)", lambda r: f"{r.jump_p95_mm:.1f}, {r.jump_max_mm:.1f}"),
    ("folded over, of those at the skin", lambda r: f"{r.fold_share:.1%}"),
    ("with a stale vertex, of those at the skin", lambda r: f"{r.stale_share:.0%}"),
    ("… which is off by (mm)", lambda r: f"{r.stale_mean_mm:.1f}"),
    ("true motion, mean (mm)", lambda r: f"{r.true_mean_mm:.1f}"),
    ("off the true motion: mean, 95 %, max", lambda r: f"{r.error_mean_mm:.1f}, {r.error_p95_mm:.1f}, {r.error_max_mm:.1f}"),
    ("mean error / mean true motion", lambda r: f"{r.error_share:.0%}"),
)  # fmt: skip
FIVE = ("match distance", "samples per vertex", "jump", "fold-over", "error")


def table(report: CorrespondenceReport) -> list[tuple[str, str]]:
    """The report as rows (what, how much), rounded for reading."""
    return [(label, write(report)) for label, write in ROWS]


def overlaid(axes: Axes, picture: Picture, seen: Examination, name: str) -> None:
    """One overlay over the picture, with its bar of colours."""
    side = pixels(picture).shape[0]
    show(axes, picture, OVERLAYS[name].title)
    values = ray_values(seen, name)
    low, high = limits(name, values)
    drawn = axes.imshow(np.ma.masked_invalid(values), cmap=OVERLAYS[name].scale, vmin=low, vmax=high, alpha=0.75,
                        extent=(0, side, side, 0), interpolation="nearest")  # fmt: skip
    axes.figure.colorbar(drawn, ax=axes, shrink=0.85, pad=0.01)


@styled
def report_picture(seen: Examination, picture: Picture, names: Sequence[str] = FIVE) -> Plot:
    """Five overlays over the picture of the same camera, and the numbers of the report."""
    figure, axes = panels(2, 3, 10, 5.3, widths=[1, 1, 1.35])
    for cell, name in zip(axes.flat, names, strict=False):
        overlaid(cell, picture, seen, name)
    numbers, r = axes[1, 2], seen.report
    numbers.set_axis_off()
    numbers.set_title(f"the numbers: rule {r.rule}, stride {r.stride}")
    for k, (label, value) in enumerate(table(r)):
        height = 0.95 - k / len(ROWS)
        numbers.text(0, height, label, transform=numbers.transAxes, fontsize=7, va="center", color="#555555")
        numbers.text(1, height, value, transform=numbers.transAxes, fontsize=7.5, va="center", ha="right", weight="bold")
    return figure


@styled
def rules_table(reports: Mapping[str, CorrespondenceReport], rows: Sequence[int] = (2, 4, 5, 6, 7, 8, 11, 12)) -> Plot:
    """Reports side by side, one column each, titles by name. rows: which of ROWS."""
    figure, axes = panels(1, 1, 10.5, 0.3 * len(rows) + 0.5)
    axes[0, 0].set_axis_off()
    chosen = [ROWS[i] for i in rows]
    drawn = axes[0, 0].table([[write(r) for r in reports.values()] for _, write in chosen], rowLabels=[a for a, _ in chosen],
                             colLabels=list(reports), loc="center", cellLoc="center", edges="horizontal")  # fmt: skip
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    drawn.scale(1, 1.45)
    for (row, _), cell in drawn.get_celld().items():
        cell.set_edgecolor("#cccccc")
        cell.set_text_props(weight="bold" if row == 0 else "normal")
    return figure


@styled
def cells(points: Float[Tensor, "P 3"], vertices: Float[Tensor, "V 3"], index: Tensor, centre: tuple[float, float],
          half: float = 0.3, coarse: int = 4) -> Plot:
    """Eq. 6 on the frontal plane: the region where a vertex is the nearest is its Voronoi cell; every vertex, and every
    `coarse`-th. points: samples to draw, each tied by a line to its vertex index (P,); centre, half: the window, head units."""
    figure, axes = panels(1, 2, 8.6, 4.5)
    own = vertices[::coarse]
    near = torch.cdist(points[:, :2], own[:, :2]).argmin(1)
    for axis, v, n, name in ((axes[0, 0], vertices, index, "every vertex"),
                             (axes[0, 1], own, near, f"every {coarse}th vertex")):  # fmt: skip
        diagram = Voronoi(v[:, :2].double().numpy())
        lines = [diagram.vertices[ridge] for ridge in diagram.ridge_vertices if min(ridge) >= 0]
        axis.add_collection(LineCollection(lines, colors="#999999", linewidths=0.7))
        ties = list(torch.stack([points[:, :2], v[n, :2]], 1).numpy())
        axis.add_collection(LineCollection(ties, colors=COLOURS[1], linewidths=1.2))
        axis.scatter(*v[:, :2].T, c=place_colours(v), s=14, label="vertex, inside its cell")
        axis.scatter(*points[:, :2].T, marker="s", s=16, color="black", label="ray sample, tied to its vertex")
        axis.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half), aspect="equal",
                 title=f"{name}: who takes whom", xlabel="x (head units)")  # fmt: skip
    axes[0, 0].set_ylabel("y (head units)")
    axes[0, 0].legend(loc="lower left", frameon=True, fontsize=7)
    return figure


@styled
def column(seen: Examination, ray: tuple[int, int], picture: Picture) -> Plot:
    """One ray from the side: which of its samples follow the vertex in front, and how far behind it they are."""
    figure, axes = panels(1, 2, 10, 3.6, widths=[1, 1.9])
    pairs, size = seen.pairs, pixels(picture).shape[0]
    side = round((len(pairs.points) / pairs.n_samples) ** 0.5)
    row, across = ray
    show(axes[0, 0], picture, "the ray")
    axes[0, 0].plot((across + 0.5) * size / side, (row + 0.5) * size / side, "o", markersize=9, markerfacecolor="none",
                    markeredgecolor="white", markeredgewidth=2)  # fmt: skip
    numbers = torch.arange(pairs.n_samples) + (row * side + across) * pairs.n_samples
    p, x = pairs.points[numbers], float(pairs.points[numbers, 0].mean())
    body = axes[0, 1]
    strip = (seen.v_init[:, 0] - x).abs() < 0.05
    body.plot(seen.v_init[strip, 2], seen.v_init[strip, 1], ".", color="#aaaaaa", markersize=3, label="face model, this slice")
    way = seen.motion.way[numbers]
    body.quiver(p[:, 2], p[:, 1], way[:, 2], way[:, 1], angles="xy", scale_units="xy", scale=1, width=0.007, color=COLOURS[0])
    for mask, colour, label in ((~pairs.inside[numbers], "#bbbbbb", "sample outside the head (moves too, but is empty)"),
                                (pairs.inside[numbers], COLOURS[1], "sample within the head")):  # fmt: skip
        body.plot(p[mask, 2], p[mask, 1], "o", color=colour, markersize=5, label=label)
    stars = pairs.vertices[pairs.matched.index[numbers, 0]]
    body.plot(stars[:, 2], stars[:, 1], "k*", markersize=9, label="their vertices")
    body.set(aspect="equal", xlim=(-1.5, 1.8), ylim=(-1.7, 1.4), xlabel="z, towards the camera (head units)",
             ylabel="y (head units)", title="all its samples follow the skin in front (arrows: p → p')")  # fmt: skip
    body.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


@styled
def per_vertex(pairs: Correspondence, finest: int = 6) -> Plot:
    """How many samples at the skin each vertex in view has, and where the vertices lie that have none."""
    figure, axes = panels(1, 2, 10, 3.8, widths=[1.2, 1])
    counts = pairs.per_vertex[pairs.in_view].numpy()
    bars = axes[0, 0].bar(range(finest + 1), np.bincount(counts.clip(0, finest), minlength=finest + 1), color=COLOURS[0])
    axes[0, 0].bar_label(bars, fontsize=8)
    axes[0, 0].set(xlabel=f"samples at the skin that follow a vertex ({finest}: or more)", ylabel="vertices in view",
                   title=f"{(counts == 0).mean():.0%} of the vertices in view have no sample")  # fmt: skip
    v = pairs.vertices[pairs.in_view].numpy()
    for mask, colour, label in ((counts == 0, "#bbbbbb", "none"), (counts > 0, COLOURS[1], "at least one")):
        axes[0, 1].scatter(v[mask, 0], v[mask, 1], s=5, color=colour, label=label, linewidths=0)
    axes[0, 1].set(aspect="equal", title="vertices with a sample at the skin, from the front", xlabel="x (head units)")
    axes[0, 1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=2)
    return figure


@styled
def against_truth(examined: Mapping[str, Examination], picture: Picture) -> Plot:
    """The error of each rule where the skin moves, on one scale over the same picture, titles by name."""
    figure, axes = panels(1, len(examined), 9.5, 9.5 / len(examined) + 0.4)
    size, high = pixels(picture).shape[0], max(float(np.nanmax(ray_values(e, "error"))) for e in examined.values())
    for axis, (name, seen) in zip(axes[0], examined.items(), strict=True):
        show(axis, picture, f"{name}: {seen.report.error_mean_mm:.1f} mm")
        x, y, _ = project(seen.truth.points[None], seen.camera, size)[0].T
        drawn = axis.scatter(x, y, c=seen.truth.error * seen.unit_mm, s=2.5, vmin=0, vmax=high, cmap="magma", linewidths=0)
    figure.colorbar(drawn, ax=axes[0, -1], label="error (mm)", shrink=0.8)
    return figure


@styled
def rule_bars(reports: Mapping[str, Mapping[str, CorrespondenceReport]]) -> Plot:
    """Mean error / mean true motion: a group of bars for each situation, a bar for each rule. 1: no better than no motion."""
    figure, axes = panels(1, 1, 10, 3.2)
    rules = list(next(iter(reports.values())))
    for k, (rule, colour) in enumerate(zip(rules, COLOURS, strict=False)):
        shares = [found[rule].error_share for found in reports.values()]
        bars = axes[0, 0].bar(np.arange(len(reports)) + (k - len(rules) / 2 + 0.5) * 0.8 / len(rules), shares, 0.8 / len(rules),
                              color=colour, label=rule)  # fmt: skip
        axes[0, 0].bar_label(bars, fmt="%.2f", fontsize=7)
    axes[0, 0].axhline(1, color="#888888", linewidth=0.8, linestyle=":")
    axes[0, 0].set_xticks(range(len(reports)), list(reports))
    axes[0, 0].set(ylabel="mean error / mean true motion", title="1 (dotted) is what a rule gets that moves nothing at all")
    axes[0, 0].margins(y=0.2)
    axes[0, 0].legend(ncols=len(rules), loc="upper left")
    return figure


@styled
def look(head: TalkingHead, jaw: float = 0.7, smile: float = 0.0, pucker: float = 0.0, yaw: float = 0.0, rule: str = "paper",
         stride: int = 1) -> Plot:
    """Where the samples go, what jumps, and the error against the truth, for these facial actions (0 = rest, 1 = full), a
    camera turned by `yaw` degrees, a rule and a stride; what a slider calls."""
    pose = torch.tensor([[math.radians(yaw), 0.0, 0.0]])
    seen = examine(head, expression_with(head, jaw, smile, pucker), Camera.from_pose(pose), rule, stride)
    figure, axes = panels(1, 3, 9, 2.9)
    for cell, name in zip(axes[0], ("way", "jump", "error"), strict=True):
        overlaid(cell, head.inversion.picture(pose), seen, name)
    r = seen.report
    figure.suptitle(f"{rule}, stride {stride}, yaw {yaw:g}°: error {r.error_mean_mm:.1f} mm of {r.true_mean_mm:.1f} mm, "
                    f"{r.stale_share:.0%} of the vertices at the skin stale", fontsize=9)  # fmt: skip
    return figure
