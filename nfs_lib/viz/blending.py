"""Figures of notebook 08: masks, their course over time, seams, the upsampler, and heads that follow somebody."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from matplotlib.axes import Axes
from torch import Tensor

from nfs_lib.audio import FPS, SAMPLE_RATE
from nfs_lib.blending import blend, lip_outline, mouth_mask, seam
from nfs_lib.camera import Camera
from nfs_lib.checks import by_hand
from nfs_lib.talking_head import TalkingHead
from nfs_lib.viz.deformation import mouth_crop
from nfs_lib.viz.play import expression_with
from nfs_lib.viz.plots import Picture
from nfs_lib.viz.style import COLOURS, Plot, panels, pixels, show, styled

Numbers = Sequence[float] | Float[Tensor, "T"]


def close_up(axes: Axes, mask: Float[Tensor, "r r"], side: int, margin: float = 1.35) -> None:
    """Limit the view to a square around the mask; side: of the picture drawn there, in pixels."""
    rows, columns = (np.flatnonzero(mask.amax(d).numpy()) * side / len(mask) for d in (1, 0))
    cell = side / len(mask)
    x, y = (columns[0] + columns[-1] + cell) / 2, (rows[0] + rows[-1] + cell) / 2
    half = margin / 2 * max(columns[-1] - columns[0], rows[-1] - rows[0], cell) + cell
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))


@styled
def masks_over(
    picture: Picture, masks: Mapping[str, Float[Tensor, "r r"]], outlines: Sequence[Float[Tensor, "n 2"]] = ()
) -> Plot:
    """Masks by title, each cell as a square over a close-up of the picture; outlines: that of the lips in each, pixels."""
    figure, axes = panels(1, len(masks), 7.6, 6.8 / len(masks) + 0.35)
    side = pixels(picture).shape[0]
    widest = max(masks.values(), key=lambda m: float((m > 0).sum()))
    for k, (axis, (title, mask)) in enumerate(zip(axes[0], masks.items(), strict=True)):
        show(axis, picture, title)
        drawn = axis.imshow(mask.numpy(), cmap="inferno", vmin=0, vmax=1, alpha=0.75 * (mask > 0).float().numpy(),
                            extent=(0, side, side, 0), interpolation="nearest")  # fmt: skip
        if k < len(outlines):
            closed = torch.cat([outlines[k], outlines[k][:1]])
            axis.plot(*closed.T.numpy(), color=COLOURS[5], linewidth=1.8)
        close_up(axis, widest, side)
    figure.colorbar(drawn, ax=axes[0, -1], label="mask M", shrink=0.8)
    return figure


@styled
def closeups(
    pictures: Mapping[str, Picture],
    mask: Float[Tensor, "r r"],
    notes: Sequence[str] = (),
    loud: Sequence[int] = (),
    width: float = 10,
) -> Plot:
    """Pictures by title, close to the mask; notes: a text below each; loud: the numbers of notes to be seen first."""
    count = len(pictures)
    figure, axes = panels(1, count, width, width / count + 0.3 + 0.22 * max([n.count("\n") + 1 for n in notes if n], default=0))
    for k, (axis, (title, picture)) in enumerate(zip(axes[0], pictures.items(), strict=True)):
        show(axis, picture, title)
        close_up(axis, mask, pixels(picture).shape[0])
        if k < len(notes):
            axis.text(0.5, -0.04, notes[k], transform=axis.transAxes, ha="center", va="top", fontsize=9,
                      color=COLOURS[1] if k in loud else "#333333")  # fmt: skip
    return figure


@styled
def slices(rows: Mapping[str, Float[Tensor, "T r"]], columns: tuple[int, int]) -> Plot:
    """x–t pictures: one row of the masks of a clip, frame below frame; columns: the first and last that are shown."""
    figure, axes = panels(1, len(rows), 10, 3.3)
    for axis, (title, values) in zip(axes[0], rows.items(), strict=True):
        axis.tick_params(labelleft=axis is axes[0, 0])
        drawn = axis.imshow(values.numpy(), cmap="inferno", vmin=0, vmax=1, aspect="auto", interpolation="nearest",
                            extent=(0, values.shape[1], len(values) / FPS, 0))  # fmt: skip
        axis.set(title=title, xlim=(columns[0], columns[1] + 1), xlabel="column of the feature map")
    axes[0, 0].set_ylabel("time (s), downwards")
    figure.colorbar(drawn, ax=axes[0, -1], label="mask M")
    return figure


@styled
def trade(frames: Sequence[int], flicker: Mapping[str, Sequence[float]], smear: Mapping[str, Sequence[float]]) -> Plot:
    """Flicker (solid) and smear (dashed) of the mean of n masks, by name of the mask, one panel each, on one scale."""
    figure, axes = panels(1, len(flicker), 10, 3.2)
    top = 1.1 * max(max(values) for values in (*flicker.values(), *smear.values()))
    for axis, name in zip(axes[0], flicker, strict=True):
        axis.plot(frames, flicker[name], "o-", color=COLOURS[0], label="flicker: change by the mask alone")
        axis.plot(frames, smear[name], "s--", color=COLOURS[1], label="smear: mask where the mouth isn't")
        axis.axvline(7, color="#bbbbbb", linewidth=0.8, zorder=0)
        axis.set(title=name, xlabel="masks in the mean, n (grey line: the paper's 7)", ylim=(0, top))
    axes[0, 0].set_ylabel("grey levels, mean over the ring")
    axes[0, -1].legend(loc="upper right")
    return figure


@styled
def reach(change: Float[Tensor, "H W"], cell: tuple[int, int], cells: int) -> Plot:
    """Where a picture changes (grey levels) when one cell of the feature map does; cell: its row and column of `cells`."""
    figure, axes = panels(1, 2, 9, 3.4)
    side = len(change)
    size = side / cells
    middle = (cell[1] + 0.5) * size, (cell[0] + 0.5) * size
    near, profile = axes[0]
    drawn = near.imshow(change.numpy(), cmap="magma", extent=(0, side, side, 0), interpolation="nearest")
    near.plot(middle[0] + size / 2 * np.array([-1, 1, 1, -1, -1]), middle[1] + size / 2 * np.array([-1, -1, 1, 1, -1]),
              color=COLOURS[5], linewidth=1.5)  # fmt: skip
    near.set(xlim=(middle[0] - 4 * size, middle[0] + 4 * size), ylim=(middle[1] + 4 * size, middle[1] - 4 * size),
             title=f"one cell of {cells} × {cells} (blue) moves this much of the picture", xticks=[], yticks=[])  # fmt: skip
    figure.colorbar(drawn, ax=near, label="change (grey levels)")
    row = change[int(middle[1])].numpy()
    profile.axvspan(-0.5, 0.5, color=COLOURS[5], alpha=0.3, linewidth=0, label="the cell itself")
    profile.plot((np.arange(side) + 0.5 - middle[0]) / size, row, color=COLOURS[1], label="change along its middle row")
    profile.set(xlim=(-4, 4), ylim=(0, 1.4 * float(row.max()) or 1.0), xlabel=f"distance (cells of {size:g} pixels)",
                ylabel="grey levels", title="not a block: it reaches 2 to 3 cells to each side")  # fmt: skip
    profile.legend(loc="upper left")
    return figure


@styled
def click(light: Float[np.ndarray, "T"], wave: Float32[np.ndarray, "n"], around: float) -> Plot:
    """Brightness of the frames of a video (each lasts 40 ms) and its sound, `around` this second."""
    figure, axes = panels(2, 1, 8, 2.9, share_x=True)
    seen, heard = axes[:, 0]
    seen.stairs(light, np.arange(len(light) + 1) / FPS, color=COLOURS[4], fill=True)
    seen.set(ylabel="brightness", title="read back: the white frame and the click begin together")
    heard.plot(np.arange(len(wave)) / SAMPLE_RATE, wave, color=COLOURS[0], linewidth=0.7)
    heard.set(ylabel="sound", xlabel="time (s)", xlim=(around - 0.1, around + 0.16))
    for axis in (seen, heard):
        axis.axvline(around, color=COLOURS[1], linewidth=0.9, linestyle="--")
    return figure


@styled
def curves(groups: Mapping[str, Mapping[str, Numbers]], width: float = 9) -> Plot:
    """Courses over time, 25 values a second, a panel for each group, titled "title | label of its axis"."""
    figure, axes = panels(1, len(groups), width, 2.5)
    for axis, (title, named) in zip(axes[0], groups.items(), strict=True):
        heading, _, label = title.partition(" | ")
        for (name, values), colour, line in zip(named.items(), COLOURS, ("-", "--", ":", "-.", "-", "--"), strict=False):
            axis.plot(np.arange(len(values)) / FPS, np.asarray(values), line, color=colour, label=name)
        axis.set(title=heading, ylabel=label, xlabel="time (s)")
        axis.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
        axis.legend(loc="best")
    return figure


# what the sliders call


@torch.no_grad()
@by_hand(jaw=(0, 2), grow=(0, 1), hard=bool, space=["features", "pictures"], rgb=bool)
def play_blend(
    head: TalkingHead, jaw: float = 0.7, grow: float = 0.04, hard: bool = False, space: str = "features", rgb: bool = True
) -> Plot:
    """The mouth with its jaw open this far (1 = full), blended as you say; what a slider calls.

    grow: head units by which the mask is wider than the lips; hard: cells are in or out; space: "features", or "pictures" for
    the two finished ones; rgb: also blend the 32 × 32 RGB.
    """
    g, camera = head.inversion.generator, Camera.from_pose(head.inversion.pose)
    ws, beta = g.broadcast(head.inversion.w), expression_with(head, jaw, 0.0, 0.0)
    layers = head.layers(beta, camera)
    assert layers.inpainted is not None, "there is nothing to blend without LipaintNet"
    points = head.model.landmark_points(head.face.replace(expression=beta))[0]
    mask = mouth_mask(points, camera, g.config.ray_resolution, grow)
    mask = (mask > 0.5).float() if hard else mask
    first, second = (g.upsample(*maps, ws)[0].clamp(-1, 1) for maps in (layers.deformed, layers.inpainted))
    wide = spread(mask, len(first[0]), hard)
    if space == "pictures":
        blended = first + wide * (second - first)
    else:
        (a, c), (b, d) = layers.deformed, layers.inpainted
        blended = g.upsample(blend(a, b, mask), blend(c, d, mask) if rgb else c, ws)[0].clamp(-1, 1)
    step = seam(blended, first, second, spread((mask > 0.5).float(), len(first[0]), hard=True))
    return compared(first, second, blended, lip_outline(points, camera, len(first[0]), grow), step)


def spread(mask: Float[Tensor, "r r"], side: int, hard: bool = False) -> Float[Tensor, "side side"]:
    """A mask at the size of the picture: bilinear, or cell by cell."""
    return F.interpolate(mask[None, None], (side, side), mode="nearest" if hard else "bilinear")[0, 0]


@styled
def compared(first: Picture, second: Picture, blended: Picture, outline: Float[Tensor, "n 2"], step: float) -> Plot:
    """Close-ups of the two pictures and their blend, with the outline of the mask in the first."""
    figure, axes = panels(1, 3, 8, 3.0)
    (x, y), half = outline.mean(0).tolist(), 0.75 * float((outline.amax(0) - outline.amin(0)).max())
    titles = ("deformed rays, outline of the mask", "LipaintNet", f"blended: seam {step:.1f}")
    for axis, picture, title in zip(axes[0], (first, second, blended), titles, strict=True):
        show(axis, picture, title)
        axis.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
    axes[0, 0].plot(*torch.cat([outline, outline[:1]]).T.numpy(), color=COLOURS[4], linewidth=1.4)
    return figure


def thumbnails(count: int, columns: int = 5) -> list[int]:
    """Numbers of frames, evenly spread from the first of `count` to the last."""
    return np.linspace(0, count - 1, columns).round().astype(int).tolist()


def mouths(
    frames: Sequence[UInt8[np.ndarray, "H W 3"]], landmarks: Sequence[Float[np.ndarray, "68 2"]], half: int = 36
) -> list[Float[Tensor, "3 n n"]]:
    """Squares of 2·half pixels around the mouths of frames of 256 × 256; landmarks: of each, in its pixels."""
    pictures = [torch.from_numpy(frame).permute(2, 0, 1) / 127.5 - 1 for frame in frames]
    return [mouth_crop(picture, points, half) for picture, points in zip(pictures, landmarks, strict=True)]
