"""Notebook 08."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nfs_lib.exercises.common import Verdict, compare


def soft_mask(answer: Any, fine: Float[Tensor, "R R"], cells: int = 32) -> Verdict:
    """The share of each cell that a fine mask covers.

    answer: anything; right is the (cells, cells) tensor of means over blocks of the fine mask, whose side is a multiple.
    """
    n = len(fine) // cells
    blocks = fine.reshape(cells, n, cells, n)
    right = blocks.mean((1, 3))
    mistakes = {
        "The blocks come out one beside the other: rows and columns of a block are axes 1 and 3.": blocks.mean((0, 2)),
        "This adds up the pixels; the mask is their share, from 0 to 1.": blocks.sum((1, 3)),
        "This takes one pixel from each cell. Cells are then in or out: the seam moves in steps of 8 pixels.":
            fine[::n, ::n],
        # for most outlines these two are the same cells
        "Averaged, then rounded: that mask is hard again, as if the middle pixel decided. Keep the fractions.": right.round(),
        "This takes the middle pixel of each cell. Cells are then in or out: the seam moves in steps of 8 pixels.":
            fine[n // 2 :: n, n // 2 :: n],
        "A cell counts as soon as one pixel is inside. That mask is hard, and too large by half a cell all round.":
            blocks.amax((1, 3)),
        "These are the rows' cells averaged only; average over both axes of a block.": blocks.mean((1, 2)),
    }  # fmt: skip
    return compare(answer, right, mistakes, "Cells that the outline cuts get the share that it covers.",
                   "The shape is right, the numbers aren't: average over the pixels of each cell.")  # fmt: skip


def running_mean(answer: Any, n: int = 7, jump: int = 10, asked: int = 12) -> Verdict:
    """Eq. 13 for a cell whose mask is 0 before frame `jump` and 1 from then on: M̄ in frame `asked`.

    answer: anything; right is the share of the last n frames, the present one included, that lie at or after the jump.
    """
    inside = asked - jump + 1
    mistakes = {
        f"That leaves out the present frame; here the present mask counts too, so {inside} of the last {n} are 1.":
            torch.tensor((inside - 1) / n),
        "The mean doesn't jump with the mask; that is what it is for.": torch.tensor(1.0),
        f"Only the last {n} masks count, not all since the start.": torch.tensor(inside / (asked + 1)),
        "This is how many of the last masks are 1; the mean divides by how many there are.": torch.tensor(float(inside)),
    }  # fmt: skip
    return compare(answer, torch.tensor(inside / n), mistakes,
                   f"So a seam takes {n} frames, {n / 25:.2f} s, to follow a mouth that has jumped.",
                   f"Write down the masks of the last {n} frames, {asked} included, and average.", tolerance=0.01)  # fmt: skip


def carried_over(
    answer: Any, own: Float[Tensor, "E"], driver: Float[Tensor, "T E"], driver_rest: Float[Tensor, "E"]
) -> Verdict:
    """``β_t = β_own + (β_t^driver − β_rest^driver)``.

    answer: anything; right is (T, E).
    """
    mistakes = {
        "That is the driver's own face, with whatever the estimator always reads into it. Take its rest away first.": driver,
        "That is the driver's change alone; the portrait has an expression of its own at rest.": driver - driver_rest,
        "The driver's rest is still in it: where the driver does nothing, the portrait should look as it does by itself.":
            own + driver,
        "That takes the first frame for the driver's rest; use `driver_rest`.": own + driver - driver[0],
        "That takes the mean of all frames for the driver's rest; use `driver_rest`.": own + driver - driver.mean(0),
        "Rest and portrait are exchanged: add the portrait's own, take away the driver's rest.": driver + driver_rest - own,
        "The signs are the other way round.": driver_rest - driver - own,
        "The driver's change has the wrong sign: where the driver opens, the portrait shuts.": own - (driver - driver_rest),
        "That replaces the portrait's expression by itself in every frame: nothing moves.": own.expand_as(driver),
    }  # fmt: skip
    return compare(answer, own + driver - driver_rest, mistakes,
                   "Where the driver rests the portrait looks like itself; what moves is the driver's.",
                   "The shape is right, the numbers aren't. What should the portrait do while the driver rests?")  # fmt: skip


def delay(answer: Any, samples: int = 1024, rate: int = 48_000) -> Verdict:
    """How late, in milliseconds, sound is that begins with so many samples of silence.

    answer: anything; right is ``1000 · samples / rate``.
    """
    right = 1000 * samples / rate
    mistakes = {
        "That is in seconds.": torch.tensor(right / 1000),
        "That is at 16 kHz, the rate of the kit's arrays; the file has 48 kHz.": torch.tensor(1000 * samples / 16_000),
        "That is the number of such pieces in a second; turn the fraction over.": torch.tensor(rate / samples),
        "That is in frames of the video, 40 ms each.": torch.tensor(right / 40),
    }
    return compare(answer, torch.tensor(right), mistakes, "Half a frame: an encoder's start-up silence is as long as that, so "
                   "files say how much of it a player must skip.",
                   "Samples divided by samples a second gives seconds; times 1000, milliseconds.", tolerance=0.02)  # fmt: skip
