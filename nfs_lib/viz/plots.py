"""One figure for each box of the paper's figure 2. Every function returns a `Plot`, a matplotlib Figure.

Pictures are tensors (3, H, W) in [-1, 1] (a leading 1 is fine) or 8-bit arrays (H, W, 3).
"""

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from matplotlib.colors import hsv_to_rgb
from matplotlib.patches import Polygon
from torch import Tensor

from nfs_lib.alignment import Match
from nfs_lib.audio import FPS, HOP, SAMPLE_RATE
from nfs_lib.camera import Camera, project
from nfs_lib.cropping import Crop
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.viz.style import COLOURS, Plot, panels, pixels, show, styled

Picture = Float[Tensor, "... 3 _ _"] | UInt8[np.ndarray, "_ _ 3"]
# iBUG-68: first and last landmark of each line, and whether it is closed
LINES = ((0, 16, False), (17, 21, False), (22, 26, False), (27, 30, False), (31, 35, False), (36, 41, True),
         (42, 47, True), (48, 59, True), (60, 67, True))  # fmt: skip


@styled
def picture_grid(
    rows: Sequence[Sequence[Picture]], tops: Sequence[str] = (), names: Sequence[str] = (), size: float = 1.9
) -> Plot:
    """Pictures in rows; tops: a title over each column, names: a label before each row, size: inches of a picture."""
    height, width = pixels(rows[0][0]).shape[:2]
    margin = 0.075 * max(map(len, names), default=0)
    figure, axes = panels(len(rows), len(rows[0]), size * len(rows[0]) + margin,
                          size * height / width * len(rows) + 0.3 * bool(tops))  # fmt: skip
    for line, row in zip(axes, rows, strict=True):
        for cell, picture in zip(line, row, strict=True):
            show(cell, picture)
    for cell, top in zip(axes[0], tops, strict=False):
        cell.set_title(top)
    for cell, name in zip(axes[:, 0], names, strict=False):
        cell.text(-0.05, 0.5, name, transform=cell.transAxes, ha="right", va="center")
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.04, wspace=0.01, hspace=0.01)
    return figure


@styled
def framing(picture: Picture, crop: Crop) -> Plot:
    """The picture that was given, with the frame that was cut out of it, and the crop."""
    figure, axes = panels(1, 2, 6.4, 3.3)
    given, cut = pixels(picture), pixels(crop.image)
    show(axes[0, 0], given, f"given, {given.shape[1]} × {given.shape[0]} pixels")
    side = cut.shape[0]
    corners = np.array([[0, 0, 1], [side, 0, 1], [side, side, 1], [0, side, 1.0]]) @ np.linalg.inv(crop.transform).T
    axes[0, 0].add_patch(Polygon(corners[:, :2], fill=False, edgecolor=COLOURS[1], linewidth=2.5))
    show(axes[0, 1], cut, f"framed, {side} × {side} pixels")
    for k in range(1, 8):
        for line in (axes[0, 1].axhline, axes[0, 1].axvline):
            line(side * k / 8, color="white", alpha=0.35, linewidth=0.6)
    return figure


@styled
def fitted_face(
    image: Picture,
    model: MorphableModel,
    face: Coefficients,
    truth: Float[Tensor, "E"] | None = None,
    strongest: int = 8,
) -> Plot:
    """The fitted 3DMM over the picture, as landmarks and as a mesh, and its strongest facial actions, fitted or true.

    face: batch of 1, its pose that of the picture; truth: the picture's true expression, drawn as dots beside the bars.
    """
    figure, axes = panels(1, 3, 10, 3.4, widths=[1, 1, 0.85])
    landmarks, mesh, bars = axes[0]
    side = pixels(image).shape[0]
    show(landmarks, image, "68 landmarks of the fitted face")
    points = model.project_landmarks(face, side)[0].numpy()
    for first, last, closed in LINES:
        line = points[[*range(first, last + 1), *([first] if closed else [])]]
        landmarks.plot(*line.T, color=COLOURS[5], linewidth=1.1, marker="o", markersize=2.2, markerfacecolor="white",
                       markeredgewidth=0.4)  # fmt: skip
    yaw, pitch, roll = map(round, face.pose[0].rad2deg().tolist())
    show(mesh, image, f"its mesh; yaw {yaw}°, pitch {pitch}°, roll {roll}°")
    vertices = model.vertices(face.identity, face.expression)
    camera = Camera.from_pose(face.pose)
    x, y, _ = project(vertices, camera, side)[0].numpy().T
    mesh.triplot(x, y, facing(model, vertices[0], camera), color="white", linewidth=0.35, alpha=0.75)
    either = face.expression[0].abs() if truth is None else torch.maximum(face.expression[0].abs(), truth.abs())
    order = either.topk(strongest).indices.tolist()       # also those that the fit has missed
    bars.barh([model.expression_names[i] for i in order], face.expression[0, order].tolist(), color=COLOURS[0], label="fitted")
    if truth is not None:
        bars.plot(truth[order], range(strongest), "o", color=COLOURS[1], markersize=5, label="true")
    numbers = torch.cat([face.expression[0], *([] if truth is None else [truth])])
    bars.set(title="strongest facial actions β", xlabel="strength (0 = rest, 1 = full)",
             xlim=(min(-0.1, 1.1 * float(numbers.min())), max(1.0, 1.1 * float(numbers.max()))))  # fmt: skip
    bars.invert_yaxis()
    bars.legend(loc="lower right")
    return figure


def facing(model: MorphableModel, vertices: Float[Tensor, "V 3"], camera: Camera) -> np.ndarray:
    """The triangles (n, 3) of the face's skin and lips that turn towards the camera."""
    towards = (model.normals(vertices[None])[0] @ camera.eye[0]) > 0.05
    wanted = ((model.regions["face"] + model.regions["lips"]) > 0.5) & towards
    return model.triangles[wanted[model.triangles].all(1)].numpy()


@styled
def inverted(pictures: Mapping[str, Picture], losses: Mapping[str, Sequence[float]]) -> Plot:
    """Pictures by title, in a row, and the losses of the two halves of PTI below."""
    figure = Plot(figsize=(10, 3.9), layout="constrained")
    grid = figure.add_gridspec(2, len(pictures), height_ratios=[2.1, 1])
    for k, (title, picture) in enumerate(pictures.items()):
        show(figure.add_subplot(grid[0, k]), picture, title)
    curve, start = figure.add_subplot(grid[1, :]), 0
    for (name, values), colour in zip(losses.items(), COLOURS, strict=False):
        steps = range(start + 1, start + len(values) + 1)
        curve.plot(steps, values, color=colour, linewidth=1.2, label=f"{name}: {len(values)} steps")
        start += len(values)
    curve.set(xlabel="optimiser step", ylabel="loss", xlim=(0, start + 1), ylim=(0, None))
    curve.legend(loc="upper right", ncols=2)
    return figure


@styled
def speech(
    wave: Float32[np.ndarray, " n"], mel: Float32[np.ndarray, "80 m"], curves: Mapping[str, Float[Tensor, "T"]]
) -> Plot:
    """A wave (16 kHz), its mel spectrogram, and named curves of 25 values a second under it, on one axis of time."""
    figure, axes = panels(3, 1, 10, 4.6, share_x=True, heights=[1, 1.3, 1.6])
    sound, bands, face = axes[:, 0]
    seconds = len(wave) / SAMPLE_RATE
    sound.plot(np.arange(len(wave)) / SAMPLE_RATE, wave, color="#666666", linewidth=0.5)
    sound.set(ylabel="amplitude", xlim=(0, seconds), title="what is heard")
    half = HOP / SAMPLE_RATE / 2
    bands.imshow(mel, origin="lower", aspect="auto", cmap="magma", interpolation="nearest",
                 extent=(-half, mel.shape[1] * 2 * half - half, 0, len(mel)))  # fmt: skip
    bands.set(ylabel="mel band", title="what the network hears: 80 bands, 80 times a second")
    for (name, values), colour in zip(curves.items(), COLOURS, strict=False):
        face.plot(np.arange(len(values)) / FPS, values, color=colour, label=name)
    face.set(ylabel="strength of action", xlabel="time (s)", title="what the face does, 25 times a second")
    face.axhline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    face.legend(loc="upper right", ncols=3)
    return figure


def place_colours(points: Float[Tensor, "n 3"]) -> np.ndarray:
    """RGB (n, 3) that tells where on the frontal plane a point lies: hue by height, lightness by side."""
    x, y = points[:, :2].numpy().T
    hue = ((y + 2.0) / 1.6) % 1
    pale = 0.5 + 0.5 * np.sin(5 * x)
    return hsv_to_rgb(np.stack([hue, 1.0 - 0.55 * pale, 0.72 + 0.28 * pale], -1))


@styled
def matching(points: Float[Tensor, "P 3"], vertices: Float[Tensor, "V 3"], matched: Match, n_samples: int) -> Plot:
    """Eq. 6: the vertices on the frontal plane, and two cuts through the ray samples in the colour of their vertex.

    points: n_samples along each ray of a square grid, row by row, sample fastest (`TalkingHead.samples`), head frame.
    """
    figure, axes = panels(1, 3, 10, 3.7)
    front, samples, side = axes[0]
    colours = place_colours(vertices)
    rays = round((len(points) / n_samples) ** 0.5)
    p, taken = points.reshape(rays, rays, n_samples, 3).numpy(), matched.index[:, 0].reshape(rays, rays, n_samples).numpy()
    column, near = rays // 2, int(np.abs(p[rays // 2, rays // 2, :, 2] - float(vertices[:, 2].max())).argmin())
    front.scatter(*vertices[:, :2].T, c=colours, s=7, linewidths=0)
    front.set(title=f"{len(vertices)} vertices, each with its colour", ylabel="y (head units)", xlabel="x (head units)")
    samples.scatter(*p[:, :, near, :2].reshape(-1, 2).T, c=colours[taken[:, :, near].ravel()], s=11, linewidths=0, marker="s")
    samples.set(title=f"one sample of each of {rays} × {rays} rays", xlabel="x (head units)")
    strip = np.abs(vertices[:, 0].numpy()) < 0.06
    side.scatter(p[:, column, :, 2], p[:, column, :, 1], c=colours[taken[:, column].ravel()], s=8, linewidths=0)
    side.plot(vertices[strip, 2], vertices[strip, 1], ".", color="black", markersize=2.5, label="vertices, |x| < 0.06")
    side.set(title=f"all samples of column {column + 1}, from the side", xlabel="z, towards the camera (head units)")
    side.legend(loc="lower left", borderpad=0)
    for axis in (front, samples, side):
        axis.set(xlim=(-2.0, 2.0), ylim=(-2.1, 2.0), aspect="equal")
    return figure


@styled
def motion(
    before: Picture,
    after: Picture,
    v_init: Float[Tensor, "V 3"],
    v_t: Float[Tensor, "V 3"],
    camera: Camera,
    unit_mm: float,
    stride: int = 3,
) -> Plot:
    """Eq. 7: arrows from where each vertex was to where it is now, and the picture before and after the deformation.

    v_init, v_t: the vertices that take part in matching, head frame; unit_mm: millimetres per head unit; stride: every
    stride-th vertex gets an arrow.
    """
    figure, axes = panels(1, 3, 10, 3.1)
    side = pixels(before).shape[0]
    show(axes[0, 0], before, "where the skin goes (vertices, V_init → V_t)")
    start, end = (project(v[None, ::stride], camera, side)[0, :, :2].numpy() for v in (v_init, v_t))
    length = (v_t - v_init)[::stride].norm(dim=1).numpy() * unit_mm
    moving, far = length > 0.05 * length.max(), length > 0.3 * length.max()
    arrows = axes[0, 0].quiver(*start[moving].T, *(end - start)[moving].T, length[moving], angles="xy", scale_units="xy",
                               scale=1, width=0.006, cmap="cool")  # fmt: skip
    (left, top), (right, bottom) = start[far].min(0), np.maximum(start[far], end[far]).max(0)
    half = 0.65 * max(right - left, bottom - top)
    axes[0, 0].set(xlim=((left + right) / 2 - half, (left + right) / 2 + half),
                   ylim=((top + bottom) / 2 + half, (top + bottom) / 2 - half))  # fmt: skip
    figure.colorbar(arrows, ax=axes[0, 0], label="way (mm)", shrink=0.8, location="left")
    show(axes[0, 1], before, "before: straight rays")
    show(axes[0, 2], after, "after: every sample moved by its vertex")
    return figure


@styled
def mouths(pictures: Mapping[str, Picture], mask: Float[Tensor, "r r"]) -> Plot:
    """Pictures by title above a close-up of the mouth, and the mask of Eq. 12 that says where the mouth is."""
    figure, axes = panels(2, len(pictures) + 1, 10, 10 / (len(pictures) + 1) * 1.85, heights=[1.0, 0.72])
    side = pixels(next(iter(pictures.values()))).shape[0]
    cell = side / len(mask)
    inside = torch.nonzero(mask > 0)
    if not len(inside):
        inside = torch.tensor([[0, 0], [len(mask) - 1, len(mask) - 1]])
    (top, left), (bottom, right) = (inside.min(0).values * cell).tolist(), ((inside.max(0).values + 1) * cell).tolist()
    half = max(right - left, bottom - top) * 0.75
    centre = ((left + right) / 2, (top + bottom) / 2)
    for line, (title, picture) in zip(axes.T, pictures.items(), strict=False):
        show(line[0], picture, title)
        show(line[1], picture)
    show(axes[0, -1], next(iter(pictures.values())), f"mask M, {len(mask)} × {len(mask)}")
    axes[0, -1].images[0].set_alpha(0.45)
    show(axes[1, -1], np.zeros((side, side, 3), np.uint8))
    for axis in axes[:, -1]:
        cells = np.ma.masked_less(mask.numpy(), 0.01 if axis is axes[0, -1] else -1.0)
        drawn = axis.imshow(cells, cmap="inferno", vmin=0, vmax=1, extent=(0, side, side, 0), interpolation="nearest")
    for axis in axes[1]:
        axis.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] + 0.72 * half, centre[1] - 0.72 * half))
    figure.colorbar(drawn, ax=axes[1, -1], label="share of LipaintNet", shrink=0.9)
    return figure


def film_strip(frames: Sequence[Picture], columns: int = 6) -> Plot:
    """Frames of a video (25 a second), evenly spread from the first to the last, with their times."""
    chosen = np.linspace(0, len(frames) - 1, columns).round().astype(int)
    return picture_grid([[frames[i] for i in chosen]], [f"{i / FPS:.2f} s" for i in chosen], size=10 / columns)


def peak_memory() -> float:
    """The most memory that this process has held so far, in GB; nan where the system doesn't tell (Windows)."""
    try:
        import resource
    except ImportError:
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024    # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


@styled
def costs(seconds: Mapping[str, float]) -> Plot:
    """Seconds by name of stage, in their order, as bars; above them their sum, and the most memory that this process held."""
    figure, axes = panels(1, 1, 7, 0.28 * len(seconds) + 0.7)
    bars = axes[0, 0].barh(list(seconds), list(seconds.values()), color=COLOURS[0])
    axes[0, 0].bar_label(bars, fmt="%.1f s", padding=3, fontsize=8)
    axes[0, 0].set(xlabel="seconds",
                   title=f"what it cost: {sum(seconds.values()):.0f} s in all, {peak_memory():.1f} GB of memory at most")
    axes[0, 0].margins(x=0.12)
    axes[0, 0].invert_yaxis()
    return figure
