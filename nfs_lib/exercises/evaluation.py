"""Notebook 09."""

from typing import Any

import torch

from nfs_lib.exercises.common import Verdict, compare


def few_pictures(answer: Any, dimensions: int = 2048, pictures: int = 1000) -> Verdict:
    """What the means alone add to the FID of two sets of so many pictures, features of unit variance.

    answer: anything; right is ``2 · dimensions / pictures``.
    """
    right = 2 * dimensions / pictures
    mistakes = {
        "Both sets come from the same Gaussian, but the FID sees only what was drawn from it.": torch.tensor(0.0),
        "That is one set's mean about the true one. Here two means differ, each with its own error.": torch.tensor(right / 2),
        "That is for one of the directions; every direction of the features adds as much.": torch.tensor(2 / pictures),
        "That is for one of the directions and one of the sets; all of both add up.": torch.tensor(1 / pictures),
        "That is the distance; FID has its square.": torch.tensor(right**0.5),
        "That is what a single picture in each set would give: a mean of n pictures varies by 1/n of that.":
            torch.tensor(2.0 * dimensions),
    }  # fmt: skip
    return compare(answer, torch.tensor(right), mistakes,
                   "And that is without what the covariances add. No method is to blame for any of it.",
                   "How much does the mean of n numbers of variance 1 vary? Then two of them, then all directions.",
                   tolerance=9e-4)  # fmt: skip


def shared_mean(answer: Any, mean: float = 2.0, own: float = 1.0) -> Verdict:
    """Cosine of two strangers' vectors ``m + u`` and ``m + v`` (lengths of m and of u, v as given, all at right angles), as
    they are, and after m was subtracted.

    answer: anything; right is [m² / (m² + u²), 0].
    """
    right = mean**2 / (mean**2 + own**2)
    mistakes = {
        "The first is the dot product; a cosine divides it by the two lengths.": torch.tensor([mean**2, 0.0]),
        "Divide by both lengths, that is by m² + u², not by its root.":
            torch.tensor([mean**2 / (mean**2 + own**2) ** 0.5, 0.0]),
        "The second one is after subtracting m: what is left of two strangers is at a right angle.": torch.tensor([right, 1.0]),
        "The order is the other way round: first as they are.": torch.tensor([0.0, right]),
        "As they are they share m, and so point nearly the same way.": torch.tensor([0.0, 0.0]),
        "Subtracting m changes the second one.": torch.tensor([right, right]),
    }  # fmt: skip
    return compare(answer, torch.tensor([right, 0.0]), mistakes,
                   "Strangers at 0.8: a table of plain cosines near 1 can be about the network, and not about the faces.",
                   "Write both out: (m + u) · (m + v) over the product of their lengths. Which products are 0?",
                   tolerance=0.006)  # fmt: skip


def contrast(answer: Any) -> Verdict:
    """CPBD of a picture whose edges are all 4 pixels wide: with a contrast of 80 grey levels in every block, and with 40.

    answer: anything; right is [0, 1].
    """
    mistakes = {
        "The other way round: in blocks of low contrast, wider edges still count as sharp.": torch.tensor([1.0, 0.0]),
        "The widths stay, but what is noticeable doesn't: it is 5 pixels where the contrast is 50 or less.":
            torch.tensor([0.0, 0.0]),
        "4 pixels are more than 3, which is what is noticeable above a contrast of 50.": torch.tensor([1.0, 1.0]),
        "Those are the chances P for one edge. CPBD counts edges whose P is at most 0.63.":
            1 - torch.exp(-((4 / torch.tensor([3.0, 5.0])) ** 3.6)),
        "The pale picture has edges too; CPBD doesn't become smaller by half.": torch.tensor([0.0, 0.5]),
    }  # fmt: skip
    return compare(answer, torch.tensor([0.0, 1.0]), mistakes,
                   "Nothing became sharper, and the share went from none to all.",
                   "All edges are alike, so each of the two is 0 or 1. Compare 4 with w_JNB.", tolerance=0.006)


def unrelated(answer: Any, moments: int = 46, shift: int = 15) -> Verdict:
    """LSE-D and LSE-C of lips that are at a right angle to every sound, all of length 1.

    answer: anything; right is the distances' minimum and median minus minimum, of ``((n − |k|) √2 + |k|) / n`` over the offsets
    k = −shift … shift.
    """
    zeros = torch.arange(-shift, shift + 1).abs() / moments
    mean = (1 - zeros) * 2**0.5 + zeros
    right = torch.stack([mean.min(), mean.median() - mean.min()])
    mistakes = {
        "That is without the zeros at the edges: at offset k, |k| of the moments meet a row of zeros.":
            torch.tensor([2**0.5, 0.0]),
        "Right for D. C is the median of the 31 mean distances, not D itself, minus D.":
            torch.stack([mean.min(), torch.tensor(0.0)]),
        "Right for D. C takes the median of the 31 mean distances, not the largest.":
            torch.stack([mean.min(), mean.max() - mean.min()]),
        "Right for D. C takes the median of the 31 distances, not their mean.":
            torch.stack([mean.min(), mean.mean() - mean.min()]),
        "Right for D. The median is at |k| = 8: fifteen of the 31 offsets are nearer to 0, and sixteen not.":
            torch.stack([mean.min(), mean[shift + 7] - mean.min()]),
        "That is at offset 0; the smallest distance is at the edges, where most zeros are.":
            torch.stack([mean.max(), mean.median() - mean.min()]),
    }  # fmt: skip
    return compare(answer, right, mistakes, "A confidence above 0, for lips that have nothing to do with the sound.",
                   "At offset k, |k| moments are at distance 1 from zeros, the other n − |k| at √2. Where is that least?",
                   tolerance=0.002)


def flipped(answer: Any, yaw: float = 0.3, pitch: float = -0.1, roll: float = 0.05) -> Verdict:
    """The pose (yaw, pitch, roll) of a picture that is mirrored left to right.

    answer: anything; right is [−yaw, pitch, −roll].
    """
    mistakes = {
        "A head that nods down still nods down in the mirror: pitch stays.": torch.tensor([-yaw, -pitch, -roll]),
        "A head that leans to its left leans to the other side in the mirror: roll changes its sign too.":
            torch.tensor([-yaw, pitch, roll]),
        "That is upside down: top and bottom exchanged.": torch.tensor([yaw, -pitch, -roll]),
        "That is the same pose. Left and right are exchanged.": torch.tensor([yaw, pitch, roll]),
        "Yaw is what changes most: who looked to the left looks to the right.": torch.tensor([yaw, pitch, -roll]),
    }  # fmt: skip
    return compare(answer, torch.tensor([-yaw, pitch, -roll]), mistakes,
                   "`flip.MIRRORED` holds these signs.", "Hold the picture before a mirror: which of the three turns around?",
                   tolerance=1e-4)
