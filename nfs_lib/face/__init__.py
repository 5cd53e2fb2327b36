"""The 3D morphable face model, its estimator and its fitting (paper section 3.2)."""

from nfs_lib.face.estimator import Estimator
from nfs_lib.face.model import Coefficients, MorphableModel

__all__ = ["Coefficients", "Estimator", "MorphableModel"]
