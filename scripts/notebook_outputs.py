"""What of a cell's output is kept in a notebook, and so what nbval compares; for run_notebooks.py and notebooks/conftest.py.

Pictures, videos and texts are kept. Progress bars aren't. A widget's live view can't be: without a kernel it is a broken
frame, and its number is another one in each run; a line of text takes its place.
"""

from collections.abc import Iterable
from typing import Any

from nbformat import NotebookNode

WIDGET = "application/vnd.jupyter.widget-view+json"
INSTEAD = "(an interactive view: run the notebook to use it)"


def is_bar(output: dict[str, Any]) -> bool:
    """Whether this output is a tqdm bar."""
    return WIDGET in output.get("data", {}) and "%|" in output["data"].get("text/plain", "")


def kept(outputs: Iterable[dict[str, Any]]) -> list[NotebookNode]:
    """The outputs as they are stored. What a live view draws inside itself goes with it: nbclient keeps that apart, nbval
    doesn't."""
    stored = [NotebookNode(output) for output in outputs if not is_bar(output)]
    if any(WIDGET in output.get("data", {}) for output in stored):
        return [NotebookNode(output_type="display_data", metadata={}, data=NotebookNode({"text/plain": INSTEAD}))]
    for output in stored:
        if "image/jpeg" in output.get("data", {}):    # pyplot, where something has imported it, adds a PNG of its own
            output["data"].pop("image/png", None)
    return stored
