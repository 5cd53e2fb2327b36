"""What the ballots of a user study say: shares with intervals, and tests in which a participant is one unit.

Votes of one participant aren't independent: a person who likes one method likes it in every clip. The main test therefore
permutes the methods' names within each participant. The chi-square test against equal shares is given beside it; it holds only
where each participant has cast one vote.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binomtest, chisquare, norm

from nfs_lib.errors import BadInput
from nfs_lib.studies.user_study import MADE_UP, read_ballot

CAUTION = "Votes of one participant aren't independent: permutation test and intervals take the participant as the unit."


class Share(NamedTuple):
    """How often a method was voted best; low, high: 95 % interval of the share."""

    method: str
    votes: int
    share: float
    low: float
    high: float


class Pair(NamedTuple):
    """Participants who voted more for one method than for the other; p of the sign test; p_holm: corrected for all pairs."""

    one: str
    other: str
    for_one: int
    for_other: int
    p: float
    p_holm: float


@dataclass(frozen=True)
class Answer:
    """What the votes on one question say. permutation_p: the main test; chi_square_p: as if all votes were independent."""

    question: str
    participants: int
    votes: int
    shares: list[Share]
    permutation_p: float
    chi_square_p: float
    pairs: list[Pair]


@dataclass(frozen=True)
class Analysis:
    """All questions of a study. title says so where the ballots are made up, and so does every row of `table`."""

    title: str
    made_up: bool
    answers: list[Answer]
    note: str = CAUTION

    def table(self) -> list[dict[str, Any]]:
        """One row per question and method: votes, share and its interval, tests of the question, and what the ballots are."""
        return [
            {"question": a.question, "method": s.method, "votes": s.votes, "of": a.votes, "share %": round(100 * s.share, 1),
             "low %": round(100 * s.low, 1), "high %": round(100 * s.high, 1), "participants": a.participants,
             "permutation p": a.permutation_p, "chi-square p": a.chi_square_p,
             "ballots": MADE_UP if self.made_up else "collected"}
            for a in self.answers
            for s in a.shares
        ]  # fmt: skip

    def pairs(self) -> list[dict[str, Any]]:
        """One row per question and pair of methods."""
        ballots = MADE_UP if self.made_up else "collected"
        return [{"question": a.question, **pair._asdict(), "ballots": ballots} for a in self.answers for pair in a.pairs]


def analyse(folder: str | os.PathLike[str], permutations: int = 10_000, seed: int = 0) -> Analysis:
    """What all ballots of a folder say.

    Raises BadInput where there is no vote, a ballot can't be read, ballots are of different studies (other methods), or made-up
    ballots lie among collected ones.
    """
    folder = Path(folder)
    ballots = {path: read_ballot(path) for path in sorted(folder.glob("ballot_*.csv"))}
    votes = [vote for own in ballots.values() for vote in own]
    if not votes:
        raise BadInput(f"{folder} has no ballot with a vote in it; expected files ballot_CODE.csv")
    if len({vote.made_up for vote in votes}) > 1:
        raise BadInput(f"{folder} has {MADE_UP} among collected ones; move them to a folder of their own")
    methods = sorted(votes[0].order)
    for path, own in ballots.items():
        if any(sorted(vote.order) != methods for vote in own):
            raise BadInput(f"{path} has other methods than {next(iter(ballots))}; analyse one study at a time")
    made_up, answers = votes[0].made_up, []
    for question in dict.fromkeys(vote.question for vote in votes):
        asked = [[v.choice for v in own if v.question == question] for own in ballots.values()]
        counts = np.array([[choices.count(m) for m in methods] for choices in asked if choices])
        names = [Share(m, int(c), *s) for m, c, s in zip(methods, counts.sum(0), shares(counts), strict=True)]
        answers.append(Answer(question, len(counts), int(counts.sum()), names, permutation_test(counts, permutations, seed),
                              float(chisquare(counts.sum(0)).pvalue), sign_tests(counts, methods)))  # fmt: skip
    people = len({vote.participant for vote in votes})
    title = f"User study, {people} participants" + (f": {MADE_UP}, not a result" if made_up else "")
    return Analysis(title, made_up, answers)


def shares(counts: Int[np.ndarray, "P M"], level: float = 0.95) -> list[tuple[float, float, float]]:
    """Each method's share of all votes with its Wilson interval, (share, low, high); counts: votes of P participants.

    The interval counts n_eff = share (1 − share) / variance votes, the variance being that of the share between participants
    (Kish's effective sample size), at least one vote per participant and at most all: participants who always agree with
    themselves count once, independent votes count each.
    """
    people, total = len(counts), int(counts.sum())
    own = counts.sum(1)
    found = []
    for votes in counts.T:
        share = votes.sum() / total
        variance = ((votes - share * own) ** 2).sum() * people / max(1, people - 1) / total**2
        n = float(people) if people == 1 or share in (0, 1) else total if variance == 0 else share * (1 - share) / variance
        n = min(total, max(people, n))
        found.append((float(share), *wilson(share, n, level)))
    return found


def wilson(share: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share of n votes; n need not be whole."""
    z = float(norm.ppf((1 + level) / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def permutation_test(counts: Int[np.ndarray, "P M"], permutations: int = 10_000, seed: int = 0) -> float:
    """p of equal liking on the whole: how often the totals are as unequal when each participant's counts are dealt out anew.

    Under the null hypothesis the methods' names are exchangeable within each participant, who may still prefer one of them. The
    statistic is the sum of squares of the totals; p = (1 + as unequal or more) / (1 + permutations).
    """
    rng = np.random.default_rng(seed)
    observed = int((counts.sum(0) ** 2).sum())
    reached, left = 0, permutations
    while left:
        some = min(left, 1000)
        dealt = rng.permuted(np.broadcast_to(counts, (some, *counts.shape)), axis=2)
        reached += int(((dealt.sum(1) ** 2).sum(1) >= observed).sum())
        left -= some
    return (1 + reached) / (1 + permutations)


def sign_tests(counts: Int[np.ndarray, "P M"], methods: Sequence[str]) -> list[Pair]:
    """Each pair of methods: participants who voted more for the one against those who voted more for the other, without ties;
    p of the two-sided sign test, and corrected by Holm for all pairs."""
    found = []
    for i, j in combinations(range(len(methods)), 2):
        one, other = int((counts[:, i] > counts[:, j]).sum()), int((counts[:, i] < counts[:, j]).sum())
        p = binomtest(one, one + other).pvalue if one + other else 1.0
        found.append((methods[i], methods[j], one, other, float(p)))
    return [Pair(*pair, p) for pair, p in zip(found, holm(np.array([pair[-1] for pair in found])), strict=True)]


def holm(p: Float[np.ndarray, "n"]) -> list[float]:
    """Holm's step-down correction of n p-values, in their order."""
    order = np.argsort(p)
    corrected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    return [float(v) for v in corrected[np.argsort(order)]]
