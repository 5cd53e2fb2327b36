"""python tiny_training.py OUT DEVICES: the generator's three stages and the identity encoder, tiny; all steps logged.

A program of its own, for Lightning Fabric starts a team's other processes by running the same command.
"""

import dataclasses
import functools
import sys
from pathlib import Path

import torch

from nfs_lib.stylenerf import OPEN, Discriminator
from nfs_lib.training import generator, identity, pairs
from nfs_lib.training.team import Team


def shrink(folder: Path) -> None:
    """Small networks, few pictures (kept in `folder`), nothing measured."""
    made = pairs.load_pairs(folder / "pairs", 3, first_seed=77, workers=1)
    generator.load_pairs = lambda *_, **__: made
    generator.OPEN = dataclasses.replace(
        OPEN, field=dataclasses.replace(OPEN.field, hidden=32), n_samples=6, channels=(12, 8, 8)
    )
    generator.Discriminator = lambda: Discriminator(256, (4, 4, 8, 8, 8, 8, 8))
    generator.BATCHES = (2, 2, 2)
    for step, n in (("ray_step", 2), ("patch_step", 2), ("picture_step", 2)):
        setattr(generator, step, functools.partial(getattr(generator, step), batch=n))
    generator.RAY_STEPS = generator.PATCH_STEPS = 0.4
    generator.psnr = lambda *_: 0.0
    identity.PEOPLE, identity.BATCH, identity.run_folder = 6, 4, lambda *_: folder
    identity.measure_identity = lambda *_: {}


if __name__ == "__main__":
    out, team = Path(sys.argv[1]), Team(devices=int(sys.argv[2]), precision="32-true")
    shrink(out.parent)
    for part, steps in ((generator, 50), (identity, 12)):
        if part is identity:  # in float32 its batch norms over eight pictures blow rounding up to 0.1 within 50 steps
            torch.set_default_dtype(torch.float64)
            torch.Tensor.float = torch.Tensor.double
        part.Loop = functools.partial(part.Loop, log_every=1)
        part.train(steps=steps, seed=3, device=team, out=out / part.__name__.split(".")[-1])
