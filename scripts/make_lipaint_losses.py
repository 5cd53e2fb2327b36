"""What LipaintNet's losses ask for, one left out at a time, for notebook 07: searched once, four people, some ten minutes.

    python scripts/make_lipaint_losses.py

To be run anew whenever the generator, the discriminator or the estimator changes.
"""

from pathlib import Path

from nfs_lib import worlds
from nfs_lib.cpu import keep_freed_memory
from nfs_lib.training import lipaint_losses

OUT = Path(__file__).parents[1] / "data" / lipaint_losses.FILE


def main() -> None:
    """Write the study."""
    keep_freed_memory()
    world = worlds.load("open")
    lipaint_losses.search(world, lipaint_losses.people(world)).save(OUT)


if __name__ == "__main__":
    main()
