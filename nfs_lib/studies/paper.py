"""The paper's Tables 1–5 (NeRFFaceSpeech, arXiv 2405.05749, section 5) as data: `data/paper/table1.csv` … `table5.csv`.

Most of their figures are missing here: the files hold only what could be read from a source, and name it; nothing is written
from memory. `nfs paper` lists what is missing and checks what is there; `data/paper/README.md` says how to fill it in.

A file has one line for each method between a head and a source:

    method,FID,CSIM,source
    unit,–,cosine,
    direction,lower,higher,
    SadTalker,12.345,0.678,"Table 1, page 7"

An empty cell is a figure that is missing. unit "%" keeps a column within 0 … 100, "cosine" within −1 … 1, "probability" within
0 … 1. direction: higher, lower, zero (the nearer to zero the better), or empty. Columns named "X input", "X flipped" and "X Δ"
must agree: Δ = input − flipped, as far as rounding allows.
"""

import csv
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nfs_lib.errors import BadInput
from nfs_lib.paths import check_input, data_folder

TITLES = {
    1: "comparison with other methods",
    2: "internal differences, input pose against flipped pose",
    3: "user study",
    4: "user study",
    5: "ablation",
}
NEARER_ZERO = "→0"
DIRECTIONS = {"higher": "↑", "lower": "↓", "zero": NEARER_ZERO, "": ""}
RANGES = {"%": (0.0, 100.0), "cosine": (-1.0, 1.0), "probability": (0.0, 1.0)}
DELTA = (" input", " flipped", " Δ")


class Column(NamedTuple):
    """unit: as the file has it, or empty; direction: "↑", "↓", "→0" or empty."""

    unit: str
    direction: str


@dataclass(frozen=True)
class PaperTable:
    """One table. rows: method → column → figure, only those that are known; sources: method → where they were read;
    missing: (method, column) of each figure that isn't known."""

    number: int
    title: str
    columns: dict[str, Column]
    rows: dict[str, dict[str, float]]
    sources: dict[str, str]
    missing: list[tuple[str, str]]

    def __str__(self) -> str:
        if not self.columns or not self.rows:
            return f"Table {self.number}, {self.title}: no {'row' if self.columns else 'column'} and no figure yet"
        known = sum(map(len, self.rows.values()))
        head = f"Table {self.number}, {self.title}: {known} of {known + len(self.missing)} figures filled in"
        gaps = {m: [c for n, c in self.missing if n == m] for m in self.rows}
        parts = [f"{m} ({'all' if len(g) == len(self.columns) else ', '.join(g)})" for m, g in gaps.items() if g]
        return f"{head}; missing: {'; '.join(parts)}" if parts else head


def load(number: int, folder: str | os.PathLike[str] | None = None) -> PaperTable:
    """Read and check one table, 1 … 5, from `folder` (data/paper).

    Raises BadInput where the file is missing or breaks the format; the message names file and line.
    """
    if number not in TITLES:
        raise BadInput(f"table {number} was asked for; the paper has {min(TITLES)} to {max(TITLES)}")
    path = (data_folder() / "paper" if folder is None else Path(folder)) / f"table{number}.csv"
    lines = _lines(path)
    (_, head), (at_unit, units), (at_direction, directions) = lines[:3]
    names = head[1:-1]
    if head[0] != "method" or head[-1] != "source" or not all(names) or len(set(names)) < len(names):
        raise BadInput(f"{path}, line 1: {','.join(head)}; expected method, then the columns, each named once, then source")
    if units[0] != "unit" or directions[0] != "direction":
        raise BadInput(f"{path}, lines {at_unit} and {at_direction}: begin with {units[0]!r} and {directions[0]!r}; "
                       "expected unit and direction")  # fmt: skip
    if unknown := [d for d in directions[1:-1] if d not in DIRECTIONS]:
        raise BadInput(f"{path}, line {at_direction}: direction {unknown[0]!r}; expected higher, lower, zero or nothing")
    columns = {n: Column(u, DIRECTIONS[d]) for n, u, d in zip(names, units[1:-1], directions[1:-1], strict=True)}
    rows: dict[str, dict[str, float]] = {}
    sources: dict[str, str] = {}
    for at, (method, *texts, source) in lines[3:]:
        where = f"{path}, line {at}"
        if not method or method in rows:
            raise BadInput(f"{where}: method {method!r} is {'there twice' if method else 'empty'}; give each method one line")
        cells = dict(zip(names, texts, strict=True))
        rows[method] = {name: _number(cells[name], columns[name].unit, f"{where}, {name}") for name in names if cells[name]}
        sources[method] = source
        if rows[method] and not source:
            raise BadInput(f"{where}: {method} has figures and no source; say where they were read, such as 'Table {number}'")
        _check_differences(cells, rows[method], where)
    missing = [(m, c) for m, row in rows.items() for c in names if c not in row]
    return PaperTable(number, TITLES[number], columns, rows, sources, missing)


def load_all(folder: str | os.PathLike[str] | None = None) -> dict[int, PaperTable]:
    """All five tables by their number; raises as `load` does."""
    return {number: load(number, folder) for number in TITLES}


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines of a csv with their numbers, cells stripped; at least a head of three, all of one length."""
    path = check_input(path, "the folder of the five tables, which come with the repository, see data/paper/README.md")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader if any(map(str.strip, line))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} isn't a csv in UTF-8 ({error}); save it as one") from error
    if len(lines) < 3:
        raise BadInput(f"{path} has {len(lines)} lines; expected method, unit, direction, then one for each method")
    for number, line in lines:
        wanted = max(2, len(lines[0][1]))
        if len(line) != wanted:
            raise BadInput(f"{path}, line {number}: {len(line)} cells, expected {wanted}; is a comma missing or too many?")
    return lines


def _number(text: str, unit: str, where: str) -> float:
    try:
        value = float(text.replace("−", "-"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"{where}: {text!r} isn't a number; write a number with a decimal point and no unit, or nothing")
    low, high = RANGES.get(unit, (-math.inf, math.inf))
    if not low <= value <= high:
        raise BadInput(f"{where}: {value:g} can't be in a column of unit {unit!r}, which runs from {low:g} to {high:g}")
    return value


def _check_differences(cells: dict[str, str], row: dict[str, float], where: str) -> None:
    """Δ = input − flipped, each of the three rounded: off by at most 1.5 in the last digit."""
    for metric in [name.removesuffix(DELTA[2]) for name in row if name.endswith(DELTA[2])]:
        if not all(metric + end in row for end in DELTA):
            continue
        own, flipped, printed = (row[metric + end] for end in DELTA)
        step = max(10.0 ** -len(cells[metric + end].partition(".")[2]) for end in DELTA)
        if abs(own - flipped - printed) > 1.5001 * step:
            raise BadInput(f"{where}: {metric} Δ is {printed:g}, input − flipped is {own - flipped:.4g}; check all three")
