"""studies/cluster.py: evaluation and ablation by several processes give the tables of one, through lost workers too."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from make_evaluation_example import FIRST_SEED, drawn, sentences
from matplotlib.figure import Figure
from pieces import dies_once, made_up, made_up_case, notes, threads
from PIL import Image

from nfs_lib import cli, portraits
from nfs_lib.errors import BadInput
from nfs_lib.studies import ablation, cases, cluster
from nfs_lib.studies import evaluate as study
from nfs_lib.studies.cluster import crew
from nfs_lib.video import write_video

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def there():
    """The address of a cluster of two processes, in which two lost workers are enough to give up a clip."""
    import dask
    from distributed import LocalCluster

    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=None, dashboard_address=":0", silence_logs=60) as local:
        yield local.scheduler_address


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two clips, their truth and one portrait; `t.csv` as one process makes it."""
    root = tmp_path_factory.mktemp("example")
    for name in ("truth", "dubbed", "portraits"):
        (root / name).mkdir()
    pieces = sentences(26)
    film = np.stack(list(drawn(FIRST_SEED, pieces[0][1], 128)))
    for i in range(2):
        write_video(root / "truth" / f"clip_0{i}.mp4", film, pieces[i][0])
        write_video(root / "dubbed" / f"clip_0{i}.mp4", film, pieces[i + 1][0])
    Image.fromarray(portraits.portrait(FIRST_SEED).image).save(root / "portraits" / "clip_00.png")
    study.evaluate([root / "dubbed"], out=root / "t.csv")
    return root


@pytest.fixture
def marks(tmp_path):
    (tmp_path / "marks").mkdir()
    return str(tmp_path / "marks")


def clips(root: Path, names: str) -> Path:
    for name in ("truth", "ours"):
        (root / name).mkdir()
        for clip in names.split():
            (root / name / f"{clip}.mp4").touch()
    return root / "ours"


# the same tables


def test_two_workers_one_of_them_killed_give_the_tables_of_one_process(folder, tmp_path, monkeypatch, marks, capsys):
    monkeypatch.setattr(study, "measured", partial(dies_once, marks=marks))
    assert cli.main(["evaluate", str(folder / "dubbed"), "--out", str(tmp_path / "t.csv"), "--workers", "2"]) == 0
    assert len(notes(marks, Path("dubbed/clip_01"))) == 2                          # it was killed, and was done again
    for name in ("t.csv", "t_summary.csv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["method"], r["clip"]) for r in rows] == [(m, c) for m in ("truth", "dubbed") for c in ("clip_00", "clip_01")]
    assert [r["csim_against"] for r in rows] == 2 * ["portrait", "first frame of the truth"]
    assert not any(r["left_out"] for r in rows)
    assert not [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE
                and child.pid in {int(path.name.rpartition("_")[2]) for path in Path(marks).iterdir()}]


def test_every_piece_has_one_thread(there):
    """With another number sums are rounded differently, and tables differ."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for given in ({}, {"scheduler": there}):
            with crew(**given) as each:
                assert dict(each(threads, {("a",): ()}, "a")) == {("a",): {1}}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_ablation_with_a_lost_worker_is_that_of_one_process(there, tmp_path, monkeypatch, marks, capsys):
    """What a case gives is made up; which of them are done, by whom, and what the table says isn't."""
    case = partial(made_up_case, variants=[v.name for v in ablation.VARIANTS], columns=list(ablation.DIRECTIONS))
    lost = partial(case, marks=marks, deadly=cases.PEOPLE_SEED + 1)
    monkeypatch.setattr(ablation, "SIZES", {"fast": (3, 2, 5)})
    monkeypatch.setattr("nfs_lib.viz.studies.ablation_figure", lambda rows: Figure((1, 1)))
    tables = []
    for name, given, run in (("one", [], case), ("two", ["--scheduler", there], lost)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setattr(ablation, "case", run)
        assert cli.main(["ablate", "--profile", "fast", "--out", ".", *given]) == 0
        tables.append(Path("ablation.csv").read_bytes().split(b"\n", 1))
    assert tables[0][1] == tables[1][1]
    assert tables[0][1].count(b"\n") == 1 + len(ablation.VARIANTS) * (len(ablation.DIRECTIONS) + 1)
    assert tables[1][0].startswith(b"# nfs ablate --profile fast")
    tries = Counter(path.name.rsplit("_", 1)[0] for path in Path(marks).iterdir())
    assert len(tries) == 6
    assert all(tries[name] > 1 for name in tries if str(cases.PEOPLE_SEED + 1) in name)    # killed once, and done again
    assert "6 of 6 cases" in capsys.readouterr().err

    kept = sorted(Path("runs/ablation").iterdir())                                 # what is done isn't done again
    kept[0].unlink()
    stamp = kept[1].stat().st_mtime_ns
    monkeypatch.setattr(ablation, "case", case)
    assert cli.main(["ablate", "--profile", "fast", "--out", "."]) == 0
    assert kept[0].is_file() and kept[1].stat().st_mtime_ns == stamp
    assert Path("ablation.csv").read_bytes().split(b"\n", 1)[1] == tables[0][1]


# what goes wrong


def said(capsys, *arguments) -> str:
    """The one line that the command ends with."""
    assert cli.main(list(map(str, arguments))) == 2
    error = capsys.readouterr().err.rpartition("\r")[2]  # behind the progress bar, where there is one
    assert error.startswith("nfs: ") and error.count("\n") == 1
    return error


def test_a_clip_that_kills_every_worker_is_named(there, tmp_path, monkeypatch, marks, capsys):
    monkeypatch.setattr(study, "measured", partial(made_up, marks=marks))
    ours = clips(tmp_path, "a bb deadly dddd eeeee")
    error = said(capsys, "evaluate", ours, "--out", tmp_path / "t.csv", "--scheduler", there)
    assert "truth/deadly" in error and "2 processes" in error
    assert len(notes(marks, tmp_path / "truth" / "deadly.mp4")) == 2
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
    (tmp_path / "truth" / "deadly.mp4").unlink()
    assert cli.main(["evaluate", str(ours), "--out", str(tmp_path / "t.csv"), "--scheduler", there]) == 0  # the cluster lives


def test_a_worker_must_see_the_files_and_have_the_weights(there, tmp_path, monkeypatch):
    with crew(scheduler=there) as each, pytest.raises(BadInput, match=f"doesn't see {tmp_path}/none: put it into a folder"):
        list(each(len, {("a",): (tmp_path / "none",)}, "a"))
    monkeypatch.setattr(cluster, "installed", lambda world: "other")
    with crew(scheduler=there) as each, pytest.raises(BadInput, match="other weights: install there"):
        list(each(len, {("a",): ("",)}, "a"))


def test_clusters_that_cant_be_used(tmp_path, monkeypatch, capsys):
    from distributed import LocalCluster

    monkeypatch.setattr(cluster, "ANSWERS", 0.5)
    monkeypatch.setattr(cluster, "STARTS", 0.5)
    evaluate = ["evaluate", clips(tmp_path, "a"), "--out", tmp_path / "t.csv"]
    for address in ("tcp://127.0.0.1:9", "nowhere:x", "carrier-pigeon://a:1", ""):
        assert "no scheduler answers at" in said(capsys, *evaluate, "--scheduler", address)
    with LocalCluster(n_workers=0, dashboard_address=":0") as empty:
        assert "dask worker tcp://" in said(capsys, *evaluate, "--scheduler", empty.scheduler_address)
    assert "not allowed with" in said(capsys, *evaluate, "--scheduler", "a:1", "--workers", "2")
    assert "whole number from 1" in said(capsys, "ablate", "--workers", "0")
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'distributed" in said(capsys, *evaluate, "--workers", "2")


def run(ours: Path, marks: str, *more: str) -> subprocess.Popen:
    """`nfs evaluate` of made-up clips in a session of its own."""
    code = ("import signal, sys, functools, pieces; from nfs_lib import cli; from nfs_lib.studies import evaluate;"
            "signal.signal(signal.SIGINT, signal.default_int_handler);"  # in the background of a shell it would be ignored
            "evaluate.measured = functools.partial(pieces.made_up, marks=sys.argv[1]); sys.exit(cli.main(sys.argv[2:]))")
    path = os.pathsep.join(map(str, (HERE, HERE.parent / "scripts")))
    return subprocess.Popen([sys.executable, "-c", code, marks, "evaluate", ours, "--out", ours.parent / "t.csv", *more],
                            start_new_session=True, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE, text=True)


def wait_for(happened, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def session(leader: int) -> list[int]:
    """The processes of a session that run."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (OSError, psutil.Error):
            pass
    return found


def test_ctrl_c_leaves_nothing_behind(tmp_path):
    """In a terminal, where it reaches the workers too, and by `kill -INT` to the command alone."""
    started = []
    for kill in (os.killpg, os.kill):
        root = tmp_path / kill.__name__
        (root / "marks").mkdir(parents=True)
        started.append((kill, root, run(clips(root, "a endless"), str(root / "marks"), "--workers", "1")))
    for kill, root, process in started:
        wait_for(lambda root=root: notes(str(root / "marks"), root / "truth" / "endless.mp4"))
        assert len(session(process.pid)) > 2
        kill(process.pid, signal.SIGINT)
        error = process.communicate(timeout=300)[1]
        assert (process.returncode, error) == (130, "nfs: stopped\n")
        wait_for(lambda process=process: not session(process.pid))
        assert not [path for path in root.iterdir() if path.is_file()]


def test_a_lost_scheduler_is_said(tmp_path, marks):
    code = ("import time; from distributed import LocalCluster; local = LocalCluster(n_workers=1, dashboard_address=':0');"
            "print(local.scheduler_address, flush=True); time.sleep(1000)")
    path = os.pathsep.join(map(str, (HERE, HERE.parent / "scripts")))
    scheduler = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                                 env={**os.environ, "PYTHONPATH": path})
    process = run(clips(tmp_path, "endless"), marks, "--scheduler", scheduler.stdout.readline().strip())
    wait_for(lambda: notes(marks, tmp_path / "truth" / "endless.mp4"))
    scheduler.kill()
    scheduler.wait()
    error = process.communicate(timeout=240)[1]
    assert process.returncode == 2 and "nfs: the cluster was lost" in error
