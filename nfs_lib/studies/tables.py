"""Result tables as csv: where it matters, a first line that says how they were made; then one row per value."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nfs_lib.errors import BadInput
from nfs_lib.paths import check_input
from nfs_lib.writing import replacing


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], made_by: str = "") -> None:
    """Rows of equal columns; numbers to six digits, an empty cell for NaN; `# made_by` above the header. Without made_by it is
    a csv that pandas reads without options."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        file.write(f"# {made_by}\n" if made_by else "")
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: _cell(v) for k, v in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if value != value else f"{value:.6g}"


def read_csv(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """What `write_csv` wrote: how it was made, and the rows, numbers as float (NaN for an empty cell). Raises BadInput for a
    file that isn't there or isn't such a table."""
    path = check_input(path, "a table that nfs ablate or nfs flip wrote")
    try:
        first, _, rest = path.read_text(encoding="utf-8").partition("\n")
        rows = list(csv.DictReader(rest.splitlines()))
    except (UnicodeDecodeError, csv.Error):
        first, rows = "", []
    if not first.startswith("# ") or not rows or any(None in row or None in row.values() for row in rows):
        raise BadInput(f"{path} isn't a table that nfs ablate or nfs flip wrote; make it again")
    return first[2:], [{k: _number(v) for k, v in row.items()} for row in rows]


def _number(text: str) -> Any:
    try:
        return float(text) if text else float("nan")
    except ValueError:
        return text
