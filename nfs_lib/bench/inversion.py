"""PTI in the open world against the paper's recipe: seconds to the loss at which the paper's recipe ends.

The paper's recipe is written out here, with the picture loss of `inversion.tune` in LPIPS's place, so that the losses can be
compared: w starts at the mean, 1000 steps of projection (the ramped rate, the fading noise), then 1000 of tuning all parameters
(Adam, 3e-4); the pose stays what the fit says. Ours is what `portrait.ready` does, the fit that it starts from included.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import radians

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nfs_lib import inversion as ours
from nfs_lib import portraits, pti
from nfs_lib.cpu import keep_freed_memory
from nfs_lib.face import fitting
from nfs_lib.inversion import Inversion, OnStep
from nfs_lib.measure import INVERSION_SEED
from nfs_lib.measure_generator import as_picture, psnr
from nfs_lib.portraits import Portrait
from nfs_lib.progress import progress
from nfs_lib.stylenerf import Generator
from nfs_lib.worlds import World, load

PAPER_STEPS = (1000, 1000)  # of projection and of tuning (paper section 4.1)
EVERY = 10  # steps between two looks at the loss


@dataclass
class Watch:
    """An `OnStep` that notes how the tuning loss falls with time; its own time doesn't count.

    seconds, losses: one a look; the loss is `inversion.tuning_loss` of where the inversion stands: no noise, full precision.
    spent: seconds of work before the first step.
    """

    image: Float[Tensor, "3 H W"]
    spent: float = 0.0
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    since: float = field(default_factory=time.perf_counter)

    @torch.no_grad()
    def __call__(self, stage: str, step: int, steps: int, loss: float, now: Inversion) -> None:
        """Look at the first, the last and every `EVERY`-th step."""
        self.spent += time.perf_counter() - self.since
        if step in (1, steps) or step % EVERY == 0:
            pictures = ours.pictures_of(now.generator, now.w, now.z_bg, now.pose)
            self.seconds.append(self.spent)
            self.losses.append(ours.tuning_loss(pictures, self.image[None]).item())
        self.since = time.perf_counter()


@dataclass
class Run:
    """One inversion of one portrait: its curve (`Watch`); dB of the input view, and of the views turned by ±20° (mean)."""

    seconds: list[float]
    losses: list[float]
    psnr: float
    novel_psnr: float

    def seconds_to(self, loss: float) -> float:
        """When the loss was first no larger; infinity if it never was."""
        return next((t for t, value in zip(self.seconds, self.losses, strict=True) if value <= loss), float("inf"))


def paper_recipe(
    generator: Generator,
    image: Float[Tensor, "3 H W"],
    pose: Float[Tensor, "1 3"],
    *,
    steps: tuple[int, int] = PAPER_STEPS,
    seed: int = 0,
    on_step: OnStep,
) -> Inversion:
    """PTI as the paper runs it, step by step; the pose (radians) is fixed. Arguments as in `inversion.invert`."""
    rng = torch.Generator().manual_seed(seed)
    frozen, tuned = ours.frozen_copy(generator), copy.deepcopy(generator).eval().requires_grad_(True)
    mean, spread = pti.style_statistics(frozen.mapping, generator.config.z_dim)
    w, z_bg = mean.clone().requires_grad_(), pti.draw(generator.config.z_bg_dim, rng).requires_grad_()
    optimiser = torch.optim.Adam([w, z_bg])
    for step in progress(range(steps[0]), "the paper's projection"):
        t = step / steps[0]
        for group in optimiser.param_groups:
            group["lr"] = ours.learning_rate(t)
        moved = w + torch.randn(w.shape, generator=rng) * (spread * ours.style_noise(t))
        loss = ours.picture_loss(ours.pictures_of(frozen, moved, z_bg, pose), image[None])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        on_step("project", step + 1, steps[0], loss.item(), Inversion(frozen, w.detach(), z_bg.detach(), pose))
    made = Inversion(tuned, w.detach(), z_bg.detach(), pose)
    optimiser = torch.optim.Adam(tuned.parameters(), lr=3e-4)
    for step in progress(range(steps[1]), "the paper's tuning"):
        loss = ours.tuning_loss(ours.pictures_of(tuned, made.w, made.z_bg, pose), image[None])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        on_step("tune", step + 1, steps[1], loss.item(), made)
    return made


def watched(truth: Portrait, invert: Callable[[OnStep], Inversion], before: float = 0.0) -> Run:
    """Run an inversion of a rendered portrait; before: seconds of what had to come first."""
    watch = Watch(as_picture(truth), before)
    made = invert(watch)
    novel = []
    for yaw in (-20, 20):
        turn = np.array([radians(yaw), 0, 0], np.float32)
        true = as_picture(portraits.render(truth.scene, truth.pose + turn))
        novel.append(psnr(made.picture(made.pose + torch.from_numpy(turn))[0], true))
    return Run(watch.seconds, watch.losses, psnr(made.picture()[0], watch.image), float(np.mean(novel)))


def compare(world: World, seed: int) -> tuple[Run, Run]:
    """The paper's recipe and ours on the portrait of a seed. Both get the fitted pose; only ours pays for the fit."""
    keep_freed_memory()
    truth = portraits.portrait(seed)
    image = as_picture(truth)
    begin = time.perf_counter()
    face = fitting.fit(world.face_model, world.estimator, image[None])
    start = world.first_latent(face)
    before = time.perf_counter() - begin
    g = world.generator
    paper = watched(truth, lambda on_step: paper_recipe(g, image, face.pose, on_step=on_step))
    mine = watched(truth, lambda on_step: ours.invert(g, image, face.pose, start=start, on_step=on_step), before)
    return paper, mine


def inversion(people: int = 10) -> dict[str, float]:
    """Both recipes, one portrait after the other, on held-out people.

    ratio: seconds of the paper's recipe ÷ seconds of ours to the paper's last loss, median (0 for a portrait where ours never
    gets there); reached: the share of portraits where it does; seconds_paper, seconds_ours: to that loss, or to the end where
    it isn't reached, medians; psnr_…: the input view (dB); novel_psnr_…: turned by ±20° from there, against the rendered truth;
    loss_…: at the end; means.
    """
    world = load("open")
    runs = [compare(world, INVERSION_SEED + i) for i in progress(range(people), "portraits")]
    return summary(runs)


def summary(runs: list[tuple[Run, Run]]) -> dict[str, float]:
    """The figures of `inversion` from its runs."""
    ends = np.array([paper.seconds[-1] for paper, _ in runs])
    reached = np.array([mine.seconds_to(paper.losses[-1]) for paper, mine in runs])
    spent = np.minimum(reached, [mine.seconds[-1] for _, mine in runs])
    figures = {"ratio": float(np.median(ends / reached)), "reached": float(np.isfinite(reached).mean()),
               "seconds_paper": float(np.median(ends)), "seconds_ours": float(np.median(spent))}
    for name, side in (("paper", 0), ("ours", 1)):
        figures |= {f"psnr_{name}": float(np.mean([run[side].psnr for run in runs])),
                    f"novel_psnr_{name}": float(np.mean([run[side].novel_psnr for run in runs])),
                    f"loss_{name}": float(np.mean([run[side].losses[-1] for run in runs]))}
    return figures
