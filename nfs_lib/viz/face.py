"""Pictures of the face model's mesh (notebook 02): a small renderer, and the figures built on it.

The renderer is for any notebook: ``shaded_mesh(model, vertices, camera, colours)`` is an 8-bit picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.patches import Patch
from scipy.spatial import ConvexHull
from torch import Tensor

from nfs_lib.camera import Camera, frontal, project
from nfs_lib.checks import by_hand
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.face.fitting import shade
from nfs_lib.portraits import Portrait
from nfs_lib.portraits.albedo import EYE_X, EYE_Y
from nfs_lib.portraits.light import light_coefficients
from nfs_lib.portraits.rasteriser import FAR, rasterise
from nfs_lib.viz.plots import LINES, Picture, facing, picture_grid
from nfs_lib.viz.style import COLOURS, Plot, panels, pixels, show, styled

PLASTER = (0.86, 0.80, 0.74)
PART_COLOURS = {"eye_left": (0.95, 0.94, 0.93), "eye_right": (0.95, 0.94, 0.93), "eye_socket": (0.74, 0.62, 0.56),
                "mouth_cavity": (0.45, 0.24, 0.22), "tongue": (0.74, 0.42, 0.40), "upper_teeth": (0.97, 0.95, 0.90),
                "lower_teeth": (0.95, 0.93, 0.88), "torso": (0.72, 0.72, 0.74)}  # fmt: skip
AMOUNT = LinearSegmentedColormap.from_list("amount", ["#dcd4ca", "#f4c26b", "#e0701f", "#a3214f", "#4b1468"])
CHANGE = LinearSegmentedColormap.from_list("change", ["#0b4f8a", "#5aa5d6", "#e2dcd5", "#e58a4d", "#9c3206"])
KEY_LIGHT = (-0.45, 0.55, 0.70)  # in camera axes: from the upper left, so that relief reads the same at every pose


def plaster(model: MorphableModel) -> Float[Tensor, "V 3"]:
    """Colours in [0, 1] of a face without a skin tone: plaster, a little redder lips, white eyes and teeth, grey shoulders."""
    colours = torch.tensor(PLASTER).repeat(len(model.mean), 1)
    for name, colour in PART_COLOURS.items():
        chosen = torch.from_numpy(model.triangle_part == model.info["parts"].index(name))
        colours[model.triangles[chosen].flatten()] = torch.tensor(colour)
    skin = model.regions["skin"][:, None]
    colours = torch.lerp(colours, torch.tensor(PLASTER).expand_as(colours), skin)  # where parts meet, skin wins
    return torch.lerp(colours, torch.tensor((0.78, 0.58, 0.54)), 0.8 * model.regions["lips"][:, None] * skin)


def value_colours(values: Float[Tensor, "V"], largest: float, signed: bool = False) -> Float[Tensor, "V 3"]:
    """Colours in [0, 1] on the scale AMOUNT, from 0 to `largest`; signed: on CHANGE, from −largest to `largest`."""
    scale, cmap = Normalize(-largest if signed else 0.0, largest, clip=True), CHANGE if signed else AMOUNT
    return torch.from_numpy(cmap(scale(values.numpy()).data)[:, :3]).float()


def shaded_mesh(
    model: MorphableModel,
    vertices: Float[Tensor, "V 3"],
    camera: Camera,
    colours: Float[Tensor, "V 3"] | None = None,
    resolution: int = 256,
    zoom: float = 1.0,
    lit: bool = True,
    light: Float[Tensor, "27"] | None = None,
    supersample: int = 2,
) -> UInt8[np.ndarray, "H W 3"]:
    """The face model's mesh on white, smoothly shaded.

    vertices: head frame. camera: batch of 1; the frame is the portraits' own, so that `camera.project` says where a vertex
    lies in the picture (with zoom = 1; otherwise `zoom` times as large about the picture's middle). colours: RGB in [0, 1] of
    each vertex, interpolated; plaster without them. lit: True lights them from the camera's upper left, darker where the face
    hides from the sky; False shows the colours as they are. light: 27 numbers instead of that lamp (`fitting.shade`).
    supersample² samples per pixel are averaged.
    """
    parts, part = model.info["parts"], np.asarray(model.triangle_part)
    screen = project(vertices[None], camera, resolution * supersample)[0].float()
    middle = resolution * supersample / 2
    screen[:, :2] = middle + (screen[:, :2] - middle) * zoom
    normals = model.normals(vertices[None])
    bright = torch.ones_like(vertices) if light is None else shade(normals, light[None])[0]
    sky = torch.from_numpy(np.asarray(model.occlusion)).clone()
    sky[model.regions["teeth"] > 0.5] = 0.3  # baked with closed lips, which hide all of the sky
    painted = plaster(model) if colours is None else colours
    attributes = torch.cat([normals[0] @ camera.rotation[0].T, painted, bright, model.mean, sky[:, None]], 1).numpy()
    drawn, face, at = samples(model, screen.numpy(), np.flatnonzero(part != parts.index("lashes")), attributes, 2 * int(middle))
    colour = at[:, 3:6] * at[:, 6:9]
    if colours is None:
        eyes = np.isin(part[face], [parts.index("eye_left"), parts.index("eye_right")])
        colour[eyes] *= iris(at[eyes, 9:12])
    if lit and light is None:
        colour = colour * studio(at[:, :3], at[:, 12])
    picture = np.ones((*drawn.shape, 3), np.float32)
    picture[drawn] = colour.clip(0, 1)
    picture = picture.reshape(resolution, supersample, resolution, supersample, 3).mean((1, 3))
    return (picture * 255 + 0.5).astype(np.uint8)


def samples(
    model: MorphableModel, screen: Float[np.ndarray, "V 3"], chosen: np.ndarray, attributes: Float[np.ndarray, "V A"], size: int
) -> tuple[Bool[np.ndarray, "size size"], Int[np.ndarray, "n"], Float[np.ndarray, "n A"]]:
    """Which of size × size samples see the mesh, and for these n, row by row: the triangle, and the vertices' attributes there.

    screen: as `camera.project` gives it, in samples; chosen: the triangles to draw.
    """
    triangles = model.triangles.numpy().astype(np.int32)
    depth, face = np.full((size, size), FAR, np.float32), np.full((size, size), -1, np.int32)
    weight, anywhere = np.zeros((size, size, 2), np.float32), np.full((size, size), FAR, np.float32)
    opaque = np.ones((len(screen), 2), np.float32)[:, 0]  # a strided view, as the portraits' is: the same compiled kernel
    rasterise(np.ascontiguousarray(screen), triangles, chosen, depth, face, weight, anywhere, opaque, 0.04)
    drawn = face >= 0
    corner, (u, v) = attributes[triangles[face[drawn]].T], weight[drawn].T[..., None]
    return drawn, face[drawn], u * corner[0] + v * corner[1] + (1 - u - v) * corner[2]


def iris(rest: Float[np.ndarray, "*S 3"]) -> Float[np.ndarray, "*S 1"]:
    """Brightness of an eyeball, by where on the mean face a sample lies: a grey iris with a dark rim, a pupil."""
    r = np.hypot(np.abs(rest[..., 0]) - EYE_X, rest[..., 1] - EYE_Y)
    bright = np.interp(r, [0.0, 0.032, 0.038, 0.068, 0.074, 0.080, 0.088], [0.08, 0.08, 0.42, 0.55, 0.25, 0.30, 1.0])
    return np.where(rest[..., 2] < 0.7, 1.0, bright)[..., None]


def studio(normals: Float[np.ndarray, "*S 3"], occlusion: Float[np.ndarray, "*S"]) -> Float[np.ndarray, "*S 1"]:
    """A soft key light and a brighter surrounding; normals in camera axes, occlusion: share of the sky that is seen."""
    n = normals / (np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-9)
    key = np.array(KEY_LIGHT) / np.linalg.norm(KEY_LIGHT)
    wrapped = ((n @ key + 0.35) / 1.35).clip(0, 1)
    sky = 0.30 + 0.70 * (occlusion / 0.5).clip(0, 1)
    return (sky * (0.42 + 0.16 * n[..., 2].clip(0, 1) + 0.56 * wrapped))[..., None]


@styled
def mesh_grid(
    rows: Sequence[Sequence[UInt8[np.ndarray, "_ _ 3"]]],
    tops: Sequence[str] = (),
    names: Sequence[str] = (),
    largest: float = 0.0,
    label: str = "",
    signed: bool = False,
    size: float = 1.6,
) -> Plot:
    """Pictures in rows, as `plots.picture_grid`, and beside them the colour bar of `value_colours(…, largest, signed)`.

    tops: a title over each column, or over each picture, row by row; largest = 0: no bar; label: what the bar measures, with
    its unit.
    """
    figure = picture_grid(rows, tops, names, size)
    for axis, title in zip(figure.axes, tops, strict=False):
        axis.set_title(title)
    if len(tops) > len(rows[0]):
        figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + 0.25 * (len(rows) - 1))
    if largest:
        figure.set_size_inches(figure.get_figwidth() + 0.7, figure.get_figheight())
        scale = ScalarMappable(Normalize(-largest if signed else 0, largest), CHANGE if signed else AMOUNT)
        figure.colorbar(scale, ax=figure.axes, label=label, shrink=min(1.0, 2.6 / figure.get_figheight()), aspect=18,
                        extend="both" if signed else "max")  # fmt: skip
    return figure


def along_normals(model: MorphableModel, change: Float[Tensor, "V 3"]) -> Float[Tensor, "V"]:
    """How far a change moves each vertex of the mean face outwards (> 0) or inwards, in millimetres."""
    return (change * model.normals(model.mean[None])[0]).sum(1) * model.info["unit_mm"]


@styled
def variance_kept(share: Float[Tensor, "K"], used: int) -> Plot:
    """How much of the variance of the sampled heads the first k identity modes keep, k = 0 … K; a mark at k = `used`."""
    figure, axes = panels(1, 1, 6.4, 2.6)
    curve = [0.0, *(100 * share).tolist()]
    axes[0, 0].plot(range(len(curve)), curve, color=COLOURS[0], marker="o", markersize=2.5)
    axes[0, 0].plot([used], [curve[used]], "o", color=COLOURS[1], label=f"{used}, as the portraits use: {curve[used]:.0f} %")
    axes[0, 0].plot([len(share)], [curve[-1]], "o", color=COLOURS[2], label=f"all {len(share)}: {curve[-1]:.1f} %")
    axes[0, 0].set(xlabel="identity modes", ylabel="variance kept (%)", ylim=(0, 103), xlim=(0, len(share) + 1),
                   title="a handful of modes tell most heads apart")  # fmt: skip
    axes[0, 0].legend(loc="lower right")
    return figure


@styled
def jaw_path(
    model: MorphableModel, hinge: complex, angle: float, strengths: Sequence[float] = (0.0, 0.5, 1.0, 1.5)
) -> Plot:
    """The outline of the lower teeth, seen from the side, at several strengths of jawOpen: where Eq. 3 puts it, and where a
    hinge would. Right: how far both are apart, mean over the teeth's vertices.

    hinge: z + iy of the axis, head units; angle: radians that it turns at strength 1.
    """
    figure, axes = panels(1, 2, 9.2, 3.6, widths=[1.15, 1])
    side, apart = axes[0]
    mm, action = model.info["unit_mm"], model.exp_basis[model.action("jawOpen")]
    teeth = model.triangles[torch.from_numpy(model.triangle_part == model.info["parts"].index("lower_teeth"))].unique()
    rest, way = flat(model.mean[teeth]), flat(action[teeth])
    hull = ConvexHull(np.stack([rest.real, rest.imag], 1)).vertices
    outline, front = np.append(hull, hull[0]), int(rest.real.argmax())
    fine, some = torch.linspace(0, 1.5, 61), torch.tensor(strengths)

    def straight(strength: Tensor) -> np.ndarray:
        return (rest + strength[:, None] * way).numpy() * mm

    def turned(strength: Tensor) -> np.ndarray:
        return (hinge + (rest - hinge) * torch.polar(torch.ones(len(strength)), strength * angle)[:, None]).numpy() * mm

    ways = {"a hinge: arcs": (turned, COLOURS[1], 2.6), "Eq. 3: straight lines": (straight, COLOURS[0], 1.2)}
    for name, (way_of, colour, width) in ways.items():
        rows, track = way_of(some)[:, outline], way_of(fine)[:, front]
        side.plot(rows.real.T, rows.imag.T, color=colour, linewidth=width, alpha=0.7)
        side.plot(track.real, track.imag, color=colour, linewidth=1, linestyle=":")
        side.plot([], [], color=colour, linewidth=width, label=name)
    profile = (model.regions["skin"] > 0.5) & (model.mean[:, 0].abs() < 0.03) & (model.mean[:, 2] > 0.7)
    side.plot(*(model.mean[profile][:, [2, 1]] * mm).T, ".", color="#aaaaaa", markersize=3, label="profile at rest")
    side.plot(hinge.real * mm, hinge.imag * mm, "+", color=COLOURS[1], markersize=11, label="the hinge")
    for strength, spot in zip(strengths, straight(some)[:, front], strict=True):
        side.annotate(f"{strength:g}", (spot.real, spot.imag), (9, -3), textcoords="offset points", fontsize=8)
    side.set(aspect="equal", xlabel="z, towards the camera (mm)", ylabel="y (mm)", xlim=(10, 145), ylim=(-135, -35),
             title="outline of the lower teeth, by strength of jawOpen")  # fmt: skip
    side.legend(loc="lower left", fontsize=7)
    apart.plot(fine, np.abs(straight(fine) - turned(fine)).mean(1), color=COLOURS[0])
    apart.axvspan(1, 1.5, color="#eeeeee", zorder=0)
    apart.set(xlabel="strength of jawOpen", ylabel="distance (mm)", xlim=(0, 1.5), ylim=(0, None),
              title="how far line and arc are apart")  # fmt: skip
    return figure


def flat(points: Float[Tensor, "n 3"]) -> Complex[Tensor, "n"]:
    """Points seen from the side, as complex numbers z + iy: a turn is then a product."""
    return torch.complex(points[:, 2], points[:, 1])


REGION_COLOURS = {"face": "#f0d9b5", "lips": "#d55e00", "eyelids": "#56b4e9", "ears": "#009e73", "scalp": "#9a8bb0",
                  "neck": "#b8b8b8", "eyes": "#ffffff"}  # fmt: skip


@styled
def landmark_map(model: MorphableModel, resolution: int = 512) -> Plot:
    """Left the regions, right the 68 landmarks with their iBUG numbers, both on the mean face."""
    figure, axes = panels(1, 2, 8.6, 4.9)
    colours = torch.full((len(model.mean), 3), 0.93)
    for name, colour in REGION_COLOURS.items():
        colours = torch.lerp(colours, torch.tensor(to_rgb(colour)), model.regions[name][:, None])
    zoom, camera = 1.3, frontal()
    show(axes[0, 0], shaded_mesh(model, model.mean, camera, colours, resolution, zoom), "regions: a weight for each vertex")
    handles = [Patch(facecolor=c, edgecolor="#888888", label=name) for name, c in REGION_COLOURS.items()]
    axes[0, 0].legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4)
    show(axes[0, 1], shaded_mesh(model, model.mean, camera, None, resolution, zoom), "68 landmarks: each is a vertex number")
    places = project(model.mean[None, model.landmarks], camera, resolution)[0, :, :2]
    points = (resolution / 2 + (places - resolution / 2) * zoom).numpy()
    for first, last, closed in LINES:
        line = points[[*range(first, last + 1), *([first] if closed else [])]]
        axes[0, 1].plot(*line.T, color=COLOURS[0], linewidth=0.9, marker="o", markersize=2.2)
    above, beside = {*range(17, 27), *range(31, 36), 37, 38, 43, 44, *range(49, 54)}, {*range(17), *range(27, 31), 48, 54}
    for number, place in enumerate(points[:60]):
        left = number < 8 or number == 48
        shift = ((-4 if left else 4), 0) if number in beside else (0, 4 if number in above else -4)
        across = ("right" if left else "left") if number in beside else "center"
        down = "center" if number in beside else "bottom" if number in above else "top"
        axes[0, 1].annotate(str(number), place, shift, textcoords="offset points", fontsize=5.5, ha=across, va=down)
    for axis in axes[0]:
        axis.set(xlim=(resolution * 0.14, resolution * 0.86), ylim=(resolution, resolution * 0.06))
    return figure


@styled
def over_picture(
    picture: Picture | Sequence[Picture],
    model: MorphableModel,
    found: Mapping[str, Coefficients],
    target: Float[Tensor, "68 2"] | None = None,
) -> Plot:
    """The mesh and its landmarks over a picture, one panel for each of the named coefficients (batches of 1).

    picture: one for all panels, or a list of one for each; target: where the landmarks should be, in pixels: orange dots.
    """
    size = min(2.5, 8.4 / len(found))
    figure, axes = panels(1, len(found), size * len(found), size + 0.1)
    each: Sequence[Any] = picture if isinstance(picture, list | tuple) else [picture] * len(found)
    side = pixels(each[0]).shape[0]
    for axis, image, (title, coefficients) in zip(axes[0], each, found.items(), strict=True):
        show(axis, image, title)
        camera = Camera.from_pose(coefficients.pose)
        vertices = model.vertices(coefficients.identity, coefficients.expression)
        x, y, _ = project(vertices, camera, side)[0].numpy().T
        axis.triplot(x, y, facing(model, vertices[0], camera), color="white", linewidth=0.25, alpha=0.5)
        points = model.project_landmarks(coefficients, side)[0].numpy()
        for first, last, closed in LINES:
            line = points[[*range(first, last + 1), *([first] if closed else [])]]
            axis.plot(*line.T, color=COLOURS[5], linewidth=1.2)
        if target is not None:
            axis.plot(*target.numpy().T, "o", color=COLOURS[1], markersize=2)
        axis.set(xlim=(0.12 * side, 0.88 * side), ylim=(0.93 * side, 0.17 * side))
    return figure


@styled
def bands(model: MorphableModel, values: Float[Tensor, "V 9"], largest: float = 2.5) -> Plot:
    """Nine functions on the mean face, side by side: where each spherical harmonic brightens (orange) and darkens (blue)."""
    names = ("0: everywhere", "1: −y", "2: z", "3: −x", "4: xy", "5: −yz", "6: 3z² − 1", "7: −xz", "8: x² − y²")
    colours = [value_colours(v, largest, signed=True) for v in values.T]
    skin = [shaded_mesh(model, model.mean, frontal(), c, 192, 1.5, lit=False) for c in colours]
    figure = Plot(figsize=(10, 2.1), layout="constrained")
    axes = figure.subplots(1, 9)
    for axis, name, picture in zip(axes, names, skin, strict=True):
        show(axis, picture, name)
        axis.set_xlim(20, 172)
    figure.colorbar(ScalarMappable(Normalize(-largest, largest), CHANGE), ax=axes, label="Y of the normal", aspect=14)
    return figure


@styled
def fitting_curves(losses: Mapping[str, Sequence[float]], total: int, switch: int) -> Plot:
    """The terms of a loss by step, on a logarithmic axis; terms that begin late end at step `total` all the same.

    switch: the step from which all numbers move.
    """
    figure, axes = panels(1, 1, 8, 2.7)
    for (name, values), colour in zip(losses.items(), COLOURS, strict=False):
        axes[0, 0].semilogy(range(total - len(values) + 1, total + 1), values, color=colour, label=name)
    axes[0, 0].axvline(switch, color="#bbbbbb", linewidth=0.8, zorder=0)
    axes[0, 0].text(switch, 1.0, " all numbers move →", transform=axes[0, 0].get_xaxis_transform(), va="top", fontsize=8)
    axes[0, 0].text(switch, 1.0, "← pose only ", transform=axes[0, 0].get_xaxis_transform(), va="top", ha="right", fontsize=8)
    axes[0, 0].set(xlabel="optimiser step", ylabel="term of the loss", xlim=(0, total),
                   title="what gradient descent gets rid of")  # fmt: skip
    axes[0, 0].legend(loc="lower left", ncols=2)
    return figure


def true_coefficients(people: Sequence[Portrait], n_identity: int = 40) -> Coefficients:
    """What the renderer knows about B portraits; identity filled up with zeros, to n_identity modes."""
    identity = np.stack([np.pad(p.scene.identity, (0, n_identity - len(p.scene.identity))) for p in people])
    others = (np.stack([np.asarray(v, np.float32) for v in values]) for values in
              zip(*((p.scene.expression, p.pose, p.scene.light) for p in people), strict=True))  # fmt: skip
    return Coefficients(torch.from_numpy(identity), *map(torch.from_numpy, others))


def errors(model: MorphableModel, found: Coefficients, truth: Coefficients) -> dict[str, Float[Tensor, "B"]]:
    """How far B readings are from the truth, in natural units.

    identity, expression: mean distance over the face's vertices when only α, only β is wrong; pose: degrees, mean of yaw, pitch
    and roll; light: mean difference of a white surface's colour over the face, in % of white; landmarks: pixels of 256.
    """
    face, mm = model.regions["face"] > 0.5, model.info["unit_mm"]

    def distance(basis: Float[Tensor, "N V 3"], difference: Float[Tensor, "B N"]) -> Float[Tensor, "B"]:
        return torch.einsum("bn,nvc->bvc", difference, basis[:, face]).norm(dim=2).mean(1) * mm

    normals = model.normals(model.vertices(truth.identity, truth.expression))[:, face]
    places = (model.project_landmarks(c, 256) for c in (found, truth))
    return {
        "identity (mm)": distance(model.id_basis, found.identity - truth.identity),
        "expression (mm)": distance(model.exp_basis, found.expression - truth.expression),
        "pose (°)": (found.pose - truth.pose).abs().mean(1).rad2deg(),
        "light (%)": 100 * (shade(normals, found.light) - shade(normals, truth.light)).abs().mean((1, 2)),
        "landmarks (px)": torch.sub(*places).norm(dim=2).mean(1),
    }


@styled
def error_bars(table: Mapping[str, Mapping[str, Float[Tensor, "B"]]]) -> Plot:
    """One panel for each kind of error, one bar for each method: the mean over people; dots are the people.

    table: method → `errors`. Axes end where the others' dots do, so that a poor first method doesn't hide them.
    """
    kinds = list(next(iter(table.values())))
    figure, axes = panels(1, len(kinds), 10, 0.3 * len(table) + 1.3)
    methods = list(table)
    for k, (axis, kind) in enumerate(zip(axes[0], kinds, strict=True)):
        values = [table[method][kind] for method in methods]
        means = [float(v.mean()) for v in values]
        limit = 1.45 * max(float(v.max()) for v in values[1:])
        bars = axis.barh(methods, means, color=COLOURS[0], alpha=0.55)
        for row, value in enumerate(values):
            if means[row] < limit:
                axis.plot(value, [row] * len(value), "o", color=COLOURS[1], markersize=2.5)
        axis.set(xlim=(0, limit), title=kind)
        for bar, mean in zip(bars, means, strict=True):
            text = f"{mean:.1f} →" if mean > limit else f"{mean:.2f}"
            axis.text(0.98 * limit, bar.get_y() + 0.4, text, ha="right", va="center", fontsize=7)
        axis.invert_yaxis()
        if k:
            axis.set_yticklabels([])
    figure.suptitle("how far from the truth: bars are means, dots are people", fontsize=9, x=0.01, ha="left")
    return figure


@styled
def yaw_curves(offsets: Sequence[float], areas: Mapping[str, Mapping[str, Sequence[float]]]) -> Plot:
    """Colour errors (% of white) by how many degrees the yaw is wrong: a panel for each area, a line for each named way."""
    figure, axes = panels(1, len(areas), 4.2 * len(areas), 2.8)
    for axis, (title, ways) in zip(axes[0], areas.items(), strict=True):
        for (name, values), colour in zip(ways.items(), COLOURS, strict=False):
            axis.plot(offsets, values, color=colour, marker="o", markersize=3, label=name)
        axis.set(title=title, xlabel="error of the yaw (degrees)", ylabel="colour error (% of white)", ylim=(0, None))
        axis.legend(loc="lower left")
    return figure


def key_light(side: float, height: float = 30.0, strength: float = 0.75) -> Float[Tensor, "27"]:
    """27 numbers of one white lamp among ambient light. side: degrees to the image's right, height: degrees upwards."""
    a, e = np.radians((side, height))
    towards = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
    return torch.from_numpy(light_coefficients(towards, np.full(3, strength), np.full(3, 0.9 - 0.7 * strength)))


@by_hand(mode_1=(-10, 10), mode_2=(-10, 10), mode_3=(-10, 10), jaw=(0, 2), smile=(0, 2), pucker=(0, 2), yaw=(-90, 90),
         lamp=(-180, 180))
def face_with(
    model: MorphableModel, mode_1: float = 0.0, mode_2: float = 0.0, mode_3: float = 0.0, jaw: float = 0.0, smile: float = 0.0,
    pucker: float = 0.0, yaw: float = 0.0, lamp: float = -40.0,
) -> Plot:  # fmt: skip
    """A face by hand, from the front at `yaw` degrees and in profile; what a slider calls.

    mode_k: the first identity modes, in standard deviations; jaw, smile, pucker: 0 = rest, 1 = full; lamp: degrees to the
    image's right of where the face looks.
    """
    beta = torch.zeros(1, len(model.expression_names))
    for strength, *names in ((jaw, "jawOpen"), (smile, "mouthSmileLeft", "mouthSmileRight"), (pucker, "mouthPucker")):
        for name in names:
            beta[0, model.action(name)] = strength
    vertices, light = model.vertices(torch.tensor([[mode_1, mode_2, mode_3]]).float(), beta)[0], key_light(lamp)
    views = [Camera.from_pose(torch.tensor([[np.radians(a), 0.0, 0.0]]).float()) for a in (yaw, yaw + 75)]
    pictures = [shaded_mesh(model, vertices, view, None, 288, 1.1, light=light) for view in views]
    return picture_grid([pictures], [f"yaw {yaw:g}°, lamp at {lamp:g}°", "the same, 75° further"], size=2.6)
