"""Intervals for the studies' tables."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

RESAMPLES = 10_000


def paired(differences: Float[np.ndarray, "n"], people: Sequence[int], level: float = 0.95, seed: int = 0
           ) -> tuple[float, float]:
    """Bootstrap interval (percentiles) of the mean of paired differences, n clips of the people named.

    Whole people are drawn, with all their clips: clips of one person are alike, and counted singly they would make the interval
    too narrow. NaN for fewer than two people.
    """
    who = np.asarray(people)
    names = np.unique(who)
    if len(names) < 2:
        return float("nan"), float("nan")
    sums = np.array([differences[who == name].sum() for name in names])
    counts = np.array([(who == name).sum() for name in names])
    drawn = np.random.default_rng(seed).integers(0, len(names), (RESAMPLES, len(names)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
