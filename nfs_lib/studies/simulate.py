"""Studies of made-up numbers, whose truth is known: how often is an interval or a test right when it says something?

Nothing here is a result about a method. Notebook 10 uses it to show what chance alone does.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import binom, chisquare

from nfs_lib.studies.votes import permutation_test

Z = 1.96                                             # 95 % of a normal distribution lie within so many standard deviations


def differences(people: int, clips: int, alike: float, effect: float = 0.0, studies: int = 1, seed: int = 0
                ) -> Float[np.ndarray, "S P K"]:
    """Paired differences of made-up studies, effect + a_person + e_clip, normal, variance 1 in all.

    alike: the share of the variance that lies between people, 0: clips of one person are no more alike than others, 1: they
    all say the same.
    """
    rng = np.random.default_rng(seed)
    person, clip = rng.standard_normal((studies, people, 1)), rng.standard_normal((studies, people, clips))
    return effect + np.sqrt(alike) * person + np.sqrt(1 - alike) * clip


def interval(values: Float[np.ndarray, "S n"]) -> Float[np.ndarray, "S 2"]:
    """mean ± 1.96 spread / √n of each row: what the bootstrap of `statistics.paired` comes to where a person has one value."""
    half = Z * values.std(1) / np.sqrt(values.shape[1])
    return np.stack([values.mean(1) - half, values.mean(1) + half], 1)


def holds(intervals: Float[np.ndarray, "*S 2"], value: float = 0.0) -> Bool[np.ndarray, "*S"]:
    """Which intervals hold a value."""
    return (intervals[..., 0] <= value) & (value <= intervals[..., 1])


class Coverage(NamedTuple):
    """Share of the studies whose 95 % interval holds the truth, by what was counted as a unit."""

    clips: float
    people: float


def coverage(people: int = 20, clips: int = 3, alike: float = 0.6, studies: int = 2000, seed: int = 0) -> Coverage:
    """How often the interval of `differences` holds the true effect, clips or people being the units."""
    drawn = differences(people, clips, alike, studies=studies, seed=seed)
    return Coverage(*(float(holds(interval(units)).mean()) for units in (drawn.reshape(studies, -1), drawn.mean(2))))


def null_tables(rows: int, columns: int, people: int, studies: int = 1, seed: int = 0
                ) -> tuple[Float[np.ndarray, "S rows columns"], Float[np.ndarray, "S rows columns 2"]]:
    """Tables in which no row does anything: mean differences from the base, and their intervals.

    All rows are held against one and the same base, as in an ablation, so rows of a table go wrong together.
    """
    values = np.random.default_rng(seed).standard_normal((studies, rows + 1, columns, people))
    made = values[:, 1:] - values[:, :1]
    return made.mean(-1), interval(made.reshape(-1, people)).reshape(*made.shape[:-1], 2)


def counts(participants: int, clips: int, weights: Float[np.ndarray, "M"], taste: float, studies: int = 1, seed: int = 0
           ) -> Int[np.ndarray, "S P M"]:
    """Votes for the best of M methods, one for each clip, as `user_study.make_up_ballots` makes them up; taste: the spread of
    the participants' log weights."""
    rng = np.random.default_rng(seed)
    own = weights * np.exp(taste * rng.standard_normal((studies, participants, len(weights))))
    return rng.multinomial(clips, own / own.sum(2, keepdims=True))


def p_values(participants: int = 20, clips: int = 6, methods: int = 3, taste: float = 1.0, studies: int = 200,
             permutations: int = 200, seed: int = 0) -> dict[str, Float[np.ndarray, "S"]]:
    """p of both tests of `votes.analyse` in studies whose participants, taken together, like all methods equally."""
    drawn = counts(participants, clips, np.ones(methods), taste, studies, seed)
    return {"chi-square, each vote a unit": np.asarray(chisquare(drawn.sum(1), axis=1).pvalue),
            "permutation, each participant a unit": np.array([permutation_test(c, permutations, k)
                                                              for k, c in enumerate(drawn)])}


def sign_test(one: Int[np.ndarray, "*S"], other: Int[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
    """Two-sided p where `one` participants prefer the one method and `other` the other, each by a fair coin under the null."""
    return np.minimum(1.0, 2 * binom.cdf(np.minimum(one, other), one + other, 0.5))


def power(participants: int, share: float = 0.6, clips: int = 1, taste: float = 0.0, studies: int = 2000, seed: int = 0
          ) -> float:
    """Share of the studies in which the sign test finds p < 0.05: two methods with the weights share and 1 − share, one vote
    on each clip; a participant counts for the method with more of their votes, and not at all with as many for both."""
    drawn = counts(participants, clips, np.array([share, 1 - share]), taste, studies, seed)
    first, second = drawn[..., 0], drawn[..., 1]
    return float((sign_test((first > second).sum(1), (first < second).sum(1)) < 0.05).mean())
