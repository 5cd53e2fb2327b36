"""FID of many clips, and how sure it is: what each adds to mean and covariance is kept, so that clips can be drawn anew."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from nfs_lib.metrics.fid import frechet_distance

RESAMPLES, LEVEL, SEED = 1000, 0.95, 0
STRONGEST = 64                                       # directions of the features in which FID is drawn anew


class Moments(NamedTuple):
    """What FID needs of a clip: number of frames, mean (D,) and root (k, D), k ≤ D, rootᵀ root = Σ (x − mean)(x − mean)ᵀ."""

    frames: int
    mean: Float[np.ndarray, " D"]
    root: Float[np.ndarray, "k D"]


def moments(features: Float[np.ndarray, "n D"]) -> Moments:
    """Of features, one row a frame."""
    mean = features.mean(0, dtype=np.float64)
    return Moments(len(features), mean, (features - mean).astype(np.float32))


def join(a: Moments, b: Moments) -> Moments:
    """Of two pieces of a clip together (Chan et al., 1979); a root of more than D rows is made D × D, which loses nothing."""
    count, apart = a.frames + b.frames, b.mean - a.mean
    root = np.concatenate([a.root, b.root, np.sqrt(a.frames * b.frames / count) * apart[None]]).astype(np.float64)
    if len(root) > root.shape[1]:
        root = np.asarray(np.linalg.qr(root, mode="r"))
    return Moments(count, a.mean + apart * (b.frames / count), root.astype(np.float32))


def gaussian(clips: Sequence[Moments]) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, "D D"]]:
    """Mean and sample covariance of all frames of the clips."""
    count = sum(c.frames for c in clips)
    mean = np.array([c.frames for c in clips]) @ np.stack([c.mean for c in clips]) / count
    scatter = np.zeros((len(mean), len(mean)))
    for c in clips:
        root = c.root.astype(np.float64)
        scatter += root.T @ root + c.frames * np.outer(c.mean - mean, c.mean - mean)
    return mean, scatter / (count - 1)


def draws(clips: int) -> Int[np.ndarray, "R C"]:
    """How often each of so many clips is taken, in RESAMPLES draws of as many with replacement; the same at every call."""
    return np.random.default_rng(SEED).multinomial(clips, np.full(clips, 1 / clips), RESAMPLES)


def middle(values: Float[np.ndarray, " R"]) -> tuple[float, float]:
    """Between which ends 95 % of the values lie."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean_interval(values: Float[np.ndarray, " C"]) -> tuple[float, float, float]:
    """Mean over clips and its bootstrap interval (percentiles); NaN for what too few clips don't give."""
    if len(values) < 2:
        return float(values.sum()) if len(values) else np.nan, np.nan, np.nan
    return float(values.mean()), *middle(draws(len(values)) @ values / len(values))


def fid_interval(ours: Sequence[Moments], true: Sequence[Moments]) -> tuple[float, float, float]:
    """FID of all frames of the clips, and its interval when clips are drawn anew, the same ones on both sides.

    A draw repeats clips, which makes every FID that is drawn larger than the value; so the interval is their spread about their
    median, laid around the value. Only the STRONGEST directions of the features are drawn anew, which hold nearly all of their
    variance. NaN for what too few clips don't give.
    """
    if not ours:
        return np.nan, np.nan, np.nan
    (mean_a, cov_a), (mean_b, cov_b) = gaussian(ours), gaussian(true)
    value = max(0.0, frechet_distance(mean_a, cov_a, mean_b, cov_b))
    if len(ours) < 2:
        return value, np.nan, np.nan
    apart = mean_a - mean_b
    basis = np.linalg.eigh(cov_a + cov_b + np.outer(apart, apart))[1][:, -STRONGEST:]
    a, b = _Reduced(ours, basis), _Reduced(true, basis)
    again = np.array([frechet_distance(*a.gaussian(draw), *b.gaussian(draw)) for draw in draws(len(ours))])
    low, high = middle(again - np.median(again))
    return value, max(0.0, value + low), value + high


class _Reduced:
    """Counts (C,), means (C, r) and scatters (C, r, r) of clips along the r directions of a basis."""

    def __init__(self, clips: Sequence[Moments], basis: Float[np.ndarray, "D r"]) -> None:
        self.counts = np.array([c.frames for c in clips])
        self.means = np.stack([c.mean @ basis for c in clips])
        self.scatters = np.stack([(root := c.root @ basis).T @ root for c in clips])

    def gaussian(self, draw: Int[np.ndarray, " C"]) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, "r r"]]:
        """Mean and covariance where clip c is taken draw[c] times."""
        weights = self.counts * draw
        mean = weights @ self.means / weights.sum()
        apart = self.means - mean
        return mean, (np.tensordot(draw, self.scatters, 1) + (apart.T * weights) @ apart) / (weights.sum() - 1)
