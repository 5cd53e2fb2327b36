"""Two settings of every notebook and command: "fast" still shows the effect, "full" is what a person should see."""

import os
from typing import TypeVar

from nfs_lib.errors import BadInput

T = TypeVar("T")
PROFILES = ("fast", "full")


def profile() -> str:
    """NFS_PROFILE, "fast" where it isn't set. Raises BadInput for any other word."""
    name = os.environ.get("NFS_PROFILE", "fast")
    if name not in PROFILES:
        raise BadInput(f"NFS_PROFILE is {name!r}; set it to one of: {', '.join(PROFILES)}")
    return name


def pick(fast: T, full: T) -> T:
    """The value for the profile in force."""
    return fast if profile() == "fast" else full
