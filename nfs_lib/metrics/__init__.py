"""What the paper's section 5.3 measures: pictures that look real, identity kept, sharpness, lips in sync."""

from nfs_lib.metrics.backend import Backend, load_backend
from nfs_lib.metrics.cpbd import cpbd, luminance
from nfs_lib.metrics.differences import internal_differences
from nfs_lib.metrics.fid import fid, frechet_distance
from nfs_lib.metrics.identity import IdentityEncoder, csim
from nfs_lib.metrics.sync import Lse, SyncScorer, lse

COLUMNS = {"FID": "↓", "CSIM": "↑", "CPBD": "↑", "LSE-D": "↓", "LSE-C": "↑"}  # of every table, with the better direction

__all__ = [
    "COLUMNS", "Backend", "IdentityEncoder", "Lse", "SyncScorer", "cpbd", "csim", "fid", "frechet_distance",
    "internal_differences", "load_backend", "lse", "luminance",
]
