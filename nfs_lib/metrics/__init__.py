"""What the paper's section 5.3 measures: identity kept, lips in sync."""

from nfs_lib.metrics.identity import IdentityEncoder, csim
from nfs_lib.metrics.sync import Lse, SyncScorer, lse

__all__ = ["IdentityEncoder", "Lse", "SyncScorer", "csim", "lse"]
