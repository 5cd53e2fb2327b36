"""Run the notebooks from top to bottom and write them back with their outputs: `make notebooks`.

    python scripts/run_notebooks.py [NOTEBOOK ...]

Without names: all in notebooks/. They run in the profile "fast", which is what the tests compare with. A second run changes
nothing: a cell with the tag "measured", which shows seconds, keeps its old picture for as long as its code stays the same, and
a video for as long as its picture and sound do (the signature of its manifest is new each time).
"""

import base64
import copy
import hashlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from notebook_outputs import kept

from nfs_lib.errors import NfsError
from nfs_lib.writing import replacing

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def fingerprint(source: str) -> str:
    """A few letters that change with the code."""
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def keep_measurement(cell: nbformat.NotebookNode, before: nbformat.NotebookNode) -> None:
    """Give a cell that shows seconds its old outputs, if its code is that which made them."""
    if "measured" in cell.metadata.get("tags", []):
        if before.metadata.get("made_from") == fingerprint(cell.source):
            cell.outputs = before.outputs
        cell.metadata["made_from"] = fingerprint(cell.source)


def keep_videos(cell: nbformat.NotebookNode, before: nbformat.NotebookNode) -> None:
    """Give a cell its old outputs, if all that is new in them is the manifest of a video."""
    if [without_manifest(output) for output in cell.outputs] == [without_manifest(output) for output in before.outputs]:
        cell.outputs = before.outputs


def without_manifest(output: nbformat.NotebookNode) -> str:
    """An output with its videos' packets in the place of the videos."""

    def packets(found: re.Match[str]) -> str:
        mp4, at, kept = base64.b64decode(found[1]), 0, b""
        while at < len(mp4):
            size = max(8, int.from_bytes(mp4[at : at + 4], "big"))
            kept += mp4[at : at + size] if mp4[at + 4 : at + 8] == b"mdat" else b""
            at += size
        return fingerprint(repr(kept))

    return re.sub(r"data:video/mp4;base64,([\w+/=]+)", packets, json.dumps(output, sort_keys=True))


class Client(NotebookClient):
    """Without nbclient's stand-in for a browser's widgets: what it sends to the kernel can swallow the kernel's answer, so that
    a cell with sliders waits for ever (seen on a busy machine); and what it keeps isn't stored anyway (`kept`)."""

    def handle_comm_msg(self, outs: list[nbformat.NotebookNode], msg: dict[str, Any], cell_index: int) -> None:
        """Nothing."""


def run(path: Path) -> None:
    """Execute one notebook; it is written only if no cell fails."""
    notebook = nbformat.read(path, as_version=4)
    before = copy.deepcopy(notebook)
    client = Client(notebook, timeout=1800, kernel_name="python3", record_timing=False, coalesce_streams=True,
                    resources={"metadata": {"path": str(path.parent)}})  # fmt: skip
    try:
        client.execute()
    except Exception:
        if hasattr(client, "_async_cleanup_kernel_future"):  # Ctrl-C: nbclient ends the kernel, then stumbles over its absence
            raise KeyboardInterrupt from None
        raise
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}, "profile": os.environ["NFS_PROFILE"]}  # fmt: skip
    for number, (cell, old) in enumerate(zip(notebook.cells, before.cells, strict=True)):
        cell.id = f"cell-{number:02d}"
        if cell.cell_type == "code":
            cell.outputs = kept(cell.outputs)
            keep_measurement(cell, old)
            keep_videos(cell, old)
            cell.metadata.pop("execution", None)
    with replacing(path) as temporary:
        nbformat.write(notebook, temporary)
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    os.environ["NFS_PROFILE"] = "fast"
    os.environ["OMP_NUM_THREADS"] = "1"  # with several, sums come in another order each time, and a fit ends a grey level off
    try:
        for chosen in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(NOTEBOOKS.glob("[!.]*.ipynb")):
            run(chosen.resolve())
    except NfsError as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        print("stopped; the notebook that ran is as it was before", file=sys.stderr)
        sys.exit(130)
