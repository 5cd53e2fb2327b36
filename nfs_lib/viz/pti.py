"""Figures of the inversion (paper section 4.1), and what measures it from sides that it never saw.

Only the rendered sample portraits can be measured so: their renderer draws the truth from any side.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nfs_lib import portraits
from nfs_lib.camera import HEAD_TO_NERF, Camera
from nfs_lib.checks import by_hand
from nfs_lib.inversion import Inversion
from nfs_lib.measure_generator import as_picture, psnr
from nfs_lib.portraits import Portrait
from nfs_lib.viz.plots import picture_grid
from nfs_lib.viz.style import COLOURS, Plot, panels, show, styled

TURNS = (-20, 0, 20)                                  # degrees; 0 is the input view
Picture = Float[Tensor, "... 3 _ _"]


def turn(degrees: float) -> Float[Tensor, "1 3"]:
    """What to add to a pose to turn the head by `degrees` of yaw, (1, 3) radians."""
    return torch.tensor([[math.radians(degrees), 0.0, 0.0]])


@dataclass
class Views:
    """A sample portrait from several sides, as its renderer draws it.

    pictures: degrees of yaw away from the input's pose → (3, H, W) in [−1, 1].
    """

    truth: Portrait
    pictures: dict[int, Float[Tensor, "3 H W"]]

    @classmethod
    def of(cls, truth: Portrait, turns: Sequence[int] = TURNS) -> "Views":
        """Render the portrait, turned by these degrees from its own pose."""
        return cls(truth, {t: drawn(truth, t) for t in turns})

    @property
    def image(self) -> Float[Tensor, "3 H W"]:
        """The input view, the only one that an inversion may see."""
        return self.pictures[0]

    def scores(self, inversion: Inversion) -> dict[int, float]:
        """PSNR in dB against the truth by degrees: the turn is added to the found pose here, to the true one there."""
        return {t: psnr(inversion.picture(inversion.pose + turn(t))[0], true) for t, true in self.pictures.items()}


def drawn(truth: Portrait, degrees: float) -> Float[Tensor, "3 H W"]:
    """A portrait's truth, turned by `degrees` of yaw from its own pose; (3, H, W) in [−1, 1]."""
    return as_picture(portraits.render(truth.scene, truth.pose + turn(degrees)[0].numpy(), truth.image.shape[0]))


@dataclass
class Watch:
    """An `on_step` for `inversion.project` and `inversion.tune` that measures all views on the way.

    steps: where it measured (counted on through both stages); scores: dB by degrees, one dictionary a measurement; lengths:
    steps of each stage.
    """

    views: Views
    every: int = 5
    steps: list[int] = field(default_factory=list)
    scores: list[dict[int, float]] = field(default_factory=list)
    lengths: dict[str, int] = field(default_factory=dict)

    def __call__(self, stage: str, step: int, steps: int, loss: float, now: Inversion) -> None:
        """Measure the first, the last and every `every`-th step."""
        before = sum(n for name, n in self.lengths.items() if name != stage)
        self.lengths[stage] = steps
        if step in (1, steps) or step % self.every == 0:
            self.steps.append(before + step)
            self.scores.append(self.views.scores(now))

    def save(self, path: Path) -> None:
        """Write what was measured as JSON, dB to two places."""
        scores = {t: [round(s[t], 2) for s in self.scores] for t in self.views.pictures}
        path.write_text(json.dumps({"lengths": self.lengths, "steps": self.steps, "scores": scores}) + "\n")

    @classmethod
    def read(cls, path: Path, views: Views) -> "Watch":
        """What `save` wrote; views: those that it was measured with."""
        about = json.loads(path.read_text())
        columns = {int(t): values for t, values in about["scores"].items()}
        scores = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return cls(views, steps=about["steps"], scores=scores, lengths=about["lengths"])


@styled
def schedule(t: Float[Tensor, "n"], rate: Float[Tensor, "n"], noise: Float[Tensor, "n"]) -> Plot:
    """PTI's two schedules over the share t of all steps: learning rate, and noise on w as a share of the styles' spread."""
    figure, axes = panels(1, 2, 9, 2.3)
    for axis, curve, colour, title, label in (
        (axes[0, 0], rate, COLOURS[0], "the learning rate: careful start, soft landing", "learning rate"),
        (axes[0, 1], noise * 100, COLOURS[1], "the noise on w: look around first, then settle",
         "noise per number\nof w (% of σ_w)"),
    ):  # fmt: skip
        axis.plot(t, curve, color=colour)
        axis.set(title=title, xlabel="t, share of the steps done", ylabel=label, xlim=(0, 1), ylim=(0, None))
    return figure


def gradient(picture: Float[Tensor, "3 H W"]) -> Float[Tensor, "3 H W"]:
    """|differences| between neighbours, across and down together, for the eye: 4 times, −1 where nothing changes."""
    across, down = F.pad(picture.diff(dim=2), (0, 1)).abs(), F.pad(picture.diff(dim=1), (0, 0, 0, 1)).abs()
    return (4 * (across + down) - 1).clamp(-1, 1)


@styled
def loss_terms(made: Sequence[Picture], image: Float[Tensor, "3 H W"]) -> Plot:
    """What `inversion.picture_loss` compares: the picture at every size, (1, 3, r, r) each, and the gradients of the largest.

    Above each made picture stands that term's L1.
    """
    figure, axes = panels(2, len(made) + 1, 6.6, 6.6 / (len(made) + 1) * 2 + 0.45)
    for column, p in zip(axes.T, made, strict=False):
        wanted = F.avg_pool2d(image[None], image.shape[-1] // p.shape[-1])
        show(column[0], wanted, f"{p.shape[-1]} × {p.shape[-1]}")
        show(column[1], p, f"L1 = {(p - wanted).abs().mean():.2f}")
    largest = made[-1][0]
    both = sum(float((largest.diff(dim=d) - image.diff(dim=d)).abs().mean()) for d in (1, 2))
    show(axes[0, -1], gradient(image), "gradients (4 ×)")
    show(axes[1, -1], gradient(largest), f"L1 = {both:.2f}")
    for axis, name in zip(axes[:, 0], ("wanted", "made"), strict=True):
        axis.text(-0.05, 0.5, name, transform=axis.transAxes, ha="right", va="center", rotation=90)
    return figure


def view_name(degrees: float) -> str:
    """What a view is called: "input view", or the degrees away from it."""
    return "input view" if degrees == 0 else f"turned {degrees:+g}°".replace("-", "−")


@styled
def ladder(views: Views, stages: Mapping[str, Inversion], size: float = 1.1) -> Plot:
    """The truth and every stage of an inversion, from all sides, with PSNR (dB) against the truth of that side."""
    rows, columns = len(views.pictures), len(stages) + 1
    figure, axes = panels(rows, columns, size * columns + 0.3, (size + 0.2) * rows)
    for axis, (degrees, true) in zip(axes[:, 0], views.pictures.items(), strict=True):
        show(axis, true)
        axis.text(-0.05, 0.5, view_name(degrees), transform=axis.transAxes, ha="right", va="center", rotation=90)
    axes[0, 0].set_title("truth")
    for column, (name, inversion) in zip(axes.T[1:], stages.items(), strict=True):
        scores = views.scores(inversion)
        for axis, (degrees, score) in zip(column, scores.items(), strict=True):
            show(axis, inversion.picture(inversion.pose + turn(degrees)), f"{score:.1f} dB")
        column[0].set_title(f"{name}\n{scores[min(scores)]:.1f} dB")
    return figure


@styled
def curves(runs: Mapping[str, Watch]) -> Plot:
    """PSNR of every view against the steps of projection and tuning, one panel a run, on one scale."""
    figure, axes = panels(1, len(runs), 5 * len(runs), 2.9)
    values = [v for run in runs.values() for scores in run.scores for v in scores.values()]
    for axis, (title, run) in zip(axes[0], runs.items(), strict=True):
        for degrees, colour in zip(run.scores[0], (COLOURS[2], COLOURS[0], COLOURS[1], *COLOURS[3:]), strict=False):
            axis.plot(run.steps, [s[degrees] for s in run.scores], color=colour, marker="o", markersize=3,
                      linestyle="-" if degrees == 0 else "--", label=view_name(degrees))  # fmt: skip
        end = 0
        for name, length in run.lengths.items():
            axis.axvline(end + 0.5, color="#bbbbbb", linewidth=0.8, zorder=0)
            axis.text(end + 1, max(values) + 1.2, name, color="#555555", fontsize=8, va="top")
            end += length
        axis.set(title=title, xlabel="step", xlim=(0, end + 1), ylim=(min(values) - 1, max(values) + 1.5))
    axes[0, 0].set_ylabel("PSNR against the truth (dB)")
    axes[0, 0].legend(loc="lower right")
    return figure


@torch.no_grad()
def depth_map(inversion: Inversion, unit_mm: float, resolution: int = 64) -> Float[Tensor, "r r"]:
    """How far the surface stands out towards the camera of the inversion's own pose, mm from the head's centre.

    One ray a cell; nan where the volume is more than half transparent. unit_mm: millimetres per head unit.
    """
    g = inversion.generator
    seen = g.render_rays(g.broadcast(inversion.w), inversion.z_bg, Camera.from_pose(inversion.pose), *g.grid(resolution))
    height = (1 - seen.depth) / HEAD_TO_NERF * unit_mm
    return torch.where(seen.alpha > 0.5, height, torch.nan).view(resolution, resolution)


def true_depth(truth: Portrait, unit_mm: float, resolution: int = 64) -> Float[Tensor, "r r"]:
    """The same of the rendered truth: the pixel nearest each cell's centre; nan in the background."""
    step = truth.depth.shape[0] // resolution
    depth = torch.from_numpy(truth.depth)[step // 2 :: step, step // 2 :: step]
    return torch.where(depth > 0, (1 - depth) / HEAD_TO_NERF * unit_mm, torch.nan)


def depth_error(made: Float[Tensor, "r r"], true: Float[Tensor, "r r"]) -> float:
    """Mean |difference| of two depth maps, mm, where both have a surface."""
    return float((made - true).abs().nanmean())


@styled
def geometry(truth: Portrait, runs: Mapping[str, Inversion], unit_mm: float) -> Plot:
    """Depth maps of the truth and of inversions, each from its own pose, and a cut through all of them at the nose's tip."""
    true = true_depth(truth, unit_mm)
    made = {name: depth_map(inversion, unit_mm, len(true)) for name, inversion in runs.items()}
    maps = {"truth": true, **made}
    figure, axes = panels(1, len(maps) + 1, 10, 2.75, widths=[1] * len(maps) + [1.5])
    size, cut = truth.image.shape[0], axes[0, -1]
    row = float(truth.landmarks[30, 1])
    low, high = (float(np.nanpercentile(true.numpy(), q)) for q in (2, 99.8))
    for axis, colour, (name, depth) in zip(axes[0], ("black", *COLOURS), maps.items(), strict=False):
        drawn_map = axis.imshow(depth.numpy(), cmap="viridis", vmin=low, vmax=high, extent=(0, size, size, 0))
        axis.axhline(row, color=colour, linewidth=1.2)
        axis.set_axis_off()
        axis.set_title(name if name == "truth" else f"{name}\noff by {depth_error(depth, true):.1f} mm")
        line = depth[int(row * len(depth) / size)].numpy()
        cut.plot((np.arange(len(line)) + 0.5) * size / len(line), line, color=colour, label=name)
    figure.colorbar(drawn_map, ax=axes[0, : len(maps)].tolist(), label="towards you (mm)", location="left", shrink=0.8)
    cut.set(title="a cut through the nose's tip, from above", xlabel="pixel", ylabel="towards you (mm)",
            xlim=(0.15 * size, 0.85 * size))  # fmt: skip
    cut.legend(loc="lower center")
    return figure


@by_hand(yaw=(-90, 90))
def beside_truth(truth: Portrait, runs: Mapping[str, Inversion], yaw: float = 0.0) -> Plot:
    """The truth and inversions of it, all turned by `yaw` degrees from the input's pose, with PSNR; what a slider calls."""
    true = drawn(truth, yaw)
    made = {name: inversion.picture(inversion.pose + turn(yaw))[0] for name, inversion in runs.items()}
    titles = [f"{name}, {psnr(picture, true):.1f} dB" for name, picture in made.items()]
    return picture_grid([[true, *made.values()]], [f"truth, {view_name(yaw)}", *titles], size=1.9)


@styled
def race(recipes: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]], ends: Sequence[float]) -> Plot:
    """Loss against time of several recipes on the same portraits: a line a portrait, a dot where it first reaches its end.

    recipes: name → (seconds, losses) of each portrait; ends: the loss that is to be reached, one a portrait. Losses are drawn
    as multiples of it.
    """
    figure, axes = panels(1, 1, 6.6, 3.0)
    axis = axes[0, 0]
    axis.axhline(1, color="#bbbbbb", linewidth=0.8, zorder=0)
    for (name, curves), colour in zip(recipes.items(), COLOURS, strict=False):
        for (seconds, losses), end in zip(curves, ends, strict=True):
            at, share = np.array(seconds), np.array(losses) / end
            axis.plot(at, share, color=colour, linewidth=0.9, alpha=0.7, label=name)
            axis.plot(at[share <= 1][:1], share[share <= 1][:1], "o", color=colour, markersize=4)
            name = ""
    axis.set(xlabel="seconds", ylabel="loss ÷ the loss to be reached", yscale="log", xlim=(0, None))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")
    axis.legend()
    return figure
