"""What does each part of the method buy (paper section 5.5, Table 5)? `nfs ablate`, on held-out people, against the truth.

Every variant differs from its base in one thing. Those that are driven by speech start from the whole method as the paper has
it; those about Eq. 6 and 7 are driven by the true facial actions, so that nothing but the deformation is judged.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfs_lib.audio2exp import speech_to_expression
from nfs_lib.camera import Camera
from nfs_lib.images import to_uint8
from nfs_lib.metrics.backend import load_backend
from nfs_lib.metrics.fid import fid
from nfs_lib.studies import kept
from nfs_lib.studies.cases import PEOPLE_SEED, Clip, Person, clips, person, sway, truth
from nfs_lib.studies.cluster import crew
from nfs_lib.studies.scoring import DIRECTIONS, score, tensor
from nfs_lib.studies.statistics import paired
from nfs_lib.talking_head import Layers, TalkingHead
from nfs_lib.worlds import World, load
from nfs_lib.writing import replacing

SIZES = {"fast": (2, 1, 15), "full": (20, 3, 24)}    # people, sentences each, frames of each sentence


@dataclass(frozen=True)
class Variant:
    """One row: the group that it is listed under, its name, and what is changed, for the voice (options of
    `audio2exp.speech_to_expression`; None: driven by the true facial actions), the deformation (options of `TalkingHead`) and
    the blending."""

    group: str
    name: str
    voice: dict[str, float] | None = field(default_factory=dict)
    deformation: dict[str, Any] = field(default_factory=dict)
    lipaint: bool = True
    mask_frames: int = 7

    @property
    def base(self) -> str:
        """The name of the variant that it is held against."""
        return "the method" if self.voice is not None else "true actions"


VARIANTS = (
    Variant("speech", "the method"),
    Variant("parts", "without LipaintNet", lipaint=False),
    Variant("parts", "no momentum, α_m = 0", {"momentum": 0.0}),
    Variant("parts", "no scale, λ_exp = 1", {"scale": 1.0}),
    Variant("parts", "mask of one frame, n = 1", mask_frames=1),
    *(Variant("momentum", f"α_m = {a:g}", {"momentum": a}) for a in (0.75, 0.9)),
    *(Variant("scale", f"λ_exp = {s:g}", {"scale": s}) for s in (1.25, 2.0)),
    Variant("mask", "n = 15", mask_frames=15),
    Variant("actions", "true actions", None),
    Variant("actions", "true actions, without LipaintNet", None, lipaint=False),
    *(Variant("matching", name, None, {"rule": rule}) for name, rule in (
        ("ray numbers (official code)", "official"), ("6 nearest, weighted", "k-nearest"), ("nearest in 3D", "3d"),
        ("nearest to V_t", "now"))),
    Variant("matching", "every 4th vertex", None, {"stride": 4}),
    Variant("displacement", "2D displacement", None, {"planar": True}),
)


def ablate(profile: str = "full", out: str | Path = "figures", world: str = "open", workers: int | None = None,
           scheduler: str | None = None,
           report: Callable[[str], None] = lambda line: print(line, file=sys.stderr)) -> list[dict[str, Any]]:
    """`nfs ablate`: all VARIANTS on all cases; writes ablation.csv and ablation.png to `out`, returns the rows of the csv.

    profile: "full", 20 people × 3 sentences of 24 frames; "fast", 2 × 1 of 15. What is done is kept under runs/ablation, one
    file a case, so that a run that was stopped goes on where it was. workers, scheduler: who measures (`cluster.crew`); all
    machines must see runs/people. Raises BadInput for another profile, an unusable `out` or cluster.
    """
    people, sentences, frames = kept.size(profile, SIZES, out)
    parts, begin = networks(world), time.monotonic()
    key = kept.key(parts.generator, parts.audio2exp, parts.lipaint, parts.estimator, parts.identity, parts.sync,
                   parts.face_model, about=(VARIANTS, DIRECTIONS))
    inverted, spoken = Path("runs/people").absolute(), clips(sentences, frames)
    inverted.mkdir(parents=True, exist_ok=True)
    seeds = range(PEOPLE_SEED, PEOPLE_SEED + people)
    paths = {(seed, clip.number): Path("runs/ablation") / f"{seed}_{clip.number}_{frames}_{key}.npz"
             for seed in seeds for clip in spoken}
    jobs = {(seed, clip.number): (seed, clip, world, inverted)
            for clip in spoken for seed in seeds    # one sentence, then the next: two workers don't invert the same person
            if not kept.there(paths[seed, clip.number])}
    done = len(paths) - len(jobs)
    with crew(workers, scheduler, world) as each:
        for name, found in each(case, jobs, "ablation"):
            kept.save(paths[name], *found)
            done += 1
            report(f"{done} of {len(paths)} cases, {time.monotonic() - begin:.0f} s")
    rows = table([kept.load(path) for path in paths.values()])
    write(rows, Path(out), f"nfs ablate --profile {profile}", time.monotonic() - begin)
    return rows


@lru_cache(maxsize=1)
def networks(world: str) -> World:
    """A world by its name, loaded once in a process."""
    return load(world)


def case(seed: int, clip: Clip, world: str, folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """`measure`, for the person of a seed, whose inversion is kept in `folder`."""
    parts = networks(world)
    return measure(parts, person(parts, seed, folder=folder), clip)


@torch.no_grad()
def measure(world: World, who: Person, clip: Clip) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One case: {"person", "clip", "scores": variant → column → value}, and each variant's features, those of the truth too."""
    backend, count = load_backend(world), len(clip.heard)
    true = truth(who, clip, torch.from_numpy(who.portrait.pose) + sway(count))
    poses = who.face.pose + sway(count)
    scores: dict[str, dict[str, float]] = {}
    features = {"truth": backend.features(tensor(true.frames)).numpy()}
    cameras = [Camera.from_pose(pose[None]) for pose in poses]
    once: dict[str, list[Any]] = {}                  # what several variants share

    def shared(stage: str, options: Any, make: Callable[[Tensor, Camera], Any], betas: Tensor) -> list[Any]:
        key = f"{stage} {options}"
        if key not in once:
            once[key] = [make(beta[None], camera) for beta, camera in zip(betas, cameras, strict=True)]
        return once[key]

    for v in VARIANTS:
        head = TalkingHead(world, who.inversion, who.face, mask_frames=v.mask_frames, **v.deformation)
        betas = true.betas if v.voice is None else speech_to_expression(
            world.audio2exp, clip.heard, who.face.expression[0], **v.voice)
        deformed = shared("deformed", (v.voice, v.deformation), head.deformed, betas)
        inpainted = shared("inpainted", v.voice, head.inpainted, betas) if v.lipaint else [(None, None)] * count
        layers = [Layers(face, *mouth) for face, mouth in zip(deformed, inpainted, strict=True)]
        made = np.stack([to_uint8(head.compose(one)) for one in layers])
        scores[v.name], features[v.name] = score(made, true, who, clip, world, backend)
    return {"person": who.seed, "clip": clip.number, "scores": scores}, features


def table(done: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per variant and column: mean, the difference from its base, and the 95 % interval of that difference.

    The difference is paired: the same person with the same sentence. People, not clips, are resampled, for clips of one person
    are alike (`statistics.paired`). FID is of all frames of all clips and has no interval.
    """
    rows = []
    people = [case["person"] for case in done]
    seen = {name: np.concatenate([case["arrays"][name] for case in done]) for name in done[0]["arrays"]}
    far = {v.name: fid(seen[v.name], seen["truth"]) for v in VARIANTS}
    for v in VARIANTS:
        for column in DIRECTIONS:
            value, base = (np.array([case["scores"][name][column] for case in done]) for name in (v.name, v.base))
            low, high = paired(value - base, people)
            rows.append({"group": v.group, "variant": v.name, "base": v.base, "metric": column, "value": value.mean(),
                         "difference": (value - base).mean(), "low": low, "high": high, "clips": len(done),
                         "people": len(set(people))})
        rows.append({"group": v.group, "variant": v.name, "base": v.base, "metric": "FID", "value": far[v.name],
                     "difference": far[v.name] - far[v.base], "low": np.nan, "high": np.nan, "clips": len(done),
                     "people": len(set(people))})
    return rows


def write(rows: list[dict[str, Any]], folder: Path, command: str, seconds: float) -> None:
    """ablation.csv and ablation.png in `folder`."""
    from nfs_lib.studies.tables import write_csv
    from nfs_lib.viz.studies import ablation_figure

    write_csv(folder / "ablation.csv", rows, f"{command}, {seconds / 60:.0f} minutes")
    with replacing(folder / "ablation.png") as temporary:
        ablation_figure(rows).savefig(temporary, format="png", dpi=110)
