"""figures/inversion_speed.png: loss against time of PTI, the paper's recipe and the kit's, on held-out portraits.

    python scripts/make_inversion_speed.py [PEOPLE]

Prints the figures of `bench.inversion`. PEOPLE: 10 by default. Each portrait's runs are kept in runs/inversion_speed/, so an
interrupted measurement goes on where it stopped; delete the folder to measure anew.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from nfs_lib import worlds
from nfs_lib.bench.inversion import INVERSION_SEED, Run, compare, summary
from nfs_lib.viz import pti
from nfs_lib.writing import replacing

ROOT = Path(__file__).parents[1]
RUNS, OUT = ROOT / "runs" / "inversion_speed", ROOT / "figures" / "inversion_speed.png"


def both(world: worlds.World, seed: int) -> tuple[Run, Run]:
    """The runs of a portrait, from the file if it is there."""
    path = RUNS / f"{seed}.json"
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(json.dumps([asdict(run) for run in compare(world, seed)]))
    paper, ours = (Run(**run) for run in json.loads(path.read_text()))
    return paper, ours


def main() -> None:
    """Measure, print, draw."""
    RUNS.mkdir(parents=True, exist_ok=True)
    people = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    world = worlds.load("open")
    runs = [both(world, INVERSION_SEED + i) for i in range(people)]
    print(json.dumps(summary(runs), indent=1))
    curves = {"the paper's recipe": [(p.seconds, p.losses) for p, _ in runs], "ours": [(o.seconds, o.losses) for _, o in runs]}
    pti.race(curves, [p.losses[-1] for p, _ in runs]).savefig(OUT, dpi=120)


if __name__ == "__main__":
    main()
