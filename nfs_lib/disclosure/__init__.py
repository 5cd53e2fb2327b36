"""What a video of the kit says of itself: a visible mark, an invisible watermark, a signed manifest; and `nfs inspect`, which
reads them back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Signs:
    """How a video is signed; the watermark and the manifest are never left out.

    mark: whether the visible mark is drawn; certificate: a PEM file with the user's own private key and certificate chain, in
    place of a throwaway test certificate; making: what the manifest says of the model and the inputs (`manifest.making`).
    """

    mark: bool = True
    certificate: Path | None = None
    making: Mapping[str, Any] = field(default_factory=dict)
