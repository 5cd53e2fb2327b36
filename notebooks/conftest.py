"""How nbval compares a notebook with what is committed, and how it tries the exercises' solutions.

Text is compared; of pictures, videos and interactive views only that they are there. After an exercise the code in the folded
solution below it is run in the same kernel, and the check must call it right.
"""

import re
from collections.abc import Callable

import nbformat
import pytest
from nbval.plugin import IPyNbCell
from notebook_outputs import kept

NOT_COMPARED = ("text/html", "application/vnd.plotly.v1+json")
FOLDED = re.compile(r"<details>.*?```python\n(.*?)```", re.DOTALL)


def solution_of(item: IPyNbCell) -> str | None:
    """The code of the folded solution directly below an exercise, with the exercise's check as its last line."""
    cells = nbformat.read(item.path, as_version=4).cells
    place = [i for i, cell in enumerate(cells) if cell.cell_type == "code"][item.cell_num]
    below = cells[place + 1] if place + 1 < len(cells) else None
    folded = FOLDED.search(below.source) if below and below.cell_type == "markdown" else None
    calls = [line for line in cells[place].source.splitlines() if re.match(r"(check|exercises)\.", line)]
    if not folded or not calls:
        return None
    check = cells[place].source[cells[place].source.rindex(calls[-1]) :]
    return folded[1] + check


def said(item: IPyNbCell, code: str) -> str:
    """Text of what the notebook's kernel answers to this code: its last value, or its error."""
    kernel = item.parent.kernel
    number, answer = kernel.execute_cell_input(code, allow_stdin=False), ""
    kernel.await_reply(number, timeout=600)
    while True:
        message = item.parent.get_kernel_message(timeout=30)
        if message["parent_header"].get("msg_id") != number:
            continue
        content = message["content"]
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            return answer
        answer = content.get("data", {}).get("text/plain", answer)
        if message["msg_type"] == "error":
            answer = f"{content['ename']}: {content['evalue']}"


def then_solution(item: IPyNbCell, run: Callable[[], None], code: str) -> Callable[[], None]:
    """`run`, then the solution."""

    def both() -> None:
        run()
        answer = said(item, code)
        assert answer.startswith("Right. "), f"{item.name}: the folded solution is not right: {answer}\n{code}"

    return both


def pytest_itemcollected(item: pytest.Item) -> None:
    """Set this up for each cell."""
    if isinstance(item, IPyNbCell):
        compare = item.compare_outputs
        item.compare_outputs = lambda now, then, skip=None: compare(kept(now), kept(then), skip)
        item.parent.skip_compare = (*item.parent.skip_compare, *NOT_COMPARED)
        if code := solution_of(item):
            item.runtest = then_solution(item, item.runtest, code)
