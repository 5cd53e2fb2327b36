"""What all checks share: a wrong answer gets a hint, never a traceback."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass
class Verdict:
    """What a check says; a notebook shows `text`."""

    right: bool
    text: str

    def __repr__(self) -> str:
        return ("Right. " if self.right else "Not yet. ") + self.text


def as_tensor(answer: Any) -> Tensor | None:
    """A number, list, array or tensor as a float tensor; None for anything else."""
    if isinstance(answer, Tensor):
        return answer.detach().cpu().float()
    try:
        return torch.from_numpy(np.asarray(answer, dtype=np.float32))
    except (TypeError, ValueError):
        return None


def close(answer: Tensor, expected: Tensor, tolerance: float = 1e-5) -> bool:
    """Whether both are the same but for rounding: within `tolerance`, absolute and relative."""
    return answer.shape == expected.shape and torch.allclose(answer, expected.float(), atol=tolerance, rtol=tolerance)


def compare(
    answer: Any, right: Tensor, mistakes: Mapping[str, Tensor], praise: str, fallback: str, tolerance: float = 1e-5
) -> Verdict:
    """Judge an answer that should be the numbers `right`.

    mistakes: what a typical wrong thought gives, by the hint for it; fallback: the hint for any other numbers of the right
    shape. Never raises, whatever `answer` is.
    """
    if answer is None or answer is ...:
        return Verdict(False, "Put your line in the place of `...`.")
    wanted = f"a tensor of shape {tuple(right.shape)}" if right.ndim else "one number"
    given = as_tensor(answer)
    if given is None:
        return Verdict(False, f"This is a {type(answer).__name__}; {wanted} is wanted.")
    if close(given, right, tolerance):
        return Verdict(True, praise)
    for hint, mistake in mistakes.items():
        if close(given, mistake, tolerance):
            return Verdict(False, hint)
    if given.shape != right.shape:
        return Verdict(False, f"The shape is {tuple(given.shape)}; {wanted} is wanted.")
    return Verdict(False, fallback)
