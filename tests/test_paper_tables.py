"""The paper's tables as data: what is filled in and says where it was read; what a mistake in a file is told; the two plots."""

import csv
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from nfs_lib.cli import main
from nfs_lib.errors import BadInput
from nfs_lib.metrics import COLUMNS
from nfs_lib.studies import paper
from nfs_lib.viz.tables import best, side_by_side, typeset

SHIPPED = Path(__file__).parents[1] / "data" / "paper"
OPEN = "open backend, not comparable with published figures"
# invented, to exercise the code; no figure of any paper
FULL = """method,FID,CSIM,votes,source
unit,,cosine,%,
direction,lower,higher,higher,
Truth,0,1.000,,made up
A,12.345,0.810,40.5,made up
B,10.5,−0.250,59.5,made up
"""


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped tables in which Table 1 is FULL."""
    shutil.copytree(SHIPPED, tmp_path / "paper")
    (tmp_path / "paper" / "table1.csv").write_text(FULL, encoding="utf-8")
    return tmp_path / "paper"


def write(folder, old, new, table=1):
    path = folder / f"table{table}.csv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def texts(figure):
    """All words of a figure and its parts."""
    found = [t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text"))]
    return " | ".join(t for t in found if t)


def test_shipped_tables_hold_only_figures_with_a_source_and_name_what_is_missing():
    tables = paper.load_all()
    assert list(tables) == [1, 2, 3, 4, 5]
    for table in tables.values():
        assert all(table.sources[method] for method, row in table.rows.items() if row)
        cells = {(m, c) for m in table.rows for c in table.columns}
        filled = {(m, c) for m, row in table.rows.items() for c in row}
        assert filled | set(table.missing) == cells and not filled & set(table.missing)
    known = [v for t in tables.values() for row in t.rows.values() for v in row.values()]
    text = (SHIPPED / "README.md").read_text()
    assert all(f"{v:g}".replace("-", "−") in text for v in known)          # the README names each figure that is here
    assert tables[2].rows["(method not noted)"]["FID Δ"] == -3.939


def test_shipped_columns_have_the_metrics_directions():
    for number in (1, 5):
        columns = paper.load(number).columns
        assert {name: c.direction for name, c in columns.items()} == COLUMNS
    for name, column in paper.load(2).columns.items():
        assert column.direction == ("→0" if name.endswith("Δ") else COLUMNS[name.split()[0]])


def test_a_full_table_is_read_as_it_is_written(folder):
    table = paper.load(1, folder)
    assert table.columns == {"FID": ("", "↓"), "CSIM": ("cosine", "↑"), "votes": ("%", "↑")}
    assert table.rows["B"] == {"FID": 10.5, "CSIM": -0.25, "votes": 59.5}         # the minus sign of a typeset page
    assert table.missing == [("Truth", "votes")] and "Truth (votes)" in str(table)
    write(folder, "1.000,,", "1.000,0,")
    assert not paper.load(1, folder).missing and "missing" not in str(paper.load(1, folder))


def test_spreadsheets_may_add_a_mark_and_empty_lines(folder):
    path = folder / "table1.csv"
    path.write_bytes(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode() + b",,,,\r\n")
    assert paper.load(1, folder).rows["A"]["FID"] == 12.345


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0.810", "1.810", "line 5, CSIM: 1.81 can't be"),
        ("59.5", "159.5", "runs from 0 to 100"),
        ("12.345", "12,345", "line 5: 6 cells, expected 5"),
        ("12.345", "12.345 %", "'12.345 %' isn't a number"),
        ("12.345", "nan", "'nan' isn't a number"),
        ("B,10.5", "A,10.5", "'A' is there twice"),
        ("59.5,made up", "59.5,", "has figures and no source"),
        ("direction,lower", "direction,down", "direction 'down'"),
        ("method,FID,CSIM", "method,FID,FID", "each named once"),
        ("unit,", "units,", "expected unit and direction"),
        (FULL, "method,FID,source\n", "has 1 lines"),
    ],
)
def test_a_mistake_is_one_clear_error_that_names_the_file(folder, old, new, said):
    write(folder, old, new)
    with pytest.raises(BadInput) as error:
        paper.load(1, folder)
    assert said in str(error.value) and str(folder / "table1.csv") in str(error.value)


def test_what_is_not_a_csv_is_an_error(folder):
    (folder / "table1.csv").write_bytes(FULL.encode("utf-16"))
    with pytest.raises(BadInput, match="isn't a csv in UTF-8"):
        paper.load(1, folder)
    (folder / "table1.csv").unlink()
    with pytest.raises(BadInput, match="doesn't exist"):
        paper.load(1, folder)
    with pytest.raises(BadInput, match="the paper has 1 to 5"):
        paper.load(6)


@pytest.mark.parametrize(("printed", "right"), [("-3.939", True), ("-3.940", True), ("-3.941", True), ("-3.943", False),
                                                ("3.939", False)])  # fmt: skip
def test_differences_agree_to_within_rounding(folder, printed, right):
    write(folder, "-3.939", printed, table=2)
    if right:
        assert paper.load(2, folder).rows["(method not noted)"]["FID Δ"] == float(printed)
    else:
        with pytest.raises(BadInput, match="check all three"):
            paper.load(2, folder)


def test_the_command_lists_what_is_missing_and_fails_on_a_mistake(folder, capsys):
    assert main(["paper"]) == 0
    out = capsys.readouterr().out
    assert "Table 1" in out and "2 of 35" in out and "Wav2Lip (all)" in out
    write(folder, "12.345", "x")
    assert main(["paper", "--folder", str(folder)]) == 2
    assert "line 5, FID" in capsys.readouterr().err


OURS = {"this kit": {"FID": (55.5, 50.0, 61.0), "CSIM": (0.5, 0.4, 0.6)}, "2D warp": {"FID": 70.0, "CSIM": math.nan}}


def test_side_by_side_keeps_the_papers_figures_and_ours_in_panels_of_their_own(folder):
    figure = side_by_side(paper.load(1, folder), OURS, OPEN)
    left, right = figure.subfigs
    assert "The paper, Table 1" in texts(left) and OPEN not in texts(left)
    assert OPEN in texts(right) and "12.3" not in texts(right)
    assert "12.345" in texts(left) and "55.500" not in texts(left) and "55.500" in texts(right)
    assert "FID ↓" in texts(left) and "CSIM ↑" in texts(right)
    for theirs, own in zip(left.axes, right.axes, strict=True):
        assert not theirs.get_shared_x_axes().joined(theirs, own)
    fid = right.axes[0]
    dots = fid.lines[0].get_xydata()
    assert [t.get_text() for t in fid.get_yticklabels()] == ["this kit", "2D warp"]
    assert np.allclose(dots[:, 0], [55.5, 70.0])
    (first, last), _ = (segment[:, 0] for segment in fid.collections[0].get_segments())
    assert (first, last) == (50.0, 61.0)
    assert len(right.axes[1].lines[0].get_xydata()) == 1                            # NaN isn't drawn


def test_side_by_side_says_what_the_table_lacks():
    figure = side_by_side(paper.load(1), OURS, OPEN)
    assert texts(figure.subfigs[0]).count("no figure yet") == 2
    assert "2 of the 35 figures" in texts(figure.subfigs[0])
    figure = side_by_side(paper.load(2), {"this kit": {"FID Δ": (-1.0, -2.0, 0.5)}}, OPEN)
    assert "−3.939" in texts(figure.subfigs[0]) and "nearer zero is better" in texts(figure)


def test_side_by_side_refuses_what_it_cannot_place(folder):
    with pytest.raises(BadInput, match="'PSNR' isn't a column"):
        side_by_side(paper.load(1, folder), {"this kit": {"PSNR": 30.0}}, OPEN)
    with pytest.raises(BadInput, match="no column yet"):
        side_by_side(paper.load(3), {"this kit": {"lips": 30.0}}, OPEN)
    with pytest.raises(BadInput, match="nothing to draw"):
        side_by_side(paper.load(3), {}, OPEN)
    with pytest.raises(BadInput, match="isn't within"):
        side_by_side(paper.load(1, folder), {"this kit": {"FID": (1.0, 2.0, 3.0)}}, OPEN)


def test_best_follows_the_direction():
    values = {"a": -3.0, "b": 1.0, "c": 2.0, "d": math.nan}
    assert best(values, "↑") == {"c"} and best(values, "↓") == {"a"} and best(values, "→0") == {"b"}
    assert best(values, "") == set() and best({"a": 1.0, "d": math.nan}, "↑") == set()
    assert best({"a": 1.0, "b": 1.0}, "↓") == {"a", "b"}


def test_typeset_prints_every_cell_and_makes_the_best_of_each_column_bold():
    rows = {
        "truth": {"FID": 0.0, "CSIM": 1.0},
        "A": {"FID": (50.0, 45.0, 55.25), "CSIM": 0.5, "remark": "three people"},
        "B": {"FID": 40.0, "CSIM": None},
        "C": {"FID": 60.0, "CSIM": 0.75},
    }
    figure = typeset(rows, {"FID": "↓", "CSIM": "↑", "remark": ""}, "A title", OPEN, apart=("truth",))
    drawn = {t.get_text(): t for t in figure.axes[0].texts}
    assert {"A title", OPEN, "FID ↓", "CSIM ↑", "50.000 [45.000, 55.250]", "–", "three people"} <= set(drawn)
    bold = {text for text, t in drawn.items() if t.get_weight() == "bold"}
    assert bold == {"A title", "FID ↓", "CSIM ↑", "remark", "40.000", "0.750"}      # neither the truth nor its figures
    figure.draw_without_rendering()
    page = figure.bbox
    for text in drawn.values():
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= page.x1 and box.y0 >= 0 and box.y1 <= page.y1, text.get_text()


def test_typeset_refuses_an_unknown_column_and_an_empty_table():
    with pytest.raises(BadInput, match="has the column 'CSIM'"):
        typeset({"A": {"CSIM": 1.0}}, {"FID": "↓"}, "")
    with pytest.raises(BadInput, match="needs a row"):
        typeset({}, {"FID": "↓"}, "")


def test_the_files_open_in_a_spreadsheet_too():
    """Equal cells in each line, as csv readers without this kit's rules want it."""
    for path in SHIPPED.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            assert len({len(line) for line in csv.reader(file)}) == 1
