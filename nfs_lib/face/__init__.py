"""The 3D morphable face model, its estimator and its fitting (paper section 3.2)."""

from nfs_lib.face.bfm import Bfm, BfmCoefficients
from nfs_lib.face.estimator import Estimator
from nfs_lib.face.model import Coefficients, MorphableModel
from nfs_lib.face.reconnet import ReconNet

__all__ = ["Bfm", "BfmCoefficients", "Coefficients", "Estimator", "MorphableModel", "ReconNet"]
