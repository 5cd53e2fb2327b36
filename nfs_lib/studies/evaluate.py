"""How good are these videos (paper section 5.3)? `nfs evaluate`: one folder per method, the ground truth beside them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from nfs_lib.errors import BadInput
from nfs_lib.metrics import COLUMNS
from nfs_lib.paths import check_output
from nfs_lib.studies.cluster import crew
from nfs_lib.studies.measuring import Measured, embedded, measured, networks
from nfs_lib.studies.moments import LEVEL, RESAMPLES, fid_interval, mean_interval
from nfs_lib.studies.tables import write_csv
from nfs_lib.viz.style import Plot
from nfs_lib.viz.tables import best, typeset
from nfs_lib.writing import replacing

VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm")
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
TRUTH = "truth"                                      # its folder's name, and its rows'
TRUTH_ROW = "ground truth"                           # in the tables
Results = dict[tuple[str, str], Measured | str]      # (method, clip) → what it gave, or why nothing
Row = Mapping[str, Any]


class Evaluation(NamedTuple):
    """rows: one a method and clip, as in the csv; summary: one a method and metric; note: what belongs under every table."""

    rows: list[Row]
    summary: list[Row]
    note: str


def evaluate(folders: Sequence[str | Path], truth: str | Path | None = None, out: str | Path = "evaluation.csv",
             world: str = "open", workers: int | None = None, scheduler: str | None = None) -> Evaluation:
    """`nfs evaluate`: every method's folder against the ground truth. Writes `out`, one row a method and clip; beside it
    …_summary.csv, means and intervals, and the same as a typeset table, …png.

    folders: of `<clip>.mp4`, one a method; truth: the folder of the true videos, by default `truth` beside the methods'. The
    portraits that the methods were given are looked for in `portraits` beside the truth (`<clip>.png`), for CSIM.
    A video that can't be measured has its reason in its row and counts nowhere; FID compares the same clips on both sides.
    workers, scheduler: who measures (`cluster.crew`); the tables are the same, byte for byte.
    Raises BadInput for a folder that isn't there, for no video in any of them, for no ground truth, and for a cluster that
    can't be used.
    """
    path = check_output(out, ".csv")
    methods, true = find(folders, truth)
    backend = networks(world).backend                # before any long work: weights may be missing
    jobs = {(name, clip): (file.absolute(), world) for name, files in {TRUTH: true, **methods}.items()
            for clip, file in files.items() if clip in true}
    with crew(workers, scheduler, world) as each:
        results: Results = dict(each(measured, jobs, "videos"))
        people = dict(each(embedded, {key: (file, world) for key, file in portraits(true).items()}, "portraits"))
    for name, files in methods.items():
        for clip in {*files, *true}:
            results[name, clip] = fault(results, name, clip) or results[name, clip]
    sources = {clip: source(clip, people, results[TRUTH, clip]) for clip in true}
    rows = [row(name, clip, results[name, clip], sources.get(clip), backend.name)
            for name in (TRUTH, *methods) for clip in sorted(c for n, c in results if n == name)]
    summary = summarise(rows, results, backend.name)
    note = about(rows, backend.label)
    write_csv(path, rows)
    write_csv(path.with_name(f"{path.stem}_summary.csv"), summary)
    with replacing(path.with_suffix(".png")) as temporary:
        drawn(summary, note).savefig(temporary, dpi=200)
    return Evaluation(rows, summary, note)


# what is there


def find(folders: Sequence[str | Path], truth: str | Path | None) -> tuple[dict[str, dict[str, Path]], dict[str, Path]]:
    """Method → clip → video, and the truth's clip → video. Raises BadInput as `evaluate` does."""
    given = [Path(folder) for folder in folders]
    for folder in given:
        if not folder.is_dir():
            raise BadInput(f"{folder} isn't a folder; give one folder of videos for each method")
    beside = {folder.resolve().parent / TRUTH for folder in given}
    if truth is None and len(beside) != 1:
        raise BadInput("the methods' folders lie in different places; say where the true videos are with --truth")
    where = Path(truth) if truth is not None else beside.pop()
    true = videos(where) if where.is_dir() else {}
    if not true:
        raise BadInput(f"there is no ground truth: no video in {where}; put the true videos there, under the names of the "
                       "methods' clips, or give their folder with --truth")
    given = [folder for folder in given if folder.resolve() != where.resolve()]
    names = [folder.resolve().name for folder in given]
    methods = {str(folder.resolve()) if names.count(name) > 1 or name == TRUTH else name: videos(folder)
               for folder, name in zip(given, names, strict=True)}
    if methods and not any(methods.values()):
        raise BadInput(f"no video in {', '.join(map(str, given))}; give one folder of videos ({', '.join(VIDEOS)}) for each "
                       "method")
    return methods, true


def videos(folder: Path) -> dict[str, Path]:
    """Clip → file of a folder, hidden files apart; of two files for one clip the first of VIDEOS."""
    files = [f for f in folder.iterdir() if f.suffix.lower() in VIDEOS and not f.name.startswith(".")]
    return {f.stem: f for f in sorted(files, key=lambda f: (f.stem, -VIDEOS.index(f.suffix.lower())))}


def fault(results: Results, name: str, clip: str) -> str:
    """Why a method's clip can't be compared, as far as that isn't the video's own fault; empty if it can."""
    true = results.get((TRUTH, clip))
    if true is None:
        return "there is no ground truth of this name"
    if (name, clip) not in results:
        return "the video is missing"
    if isinstance(true, str) and not isinstance(results[name, clip], str):
        return f"its ground truth can't be used: {true}"
    return ""


def portraits(true: Mapping[str, Path]) -> dict[tuple[str, str], Path]:
    """(clip, suffix) → picture that the methods were given, as far as there are any."""
    files = {(clip, suffix): file.parent.resolve().parent / "portraits" / f"{clip}{suffix}"
             for clip, file in true.items() for suffix in PICTURES}
    return {key: file for key, file in files.items() if file.is_file()}


def source(clip: str, people: Mapping[tuple[str, str], Float[np.ndarray, " d"] | None], true: Measured | str
           ) -> tuple[Float[np.ndarray, " d"], str] | None:
    """Whom a clip should show, and where that was taken from: the portrait, else the true video's first frame."""
    for suffix in PICTURES:
        if (who := people.get((clip, suffix))) is not None:
            return who, "portrait"
    return None if isinstance(true, str) else (true.first, "first frame of the truth")


# rows, means and intervals


def row(name: str, clip: str, result: Measured | str, who: tuple[Float[np.ndarray, " d"], str] | None, backend: str) -> Row:
    """One line of the csv."""
    columns = ("method", "clip", *(c for c in COLUMNS if c != "FID"), "offset", "frames", "face_seen", "csim_against",
               "left_out", "backend")
    line: dict[str, Any] = dict.fromkeys(columns) | {"method": name, "clip": clip, "backend": backend}
    if isinstance(result, str) or who is None:
        return line | {"left_out": result}
    return line | {
        "CSIM": float(result.embedding @ who[0]), "CPBD": result.cpbd, "LSE-D": result.sync.distance,
        "LSE-C": result.sync.confidence, "offset": result.sync.offset, "frames": result.frames,
        "face_seen": f"{result.framing.seen} of {result.framing.looked}", "csim_against": who[1],
    }  # fmt: skip


def summarise(rows: Sequence[Row], results: Mapping[tuple[str, str], Measured | str], backend: str) -> list[Row]:
    """One row a method and metric: value, ends of the 95 % interval (NaN where there is none), clips used and left out."""
    lines: list[Row] = []
    for name in dict.fromkeys(r["method"] for r in rows):
        mine = [r for r in rows if r["method"] == name]
        used = [r for r in mine if not r["left_out"]]
        for metric, better in COLUMNS.items():
            if metric == "FID":
                ours, true = ([m.moments for r in used if isinstance(m := results[side, r["clip"]], Measured)]
                              for side in (name, TRUTH))
                numbers = fid_interval(ours, true) if name != TRUTH else (np.nan,) * 3
            else:
                numbers = mean_interval(np.array([r[metric] for r in used], float))
            lines.append({"method": name, "metric": metric, "better": better, "value": numbers[0], "low": numbers[1],
                          "high": numbers[2], "clips": len(used), "left_out": len(mine) - len(used), "backend": backend})
    return lines


def about(rows: Sequence[Row], label: str) -> str:
    """What must stand under every table made from these rows."""
    of_methods = [r for r in rows if r["method"] != TRUTH] or rows
    used = [r for r in of_methods if not r["left_out"]]
    against = [f"the {kind} ({n} videos)" for kind, n in Counter(r["csim_against"] for r in used).items()]
    return (f"{label[0].upper()}{label[1:]}. Means over clips with {LEVEL:.0%} intervals from {RESAMPLES} resamplings of the "
            f"clips; FID over all frames. CSIM against {' or '.join(against) or 'nothing'}. Left out: "
            f"{len(of_methods) - len(used)} of {len(of_methods)} videos.").replace("%", " %")


# tables


def cells(summary: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Method → column → cell, as `viz.tables.typeset` takes it."""
    lines: dict[str, dict[str, Any]] = {}
    for s in summary:
        line = lines.setdefault(TRUTH_ROW if s["method"] == TRUTH else s["method"], {})
        line["clips"] = f"{s['clips']} of {s['clips'] + s['left_out']}"
        line[s["metric"]] = (s["value"], s["low"], s["high"])
    return lines


def drawn(summary: Sequence[Row], note: str) -> Plot:
    """The table as a picture."""
    return typeset(cells(summary), {"clips": "", **COLUMNS}, "Quality of the videos", note, apart=[TRUTH_ROW])


def printed(evaluation: Evaluation) -> str:
    """The table as text, the best of each column with a star, then every video that was left out, and why."""
    lines = cells(evaluation.summary)
    winners = {c: best({m: line[c][0] for m, line in lines.items() if m != TRUTH_ROW}, arrow) for c, arrow in COLUMNS.items()}
    grid = [["", "clips", *(f"{c} {arrow}" for c, arrow in COLUMNS.items())]]
    for method, line in lines.items():
        grid.append([method, line["clips"], *(_text(*line[c]) + " *" * (method in winners[c]) for c in COLUMNS)])
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    table = ["  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in grid]
    out = [f"left out: {r['method']}/{r['clip']}: {r['left_out']}" for r in evaluation.rows if r["left_out"]]
    return "\n".join([*table, *out, evaluation.note])


def _text(value: float, low: float, high: float) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:.3f}" + ("" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]")
