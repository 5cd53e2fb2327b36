"""Figures of the studies: what each part of the method buys, and what turning the head costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nfs_lib.metrics.backend import OPEN_LABEL
from nfs_lib.studies.scoring import DIRECTIONS, UNITS
from nfs_lib.viz.style import COLOURS, Plot, panels, show, styled

Rows = Sequence[Mapping[str, Any]]
RUNS = {"own": "-", "flipped": "--", "turned": ":"}  # of `nfs flip`, and how their lines are drawn


def label(metric: str) -> str:
    """A metric with its direction and unit, for an axis."""
    unit = f" ({UNITS[metric]})" if UNITS.get(metric) else ""
    return f"{metric} {DIRECTIONS.get(metric, '↓')}{unit}"


@styled
def ablation_figure(rows: Rows, metrics: Sequence[str] = ("mouth PSNR", "jaw gain", "motion", "CSIM", "LSE-D", "LSE-C")
                    ) -> Plot:
    """Each variant's difference from its base, with the 95 % interval: one panel a metric, one line a variant.

    A dot right of the dotted line has a larger value than the base; the arrow in the title says whether that is good. Grey:
    the interval holds 0. Below each panel: the bases' own values, driven by speech and by the truth.
    """
    names = list(dict.fromkeys(row["variant"] for row in rows if row["variant"] != row["base"]))
    bases = {row["variant"]: row["base"] for row in rows}
    found = {(row["variant"], row["metric"]): row for row in rows}
    figure, axes = panels(1, len(metrics), 2.2 + 1.75 * len(metrics), 0.9 + 0.27 * len(names))
    for axis, metric in zip(axes[0], metrics, strict=True):
        for place, name in enumerate(names):
            row = found[name, metric]
            open_interval = not row["low"] <= 0 <= row["high"]
            colour = (COLOURS[0] if bases[name] == "the method" else COLOURS[2]) if open_interval else "#aaaaaa"
            axis.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2)
            axis.plot(row["difference"], place, "o", color=colour, markersize=5)
        axis.axvline(0, color="#888888", linestyle=":", linewidth=1)
        above, below = (f"{found[name, metric]['value']:#.3g}" for name in dict.fromkeys(bases.values()))
        axis.set(yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5), title=label(metric),
                 xlabel=f"difference; base:\n{above} above, {below} below")
        axis.set_yticklabels(names if axis is axes[0, 0] else [])
        axis.grid(axis="x", color="#eeeeee")
        first = next(i for i, name in enumerate(names) if bases[name] != "the method")
        axis.axhline(first - 0.5, color="#cccccc", linewidth=0.8)
    people, clips = (int(rows[0][name]) for name in ("people", "clips"))
    figure.suptitle(f"Each variant against its base, {people} held-out people, {clips} clips. Above the line: driven by speech,"
                    f" below: by the truth.\nCSIM, LSE: {OPEN_LABEL}. Grey: the 95 % interval holds 0.",
                    fontsize=9, x=0.01, ha="left")  # fmt: skip
    return figure


@styled
def flip_figure(rows: Rows, arrays: Mapping[str, np.ndarray],
                metrics: Sequence[str] = ("PSNR", "mouth PSNR", "CSIM", "LSE-D")) -> Plot:
    """Above: the middle frame of one person's clip, turned from the front to each yaw, by method, under the truth. Below: the
    metrics over yaw, mean and 95 % interval over people; solid: at the portrait's own pose; dashed: at the mirrored one;
    dotted: turned there from the front."""
    yaws = sorted({int(row["yaw"]) for row in rows})
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure = Plot(figsize=(9.6, 3.0 + 1.25 * (1 + len(methods))), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=[1.25 * (1 + len(methods)), 3.0])
    above, below = halves
    columns = [(run, yaw) for run in RUNS for yaw in yaws if yaw]
    cells = above.subplots(1 + len(methods), len(columns), squeeze=False)
    for line, name in zip(cells, ["truth", *methods], strict=True):
        for cell, (run, yaw) in zip(line, columns, strict=True):
            show(cell, arrays[f"{run} {yaw} {name} picture"])
            if name == "truth":
                cell.set_title(f"{run} {yaw}°")
        line[0].text(-0.08, 0.5, name, transform=line[0].transAxes, ha="right", va="center")
    lines = below.subplots(1, len(metrics))
    for axis, metric in zip(lines, metrics, strict=True):
        for run, style in RUNS.items():
            for method, colour in zip(methods, COLOURS, strict=False):
                some = [r for r in rows if (r["run"], r["method"], r["metric"]) == (run, method, metric)]
                axis.errorbar([r["yaw"] for r in some], [r["value"] for r in some],
                              [[r["value"] - r["low"] for r in some], [r["high"] - r["value"] for r in some]],
                              color=colour, linestyle=style, marker="o", markersize=3, capsize=2, elinewidth=0.8,
                              label=f"{method}, {run}")  # fmt: skip
        axis.set(title=label(metric), xlabel="yaw (degrees)", xticks=yaws)
        axis.grid(axis="y", color="#eeeeee")
    below.legend(*lines[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
