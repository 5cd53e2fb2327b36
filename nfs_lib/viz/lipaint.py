"""Figures of notebook 07: LipaintNet's cycle, its training, what each loss is for, and a slider's function.

Pictures are tensors (3, H, W) or (1, 3, H, W) in [-1, 1], as in `plots`.
"""

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor

from nfs_lib.camera import Camera
from nfs_lib.checks import by_hand
from nfs_lib.face import MorphableModel
from nfs_lib.talking_head import TalkingHead
from nfs_lib.training.lipaint import Cycle
from nfs_lib.viz.play import expression_with
from nfs_lib.viz.plots import LINES, Picture, picture_grid
from nfs_lib.viz.style import COLOURS, Plot, panels, pixels, show, styled

PAPER = {"landmarks": "L_ldm", "coefficients": "L_3DMM", "adversarial": "L_GAN"}
# figure of `lipaint_losses.judge` → its row's name, whether more is better, format
JUDGED = {
    "expression": ("error of β", False, "{:.2f}"),
    "landmarks": ("mouth landmarks (px)", False, "{:.1f}"),
    "csim": ("same person (CSIM)", True, "{:.2f}"),
    "realism": ("D's logit, change", True, "{:+.1f}"),
    "psnr": ("mouth against truth (dB)", True, "{:.1f}"),
}


def _crop(axes, picture: Picture, rows: slice, columns: slice, title: str = "") -> None:
    show(axes, picture, title)
    axes.set(xlim=(columns.start, columns.stop), ylim=(rows.stop, rows.start))


def _outline(axes, points: Float[Tensor, "68 2"], colour: str, name: str) -> None:
    for number, (first, last, closed) in enumerate(LINES):
        line = points[[*range(first, last + 1), *([first] if closed else [])]].numpy()
        axes.plot(*line.T, color=colour, linewidth=1.2, label=name if not number else None)


@styled
def cycle(turn: Cycle, model: MorphableModel, person: int = 0, strongest: int = 7) -> Plot:
    """One turn of the self-supervised cycle: the picture of w and what is read off it, the β that is asked for instead, the
    picture of w_exp and what is read off that; the landmarks that L_ldm compares lie on both.
    """
    one = slice(person, person + 1)
    read, wanted, seen = (c.map(lambda v: v[one].cpu()) for c in (turn.read, turn.wanted, turn.seen))
    figure, axes = panels(1, 4, 11, 3.0, widths=[1, 0.62, 1, 0.62])
    side = turn.picture.shape[-1]
    show(axes[0, 0], turn.picture[person].clamp(-1, 1), "G(w), and what is read off it")
    _outline(axes[0, 0], model.project_landmarks(read, side)[0], COLOURS[5], "read")
    show(axes[0, 2], turn.made[person].clamp(-1, 1), "G(w_exp): asked, and read again")
    _outline(axes[0, 2], model.project_landmarks(wanted, side)[0], COLOURS[1], "asked")
    _outline(axes[0, 2], model.project_landmarks(seen, side)[0], COLOURS[5], "read")
    before, asked, after = (c.expression[0].numpy() for c in (read, wanted, seen))
    chosen = np.abs(asked - before).argsort()[-strongest:]
    names = [model.expression_names[i] for i in chosen]
    for axis, bars, colour, title in ((axes[0, 1], before, COLOURS[5], "β: read → asked"),
                                      (axes[0, 3], after, COLOURS[5], "β: asked, read again")):  # fmt: skip
        axis.barh(names, bars[chosen], color=colour, height=0.62, label="read")
        axis.plot(asked[chosen], names, "o", color=COLOURS[1], markersize=5, label="asked")
        axis.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
        lowest = float(np.stack([before, asked, after])[:, chosen].min())
        axis.set(title=title, xlabel="strength", xlim=(min(-0.1, lowest - 0.05), 1.25))
        axis.tick_params(axis="y", labelsize=7)
    axes[0, 3].legend(loc="upper center", bbox_to_anchor=(0.35, -0.2), ncols=2, columnspacing=0.8, handletextpad=0.3)
    return figure


class LiveCurves:
    """Collects each step's losses (give it as `on_step`) and draws them; live: also while the training runs.

    A live figure is redrawn every `every` steps in a notebook's cell.
    """

    def __init__(self, live: bool = False, every: int = 25) -> None:
        self.live, self.every = live, every
        self.values: dict[str, list[tuple[int, float]]] = {}
        self._handle = None

    def __call__(self, step: int, figures: Mapping[str, float]) -> None:
        """Take in one step's losses."""
        for name, value in figures.items():
            self.values.setdefault(name, []).append((step, value))
        if self.live and (step + 1) % self.every == 0:
            self._redraw()

    def _redraw(self) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(self.figure(), display_id=True)
        else:
            self._handle.update(self.figure())

    @styled
    def figure(self) -> Plot:
        """The warm start's loss on the left, the paper's three on the right, step by step; thick: mean of the last ten."""
        figure, (axes,) = panels(1, 2, 10, 2.9)
        for axis, names in ((axes[0], {"warm_start": "L_warm"}), (axes[1], PAPER)):
            axis.set(yscale="log", xlabel="step", ylabel="loss (before weighting)")
            for (name, label), colour in zip(names.items(), COLOURS, strict=False):
                step, value = np.array(self.values.get(name, np.empty((0, 2)))).T
                mean = np.array([value[max(0, i - 9) : i + 1].mean() for i in range(len(value))])
                axis.plot(step, value, color=colour, alpha=0.3, linewidth=0.9, marker="." if len(step) < 60 else None)
                axis.plot(step, mean, color=colour, linewidth=2, label=label)
        axes[1].xaxis.get_major_locator().set_params(integer=True)
        axes[0].set(title="warm start: distance to the known latent", ylabel="mean squared error of w_exp")
        axes[1].set(title="then the paper's losses, one batch a step")
        axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
        return figure


SHADES = LinearSegmentedColormap.from_list("shades", ["#f3b79a", "#ffffff", "#a6d8c4"])


@styled
def judged(pictures: Mapping[str, Picture], figures: Mapping[str, Mapping[str, float]], first: str) -> Plot:
    """A column for each way of making w_exp: its picture, and below it what `lipaint_losses.judge` found; green is good.

    first: the column that the shades are relative to: green is better than it, orange worse.
    """
    figure, axes = panels(2, len(pictures), 1.36 * len(pictures) + 1.5, 3.45, heights=[1, 0.95])
    for column, (name, picture) in enumerate(pictures.items()):
        top, bottom = axes[:, column]
        show(top, picture)
        top.set_title(name, loc="center", fontsize=8)
        bottom.set(xlim=(0, 1), ylim=(len(JUDGED), 0), xticks=[], yticks=[])
        bottom.spines[:].set_visible(False)
        for row, (key, (label, more, form)) in enumerate(JUDGED.items()):
            value, reference = figures[name][key], figures[first][key]
            spread = max(abs(f[key] - reference) for f in figures.values() if abs(f[key] - reference) < 20) or 1.0
            good = (value - reference) / spread * (1 if more else -1)
            bottom.axhspan(row + 0.04, row + 0.96, color=SHADES(0.5 + 0.5 * max(-1.0, min(1.0, good))))
            bottom.text(0.5, row + 0.5, form.format(value), ha="center", va="center", fontsize=9)
            if column == 0:
                bottom.text(-0.06, row + 0.5, label, ha="right", va="center", fontsize=8)
    figure.suptitle(f"green: better than “{first}”, orange: worse", x=0.01, ha="left", fontsize=9)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    return figure


@styled
def changes(before: Picture, pictures: Mapping[str, Picture], mouth: tuple[slice, slice]) -> Plot:
    """Pictures, and below each where and how far it differs from `before`; the mouth's box is marked, and the mean change
    outside of it, in 8-bit steps, is the lower title."""
    figure, axes = panels(2, len(pictures) + 1, 1.65 * (len(pictures) + 1) + 0.6, 3.75)
    base = pixels(before).astype(float)
    show(axes[0, 0], before, "G(w)")
    axes[1, 0].set_axis_off()
    rows, columns = mouth
    outside = np.ones(base.shape[:2], bool)
    outside[rows, columns] = False
    for column, (name, picture) in enumerate(pictures.items(), 1):
        show(axes[0, column], picture, name)
        difference = np.abs(pixels(picture).astype(float) - base).mean(2)
        drawn = axes[1, column].imshow(difference, vmin=0, vmax=60, cmap="magma", extent=(0, *base.shape[1::-1], 0))
        axes[1, column].set_axis_off()
        axes[1, column].set_title(f"outside the box: {difference[outside].mean():.1f} / 255", fontsize=8)
        x, y = (columns.start, columns.stop), (rows.start, rows.stop)
        axes[1, column].plot([x[0], x[1], x[1], x[0], x[0]], [y[0], y[0], y[1], y[1], y[0]], color="white", linewidth=1)
    figure.colorbar(drawn, ax=axes[1, 0], label="change (of 255)", location="left", shrink=0.9)
    return figure


@styled
def mouth_rows(rows: Mapping[str, Sequence[Picture]], boxes: Sequence[tuple[slice, slice]], tops: Sequence[str] = (),
               notes: Mapping[str, Sequence[str]] | None = None, margin: int = 14) -> Plot:
    """Close-ups of mouths, a row for each way of making them; boxes: the mouth's rows and columns in each column's pictures;
    notes: a line on top of some pictures."""
    figure, axes = panels(len(rows), len(boxes), 1.6 * len(boxes) + 1.0, 1.06 * len(rows) + 0.3)
    half = [max(c.stop - c.start, 1.5 * (r.stop - r.start)) / 2 + margin for r, c in boxes]
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for number, (axis, picture, (r, c), h) in enumerate(zip(line, pictures, boxes, half, strict=True)):
            x, y = round((c.start + c.stop) / 2), round((r.start + r.stop) / 2)
            _crop(axis, picture, slice(y - round(h / 1.5), y + round(h / 1.5)), slice(x - round(h), x + round(h)))
            if note := (notes or {}).get(name, [""] * len(boxes))[number]:
                axis.text(0.03, 0.93, note, transform=axis.transAxes, va="top", fontsize=8, color="white",
                          bbox={"facecolor": "black", "alpha": 0.55, "linewidth": 0, "pad": 1.5})  # fmt: skip
        line[0].text(-0.05, 0.5, name, transform=line[0].transAxes, ha="right", va="center")
    for axis, top in zip(axes[0], tops, strict=False):
        axis.set_title(top)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.03, wspace=0.0, hspace=0.0)
    return figure


def stronger(head: TalkingHead, strength: float) -> TalkingHead:
    """The same head whose LipaintNet goes `strength` times as far: w + strength · (w_exp − w)."""
    net = head.world.lipaint
    world = SimpleNamespace(face_model=head.model, lipaint=lambda w, beta: w + strength * (net(w, beta) - w))
    options = {name: getattr(head, name) for name in ("mask_frames", "rule", "stride", "planar", "blend_rgb")}
    return TalkingHead(world, head.inversion, head.face, **options)  # type: ignore[arg-type]


@by_hand(jaw=(0, 2), smile=(0, 2), pucker=(0, 2), strength=(-5, 5), yaw=(-90, 90))
def paint_mouth(head: TalkingHead, jaw: float = 0.7, smile: float = 0.0, pucker: float = 0.0, strength: float = 1.0,
                yaw: float = 0.0) -> Plot:
    """One expression without LipaintNet, LipaintNet's own picture, and both blended; what a slider calls.

    jaw, smile, pucker: 0 = rest, 1 = full; strength: how far along LipaintNet's way, 1 = Eq. 8; yaw in degrees.
    """
    pose = head.inversion.pose.clone()
    pose[0, 0] = math.radians(yaw)
    camera, beta = Camera.from_pose(pose), expression_with(head, jaw, smile, pucker)
    painting = stronger(head, strength)
    g, inv = head.inversion.generator, head.inversion
    with torch.no_grad():
        blended = painting.frame(beta, camera)
        painting.lipaint = False
        deformed = painting.frame(beta, camera)
        n, w_exp = g.config.n_nerf_ws, painting.world.lipaint(inv.w, beta)
        ws = torch.cat([g.broadcast(w_exp)[:, :n], g.broadcast(inv.w)[:, n:]], 1)
        painted = g(ws, inv.z_bg, camera)[0].clamp(-1, 1)
    tops = ["deformed rays alone", f"LipaintNet × {strength:g}", "blended"]
    return picture_grid([[deformed, painted, blended]], tops, size=2.0)


def riddle(names: Sequence[str]) -> int:
    """Which of the searches `names` the last exercise shows; its check knows what each wrong guess overlooks."""
    return list(names).index("without L_3DMM")
