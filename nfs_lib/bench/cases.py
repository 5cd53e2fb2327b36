"""What is measured: a head of each world, and for each stage ours and the plain reference on the same input.

The open world's head is the sample portrait. The paper world's has random numbers for weights, at the official sizes: the
configuration ffhq_1024, a face of 35,709 vertices and 5,000 anchors, a LipaintNet, and a BiSeNet, which is run, but whose
answer is an ellipse: a random network's classes are decided by rounding.
"""

import copy
import dataclasses
import math
from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nfs_lib import alignment, blending, deformation, samples, worlds
from nfs_lib.bench import plain
from nfs_lib.bench.measuring import Pair
from nfs_lib.blending import MaskMean
from nfs_lib.camera import HEAD_TO_NERF, Camera, frontal, nerf_to_head
from nfs_lib.face import Coefficients, MorphableModel
from nfs_lib.inversion import Inversion
from nfs_lib.lipaint import LipaintNet
from nfs_lib.pipeline import head_turn
from nfs_lib.segmenter import SIDE, BiSeNet
from nfs_lib.stylenerf import FFHQ_1024, Generator, GeneratorConfig
from nfs_lib.talking_head import OFFICIAL, TalkingHead, seen_as

FRAMES = {"open": 8, "paper": 1}                     # in one call
VERTICES, ANCHORS = 35_709, 5_000                    # of the paper world
CONFIG = FFHQ_1024


@cache
def head(world: str) -> TalkingHead:
    """The talking head that is measured."""
    return open_head() if world == "open" else paper_head(CONFIG, VERTICES, ANCHORS)


def open_head() -> TalkingHead:
    """The sample portrait."""
    inversion = samples.inverted()
    assert inversion.face is not None
    return TalkingHead(worlds.load("open"), inversion, inversion.face)


def paper_head(config: GeneratorConfig, vertices: int, anchors: int) -> TalkingHead:
    """A head of the paper world, random and always the same, with the official code's options."""
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator, segmenter = random_generator(config), EllipseNet().eval().requires_grad_(False)
        lipaint = LipaintNet(config.w_dim, 64).requires_grad_(False)
    model = random_model(vertices)
    face = Coefficients(torch.randn(1, 80, generator=rng), torch.zeros(1, 64), torch.tensor([[0.2, 0.05, 0.0]]),
                        torch.zeros(1, 27))
    inversion = Inversion(generator, generator.mapping(torch.randn(1, config.z_dim, generator=rng)),
                          torch.randn(1, config.z_bg_dim, generator=rng), face.pose)
    places = (torch.rand(anchors, 2, generator=rng) - 0.5) * torch.tensor([0.2, 0.1]) - torch.tensor([0.0, 0.05])
    world: Any = SimpleNamespace(name="paper", face_model=model, lipaint=lipaint, segmenter=segmenter)
    return TalkingHead(world, inversion, face, model, **OFFICIAL | {"anchors": nerf_to_head(F.pad(places, (0, 1)))})


def random_generator(config: GeneratorConfig) -> Generator:
    """A new generator, dense enough to be seen, whose RGB layers don't start from nothing."""
    generator = Generator(config).eval().requires_grad_(False)
    generator.foreground.sigma_out.weight.mul_(8)
    for layer in generator.upsampler.torgb:
        layer.get_parameter("weight").normal_(std=0.3)
    return generator


def random_model(vertices: int) -> MorphableModel:
    """A bowl as wide as a face, 80 identity and 64 expression modes of smooth bumps, the latter about the mouth."""
    rng = torch.Generator().manual_seed(1)
    radius, angle = torch.rand(2, vertices, generator=rng)
    x, y = radius.sqrt() * (2 * math.pi * angle).cos(), 1.2 * radius.sqrt() * (2 * math.pi * angle).sin()
    mean = torch.stack([x, y, 1 - 0.6 * radius], 1)
    mouth = torch.exp(-((x**2 + (y + 0.6) ** 2) / 0.1))

    def modes(n: int, size: Tensor) -> Float[Tensor, "n V 3"]:
        wave = (mean[:, :2] @ (3 * torch.randn(2, n, generator=rng)) + torch.rand(n, generator=rng)).sin()      # (V, n)
        return (wave * size[:, None]).T[..., None] * torch.randn(n, 1, 3, generator=rng)

    return MorphableModel(mean, modes(80, torch.full_like(x, 0.005)), modes(64, 0.05 * mouth), torch.zeros(1, 3).long(),
                          torch.zeros(68).long(), {}, [f"exp{i}" for i in range(64)], {"cropped": True})


class EllipseNet(BiSeNet):
    """BiSeNet, whose answer is put in place of its own."""

    def mouth(self, image: Float[Tensor, "B 3 H W"], official: bool = True) -> Float[Tensor, "B 512 512"]:
        self.labels(image, official)
        u = torch.linspace(-1, 1, SIDE)
        return ((u / 0.25) ** 2 + ((u[:, None] - 0.4) / 0.15) ** 2 < 1).float().expand(len(image), -1, -1)


def motion(head: TalkingHead, frames: int, turning: bool = False) -> tuple[Float[Tensor, "T E"], Float[Tensor, "T 3"]]:
    """Expressions that change from frame to frame, and the portrait's own pose, or a head that turns."""
    own, t = head.face.expression, torch.arange(1, frames + 1)[:, None]
    waves = (0.9 * t * (1 + torch.arange(own.shape[1]) / 7)).sin().abs()
    return own + 0.3 * waves, head_turn(head.inversion.pose, frames, None, None, turning)


def largest(a: Tensor, b: Tensor) -> float:
    """The largest difference of two tensors."""
    return float((a - b).abs().max())


# pairs


def frame(world: str, turning: bool = False, graphs: bool | None = None) -> Pair:
    """FRAMES frames of a clip, as `TalkingHead.frames` gives them. graphs: see `plain`; on in the paper world by default."""
    ours, theirs = head(world), plain.Loop(head(world), graphs=world == "paper" if graphs is None else graphs)
    clip = motion(ours, FRAMES[world], turning)

    def difference() -> float:
        ours.masks, theirs.masks = MaskMean(ours.mask_frames), []
        cameras = [Camera.from_pose(pose[None]) for pose in clip[1]]
        return max(largest(ours.frame(beta[None], camera), theirs.frame(beta[None], camera))
                   for beta, camera in zip(clip[0], cameras, strict=True))

    return Pair(lambda: list(ours.frames(*clip)), lambda: list(theirs.frames(*clip)), difference)


def matching() -> Pair:
    """The paper world's coarse and fine samples, the frontal camera's, and its vertices and anchors; rule "paper"."""
    points, vertices = matching_points()

    def ours() -> Tensor:
        return alignment.match(points, vertices).index[:, 0]

    def theirs() -> Tensor:
        return torch.cat([plain.nearest(half, vertices) for half in points.chunk(2)])

    return Pair(ours, theirs, lambda: float((ours() != theirs()).sum()))


@cache
def matching_points() -> tuple[Float[Tensor, "P 3"], Float[Tensor, "V 3"]]:
    """What is matched: coarse samples, then fine ones; where these lie along their rays is random and plays no part."""
    h, c = paper_head(CONFIG, VERTICES, ANCHORS), CONFIG
    h._fine[seen_as(frontal())] = torch.rand(1, c.ray_resolution**2, c.n_fine)
    points = h.samples(frontal()).unflatten(0, (-1, c.n_samples + c.n_fine))
    return torch.cat([part.flatten(0, 1) for part in points.split([c.n_samples, c.n_fine], 1)]), h.v_init


def deforming(world: str) -> Pair:
    """Eq. 3 and 7: from an expression to moved samples; their vertices are known."""
    h, camera = head(world), Camera.from_pose(head(world).inversion.pose)
    loop, beta = plain.Loop(h), motion(h, 1)[0]
    loop.match(camera)
    matched, points = h.match(camera, h.v_init), torch.zeros(1, h.inversion.generator.config.ray_resolution**2, 3)
    known = matched.index[:, 0]
    points = points.repeat(1, len(known) // points.shape[1], 1)

    def ours() -> Tensor:
        return deformation.deform_nerf(matched, deformation.displacement(h.v_init, h.vertices(beta), h.planar))(points)

    def theirs() -> Tensor:
        delta = loop.placed(loop.rest) - loop.placed(loop.vertices(beta)[h.chosen])
        delta = delta * delta.new_tensor([1.0, 1.0, 0.0]) if h.planar else delta
        return points + delta[known] * HEAD_TO_NERF

    return Pair(ours, theirs, lambda: largest(ours(), theirs()))


def volume(world: str, side: int | None = None, samples: int | None = None) -> Pair:
    """One feature map, its background included; side: of the ray grid; samples: coarse ones of a ray."""
    inv, camera = head(world).inversion, Camera.from_pose(head(world).inversion.pose)
    g = copy.copy(inv.generator)
    g.config = dataclasses.replace(g.config, n_samples=samples or g.config.n_samples)
    grid, ws = g.grid(side), g.broadcast(inv.w)
    with torch.no_grad():
        tau = g.render_rays(ws, inv.z_bg, camera, *grid).tau_fine
    ours = torch.no_grad()(lambda: g.render_rays(ws, inv.z_bg, camera, *grid, tau_fine=tau).features)
    theirs = torch.no_grad()(lambda: plain.render(g, ws, inv.z_bg, camera, tau_fine=tau, places=grid).features)
    return Pair(ours, theirs, lambda: largest(ours(), theirs()))


def background(world: str) -> Pair:
    """The background's rays."""
    h = head(world)
    g, z_bg = h.inversion.generator, h.inversion.z_bg
    rays = g.background_rays(*g.grid(), 1)
    ours = torch.no_grad()(lambda: g.background(*rays, z_bg)[1])
    theirs = torch.no_grad()(lambda: plain.behind(g.background, *rays, z_bg)[..., 3:])
    return Pair(ours, theirs, lambda: largest(ours(), theirs()))


def upsampling(world: str, side: int | None = None) -> Pair:
    """Feature map and RGB → picture; side: of the feature map."""
    h = head(world)
    g, inv = h.inversion.generator, h.inversion
    ws = g.broadcast(inv.w)
    with torch.no_grad():
        maps = g.features(ws, inv.z_bg, Camera.from_pose(inv.pose)).maps()
        features, rgb = (F.interpolate(m, (side, side)) if side else m for m in maps)
    ours = torch.no_grad()(lambda: g.upsample(features, rgb, ws))
    theirs = torch.no_grad()(lambda: plain.upsample(g.upsampler, features, rgb, ws)[-1])
    return Pair(ours, theirs, lambda: largest(ours(), theirs()))


def mixing(world: str) -> Pair:
    """Eq. 12 for the feature map: where the mask is, which is 512 × 512 in the paper world."""
    c, segmented = head(world).inversion.generator.config, head(world).segmented
    rng = torch.Generator().manual_seed(2)
    a, b = torch.randn(2, 1, c.feature_dim, c.ray_resolution, c.ray_resolution, generator=rng)
    side = SIDE if segmented else c.ray_resolution
    mask = torch.rand(side, side, generator=rng)
    merge: Callable[..., Tensor] = blending.blend_at if segmented else blending.blend

    def theirs() -> Tensor:
        return plain.blend_at_512(a, b, mask) if segmented else (1 - mask) * a + mask * b

    return Pair(lambda: merge(a, b, mask), theirs, lambda: largest(merge(a, b, mask), theirs()))


PAIRS: dict[str, Callable[[], Pair]] = {"matching": matching}
for _world in ("open", "paper"):
    PAIRS |= {f"{_world}.frame": partial(frame, _world), f"{_world}.frame_turning": partial(frame, _world, turning=True),
              f"{_world}.frame_no_graphs": partial(frame, _world, graphs=False),
              f"{_world}.deformation": partial(deforming, _world), f"{_world}.field": partial(volume, _world),
              f"{_world}.background": partial(background, _world), f"{_world}.upsampler": partial(upsampling, _world),
              f"{_world}.blend": partial(mixing, _world)}
