"""Does a method keep its quality when the head is turned (paper section 5.3, Table 2)? `nfs flip`.

Three runs of each method on held-out people, against the rendered truth:

- "own": the portrait is taken at yaw ψ, the head speaks at that pose;
- "flipped": the same portrait, the head speaks at the mirrored pose, −ψ: the paper's test; Δ is own − flipped;
- "turned": the portrait is taken from the front, the head speaks at yaw ψ.
"""

import sys
import time
from collections.abc import Callable, Iterator
from math import radians
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nfs_lib.audio2exp import speech_to_expression
from nfs_lib.metrics.backend import load_backend
from nfs_lib.metrics.differences import internal_differences
from nfs_lib.metrics.fid import fid
from nfs_lib.progress import progress
from nfs_lib.studies import kept
from nfs_lib.studies.cases import PEOPLE_SEED, Clip, Person, clips, person, truth
from nfs_lib.studies.scoring import DIRECTIONS, gather, score, tensor
from nfs_lib.studies.statistics import paired
from nfs_lib.talking_head import TalkingHead
from nfs_lib.worlds import World, load
from nfs_lib.writing import replacing

Frames = Iterator[UInt8[np.ndarray, "H W 3"]]
SIZES = {"fast": (2, 10, (0, 30)), "full": (6, 24, (0, 15, 30, 45))}  # people, frames, degrees of yaw
MIRRORED = torch.tensor([-1.0, 1.0, -1.0])           # yaw and roll change their signs
FRONT_SEED = PEOPLE_SEED + 1000                      # not the people of the ablation


def ours(world: World, who: Person, clip: Clip, poses: Float[Tensor, "T 3"]) -> Frames:
    """This kit's talking head."""
    return TalkingHead(world, who.inversion, who.face).frames(_betas(world, who, clip), poses)


def warp(world: World, who: Person, clip: Clip, poses: Float[Tensor, "T 3"]) -> Frames:
    """The portrait warped in the picture's plane by the same face model with the same expressions."""
    from nfs_lib.baselines.warp import warp_frames

    return warp_frames(who.picture, who.face, _betas(world, who, clip), poses, world.face_model)


def wav2lip(world: World, who: Person, clip: Clip, poses: Float[Tensor, "T 3"]) -> Frames:
    """New lips in the portrait as it is: knows nothing of poses."""
    from nfs_lib.baselines.wav2lip import lip_frames

    return lip_frames(world.wav2lip, who.picture, torch.from_numpy(clip.heard))


METHODS: dict[str, Callable[[World, Person, Clip, Float[Tensor, "T 3"]], Frames]] = {
    "ours": ours, "2D warp": warp, "small Wav2Lip": wav2lip}


def _betas(world: World, who: Person, clip: Clip) -> Float[Tensor, "T E"]:
    return speech_to_expression(world.audio2exp, clip.heard, who.face.expression[0])


def flip(profile: str = "full", out: str | Path = "figures", world: str = "open",
         report: Callable[[str], None] = lambda line: print(line, file=sys.stderr)) -> list[dict[str, Any]]:
    """`nfs flip`: METHODS at each yaw, own, flipped and turned; writes flip.csv and flip.png to `out`, returns the csv's rows.

    profile: "full", 6 people at yaw 0, 15, 30 and 45°, a sentence of 24 frames each; "fast", 2 at 0 and 30°, 10 frames. What is
    done is kept under runs/flip. Raises BadInput for another profile or an unusable `out`.
    """
    people, frames, yaws = kept.size(profile, SIZES, out)
    parts, begin = load(world), time.monotonic()
    key = kept.key(parts.generator, parts.audio2exp, parts.lipaint, parts.estimator, parts.identity, parts.sync, parts.wav2lip,
                   parts.face_model, about=(list(METHODS), DIRECTIONS))
    spoken, done = clips(people, frames), []
    for i in progress(range(people), "people"):
        path = Path("runs/flip") / f"{FRONT_SEED + i}_{profile}_{key}.npz"
        if not kept.there(path):
            kept.save(path, *measure(parts, FRONT_SEED + i, spoken[i], yaws))
        done.append(kept.load(path))
        report(f"{len(done)} of {people} people, {time.monotonic() - begin:.0f} s")
    rows = table(done, yaws)
    write(rows, done, Path(out), f"nfs flip --profile {profile}", time.monotonic() - begin)
    return rows


@torch.no_grad()
def measure(world: World, seed: int, clip: Clip, yaws: tuple[int, ...]
            ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One person: {"person", "scores": run → yaw → method → column → value}, and what the figure and FID need, by "run yaw
    method": the features of all frames, and the picture of the middle frame."""
    backend, count, front = load_backend(world), len(clip.heard), person(world, seed, 0.0)
    scores: dict[str, Any] = {"own": {}, "flipped": {}, "turned": {}}
    arrays: dict[str, np.ndarray] = {}
    for yaw in yaws:
        who = front if yaw == 0 else person(world, seed, radians(yaw))
        turned = torch.tensor([radians(yaw), 0.0, 0.0])
        asked = {                                    # who speaks, the true pose, the pose that a method is told
            "own": (who, turned, who.face.pose[0]),
            "flipped": (who, turned * MIRRORED, who.face.pose[0] * MIRRORED),
            "turned": (front, turned, front.face.pose[0] + turned),
        }
        for run, (given, true_pose, told) in asked.items():
            true = truth(given, clip, true_pose.repeat(count, 1))
            arrays[f"{run} {yaw} truth"] = backend.features(tensor(true.frames)).numpy()
            arrays[f"{run} {yaw} truth picture"] = true.frames[count // 2]
            scores[run][str(yaw)] = {}
            for name, method in METHODS.items():
                made = gather(method(world, given, clip, told.repeat(count, 1)))
                scores[run][str(yaw)][name], arrays[f"{run} {yaw} {name}"] = score(made, true, given, clip, world, backend)
                arrays[f"{run} {yaw} {name} picture"] = made[count // 2]
    return {"person": seed, "scores": scores}, arrays


def table(done: list[dict[str, Any]], yaws: tuple[int, ...]) -> list[dict[str, Any]]:
    """Rows run × yaw × method × metric: mean over people and its 95 % interval; for run "Δ" own − flipped
    (`metrics.internal_differences`)."""
    rows, people = [], [case["person"] for case in done]
    for yaw in yaws:
        for method in METHODS:
            means: dict[str, dict[str, float]] = {}
            singles: dict[str, dict[str, np.ndarray]] = {}
            for run in ("own", "flipped", "turned"):
                values = {c: np.array([case["scores"][run][str(yaw)][method][c] for case in done]) for c in DIRECTIONS}
                pools = [np.concatenate([case["arrays"][f"{run} {yaw} {n}"] for case in done]) for n in (method, "truth")]
                singles[run], means[run] = values, {c: float(v.mean()) for c, v in values.items()} | {"FID": fid(*pools)}
            means["Δ"] = internal_differences(means["own"], means["flipped"])
            singles["Δ"] = {c: singles["own"][c] - singles["flipped"][c] for c in DIRECTIONS}
            for run, found in means.items():
                for column, value in found.items():
                    low, high = paired(singles[run][column], people) if column != "FID" else (np.nan, np.nan)
                    rows.append({"run": run, "yaw": yaw, "method": method, "metric": column, "value": value, "low": low,
                                 "high": high, "people": len(done)})
    return rows


def write(rows: list[dict[str, Any]], done: list[dict[str, Any]], folder: Path, command: str, seconds: float) -> None:
    """flip.csv and flip.png in `folder`."""
    from nfs_lib.studies.tables import write_csv
    from nfs_lib.viz.studies import flip_figure

    write_csv(folder / "flip.csv", rows, f"{command}, {seconds / 60:.0f} minutes")
    with replacing(folder / "flip.png") as temporary:
        flip_figure(rows, done[0]["arrays"]).savefig(temporary, format="png", dpi=110)
