"""How far apart are two sets of pictures? Fréchet distance between the Gaussians that fit their features (FID)."""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from nfs_lib.errors import BadInput

Matrix = Float[np.ndarray, "D D"]


def frechet_distance(
    mean_a: Float[np.ndarray, " D"], cov_a: Matrix, mean_b: Float[np.ndarray, " D"], cov_b: Matrix
) -> float:
    """‖μa − μb‖² + tr(Σa + Σb − 2 √(Σa Σb)), in float64 (Heusel et al., 2017, Eq. 6).

    The trace of the root is the sum of the singular values of √Σa √Σb, which stays exact where Σ has no full rank (fewer
    pictures than features); no root of a product that isn't symmetric is taken, and nothing is added to any diagonal.
    """
    root_a, root_b = _root(cov_a), _root(cov_b)
    shared = np.linalg.svd(root_a @ root_b, compute_uv=False).sum()
    apart = np.asarray(mean_a, np.float64) - np.asarray(mean_b, np.float64)
    return float(apart @ apart + np.trace(cov_a) + np.trace(cov_b) - 2 * shared)


def fid(features_a: Float[Tensor, "n D"] | Float[np.ndarray, "n D"],
        features_b: Float[Tensor, "m E"] | Float[np.ndarray, "m E"]) -> float:
    """Fréchet distance of two sets of features (n, D) and (m, D), one row per picture; sample covariance (n − 1).

    Few pictures make it larger: compare only figures that were made with as many. Raises BadInput for sets of fewer than
    two pictures, of different D, or with numbers that aren't finite.
    """
    a, b = (np.asarray(f, np.float64) for f in (features_a, features_b))
    if a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise BadInput(f"features of shape {a.shape} and {b.shape} were given; FID needs two rows or more on each side, of "
                       "the same length: give it more pictures, all seen by the same network")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise BadInput("features that aren't finite (NaN or infinity) were given; FID needs numbers: look for broken pictures")
    return frechet_distance(a.mean(0), _covariance(a), b.mean(0), _covariance(b))


def _covariance(features: Float[np.ndarray, "n D"]) -> Matrix:
    return np.atleast_2d(np.cov(features, rowvar=False))


def _root(covariance: Matrix) -> Matrix:
    """The symmetric square root of a positive semidefinite matrix; eigenvalues below 0 are rounding and become 0."""
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
