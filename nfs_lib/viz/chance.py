"""Figures of notebook 10: pairs, people and clips, what chance alone does, what a metric doesn't see, what voters see."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes

from nfs_lib.checks import by_hand
from nfs_lib.metrics.sync import SHIFT
from nfs_lib.studies import simulate
from nfs_lib.studies.user_study import MADE_UP, Trial
from nfs_lib.viz.style import COLOURS, Plot, panels, show, styled

RIGHT, WRONG, QUIET = COLOURS[0], COLOURS[1], "#aaaaaa"
Interval = tuple[float, float]


@styled
def pairing(base: Float[np.ndarray, "P"], value: Float[np.ndarray, "P"], intervals: Mapping[str, Interval], truth: float,
            unit: str = "mouth PSNR (dB)") -> Plot:
    """Left: each person with the base and with the variant, joined. Right: intervals of the difference, by what they were made
    from, and the true difference (dotted)."""
    figure, axes = panels(1, 2, 8.6, 2.7, widths=[1, 1.5])
    pair, ways = axes[0]
    for start, end in zip(base, value, strict=True):
        pair.plot([0, 1], [start, end], "o-", color=RIGHT if end > start else WRONG, markersize=3, linewidth=0.9)
    pair.set(xticks=[0, 1], xticklabels=["base", "variant"], xlim=(-0.3, 1.3), ylabel=unit,
             title=f"{len(base)} people; up in {int((value > base).sum())} (blue)")
    for place, (low, high) in enumerate(intervals.values()):
        ways.plot([low, high], [place, place], color=QUIET if low <= 0 <= high else RIGHT, linewidth=4)
    ways.axvline(0, color="#888888", linewidth=1)
    ways.axvline(truth, color="black", linewidth=1, linestyle=":")
    ways.set(yticks=range(len(intervals)), yticklabels=list(intervals), ylim=(len(intervals) - 0.5, -0.5),
             xlabel=f"difference in {unit}; dotted: the truth", title="95 % intervals of the mean difference; grey: it holds 0")
    return figure


@styled
@by_hand(clips=range(1, 101), people=range(2, 501), alike=(0, 1), shown=range(1, 2001))
def coverage(clips: int = 3, people: int = 20, alike: float = 0.6, shown: int = 60) -> Plot:
    """Intervals of made-up studies whose true effect is 0, clips or people being the units; orange: the truth isn't in it.

    clips: of each person; alike: share of the variance that lies between people.
    """
    drawn = simulate.differences(people, clips, alike, studies=2000)
    found = simulate.coverage(people, clips, alike, studies=2000)
    units = {f"{people * clips} clips as units": (drawn.reshape(2000, -1), found.clips),
             f"{people} people as units": (drawn.mean(2), found.people)}
    figure, axes = panels(1, 2, 8.6, 2.6, share_x=True)
    widest = 0.0
    for axis, (name, (values, share)) in zip(axes[0], units.items(), strict=True):
        intervals = simulate.interval(values)[:shown]
        for place, (low, high) in enumerate(intervals):
            axis.plot([place, place], [low, high], color=RIGHT if low <= 0 <= high else WRONG, linewidth=1.8)
        widest = max(widest, float(np.abs(intervals).max()))
        axis.axhline(0, color="#888888", linewidth=0.8)
        axis.set(title=f"{name}: the truth is in {100 * share:.0f} of 100 intervals", xlabel=f"{shown} of 2000 made-up studies",
                 xticks=[])  # fmt: skip
    for axis in axes[0]:
        axis.set_ylim(-1.05 * widest, 1.05 * widest)
    axes[0, 0].set_ylabel("effect (true: 0)")
    return figure


@styled
@by_hand(rows=range(1, 101), columns=range(1, 21), people=range(2, 501), table=range(2**31))
def null_table(rows: int = 16, columns: int = 6, people: int = 20, table: int = 0) -> Plot:
    """A table in which no row does anything, drawn as an ablation is; table: which one."""
    means, intervals = (one[0] for one in simulate.null_tables(rows, columns, people, seed=table))
    false = ~simulate.holds(intervals)
    figure, axes = panels(1, columns, 8.6, 0.95 + 0.14 * rows)
    for column, axis in enumerate(axes[0]):
        for row in range(rows):
            colour = WRONG if false[row, column] else QUIET
            axis.plot(intervals[row, column], [row, row], color=colour, linewidth=1.6)
            axis.plot(means[row, column], row, "o", color=colour, markersize=3)
        axis.axvline(0, color="#888888", linestyle=":", linewidth=1)
        axis.set(yticks=[], ylim=(rows - 0.5, -0.5), title=f"metric {column + 1}: {int(false[:, column].sum())}")
        axis.tick_params(labelbottom=False)
    axes[0, 0].set_xlabel("difference")
    figure.suptitle(f"Made up: {rows} variants that change nothing, {people} people. {int(false.sum())} of {false.size} "
                    "intervals miss 0 all the same (orange)", fontsize=9, x=0.01, ha="left")  # fmt: skip
    return figure


@styled
def sync_curves(curves: Mapping[str, Float[np.ndarray, "k"]], moments: int) -> Plot:
    """Mean distance of lips and sound for every shift of the sound, by video; moments: how many there are in the clip. Where
    the sound was moved out of the clip altogether, it is zeros."""
    figure, axes = panels(1, 1, 7.6, 2.7)
    axis = axes[0, 0]
    shifts = SHIFT - np.arange(2 * SHIFT + 1)
    for low, high in ((-SHIFT - 0.4, -moments), (moments, SHIFT + 0.4)):
        axis.axvspan(low, high, color="#f0f0f0")
    for (name, values), colour in zip(curves.items(), ("#222222", *COLOURS), strict=False):
        axis.plot(shifts, values, "o-", color=colour, markersize=3, linewidth=1.2, label=name)
    axis.set(xlabel="shift of the sound (frames; 0: as it is), grey: no sound is left", ylabel="distance",
             xlim=(-SHIFT - 0.4, SHIFT + 0.4), title="mean distance of lips and sound; LSE-D is a curve's lowest point")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def turned(pictures: Mapping[float, UInt8[np.ndarray, "H W 3"]], cosine: Sequence[float]) -> Plot:
    """True pictures of one person by the angle (degrees) to which the head was turned, and below them their CSIM."""
    figure = Plot(figsize=(7.6, 2.9), layout="constrained")
    grid = figure.add_gridspec(2, len(pictures), height_ratios=[1, 1.2])
    for k, (angle, picture) in enumerate(pictures.items()):
        show(figure.add_subplot(grid[0, k]), picture, f"{angle:.0f}°")
    axis = figure.add_subplot(grid[1, :])
    axis.plot(list(pictures), cosine, "o-", color=RIGHT)
    axis.axhline(1, color="#888888", linestyle=":", linewidth=1)
    axis.set(xlabel="yaw from the portrait's own pose (degrees)", ylabel="CSIM ↑", xticks=list(pictures),
             title="the person's true pictures against the portrait; a head that stays still gets 1")
    return figure


@styled
def sheets(trials: Mapping[str, Trial], frames: Mapping[str, UInt8[np.ndarray, "H W 3"]]) -> Plot:
    """What participants see of a trial (their code → the trial), and in grey what they don't: a frame of each method's clip."""
    figure, axes = panels(len(trials), len(frames), 1.75 * len(frames) + 0.9, 1.95 * len(trials))
    for line, (code, trial) in zip(axes, trials.items(), strict=True):
        for place, (cell, method) in enumerate(zip(line, trial.order, strict=True)):
            show(cell, frames[method])
            cell.set_title("ABCDEFGH"[place], loc="center", weight="bold", fontsize=10)
            cell.text(0.5, -0.03, method, transform=cell.transAxes, ha="center", va="top", color=QUIET, fontsize=8)
        line[0].text(-0.08, 0.5, f"participant\n{code}", transform=line[0].transAxes, ha="right", va="center")
    return figure


@styled
def ballots(counts: Int[np.ndarray, "P M"], methods: Sequence[str]) -> Plot:
    """How each participant's votes are spread over the methods: one bar a participant."""
    figure, axes = panels(1, 1, 7.6, 2.4)
    axis, floor = axes[0, 0], np.zeros(len(counts))
    order = np.lexsort(counts.T[::-1])[::-1]
    for votes, name, colour in zip(counts[order].T, methods, COLOURS, strict=False):
        axis.bar(range(len(counts)), votes, 0.85, floor, color=colour, label=name)
        floor = floor + votes
    axis.set(xlabel=f"participant, sorted ({MADE_UP})", ylabel="votes", xticks=[], xlim=(-0.6, len(counts) - 0.4),
             title="one bar a participant: people agree with themselves more than with each other")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def p_values(found: Mapping[str, Float[np.ndarray, "S"]]) -> Plot:
    """Histograms of p where nothing is to be found, by test: right tests give flat ones. Orange: p < 0.05."""
    figure, axes = panels(1, len(found), 8.6, 2.3)
    for axis, (name, values) in zip(axes[0], found.items(), strict=True):
        axis.hist(values, np.linspace(0, 1, 21), color=QUIET)
        axis.patches[0].set_color(WRONG)
        axis.axhline(len(values) / 20, color="#888888", linestyle=":", linewidth=1)
        axis.set(xlabel="p", title=f"{name}:\np < 0.05 in {100 * float((values < 0.05).mean()):.0f} of 100 studies")
    axes[0, 0].set_ylabel(f"studies of {len(values)}")
    top = max(axis.get_ylim()[1] for axis in axes[0])
    for axis in axes[0]:
        axis.set_ylim(0, top)
    return figure


@styled
@by_hand(share=(0.01, 0.99), clips=range(1, 101), taste=(0, 10), level=(0.05, 0.99))
def power(share: float = 0.6, clips: int = 1, taste: float = 0.0, level: float = 0.8) -> Plot:
    """How often a study finds a preference, over the number of participants; the grey line: one vote each, no tastes.

    share: weight of the better of two methods; clips: votes of each participant; taste: how much participants differ.
    """
    people = [*range(10, 100, 15), *range(100, 301, 25)]
    curve = [simulate.power(n, share, clips, taste, studies=2000) for n in people]
    plain = [simulate.power(n, share, studies=2000) for n in people]
    figure, axes = panels(1, 1, 7.6, 2.7)
    axis = axes[0, 0]
    axis.plot(people, plain, color=QUIET, label="one vote each, tastes alike")
    axis.plot(people, curve, "o-", color=RIGHT, markersize=3, label=f"{clips} votes each, taste {taste:g}")
    axis.axhline(level, color="#888888", linestyle=":", linewidth=1)
    enough(axis, people, curve, level)
    axis.set(xlabel="participants", ylabel="share of studies with p < 0.05", ylim=(0, 1.02), xlim=(0, 305))
    axis.legend(loc="lower right")
    axis.set_title(f"two methods, {100 * share:.0f} : {100 * (1 - share):.0f}. {axis.get_title(loc='left')}")
    return figure


def enough(axis: Axes, people: Sequence[int], curve: Sequence[float], level: float) -> None:
    """Mark where the curve first reaches the level for good, and say so in the title."""
    last = next((k for k in reversed(range(len(curve))) if curve[k] < level), -1)
    if last + 1 == len(curve):
        axis.set_title(f"{people[-1]} participants aren't enough for {100 * level:.0f} %")
        return
    axis.plot(people[last + 1], curve[last + 1], "o", color=WRONG, markersize=7)
    axis.set_title(f"About {people[last + 1]} participants for {100 * level:.0f} %" if last >= 0
                   else f"{people[0]} participants are enough for {100 * level:.0f} %")
