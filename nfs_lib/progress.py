"""One progress bar for the whole kit: shown in a terminal and in a notebook, silent elsewhere."""

import sys
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def progress(steps: Iterable[T], title: str, total: int | None = None, done: int = 0) -> Iterable[T]:
    """Iterate over `steps` with a bar; a tqdm object, so `set_postfix_str` and `write` work.

    total: number of steps, if `len(steps)` doesn't say; done: steps that were finished before.
    """
    from tqdm.auto import tqdm

    shown = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(steps, desc=title, total=total, initial=done, disable=not shown, mininterval=0.5, leave=False)
