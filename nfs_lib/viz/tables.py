"""Tables as pictures, and the paper's figures beside ours: two panels, never one axis."""

import textwrap
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from nfs_lib.errors import BadInput
from nfs_lib.studies.paper import NEARER_ZERO, PaperTable
from nfs_lib.viz.style import COLOURS, Plot, styled

Number = float | tuple[float, float, float]  # a value, or a value with the two ends of its interval
Cell = Number | str | None
BETTER = {"↑": "higher is better", "↓": "lower is better", NEARER_ZERO: "nearer zero is better"}
LINE, GAP, MARGIN, POINTS = 0.235, 0.26, 0.15, 72  # inches; points per inch
PAPER, QUIET = "#555555", "#777777"


def best(values: Mapping[str, float], direction: str) -> set[str]:
    """The names of the best of `values` by the direction "↑", "↓" or "→0"; nobody where fewer than two compete."""
    finite = {name: v for name, v in values.items() if np.isfinite(v)}
    if len(finite) < 2 or direction not in BETTER:
        return set()
    score = {name: {"↑": v, "↓": -v, NEARER_ZERO: -abs(v)}[direction] for name, v in finite.items()}
    return {name for name, v in score.items() if v == max(score.values())}


@styled
def typeset(
    rows: Mapping[str, Mapping[str, Cell]],
    columns: Mapping[str, str],
    title: str,
    note: str = "",
    apart: Collection[str] = (),
) -> Plot:
    """A table as a printed page has it: methods down, columns with their arrows across, the best of each column bold.

    rows: method → column → a number, a number with its interval, a word, or None or NaN (a dash); columns: name → "↑", "↓",
    "→0", or "" for a column of words; note: a line under the table; apart: methods that don't compete (ground truth), in grey.
    Raises BadInput where there is no row, or a row has a column that isn't named.
    """
    if not rows or not columns:
        raise BadInput("a table needs a row and a column; give at least one method and one metric")
    for method, row in rows.items():
        if unknown := [c for c in row if c not in columns]:
            raise BadInput(f"{method} has the column {unknown[0]!r}; the table's columns are {', '.join(columns)}")
    numbers = {c: {m: _three(row.get(c))[0] for m, row in rows.items()} for c in columns}
    digits = {c: _digits(numbers[c].values()) for c in columns}
    bold = {c: best({m: round(v, digits[c]) for m, v in numbers[c].items() if m not in apart}, columns[c]) for c in columns}
    words = {c for c, arrow in columns.items() if not arrow and np.isnan([*numbers[c].values()]).all()}
    grid = [["", *(f"{c} {arrow}".strip() for c, arrow in columns.items())]]
    grid += [[m, *(_text(row.get(c), digits[c], "" if c in words else "–") for c in columns)] for m, row in rows.items()]
    lefts = {0, *(k for k, c in enumerate(columns, 1) if c in words)}
    widths = [max(_width(line[k], bold=True) for line in grid) for k in range(len(columns) + 1)]
    width = max(sum(widths) + GAP * len(columns), _width(title, 10))
    notes = textwrap.wrap(note, max(40, int(width / 0.068)))
    height = 2 * MARGIN + 0.34 + LINE * len(grid) + (0.04 + 0.17 * len(notes) if notes else 0)
    figure = Plot(figsize=(width + 2 * MARGIN, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width + 2 * MARGIN), ylim=(height, 0))
    axes.set_axis_off()
    axes.text(MARGIN, MARGIN + 0.1, title, size=10, weight="bold", va="center")
    top = MARGIN + 0.3
    rights = MARGIN + np.cumsum(widths) + GAP * np.arange(len(widths))
    for i, line in enumerate(grid):
        for k, text in enumerate(line):
            x = rights[k] - widths[k] if k in lefts else rights[k]
            heavy = i == 0 or (k > 0 and line[0] in bold[list(columns)[k - 1]])
            axes.text(x, top + (i + 0.5) * LINE, text, ha="left" if k in lefts else "right", va="center",
                      weight="bold" if heavy else "normal", color=QUIET if i and line[0] in apart else "black")  # fmt: skip
    for y, thick in ((top, 1.1), (top + LINE, 0.6), (top + len(grid) * LINE, 1.1)):
        axes.plot([MARGIN, MARGIN + width], [y, y], color="black", linewidth=thick)
    for i, words_of_note in enumerate(notes):
        axes.text(MARGIN, top + len(grid) * LINE + 0.14 + 0.17 * i, words_of_note, size=8, color=QUIET, va="center")
    return figure


@styled
def side_by_side(
    table: PaperTable,
    ours: Mapping[str, Mapping[str, Number]],
    label: str,
    columns: Sequence[str] | None = None,
) -> Plot:
    """The paper's figures on the left, ours on the right, a row for each column of the table; no axis is shared.

    ours: method → column → value, or (value, low, high); label: the backend that ours were measured with, for example
    `Backend.label`; columns: those to draw (all that ours have). Where the table lacks figures the panel says so.
    Raises BadInput for a column that the table doesn't have, and for an interval that doesn't hold its value.
    """
    have = list(dict.fromkeys(c for row in ours.values() for c in row))
    columns = [c for c in table.columns if c in have] if columns is None else list(columns)
    known = f"Table {table.number} has {', '.join(table.columns) or 'no column yet'}"
    if unknown := [c for c in (*columns, *have) if c not in table.columns]:
        raise BadInput(f"{unknown[0]!r} isn't a column of the paper's table; {known}")
    if not columns:
        raise BadInput(f"there is nothing to draw: ours has no column; {known}")
    for method, row in ours.items():
        for column, number in row.items():
            value, low, high = _three(number)
            if value < low or value > high:
                raise BadInput(f"{method}, {column}: {value:g} isn't within {low:g} to {high:g}; give (value, low, high)")
    lines = [max(1, sum(c in row for row in table.rows.values()), sum(c in row for row in ours.values())) for c in columns]
    figure = Plot(figsize=(10, 0.9 + sum(0.62 + 0.24 * n for n in lines)), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False)[0]
    left.set_facecolor("#f3f3f3")
    filled = sum(len(row) for row in table.rows.values())
    left.suptitle(f"The paper, Table {table.number}: {table.title}\n"
                  f"{filled} of the {filled + len(table.missing)} figures of data/paper/table{table.number}.csv are filled in",
                  fontsize=9)  # fmt: skip
    right.suptitle(f"This kit\n{label}", fontsize=9)
    heights = [0.62 + 0.24 * n for n in lines]
    papers = left.subplots(len(columns), 1, squeeze=False, height_ratios=heights)[:, 0]
    mine = right.subplots(len(columns), 1, squeeze=False, height_ratios=heights)[:, 0]
    for column, theirs, own, n in zip(columns, papers, mine, lines, strict=True):
        arrow = table.columns[column].direction
        caption = f"{column} {arrow}  ({BETTER[arrow]})" if arrow else column
        _dots(theirs, {m: row[column] for m, row in table.rows.items() if column in row}, n, PAPER, caption,
              "no figure yet")  # fmt: skip
        _dots(own, {m: row[column] for m, row in ours.items() if column in row}, n, COLOURS[0],
              caption, "not measured")  # fmt: skip
    return figure


def _dots(axes: Axes, numbers: Mapping[str, Number], lines: int, colour: str, title: str, otherwise: str) -> None:
    """One line for each method: a dot, its interval if it has one, its value in figures."""
    numbers = {m: n for m, n in numbers.items() if not np.isnan(_three(n)[0])}
    axes.set_title(title)
    axes.set_facecolor("none")
    if not numbers:
        axes.text(0.5, 0.5, otherwise, ha="center", va="center", color=QUIET, transform=axes.transAxes)
        axes.set(xticks=[0.5], xticklabels=[" "], yticks=[])     # as high as its neighbour
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
        return
    values = np.array([_three(n) for n in numbers.values()])
    places = np.arange(len(values), dtype=float)
    values = np.where(np.isnan(values), values[:, :1], values)
    axes.hlines(places, values[:, 1], values[:, 2], color=colour, linewidth=1.6)
    axes.plot(values[:, 0], places, "o", color=colour, markersize=5)
    digits = _digits(values[:, 0])
    for y, (value, low, high) in zip(places, values, strict=True):
        away = -1 if value < 0 else 1                     # from the line at zero
        axes.annotate(f"{value:.{digits}f}".replace("-", "−"), (low if value < 0 else high, y), xytext=(6 * away, 0),
                      textcoords="offset points", ha="right" if value < 0 else "left", va="center", fontsize=8, color=colour)
    axes.set(yticks=places, yticklabels=list(numbers), ylim=(lines - 0.4, -0.6))
    if NEARER_ZERO in title:
        axes.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    axes.margins(x=0.22)


def _three(cell: Cell) -> tuple[float, float, float]:
    """Value and interval; NaN for what isn't there."""
    if cell is None or isinstance(cell, str):
        return np.nan, np.nan, np.nan
    return cell if isinstance(cell, tuple) else (float(cell), np.nan, np.nan)


def _digits(values: Collection[float]) -> int:
    """Digits after the point: three, as the paper prints; one where a value has three or more before it."""
    return 1 if any(abs(v) >= 99.95 for v in values if np.isfinite(v)) else 3


def _text(cell: Cell, digits: int, nothing: str) -> str:
    if isinstance(cell, str):
        return cell
    value, low, high = (nothing if np.isnan(v) else f"{v:.{digits}f}".replace("-", "−") for v in _three(cell))
    return value if nothing in (low, high) else f"{value} [{low}, {high}]"


def _width(text: str, size: float = 9, bold: bool = False) -> float:
    """Inches that a line of text takes."""
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return TextPath((0, 0), text, prop=font).get_extents().width / POINTS if text.strip() else 0.0
