"""What the workers of test_scale.py run in the place of the studies' own functions; light, for every worker imports it."""

import os
import signal
import time
from pathlib import Path

import numpy as np


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_once(path: Path, world: str = "open", marks: str = ""):
    """`measured`; the process that has dubbed/clip_01 first is killed."""
    from nfs_lib.studies.measuring import measured

    note(marks, path)
    if path.parent.name == "dubbed" and path.stem == "clip_01" and len(notes(marks, path)) == 1:
        die()
    return measured(path, world)


def made_up(path: Path, world: str = "open", marks: str = ""):
    """No video is read; the process that has the one called "deadly" is killed, the one that has "endless" sleeps."""
    from nfs_lib.framing import Framing
    from nfs_lib.metrics import Lse
    from nfs_lib.studies.measuring import Measured
    from nfs_lib.studies.moments import moments

    note(marks, path)
    if path.stem == "deadly":
        die()
    if path.stem == "endless":
        time.sleep(1000)
    who, rng = np.array([1.0, 0.0]), np.random.default_rng(len(path.stem))
    return Measured(30, Framing(np.eye(3), 5, 5), len(path.stem) / 10, Lse(1.0, 0.2, 0), who, who,
                    moments(rng.normal(size=(30, 4))))


def made_up_case(seed: int, clip, world: str, folder: Path, marks: str = "", variants=(), columns=(), deadly: int = 0):
    """`ablation.case`, nothing animated; the process that has the person `deadly` first is killed."""
    path = Path(f"{seed}_{clip.number}")
    note(marks, path)
    if seed == deadly and len(notes(marks, path)) == 1:
        die()
    rng = np.random.default_rng((seed, clip.number))
    scores = {name: dict(zip(columns, rng.normal(size=len(columns)).tolist(), strict=True)) for name in variants}
    return ({"person": seed, "clip": clip.number, "scores": scores},
            {name: rng.normal(size=(5, 4)) for name in ("truth", *variants)})


def threads() -> set[int]:
    """How many torch and each BLAS use."""
    import torch
    from threadpoolctl import threadpool_info

    return {torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())}


def note(marks: str, path: Path) -> None:
    """Leave a file for this attempt."""
    if marks:
        (Path(marks) / f"{path.parent.name}_{path.stem}_{os.getpid()}").touch()


def notes(marks: str, path: Path) -> list[Path]:
    return list(Path(marks).glob(f"{path.parent.name}_{path.stem}_*"))
