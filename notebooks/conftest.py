"""How nbval compares a notebook with what is committed: text is compared; pictures, videos and progress bars are not."""

from collections.abc import Iterable
from typing import Any

import pytest
from nbval.plugin import IPyNbCell

WIDGET = "application/vnd.jupyter.widget-view+json"


def without_bars(outputs: Iterable[Any]) -> list[Any]:
    """Cell outputs but for tqdm's bars, which `make notebooks` doesn't keep either."""
    return [o for o in outputs if not (WIDGET in o.get("data", {}) and "%|" in o["data"].get("text/plain", ""))]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Set this up for each cell."""
    if isinstance(item, IPyNbCell):
        compare = item.compare_outputs
        item.compare_outputs = lambda now, then, skip=None: compare(without_bars(now), without_bars(then), skip)
        item.parent.skip_compare = (*item.parent.skip_compare, "text/html", "application/vnd.plotly.v1+json")
