"""Run the notebooks from top to bottom and write them back with their outputs.

    python scripts/run_notebooks.py [NOTEBOOK ...]

Without names: all in notebooks/. NFS_PROFILE is "fast" unless it is set. Widget states and progress bars aren't kept.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from nfs_lib.paths import replacing

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"


def is_bar(output: nbformat.NotebookNode) -> bool:
    """Whether this output is a tqdm bar."""
    return WIDGET in output.get("data", {}) and "%|" in output["data"].get("text/plain", "")


def run(path: Path) -> None:
    """Execute one notebook; it is written only if no cell fails."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=1800, kernel_name="python3", record_timing=False, coalesce_streams=True,
                   resources={"metadata": {"path": str(path.parent)}}).execute()  # fmt: skip
    # dropping the widgets' states here, as nbclient fails on sliders with store_widget_state=False
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}}  # fmt: skip
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_bar(output)]
            cell.metadata.pop("execution", None)
    with replacing(path) as temporary:
        nbformat.write(notebook, temporary)
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    os.environ.setdefault("NFS_PROFILE", "fast")
    for chosen in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(NOTEBOOKS.glob("*.ipynb")):
        run(chosen.resolve())
