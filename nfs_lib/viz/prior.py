"""Figures of notebook 01: cameras and rays, one ray's weights, geometry, the steps to a picture, walks through the latents.

Lengths are millimetres or head units; `mm` is millimetres per NeRF unit, ``model.info["unit_mm"] / HEAD_TO_NERF``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from torch import Tensor

from nfs_lib.camera import Camera, nerf_to_head, pixel_directions, sample_depths
from nfs_lib.checks import by_hand
from nfs_lib.portraits import APPEARANCE, EXPRESSIONS
from nfs_lib.portraits.chart import N_IDENTITY
from nfs_lib.stylenerf import Generator, GeneratorConfig
from nfs_lib.viz.plots import Picture, picture_grid
from nfs_lib.viz.style import COLOURS, Plot, panels, pixels, show, styled

NAMES = (*(f"identity {k + 1}" for k in range(N_IDENTITY)), *EXPRESSIONS, *APPEARANCE)  # what each number of z is


def sections(vertices: Float[Tensor, "V 3"], axis: int, at: float, half: float = 0.04) -> Float[Tensor, "n 3"]:
    """The vertices within `half` of the plane where coordinate `axis` is `at`."""
    return vertices[(vertices[:, axis] - at).abs() < half]


@styled
def cameras_and_rays(
    vertices: Float[Tensor, "V 3"], picture: Picture, cameras: Mapping[str, Camera], config: GeneratorConfig, row: int
) -> Plot:
    """Cameras around the head, from above and to scale; the samples of the first camera's rays in one row of the ray grid;
    that camera's picture with the places of all rays.

    vertices: the whole head, head frame; cameras: batch of 1 each; row: counted from the top.
    """
    figure = Plot(figsize=(7.8, 5.6), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[1, 1.5], width_ratios=[1, 0.75])
    above, near, seen = figure.add_subplot(grid[0, :]), figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
    u = (torch.arange(config.ray_resolution) + 0.5) / config.ray_resolution * 2 - 1
    x, y = u[None], -u[None, row].expand(1, len(u))
    first = next(iter(cameras.values()))
    height = float(ray_points(first, x, y, torch.ones(1))[..., 1].mean())
    above.plot(*vertices[vertices[:, 1] > -1.2][::3, [2, 0]].T, ".", color="#bbbbbb", markersize=1.2)
    for (name, camera), colour in zip(cameras.items(), COLOURS, strict=False):
        edges = ray_points(camera, x[:, [0, -1]], y[:, [0, -1]], torch.tensor([0.0, config.near, config.far]))[0]
        for edge in edges:
            above.plot(*edge[:, [2, 0]].T, color=colour, linewidth=1)
        for k in (1, 2):
            above.plot(*edges[:, k, [2, 0]].T, color=colour, linewidth=1.6)
        eye = edges[0, 0]
        above.plot(eye[2], eye[0], "s", color=colour, markersize=7)
        above.annotate(name, (float(eye[2]), float(eye[0])), (8, -3), textcoords="offset points", color=colour)
    above.set(aspect="equal", xlabel="z, out of the face (head units)", ylabel="x (head units)", xlim=(-2.8, 19.0),
              title="from above, to scale: the head stays, the camera orbits; thick: near and far")  # fmt: skip
    points = ray_points(first, x, y, sample_depths(config.near, config.far, config.n_samples))[0]
    for ray in points:
        near.plot(*ray[:, [2, 0]].T, ".-", color=COLOURS[0], linewidth=0.3, markersize=2.6)
    near.plot(*sections(vertices, 1, height)[:, [2, 0]].T, ".", color="black", markersize=3)
    near.set(aspect="equal", xlabel="z (head units)", ylabel="x (head units)",
             title=f"row {row + 1}: {len(u)} rays × {config.n_samples} samples; black: the head")  # fmt: skip
    side = pixels(picture).shape[0]
    show(seen, picture, f"one dot a ray: {len(u)} × {len(u)}; blue: row {row + 1}")
    places = (u.numpy() + 1) / 2 * side
    seen.plot(*(c.ravel() for c in np.meshgrid(places, places)), ".", color="white", markersize=1.5)
    seen.plot(places, np.full(len(u), places[row]), ".", color=COLOURS[0], markersize=4)
    return figure


def ray_points(
    camera: Camera, x: Float[Tensor, "1 R"], y: Float[Tensor, "1 R"], depth: Float[Tensor, "S"]
) -> Float[Tensor, "1 R S 3"]:
    """Points (1, R, S, 3), head frame, at these depths (NeRF units) along the rays through x, y in [−1, 1]."""
    return nerf_to_head(camera.eye[:, None, None] + depth[:, None] * pixel_directions(camera, x, y)[:, :, None])


@styled
def density_cuts(
    side: Float[Tensor, "n n"],
    level: Float[Tensor, "n n"],
    vertices: Float[Tensor, "V 3"],
    half: float,
    height: float,
    mm: float,
) -> Plot:
    """Two planes through the volume, in colours by density, with the true head's vertices near them.

    side: σ per NeRF unit at x = 0, rows y, columns z; level: at y = height, rows x, columns z; both from −half to half.
    """
    figure, axes = panels(1, 2, 10, 4.3)
    bands = matplotlib.colormaps["magma"].resampled(14)
    above = f"y = {height:.2f}, the tip of the nose: from above"
    cuts = ((axes[0, 0], side, sections(vertices, 0, 0.0), [2, 1], "y", "x = 0: the head from the side"),
            (axes[0, 1], level, sections(vertices, 1, height), [2, 0], "x", above))  # fmt: skip
    for axis, sigma, points, order, name, title in cuts:
        drawn = axis.imshow((sigma / mm).clamp(min=1e-4).log10().numpy(), origin="lower", extent=(-half, half, -half, half),
                            cmap=bands, vmin=-3, vmax=0.5, interpolation="nearest")  # fmt: skip
        axis.plot(*points[:, order].T, ".", color=COLOURS[5], markersize=3, label="vertices of the true face and torso")
        axis.set(xlim=(-half, half), ylim=(-half, half), xlabel="z (head units)", ylabel=f"{name} (head units)", title=title)
    axes[0, 0].legend(loc="lower right", frameon=True, facecolor="black", framealpha=0.7, labelcolor="white")
    figure.colorbar(drawn, ax=list(axes[0]), label="density σ (1/mm, powers of ten)", shrink=0.9)
    return figure


@styled
def along_ray(
    depth: Float[Tensor, "S"],
    sigma: Float[Tensor, "S"],
    transmittance: Float[Tensor, "S"],
    weights: Float[Tensor, "S"],
    true_depth: float,
    mm: float,
    fine: tuple[Float[Tensor, "n"], Float[Tensor, "n"]],
) -> Plot:
    """One ray: density at its samples and between them (fine: depth, σ), and what compositing makes of them.

    depth in NeRF units, sigma per NeRF unit; transmittance: the light that reaches each sample.
    """
    figure, axes = panels(2, 1, 10, 4.6, share_x=True)
    density, light = axes[:, 0]
    place, between = ((t.numpy() - true_depth) * mm for t in (depth, fine[0]))
    density.semilogy(between, fine[1].numpy() / mm, color=COLOURS[0], linewidth=1, label="the field, asked everywhere")
    density.semilogy(place, sigma.numpy() / mm, "o", color=COLOURS[0], markersize=5, label=f"at the {len(depth)} samples")
    density.set(ylabel="density σ (1/mm)", ylim=(1e-4, 10), title="the density doesn't jump at the skin, it climbs")
    density.legend(loc="lower right")
    along = np.linspace(place[0], place[-1], 400)             # within a slab T falls exponentially: log T is a polyline
    light.plot(along, np.exp(np.interp(along, place, transmittance.clamp(min=1e-30).log().numpy())), color=COLOURS[4],
               label="transmittance T: light that gets this far")  # fmt: skip
    light.vlines(place, 0, weights.numpy(), color=COLOURS[2], linewidth=5,
                 label="weight w: share of this sample in the ray's colour")  # fmt: skip
    expected = float((weights * depth).sum() / weights.sum())
    light.axvline((expected - true_depth) * mm, color=COLOURS[1], linestyle="--", label="expected depth Σwt / Σw")
    for axis in (density, light):
        axis.axvline(0, color="black", linewidth=1, label="true surface" if axis is light else None)
    light.set(xlabel="depth along the ray (mm behind the true surface)", ylabel="share", ylim=(0, 1.08), xlim=(-35, 100),
              title=f"few samples carry the ray; their mean depth is off by {(expected - true_depth) * mm:.1f} mm")  # fmt: skip
    light.legend(loc="upper right")
    return figure


def depth_normals(depth: Float[Tensor, "n n"], camera: Camera) -> Float[Tensor, "n n 3"]:
    """Unit normals, head axes, of the surface whose depth (NeRF units) a square picture shows; they point to the camera."""
    n = len(depth)
    u = (torch.arange(n) + 0.5) / n * 2 - 1
    y, x = torch.meshgrid(-u, u, indexing="ij")
    direction = pixel_directions(camera, x.reshape(1, -1), y.reshape(1, -1))
    points = (camera.eye[:, None] + depth.reshape(1, -1, 1) * direction).view(n, n, 3)
    down, right = torch.gradient(points, dim=(0, 1))
    return F.normalize(torch.cross(down, right, dim=-1), dim=-1)


@styled
def geometry(
    depth: Float[Tensor, "n n"],
    true_depth: Float[Tensor, "n n"],
    normals: Float[Tensor, "n n 3"],
    true_normals: Float[Tensor, "n n 3"],
    solid: Bool[Tensor, "n n"],
    mm: float,
) -> Plot:
    """Depth (NeRF units) and unit normals of the field beside the renderer's, and how far they are apart where `solid`."""
    figure, axes = panels(2, 3, 10, 6.2)
    hidden = torch.tensor(float("nan"))
    error = (depth - true_depth) * mm
    angle = (normals * true_normals).sum(-1).clamp(-1, 1).acos().rad2deg()
    inner = -F.max_pool2d(-solid[None].float(), 3, 1, 1)[0] > 0.5      # a normal needs its neighbours
    for axis, values, title in ((axes[0, 0], depth, "the field's expected depth"), (axes[0, 1], true_depth, "true depth")):
        centred = torch.where(solid, (values - 1) * mm, hidden)
        drawn = axis.imshow(centred.numpy(), cmap="viridis_r", vmin=-120, vmax=60)
        axis.set_title(title)
    figure.colorbar(drawn, ax=list(axes[0, :2]), label="behind the orbit centre (mm)", shrink=0.85)
    off = axes[0, 2].imshow(torch.where(solid, error, hidden).numpy(), cmap="RdBu", vmin=-20, vmax=20)
    middle = float(error[solid].abs().median())
    axes[0, 2].set_title(f"error, half of it below {middle:.0f} mm; blue: too deep")
    figure.colorbar(off, ax=axes[0, 2], label="mm", shrink=0.85)
    for axis, values, title in ((axes[1, 0], normals, "normals: −∇σ, normalised"), (axes[1, 1], true_normals, "true normals")):
        axis.imshow(torch.where(inner[..., None], (values + 1) / 2, torch.ones(3)).clamp(0, 1).numpy())
        axis.set_title(title)
    turned = axes[1, 2].imshow(torch.where(inner, angle, hidden).numpy(), cmap="magma_r", vmin=0, vmax=60)
    axes[1, 2].set_title(f"angle between them, half of it below {float(angle[inner].median()):.0f}°")
    figure.colorbar(turned, ax=axes[1, 2], label="degrees", shrink=0.85)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure


@styled
def stages(pictures: Mapping[str, Picture], centre: tuple[float, float], half: float) -> Plot:
    """Pictures of different sizes above a close-up of the same place; centre (x right, y down) and half: shares of the side."""
    figure, axes = panels(2, len(pictures), 7.0, 14.0 / len(pictures) + 0.1)
    for (whole, close), (title, picture) in zip(axes.T, pictures.items(), strict=True):
        side = pixels(picture).shape[0]
        show(whole, picture, title)
        show(close, picture)
        (x, y), r = (c * side for c in centre), half * side
        close.set(xlim=(x - r, x + r), ylim=(y + r, y - r))
        whole.add_patch(outline(x, y, r))
        for axis in (whole, close):
            axis.images[0].set_interpolation("nearest")
    return figure


def outline(x: float, y: float, r: float) -> Any:
    """A square of half side r around (x, y)."""
    from matplotlib.patches import Rectangle

    return Rectangle((x - r, y - r), 2 * r, 2 * r, fill=False, edgecolor=COLOURS[4], linewidth=1.5)


@styled
def walks(
    rows: Mapping[str, Sequence[Picture]], changes: Mapping[str, Float[Tensor, "n"]], share: Sequence[float]
) -> Plot:
    """Two ways from one person to another in pictures, and how much the picture changes at each step of each way.

    share: how far each picture is along the way; changes: one number between neighbouring steps, evenly spaced.
    """
    figure = Plot(figsize=(6.2, 4.4), layout="constrained")
    columns = len(share)
    grid = figure.add_gridspec(3, columns, height_ratios=[1, 1, 0.85])
    for line, (name, pictures) in enumerate(rows.items()):
        for k, picture in enumerate(pictures):
            axis = figure.add_subplot(grid[line, k])
            show(axis, picture, f"{name}: {share[k]:.0%}" if k == 0 else f"{share[k]:.0%}")
    curve: Axes = figure.add_subplot(grid[2, :])
    for (name, values), colour in zip(changes.items(), COLOURS, strict=False):
        edges = np.linspace(0, 100, len(values) + 1)
        curve.stairs(values.numpy(), edges, baseline=None, color=colour, label=name, linewidth=1.8)
    curve.set(xlabel="share of the way (%)", ylabel="change of the picture", xlim=(0, 100), ylim=(0, None),
              title="how much the picture changes at each step: flat would be an even walk")  # fmt: skip
    curve.legend(loc="upper right")
    return figure


@torch.no_grad()
def row_of(
    g: Generator, ws: Float[Tensor, "1 L w"], z_bg: Float[Tensor, "1 z"], camera: Camera, row: int, margin: int = 3
) -> tuple[Float[Tensor, "3 W"], Float[Tensor, "3 W"]]:
    """One row of pixels: volume-rendered directly, one ray a pixel, and as the upsampler draws it.

    The upsampler needs the cells of the 32 × 32 map that lie within `margin` of the row, no others. row: counted from the top.
    """
    n, side = g.config.ray_resolution, g.config.resolution
    u = (torch.arange(side) + 0.5) / side * 2 - 1
    direct = g.render_rays(ws, z_bg, camera, u[None], -u[None, row].expand(1, side)).rgb[0].T
    cell = row * n // side
    top, bottom = max(0, cell - margin), min(n, cell + margin + 1)
    x, y = (c.view(1, n, n)[:, top:bottom].reshape(1, -1) for c in g.grid())
    seen = g.render_rays(ws, z_bg, camera, x, y)
    features, rgb = (c.transpose(1, 2).reshape(1, -1, bottom - top, n) for c in (seen.features, seen.rgb))
    return direct.clamp(-1, 1), g.upsampler(features, rgb, ws)[-1][0, :, row - top * side // n].clamp(-1, 1)


@styled
def orbit_slices(strips: Mapping[str, Float[Tensor, "3 T W"]], yaws: Float[Tensor, "T"]) -> Plot:
    """One row of pixels over the camera's way around the head: each line of a strip is that row at one yaw (degrees)."""
    figure, axes = panels(1, len(strips), 8.6, 3.8)
    half = float(yaws[1] - yaws[0]) / 2
    for axis, (title, strip) in zip(axes[0], strips.items(), strict=True):
        drawn = pixels(strip)
        axis.imshow(drawn, aspect="auto", interpolation="nearest",
                    extent=(0, drawn.shape[1], float(yaws[-1]) + half, float(yaws[0]) - half))  # fmt: skip
        axis.set(title=title, xlabel="pixel of the row")
    axes[0, 0].set_ylabel("yaw (degrees)")
    return figure


@styled
def bills(bars: Mapping[str, Mapping[str, float]]) -> Plot:
    """Multiply-adds of ways to make a picture: by name of the way, the parts of its bill. Dots, as a logarithm has no zero."""
    figure, axes = panels(1, 1, 8, 0.42 * len(bars) + 1.0)
    axis = axes[0, 0]
    totals = {name: sum(parts.values()) for name, parts in bars.items()}
    for row, (total, parts) in enumerate(zip(totals.values(), bars.values(), strict=True)):
        axis.plot([total], [row], "o", color=COLOURS[1 if len(parts) == 1 else 0], markersize=9)
        split = ", ".join(f"{name} {part / 1e9:.2g}" for name, part in parts.items())
        words = f"{total / 1e9:,.{1 if total < 1e11 else 0}f} G" + (f"  ({split})" if len(parts) > 1 else "")
        axis.annotate(words, (total, row), (9, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set_yticks(range(len(totals)), list(totals))
    axis.grid(axis="x", color="#dddddd", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.margins(y=0.15)
    axis.set(xscale="log", xlabel="multiply-adds for one picture", title="why features are rendered small and drawn large")
    axis.set_xlim(min(totals.values()) / 4, max(totals.values()) * 12)
    axis.invert_yaxis()
    return figure


@torch.no_grad()
def draw_person(
    g: Generator, latent: Float[Tensor, "1 n"], changes: Mapping[str, float], yaw: float = 0.0, psi: float = 1.0
) -> Plot:
    """The person of a latent with some numbers of z replaced, seen from two sides, with truncation ψ.

    latent: z and z_bg in one row; changes: by name, see `NAMES`; yaw: degrees; psi: ``w̄ + ψ (w − w̄)``, as in StyleGAN.
    """
    z, z_bg = latent[:, : g.config.z_dim].clone(), latent[:, g.config.z_dim :]
    for name, value in changes.items():
        z[0, NAMES.index(name)] = value
    w_mean = g.mapping.w_avg
    ws = g.broadcast(w_mean + psi * (g.mapping(z) - w_mean))
    views = [g(ws, z_bg, Camera.from_pose(torch.tensor([[math.radians(a), 0.0, 0.0]]))).clamp(-1, 1) for a in (0.0, yaw)]
    return picture_grid([views], ["from the front", f"turned by {yaw:g}°"], size=1.9)


@by_hand(identity_1=(-10, 10), identity_2=(-10, 10), skin=(-10, 10), length=(-10, 10), jaw_open=(-10, 10), yaw=(-90, 90),
         psi=(-5, 5))
def slide_person(g: Generator, latent: Float[Tensor, "1 n"], identity_1: float = 0.0, identity_2: float = 0.0,
                 skin: float = 0.0, length: float = 0.0, jaw_open: float = -1.0, yaw: float = 25.0, psi: float = 1.0
                 ) -> Plot:  # fmt: skip
    """`draw_person` with these five numbers of z; what a slider calls."""
    changes = {"identity 1": identity_1, "identity 2": identity_2, "skin": skin, "length": length, "jaw_open": jaw_open}
    return draw_person(g, latent, changes, yaw, psi)
