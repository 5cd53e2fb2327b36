"""Checks for the notebooks' exercises: a wrong answer gets a hint, never a traceback."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass
class Verdict:
    """What a check says; a notebook shows `text`."""

    right: bool
    text: str

    def __repr__(self) -> str:
        return ("Right. " if self.right else "Not yet. ") + self.text


def same(answer: Any, expected: Tensor) -> bool:
    """Whether the answer is this tensor, but for rounding."""
    return answer.shape == expected.shape and torch.allclose(answer.float(), expected, atol=1e-5)


def ray_deformation(
    answer: Any,
    points: Float[Tensor, "P 3"],
    index: Int[Tensor, "P"],
    v_init: Float[Tensor, "V 3"],
    v_t: Float[Tensor, "V 3"],
) -> Verdict:
    """Notebook 00: Eq. 7, ``p' = p + ΔV_t[n(p)]`` with ``ΔV_t = V_init − V_t``.

    answer: anything; right is the (P, 3) tensor of moved samples. index: n(p), the vertex of each sample.
    """
    if answer is None or answer is ...:
        return Verdict(False, "Put your line in the place of `...`.")
    if not isinstance(answer, Tensor):
        return Verdict(False, f"A tensor of shape {tuple(points.shape)} is wanted, this is a {type(answer).__name__}.")
    delta = v_init - v_t
    if same(answer, points + delta[index]):
        return Verdict(True, "The field is asked where each piece of skin was before it moved.")
    mistakes = {
        "That moves the samples along with the skin. The field knows the face at rest only: ask it where the skin came "
        "from.": points - delta[index],
        "These are the ways alone; Eq. 7 adds them to the samples.": delta[index],
        "The sign is the other way round, and the samples themselves are missing.": -delta[index],
        "This is the way of each vertex. A sample takes the way of *its* vertex: index with n(p).": delta,
        "This is the way of each vertex, backwards. A sample takes the way of *its* vertex: index with n(p).": -delta,
        "Nothing has moved.": points,
        "These are the samples' vertices at rest; Eq. 7 moves the samples themselves.": v_init[index],
        "These are the samples' vertices at time t; Eq. 7 moves the samples themselves.": v_t[index],
    }
    for hint, mistake in mistakes.items():
        if same(answer, mistake):
            return Verdict(False, hint)
    if answer.shape != points.shape:
        return Verdict(False, f"The shape is {tuple(answer.shape)}, it should be {tuple(points.shape)}: one moved point "
                              "for each sample.")  # fmt: skip
    return Verdict(False, "The shape is right, the numbers aren't. Which vertex does sample 0 belong to, and how far did that "
                          "vertex move?")  # fmt: skip
