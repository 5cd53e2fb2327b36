"""Figures of notebook 09: each metric where it is right and where it misleads, baselines, pose robustness."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse
from torch import Tensor

from nfs_lib.checks import by_hand
from nfs_lib.metrics import COLUMNS, Backend
from nfs_lib.metrics.cpbd import LOW_CONTRAST, NARROW, WIDE
from nfs_lib.metrics.sync import SHIFT
from nfs_lib.studies import faults
from nfs_lib.studies.scoring import DIRECTIONS, UNITS, tensor
from nfs_lib.viz.style import COLOURS, Plot, panels, show, styled

BETTER, WORSE, QUIET = COLOURS[0], COLOURS[1], "#aaaaaa"
SHADES = {1: "#bcd9ea", 0: "#f0f0f0", -1: "#f6cfb3"}  # judged better, the same, worse
NOTICED = {"FID": 0.05, "CSIM": 0.002, "CPBD": 0.02, "LSE-D": 0.01, "LSE-C": 0.01}  # smaller changes count as none
Rows = Sequence[Mapping[str, Any]]


# FID


@styled
def gaussians(sets: Mapping[str, Float[np.ndarray, "_ 2"]], title: str) -> Plot:
    """Sets of points on a plane, each with the ellipse of its Gaussian: two standard deviations."""
    figure, axes = panels(1, 1, 5.6, 3.6)
    axis = axes[0, 0]
    for (name, points), colour in zip(sets.items(), COLOURS, strict=False):
        values, vectors = np.linalg.eigh(np.cov(points.T))
        width, height = 4 * np.sqrt(values)
        axis.plot(*points.T, "o", color=colour, markersize=2.5, alpha=0.6, label=name)
        axis.add_patch(Ellipse(tuple(points.mean(0)), width, height, angle=np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0])),
                               fill=False, edgecolor=colour, linewidth=1.6))  # fmt: skip
        axis.plot(*points.mean(0), "+", color=colour, markersize=9, markeredgewidth=2)
    axis.set(xlabel="strongest direction of the features", ylabel="second strongest", title=title, aspect="equal")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def growth(curves: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]]) -> Plot:
    """FID over the amount of a fault, one panel each: axis label → (amounts, network → FID in parts of the network's floor)."""
    figure, axes = panels(1, len(curves), 8.6, 2.6)
    for axis, (name, (amounts, networks)) in zip(axes[0], curves.items(), strict=True):
        for (network, values), colour in zip(networks.items(), COLOURS, strict=False):
            axis.plot(amounts, values, "o-", color=colour, markersize=4, label=network)
        axis.axhline(1, color="#888888", linestyle=":", linewidth=1)
        axis.set(xlabel=name, yscale="log", xticks=amounts)
        axis.set_xticklabels([f"{amount:g}" for amount in amounts])
    axes[0, 0].set(ylabel="FID ↓, in parts of the floor",
                   title="the same people, spoilt; dotted: the floor, other people as they are")
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    low, high = min(a.get_ylim()[0] for a in axes[0]), max(a.get_ylim()[1] for a in axes[0])
    for axis in axes[0]:
        axis.set_ylim(low, high)
    return figure


@styled
def few_pictures(counts: Sequence[int], values: Sequence[float], means: Sequence[float]) -> Plot:
    """FID of two sets of the same kind over how many pictures each has, and the part that their means alone should add."""
    figure, axes = panels(1, 1, 6.4, 2.6)
    axis = axes[0, 0]
    axis.plot(counts, values, "o-", color=BETTER, markersize=4, label="FID")
    axis.plot(counts, means, "--", color=WORSE, label="2 tr Σ / n: the means alone")
    axis.set(xscale="log", yscale="log", xlabel="pictures in each set", ylabel="FID ↓", xticks=counts,
             title="two sets of people drawn alike: FID should be 0")
    axis.set_xticklabels(map(str, counts))
    axis.minorticks_off()
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


# CSIM


@styled
def who_is_who(pictures: Sequence[Sequence[Float[Tensor, "3 _ _"]]], cosine: Float[np.ndarray, "n n"]) -> Plot:
    """Some people twice, and the cosine of everybody's first picture (down) with everybody's second (across)."""
    figure = Plot(figsize=(8.2, 2.9), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.55, 1], squeeze=False)[0]
    cells = left.subplots(len(pictures), len(pictures[0]), squeeze=False)
    for line, row in zip(cells, pictures, strict=True):
        for cell, picture in zip(line, row, strict=True):
            show(cell, picture)
    for cell, k in zip(cells[0], range(len(cells[0])), strict=True):
        cell.set_title(f"{k + 1}", loc="center")
    axis = right.subplots()
    image = axis.imshow(cosine, cmap="viridis", vmax=1)
    ticks = range(len(cosine))
    axis.set(xticks=ticks, yticks=ticks, xlabel="person, mirrored pose", ylabel="person", title="cosine of their embeddings")
    axis.set_xticklabels([k + 1 for k in ticks])
    axis.set_yticklabels([k + 1 for k in ticks])
    right.colorbar(image, ax=axis, shrink=0.9)
    return figure


# CPBD


@styled
def edge_row(grey: Float[np.ndarray, "H W"], row: int, columns: tuple[int, int], widths: Int[np.ndarray, "H W"]) -> Plot:
    """A row of pixels as a curve between two columns: at each edge (dot) the width over which the grey goes on (bar).

    widths: of the whole picture, 0 where there is no edge (`cpbd.all_widths`). Blue: at most NARROW pixels.
    """
    figure, axes = panels(1, 2, 8.6, 2.6, widths=[1, 2.6])
    picture, curve = axes[0]
    picture.imshow(grey, cmap="gray", vmin=0, vmax=255)
    picture.plot(columns, [row, row], color=WORSE, linewidth=2)
    picture.set_axis_off()
    picture.set_title(f"row {row}")
    at = np.arange(*columns)
    curve.plot(at, grey[row, at], "o-", color="#888888", markersize=3, linewidth=1)
    for column in at[widths[row, at] > 0].tolist():
        begin, end = extent(grey[row], column)
        colour = BETTER if widths[row, column] <= NARROW else WORSE
        curve.plot([begin, end], [grey[row, column]] * 2, color=colour, linewidth=2)
        curve.plot(column, grey[row, column], "o", color=colour, markersize=5)
        curve.annotate(f"{widths[row, column]}", (end, grey[row, column]), xytext=(3, 0), textcoords="offset points",
                       va="center", fontsize=8, color=colour)
    curve.set(xlabel="column", ylabel="grey", title=f"edges and their widths in pixels; blue: {NARROW:g} or less, looks sharp")
    return figure


def extent(row: Float[np.ndarray, " W"], column: int) -> tuple[int, int]:
    """Between which columns the grey rises, or falls, through an edge: at least one pixel to each side."""
    values = row if row[column + 1] > row[column - 1] else -row
    begin, end = column - 1, column + 1
    while begin > 0 and values[begin - 1] < values[begin]:
        begin -= 1
    while end < len(row) - 1 and values[end + 1] > values[end]:
        end += 1
    return begin, end


@styled
def edges(found: Mapping[str, tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]], shares: Sequence[float]) -> Plot:
    """How wide the edges of some pictures are, one panel each: name → (widths, contrasts) of `cpbd.edge_widths`; shares: CPBD.

    Blue: edges that look sharp, which are at most 3 pixels wide, 5 in blocks of low contrast.
    """
    figure, axes = panels(1, len(found), 2.15 * len(found), 2.4)
    bins, tallest = np.arange(1.5, 12.5), 0.0
    for axis, (name, (widths, contrasts)), share in zip(axes[0], found.items(), shares, strict=True):
        sharp = widths <= np.where(contrasts <= LOW_CONTRAST, WIDE, NARROW)
        counts, _, _ = axis.hist([widths[sharp].clip(max=11), widths[~sharp].clip(max=11)], bins, stacked=True,
                                 color=[BETTER, WORSE])
        tallest = max(tallest, float(np.max(counts)))
        axis.set(xlabel="width (pixels)", title=f"{name}\nCPBD {share:.2f}", xticks=[2, 5, 8, 11])
        axis.set_xticklabels(["2", "5", "8", "≥ 11"])
    for axis in axes[0]:
        axis.set_ylim(0, 1.05 * tallest)
        axis.tick_params(labelleft=axis is axes[0, 0])
    axes[0, 0].set(ylabel="edge pixels")
    return figure


# LSE


@styled
def offsets(curves: Mapping[str, Float[np.ndarray, " k"]], given: Sequence[int], found: Sequence[int]) -> Plot:
    """Left: mean distance of lips and sound over the offset, by clip. Right: the offset found, over the frames by which the
    sound was made late (negative: early)."""
    figure, axes = panels(1, 2, 8.6, 2.8, widths=[1.9, 1])
    left, right = axes[0]
    at = SHIFT - np.arange(2 * SHIFT + 1)
    for (name, values), colour in zip(curves.items(), ("#222222", *COLOURS), strict=False):
        left.plot(at, values, "o-", color=colour, markersize=3, linewidth=1.2, label=name)
        left.plot(at[values.argmin()], values.min(), "o", color=colour, markersize=8, fillstyle="none")
    left.set(xlabel="offset (frames)", ylabel="mean distance", title="each curve's lowest point: LSE-D and the offset")
    left.legend(loc="lower right")
    right.plot(given, [-k for k in given], color=QUIET, linewidth=1)
    right.plot(given, found, "o", color=BETTER, markersize=4)
    right.set(xlabel="sound made late by (frames)", ylabel="offset found", title=f"{len(given)} clips; grey: right")
    return figure


@styled
def short_clips(counts: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Plot:
    """LSE-D over the length of the clip (moments), by what is seen."""
    figure, axes = panels(1, 1, 6.4, 2.6)
    axis = axes[0, 0]
    for (name, values), colour in zip(curves.items(), ("#222222", *COLOURS), strict=False):
        axis.plot(counts, values, "o-", color=colour, markersize=4, label=name)
    axis.set(xlabel="moments in the clip, 25 a second", ylabel="LSE-D ↓", xticks=counts,
             title="the shorter the clip, the more of the sound is zeros")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


# all of them


def judged(metric: str, value: float, before: float) -> int:
    """1 where the metric calls `value` better than `before`, −1 worse, 0 where it sees no difference to speak of (NOTICED)."""
    change = value - before
    if not abs(change) >= NOTICED[metric]:
        return 0
    return 1 if (change > 0) == (COLUMNS[metric] == "↑") else -1


@styled
def verdicts(scores: Mapping[str, Mapping[str, float]], truth: str = "the truth") -> Plot:
    """A table of clips with known faults: what each metric says of them, next to what it says of the truth."""
    figure, axes = panels(1, 1, 7.6, 0.55 + 0.29 * len(scores))
    axis = axes[0, 0]
    for y, (name, row) in enumerate(scores.items()):
        for x, metric in enumerate(COLUMNS):
            mark = judged(metric, row[metric], scores[truth][metric])
            shade = "white" if name == truth else SHADES[mark]
            axis.fill([x - 0.48, x + 0.48, x + 0.48, x - 0.48], [y - 0.45, y - 0.45, y + 0.45, y + 0.45], color=shade)
            axis.text(x, y, f"{row[metric]:.3f}", ha="center", va="center")
    axis.set(xlim=(-0.5, len(COLUMNS) - 0.5), ylim=(len(scores) - 0.5, -0.5), xticks=range(len(COLUMNS)),
             yticks=range(len(scores)))
    axis.set_xticklabels([f"{metric} {arrow}" for metric, arrow in COLUMNS.items()])
    axis.set_yticklabels(list(scores))
    axis.xaxis.tick_top()
    axis.tick_params(length=0, colors="black")
    axis.spines[:].set_visible(False)
    axis.set_xlabel("blue: the metric calls it better than the truth; orange: worse; grey: no difference")
    return figure


@styled
@by_hand(blur=(0, 50), noise=(0, 255), contrast=(0, 2), late=range(-100, 101), still=bool)
def play(
    clip: faults.Spoken, backend: Backend, blur: float = 0.0, noise: float = 0.0, contrast: float = 1.0, late: int = 0,
    still: bool = False,
) -> Plot:
    """A true clip with these faults, and the five metrics beside those of the clip as it was; what a slider calls.

    blur: sigma in pixels; noise: grey levels; contrast: what is left of it; late: frames by which the sound is late; still: the
    first frame all the time.
    """
    true = tensor(clip.frames)
    shown = true[:1].expand_as(true) if still else true
    shown = faults.noisy(faults.pale(faults.blurred(shown, blur), contrast), noise)
    seen = backend.look(true)
    before = faults.scores(true, clip.wave, seen, backend)
    now = faults.scores(shown, faults.late(clip.wave, late), seen, backend)
    figure = Plot(figsize=(8.6, 2.7), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 2.6], squeeze=False)[0]
    show(left.subplots(), shown[len(shown) // 2], "a frame of it")
    for axis, metric in zip(right.subplots(1, len(COLUMNS)), COLUMNS, strict=True):
        compared(axis, metric, before[metric], now[metric])
    right.suptitle("left bar: the true clip, right bar: this one. Blue: called better, orange: worse, grey: no difference",
                   fontsize=9)
    return figure


def compared(axis: Axes, metric: str, before: float, now: float) -> None:
    """Two bars: the metric of the clip as it was, and with its faults."""
    colour = {1: BETTER, 0: QUIET, -1: WORSE}[judged(metric, now, before)]
    bars = axis.bar([0, 1], [before, now], 0.7, color=["#555555", colour])
    axis.bar_label(bars, fmt="%.3f", padding=2, fontsize=8)
    axis.set(xticks=[], yticks=[], title=f"{metric} {COLUMNS[metric]}", ylim=(0, 1.2 * max(before, now, 0.1)))
    axis.spines[["left"]].set_visible(False)


# pose


@styled
def heads(
    pictures: Mapping[str, Mapping[str, UInt8[np.ndarray, "H W 3"]]], notes: Mapping[str, Mapping[str, str]] | None = None
) -> Plot:
    """Pictures by method (down) and pose (across), with a note below each."""
    columns = len(next(iter(pictures.values())))
    figure, axes = panels(len(pictures), columns, 1.75 * columns + 1, 1.95 * len(pictures))
    for k, (line, (method, row)) in enumerate(zip(axes, pictures.items(), strict=True)):
        for cell, (pose, picture) in zip(line, row.items(), strict=True):
            show(cell, picture, pose if k == 0 else "")
            if notes:
                cell.text(0, -0.03, notes[method][pose], transform=cell.transAxes, va="top", fontsize=8)
        line[0].text(-0.06, 0.5, method, transform=line[0].transAxes, ha="right", va="center")
    return figure


@styled
def over_yaw(rows: Rows, run: str, metrics: Sequence[str] = ("PSNR", "mouth PSNR", "CSIM", "CPBD")) -> Plot:
    """Rows of `nfs flip` for one run ("own", "flipped", "turned", "Δ"): each metric over yaw, one line a method, mean and 95 %
    interval over people."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure, axes = panels(1, len(metrics), 2.3 * len(metrics) + 0.4, 2.9)
    for axis, metric in zip(axes[0], metrics, strict=True):
        for k, (method, colour) in enumerate(zip(methods, COLOURS, strict=False)):
            some = [r for r in rows if (r["run"], r["method"], r["metric"]) == (run, method, metric)]
            yaw, value, low, high = (np.array([r[c] for r in some], float) for c in ("yaw", "value", "low", "high"))
            axis.errorbar(yaw + 0.8 * (k - 1), value, np.nan_to_num(np.stack([value - low, high - value])).clip(min=0),
                          color=colour, marker="o", markersize=4, capsize=2, elinewidth=1, label=method)
        unit = f" ({UNITS[metric]})" if metric in UNITS else ""
        arrow = "→ 0" if run == "Δ" else DIRECTIONS.get(metric, COLUMNS.get(metric, ""))
        axis.set(title=f"{'Δ ' * (run == 'Δ')}{metric} {arrow}{unit}", xlabel="yaw (degrees)", xticks=sorted({*yaw.tolist()}))
        axis.grid(axis="y", color="#eeeeee")
        if run == "Δ":
            axis.axhline(0, color="#888888", linestyle=":", linewidth=1)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(methods))
    return figure


def strongest(features: Float[Tensor, "n D"], directions: int = 2) -> Float[np.ndarray, "D k"]:
    """The directions in which features vary most, as columns; each with the sign that makes its largest entry positive."""
    _, _, v = torch.linalg.svd(features.double() - features.double().mean(0), full_matrices=False)
    v = v[:directions]
    return (v * v.gather(1, v.abs().argmax(1, keepdim=True)).sign()).T.numpy()
