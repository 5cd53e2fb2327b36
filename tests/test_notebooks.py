"""What every committed notebook must be, whether or not nbval runs it; and the exercises' checks."""

import copy
import getpass
import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch

from nfs_lib import exercises

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST, LONGEST_CELL, COMPARED = 3_000_000, 30, 0.6
PATHS = re.compile(r"(?:/(?:home|root|Users|usr|tmp|work|opt|var|mnt)/[\w.]|[A-Z]:\\\\\w|site-packages)")


def output_text(output) -> str:
    """All that an output says, pictures and videos left out."""
    data = {k: v for k, v in output.get("data", {}).items() if k != "image/png" and "base64" not in str(v)[:400]}
    return json.dumps([data, output.get("text", ""), output.get("traceback", [])], ensure_ascii=False)


def faults(notebook) -> list[str]:
    """What is wrong with a notebook, one line each."""
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    found = []
    if [c.execution_count for c in cells] != list(range(1, len(cells) + 1)):
        found.append("execution counts aren't 1 to n: run it from top to bottom (scripts/run_notebooks.py)")
    compared = [c for c in cells if c.outputs and "nbval-ignore-output" not in c.metadata.get("tags", [])]
    if len(compared) < COMPARED * len(cells):
        found.append(f"{len(compared)} of {len(cells)} code cells have an output that nbval compares")
    for number, cell in enumerate(cells, 1):
        lines = cell.source.splitlines()
        if len(lines) > LONGEST_CELL:
            found.append(f"code cell {number} has {len(lines)} lines")
        if lines and lines[-1].rstrip().endswith(";"):
            found.append(f"code cell {number} ends with a semicolon: nbval captures the value all the same")
        if re.search(r"^\s*def ", cell.source, re.MULTILINE):
            found.append(f"code cell {number} defines a function: that belongs into nfs_lib")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"code cell {number} failed: {output.get('ename')}")
            said = output_text(output)
            if PATHS.search(said) or (len(getpass.getuser()) > 4 and getpass.getuser() in said):
                found.append(f"code cell {number} shows a path or a user's name: {PATHS.findall(said)[:3]}")
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"code cell {number} wrote to stderr: {output.text[:80]!r}")
    if "widgets" in notebook.metadata:
        found.append("widget states are stored")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_whole(path):
    assert faults(nbformat.read(path, as_version=4)) == []
    assert path.stat().st_size < LARGEST


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_solutions_are_folded_and_exercises_open(path):
    notebook = nbformat.read(path, as_version=4)
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    asked = code.count("exercises.") - code.count("import exercises.")
    folded = sum(c.source.count("<details>") for c in notebook.cells if c.cell_type == "markdown")
    assert asked == folded >= 1


def sound():
    """A little notebook without faults."""
    cells = [nbformat.v4.new_code_cell(f"print({i})", execution_count=i) for i in range(1, 6)]
    for cell in cells:
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"{cell.execution_count}\n")]
    return nbformat.v4.new_notebook(cells=cells)


def strip(notebook):
    for cell in notebook.cells:
        cell.outputs, cell.execution_count = [], None


def fail(notebook):
    notebook.cells[1].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[])]


def say(text, name="stdout"):
    def change(notebook):
        notebook.cells[2].outputs = [nbformat.v4.new_output("stream", name=name, text=text)]

    return change


BREAKS = {
    "stripped": strip,
    "run out of order": lambda n: n.cells.insert(0, n.cells.pop()),
    "outputs of half the cells": lambda n: [c.update(outputs=[]) for c in n.cells[:3]],
    "outputs that nbval ignores": lambda n: [c.metadata.update(tags=["nbval-ignore-output"]) for c in n.cells[:3]],
    "failed": fail,
    "long cell": lambda n: n.cells[0].update(source="\n".join("a = 1" for _ in range(31))),
    "semicolon": lambda n: n.cells[0].update(source="1;"),
    "helper function": lambda n: n.cells[0].update(source="def f():\n    pass"),
    "path": say("wrote /home/ada/talk.mp4\n"),
    "windows path": say("wrote C:\\\\Users\\\\ada\n".replace("\\\\", "\\")),
    "warning": say("UserWarning: soon to change\n", "stderr"),
    "widget states": lambda n: n.metadata.update(widgets={}),
}


def test_a_sound_notebook_has_no_faults():
    assert faults(sound()) == []


@pytest.mark.parametrize("name", BREAKS)
def test_every_fault_is_found(name):
    notebook = copy.deepcopy(sound())
    BREAKS[name](notebook)
    assert faults(notebook)


@pytest.fixture(scope="module")
def deformation():
    rng = torch.Generator().manual_seed(0)
    points, v_init, v_t = (torch.randn(n, 3, generator=rng) for n in (50, 9, 9))
    return points, torch.randint(9, (50,), generator=rng), v_init, v_t


def test_the_solution_of_ray_deformation_is_right(deformation):
    points, n, v_init, v_t = deformation
    moved = torch.stack([p + v_init[i] - v_t[i] for p, i in zip(points, n, strict=True)])
    verdict = exercises.ray_deformation(moved, *deformation)
    assert verdict.right and repr(verdict).startswith("Right. ")


@pytest.mark.parametrize(
    ("mistake", "hint"),
    [
        (lambda p, n, a, b: p + (b - a)[n], "came from"),
        (lambda p, n, a, b: (a - b)[n], "adds them"),
        (lambda p, n, a, b: (b - a)[n], "sign"),
        (lambda p, n, a, b: a - b, "index with n(p)"),
        (lambda p, n, a, b: p, "Nothing has moved"),
        (lambda p, n, a, b: a[n], "at rest"),
        (lambda p, n, a, b: b[n], "at time t"),
        (lambda p, n, a, b: p[:7], "(7, 3)"),
        (lambda p, n, a, b: p * 2, "numbers"),
        (lambda p, n, a, b: p[:, 0].long(), "(50,)"),
        (lambda p, n, a, b: ..., "your line"),
        (lambda p, n, a, b: None, "your line"),
        (lambda p, n, a, b: "p + d", "str"),
        (lambda p, n, a, b: p.numpy(), "ndarray"),
    ],
)
def test_wrong_answers_to_ray_deformation_get_a_hint(deformation, mistake, hint):
    verdict = exercises.ray_deformation(mistake(*deformation), *deformation)
    assert not verdict.right and hint in verdict.text and repr(verdict).startswith("Not yet. ")


def nbval(folder: Path) -> int:
    """Exit status of nbval on the notebooks of a folder."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--rootdir", str(folder), str(folder)]
    return subprocess.run(command, capture_output=True, timeout=600).returncode


def test_outputs_are_compared_but_for_pictures_and_bars(tmp_path):
    """scripts/run_notebooks.py and notebooks/conftest.py together: a changed number is found, a changed picture is not."""
    source = ("import os\nfrom PIL import Image\nfrom tqdm.auto import tqdm\n"
              "print(sum(tqdm(range(4), leave=False)))\nImage.frombytes('L', (8, 8), os.urandom(64))")  # fmt: skip
    path = tmp_path / "tiny.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), path)
    shutil.copy(ROOT / "notebooks" / "conftest.py", tmp_path)
    runpy.run_path(str(ROOT / "scripts" / "run_notebooks.py"))["run"](path)
    made = nbformat.read(path, as_version=4)
    assert [o.output_type for o in made.cells[0].outputs] == ["stream", "execute_result"]      # no bar, no widget
    assert faults(made) == []
    assert nbval(tmp_path) == 0
    path.write_text(path.read_text().replace('"6\\n"', '"7\\n"'))
    assert nbval(tmp_path) == 1
