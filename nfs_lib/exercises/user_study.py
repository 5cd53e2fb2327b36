"""Notebook 10."""

from typing import Any

import torch

from nfs_lib.exercises.common import Verdict, compare


def worth(answer: Any, people: int = 20, clips: tuple[int, int] = (3, 30), alike: float = 0.6) -> Verdict:
    """How many independent clips tell as much as `people` × `clips` of which a share `alike` of the variance is the person's.

    answer: anything; right is ``people K / (1 + (K − 1) alike)`` for both numbers of clips K.
    """
    k = torch.tensor(clips, dtype=torch.float32)
    right = people * k / (1 + (k - 1) * alike)
    mistakes = {
        "That counts every clip, as if those of one person were no more alike than others.": people * k,
        "That counts people only; their clips aren't quite the same, so several tell a little more than one.":
            torch.full((2,), float(people)),
        "That is what both tend to with ever more clips; compute it for the clips that there are.":
            torch.full((2,), people / alike),
        "That is the variance; the number of independent clips with that variance is 1 over it.": 1 / right,
        "That takes the clips' own share of the variance only, and forgets the people's.": people * k / (1 - alike),
        "That takes the share that is not the person's; a share `alike` of the variance is.":
            people * k / (1 + (k - 1) * (1 - alike)),
    }  # fmt: skip
    return compare(answer, right, mistakes, f"{people} people with {clips[1]} clips each are worth {right[1]:.0f} clips, with "
                   f"{clips[0]} each {right[0]:.0f}: ask more people, not the same ones more.",
                   "Set (alike + (1 − alike) / K) / people equal to 1 / n, and solve for n.", tolerance=0.01)  # fmt: skip


def false_alarm(answer: Any, rows: int = 16, level: float = 0.05) -> Verdict:
    """The chance that at least one of so many independent rows without any effect shows p < level.

    answer: anything; right is ``1 − (1 − level)^rows``.
    """
    none = (1 - level) ** rows
    mistakes = {
        "That is how many such rows are to be expected; two at once are possible, so the chance of one or more is smaller.":
            torch.tensor(rows * level),
        "That is the chance that no row does.": torch.tensor(none),
        "That is the chance for a single row.": torch.tensor(level),
        "That is in per cent; give a share from 0 to 1.": torch.tensor(100 * (1 - none)),
        "That is the chance that one named row is quiet.": torch.tensor(1 - level),
    }  # fmt: skip
    return compare(answer, torch.tensor(1 - none), mistakes,
                   "More likely than not: a table of this size needs more than one star to be a finding.",
                   "Begin with the chance that all rows stay quiet.", tolerance=0.006)  # fmt: skip


def padded_distance(answer: Any) -> Verdict:
    """The distance of a unit vector from a row of zeros.

    answer: anything; right is 1.
    """
    mistakes = {
        "That is the distance of two unit vectors at a right angle; here one of the two is zero.": torch.tensor(2.0**0.5),
        "That would be two equal vectors.": torch.tensor(0.0),
        "That is the distance of two opposite unit vectors; zeros have no direction.": torch.tensor(2.0),
    }
    return compare(answer, torch.tensor(1.0), mistakes, "Whatever the lips do: in a short clip LSE-D can't be above it.",
                   "How long is a unit vector?", tolerance=0.01)  # fmt: skip


def first_place(answer: Any, blind: float = 0.3, share: float = 0.6) -> Verdict:
    """A's share of the votes when `blind` of them go to whatever is shown first, and `share` of the others to A, of two
    methods: with A always first, and with the order shuffled.

    answer: anything; right is [blind + (1 − blind) share, blind / 2 + (1 − blind) share].
    """
    seen = (1 - blind) * share
    mistakes = {
        "The order of the two is the other way round: first the fixed order, then the shuffled one.":
            torch.tensor([seen + blind / 2, seen + blind]),
        "Shuffling doesn't make careless voters careful: half of their votes still go to A.":
            torch.tensor([seen + blind, share]),
        "Careless voters vote too, for whatever is first: half of the time that is A.": torch.tensor([seen + blind, seen]),
        "This adds the careless votes to 60 % of all; only the other voters share 60 to 40.":
            torch.tensor([share + blind, share + blind / 2]),
        "That is as if nobody voted carelessly.": torch.tensor([share, share]),
    }  # fmt: skip
    return compare(answer, torch.tensor([seen + blind, seen + blind / 2]), mistakes,
                   "Shuffled, careless votes pull towards equal shares; in a fixed order they make a winner.",
                   "Add up two groups of voters: the careless ones, and the share of A among the others.",
                   tolerance=0.006)  # fmt: skip


def smallest_p(answer: Any, participants: int = 8, votes: int = 6) -> Verdict:
    """p of the permutation test where all participants give all their votes to one and the same of two methods.

    answer: anything; right is ``2 / 2^participants``, all dealings being tried.
    """
    mistakes = {
        "All for the other method would be as unequal: the test is two-sided.": torch.tensor(0.5**participants),
        "That is nearly 0, as if single votes were permuted. A participant's names are exchanged together: a coin for each.":
            torch.tensor(2 * 0.5 ** (participants * votes)),
        "That is the number of dealings; p is the share of those that are as unequal.": torch.tensor(2.0**participants),
    }  # fmt: skip
    return compare(answer, torch.tensor(2 * 0.5**participants), mistakes,
                   f"{participants} people can't say more, however many clips they watch.",
                   "Each participant's two names are exchanged or not. How many dealings are there, how many as unequal?",
                   tolerance=2e-4)  # fmt: skip
