"""The rows of `nfs bench`: each a function that gives its figures by name. What they mean: `measuring.compared`.

slope_…: how the time of ours grows (d of size^d) with rays, samples of a ray or in all, vertices, frames, seconds of sound, or
pixels (resolution). The paper world has its own numbers of steps and no row for what it doesn't change.
"""

import copy
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nfs_lib import alignment, inversion, pti, samples, video, worlds
from nfs_lib.bench import cases, plain_steps, work
from nfs_lib.bench.evaluate import evaluate
from nfs_lib.bench.measuring import REPEATS, Figures, Pair, Work, compared, costs, fresh, growth, memory_figures, race
from nfs_lib.stylenerf import Generator
from nfs_lib.talking_head import TalkingHead

TIMES = (1, 2, 4, 8, 16)
NEAR_TIE = 1e-6                                      # relative difference of two distances that rounding may turn round
STEPS = {"open": 6, "paper": 3}                      # of tuning in one measurement
VIDEO_FRAMES = 50


def config(world: str) -> Any:
    return cases.head(world).inversion.generator.config


# stages of a frame


def frame(world: str) -> Figures:
    """The animated frame: deformation, LipaintNet, blending, picture; the camera is still, vertices were found before.

    seconds of one frame. In the open world also …_turning, where the camera moves and both sides look for vertices in each
    frame; slope_frames. In the paper world plain builds graphs (`plain`); …_no_graphs is without them.
    """
    count = cases.FRAMES[world]
    effort = work.frame(config(world), 1 if world == "open" else 2)
    total = Work(count * effort.macs, count * effort.bytes)
    figures = per_frame(compared(f"{world}.frame", cases.PAIRS[f"{world}.frame"](), total, separate=True), count)
    if world == "open":
        turning = per_frame(compared("open.frame_turning", cases.PAIRS["open.frame_turning"](), memory=False, separate=True),
                            count)
        figures |= {f"{key}_turning": turning[key] for key in ("seconds", "plain_seconds", "fps", "ratio", "difference")}
        h = cases.head(world)
        figures["slope_frames"] = growth({n: partial(clip, h, n) for n in (2, 4, 8, 16)})
    else:
        bare = memory_figures("paper.frame_no_graphs")
        figures |= {f"{key}_no_graphs": bare[key] for key in ("memory_ratio", "memory_ratio_whole", "plain_memory_above")}
    return figures


def clip(h: TalkingHead, count: int) -> list[np.ndarray]:
    """The pictures of a clip."""
    return list(h.frames(*cases.motion(h, count)))


def per_frame(figures: Figures, count: int) -> Figures:
    """Figures of `count` frames as figures of one."""
    whole = {key: figures[key] / count for key in ("seconds", "plain_seconds", "gflop", "mbytes", "bound") if key in figures}
    return figures | whole | {"fps": figures["fps"] * count}


def matching() -> Figures:
    """Eq. 6 for the paper world: 8,928 vertices and 5,000 anchors, 14,336 coarse and as many fine samples; rule "paper".

    differing: samples that got another vertex from plain; near_ties: those of them whose two distances differ by less than
    1e-6 of themselves, plus what float32 can't tell apart; wrong: the rest. cdist_wrong: samples at which plain's vertex isn't
    the nearest one.
    """
    points, vertices = cases.matching_points()
    pair = cases.matching()
    figures = compared("matching", pair, work.matching(len(points), len(vertices)))
    figures |= ties(points, vertices, pair.ours(), pair.plain())
    rng = torch.Generator().manual_seed(0)
    spread = points.repeat(max(TIMES), 1)
    spread = spread + 0.01 * torch.randn(spread.shape, generator=rng)
    spread = spread[torch.randperm(len(spread), generator=rng)]
    figures["slope_samples"] = growth({n: partial(alignment.match, spread[: n * len(points)], vertices) for n in TIMES})
    figures["slope_vertices"] = growth({n: partial(alignment.match, points, vertices[:: 16 // n]) for n in TIMES})
    return figures


def ties(points: Tensor, vertices: Tensor, ours: Tensor, theirs: Tensor) -> Figures:
    """The samples at which two answers differ, and why: the distances to both vertices in float64."""
    at = torch.nonzero(ours != theirs)[:, 0]
    p, v = points[at, :2].double(), vertices[:, :2].double()
    mine, other = ((p - v[index[at]]).norm(dim=1) for index in (ours, theirs))
    near = (mine - other).abs() <= NEAR_TIE * torch.maximum(mine, other)
    return {"differing": float(len(at)), "near_ties": float(near.sum()), "wrong": float((~near & (mine > other)).sum()),
            "cdist_wrong": float((~near & (mine < other)).sum())}


def deformation(world: str) -> Figures:
    """Eq. 3 and 7: from an expression to the place of every sample."""
    h, figures = cases.head(world), compared(f"{world}.deformation", cases.deforming(world))
    heads = {n: TalkingHead(h.world, h.inversion, h.face, cases.random_model(n * 2000)) for n in TIMES}
    beta = cases.motion(h, 1)[0]
    return figures | {"slope_vertices": growth({n: partial(heads[n].vertices, beta) for n in TIMES})}


def field(world: str) -> Figures:
    """One feature map: both fields and the compositing."""
    c = config(world)
    rays = c.ray_resolution**2
    figures = compared(f"{world}.field", cases.volume(world), work.field(c, rays) + work.background(c, rays))
    figures["slope_rays"] = growth({n**2: cases.volume(world, side=n).ours for n in (8, 16, 32, 64)})
    figures["slope_samples"] = growth({n: cases.volume(world, samples=n).ours for n in (7, 14, 28, 56)})
    return figures


def background(world: str) -> Figures:
    """The background's rays, once; plain renders them in each of its three passes."""
    c = config(world)
    return compared(f"{world}.background", cases.background(world), work.background(c, c.ray_resolution**2))


def upsampler(world: str) -> Figures:
    """Feature map → picture."""
    figures = compared(f"{world}.upsampler", cases.upsampling(world), work.upsampler(config(world)))
    sides = (8, 16, 32, 64) if world == "open" else (4, 8, 16, 32)
    return figures | {"slope_resolution": growth({n**2: cases.upsampling(world, n).ours for n in sides})}


def blend(world: str) -> Figures:
    """Eq. 12."""
    c = config(world)
    return compared(f"{world}.blend", cases.mixing(world), work.blending(c.feature_dim, c.ray_resolution))


# training


def counted(call: Callable[[], Any]) -> Work:
    """A call's multiply-adds by torch's counter; no traffic."""
    with FlopCounterMode(display=False) as counter:
        call()
    return Work(counter.get_total_flops() / 2, 0)


def tuning(world: str) -> Figures:
    """A step of PTI's second half. share: of the arithmetic of plain, backward included; difference: of the first losses,
    relative."""
    inv = cases.head(world).inversion
    g = {"ours": inv.generator, "plain": plain_steps.plainly(inv.generator)}
    begin = inv.picture()[0]
    target = (0.8 * begin + 0.1).clamp(-1, 1)
    seconds: dict[str, list[float]] = {name: [] for name in g}
    first: dict[str, float] = {}
    for _ in range(REPEATS if world == "open" else 1):
        for name in g:
            stamps: list[float] = []
            first[name] = tuned(world, g[name], inv, target, stamps)
            seconds[name] += [float(np.diff(stamps).mean())] if world == "open" else np.diff(stamps).tolist()
    ours, theirs = (float(np.median(seconds[name])) for name in ("ours", "plain"))
    figures = {"seconds": ours, "plain_seconds": theirs, "fps": 1 / ours, "ratio": theirs / ours,
               "difference": abs(first["ours"] - first["plain"]) / first["plain"]}
    return figures | costs(ours, Work(3 * counted(lambda: replace(inv, generator=g["plain"]).picture()).macs, 0))


def tuned(world: str, g: Generator, inv: inversion.Inversion, target: Tensor, stamps: list[float]) -> float:
    """STEPS steps with the loss of the world; `stamps` gets the time at each. Returns the first loss."""
    if world == "open":
        return inversion.tune(g, target, inv.w, inv.z_bg, inv.pose, steps=STEPS[world],
                              on_step=lambda *_: stamps.append(time.perf_counter()))[1][0]
    g, camera = copy.deepcopy(g).requires_grad_(True), inversion.Camera.from_pose(inv.pose)

    def picture() -> Tensor:
        stamps.append(time.perf_counter())
        return g(g.broadcast(inv.w), inv.z_bg, camera)

    return pti.tune(picture, g.parameters(), target[None], pti.plain_distance(target[None]), steps=STEPS[world], enough=0)[0]


def stepping(losses: Mapping[str, Callable[[], Tensor]], parameters: Mapping[str, list[Tensor]]) -> Figures:
    """A step of training, ours and plain: loss, gradients, Adam's update."""
    difference = [float(losses[name]().detach()) for name in ("ours", "plain")]
    steps = {}
    for name in ("ours", "plain"):
        steps[name] = partial(step, losses[name], torch.optim.Adam(parameters[name], lr=1e-5))
    ours, theirs = race(steps["ours"], steps["plain"])
    figures = {"seconds": ours, "plain_seconds": theirs, "fps": 1 / ours, "ratio": theirs / ours,
               "difference": abs(difference[0] - difference[1]) / abs(difference[1])}
    return figures | costs(ours, counted(steps["plain"]))


def step(loss: Callable[[], Tensor], optimiser: torch.optim.Optimizer) -> None:
    """One update."""
    optimiser.zero_grad()
    loss().backward()
    optimiser.step()


def lipaint() -> Figures:
    """A step of LipaintNet's training with the paper's losses, batch 4; plain: the generator plain and in float32."""
    from nfs_lib.training import lipaint as training
    from nfs_lib.training.common import step_rng

    world, other = worlds.load("open"), worlds.load("open")
    for part in ("generator", "estimator", "discriminator"):
        getattr(world, part).requires_grad_(False)
        other.__dict__[part] = getattr(world, part)
    other.__dict__["generator"] = plain_steps.plainly(world.generator)
    table = training.expression_table(200, 0)
    nets = {name: copy.deepcopy(world.lipaint).requires_grad_(True) for name in ("ours", "plain")}
    losses = {"ours": lambda: training.paper_loss(nets["ours"], world, table, step_rng(0, 0))[0],
              "plain": lambda: training.paper_loss(nets["plain"], other, table, step_rng(0, 0))[0]}
    return stepping(losses, {name: list(net.parameters()) for name, net in nets.items()})


def generator() -> Figures:
    """A step of the generator's training: the second stage (patches), which takes most of the time; batch 4, Adam in both."""
    from nfs_lib.training import generator as training
    from nfs_lib.training.common import step_rng

    ours = copy.deepcopy(worlds.load("open").generator).requires_grad_(True)
    made, data = {"ours": ours, "plain": plain_steps.plainly(ours)}, random_pairs()
    losses = {"ours": lambda: training.patch_step(made["ours"], data, step_rng(0, 0))[0],
              "plain": lambda: training.patch_step(made["plain"], data, step_rng(0, 0))[0]}
    return stepping(losses, {name: list(g.parameters()) for name, g in made.items()})


def random_pairs(n: int = 8) -> Any:
    """Training data of the right shapes; what is in it plays no part."""
    from nfs_lib.stylenerf import OPEN
    from nfs_lib.training.pairs import Pairs

    rng = torch.Generator().manual_seed(0)
    rand = lambda *shape: torch.rand(*shape, generator=rng)                                       # noqa: E731
    return Pairs(pictures=(255 * rand(n, 2, 256, 256, 3)).byte(), small=(255 * rand(n, 2, 128, 128, 3)).byte(),
                 alpha=rand(n, 2, 64, 64), depth=0.95 + 0.1 * rand(n, 2, 64, 64), pose=0.2 * rand(n, 3),
                 latents=torch.randn(n, 2, OPEN.z_dim + OPEN.z_bg_dim, generator=rng), weight=rand(n, 64, 64))


# around the generator


def estimator(world: str) -> Figures:
    """What the estimator reads off one picture. The paper world's ReconNet (random here) has no faster form to compare."""
    if world == "paper":
        from nfs_lib.face.reconnet import ReconNet

        recon = ReconNet().eval().requires_grad_(False)
        picture = torch.zeros(1, 3, 1024, 1024)
        (taken,) = race(lambda: recon.read(picture))
        return {"seconds": taken, "fps": 1 / taken} | costs(taken, counted(lambda: recon.read(picture)))
    net, image = worlds.load("open").estimator.requires_grad_(False), cases.head("open").inversion.picture()
    usual = plain_steps.usual_layout(net)
    pair = Pair(lambda: net(image), lambda: plain_steps.estimate(usual, image),
                lambda: cases.largest(net(image).expression, plain_steps.estimate(usual, image).expression))
    return compared("open.estimator", pair, counted(pair.ours), memory=False)


def mel() -> Figures:
    """Sound → mel windows, 8 seconds; plain: librosa. fps: windows a second, each of them a frame of video."""
    from nfs_lib.audio import FPS, SAMPLE_RATE, mel_windows

    rng = np.random.default_rng(0)
    wave = (0.1 * rng.standard_normal(32 * SAMPLE_RATE)).astype(np.float32)
    short = wave[: 8 * SAMPLE_RATE]
    pair = Pair(lambda: mel_windows(short), lambda: plain_steps.mel_windows(short),
                lambda: float(np.abs(mel_windows(short) - plain_steps.mel_windows(short)).max()))
    figures = compared("open.mel", pair, memory=False)
    slope = growth({n: partial(mel_windows, wave[: n * 2 * SAMPLE_RATE]) for n in TIMES})
    return figures | {"fps": 8 * FPS / figures["seconds"], "slope_seconds": slope}


def writing() -> Figures:
    """Frames and sound → mp4, 2 seconds at 256 × 256; plain: by way of PNG files. fps: frames a second."""
    rng = np.random.default_rng(0)
    picture, wave = samples.truth().image, np.zeros(2 * VIDEO_FRAMES * 640, np.float32)
    noise = rng.integers(0, 4, (2 * VIDEO_FRAMES, *picture.shape), dtype=np.uint8)
    frames = np.minimum(picture, 252) + noise
    with tempfile.TemporaryDirectory() as folder:
        path, other = Path(folder) / "ours.mp4", Path(folder) / "plain.mp4"

        def difference() -> float:
            video.write_video(path, frames[:3], wave)
            plain_steps.write_video(other, frames[:3], wave)
            a, b = (video.read_video(p).frames.astype(int) for p in (path, other))
            return float(np.abs(a - b).max())

        half = frames[:VIDEO_FRAMES]
        pair = Pair(lambda: video.write_video(path, half, wave), lambda: plain_steps.write_video(other, half, wave), difference)
        figures = compared("open.video", pair, memory=False)
        slope = growth({n: partial(video.write_video, path, frames[:n], wave)
                        for n in (VIDEO_FRAMES // 2, VIDEO_FRAMES, 2 * VIDEO_FRAMES)})
    return figures | {"fps": VIDEO_FRAMES / figures["seconds"], "slope_frames": slope}


# from nothing


def importing() -> Figures:
    """In interpreters of their own: seconds that `import nfs_lib` adds to `import torch` (which takes torch); pipeline: that
    `import nfs_lib.pipeline` adds, with all that a frame needs."""
    lines = ["import time", "t = [time.perf_counter()]"]
    for name in ("torch", "nfs_lib", "nfs_lib.pipeline"):
        lines += [f"import {name}", "t.append(time.perf_counter())"]
    code = "\n".join([*lines, "print(t[1] - t[0], t[2] - t[1], t[3] - t[1])"])
    torch_, ours, pipeline = np.median([[float(x) for x in fresh(code).split()] for _ in range(REPEATS)], axis=0).tolist()
    return {"seconds": ours, "torch": torch_, "pipeline": pipeline}


FIRST = """
import time
from nfs_lib import pipeline, samples

frames = pipeline.TalkingHead.frames

def first(self, betas, poses):
    next(iter(frames(self, betas, poses)))
    print(time.time())
    raise SystemExit

pipeline.TalkingHead.frames = first
pipeline.talk(samples.portrait_file(), samples.speech_file(), OUT, profile="fast")
"""


def first_picture() -> Figures:
    """Seconds from the start of `nfs talk` (profile "fast") to its first picture: a fresh process, once."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.time()
        end = float(fresh(FIRST.replace("OUT", repr(str(Path(folder) / "talk.mp4")))))
    return {"seconds": end - begin}


def inverting() -> Figures:
    """PTI to the loss at which the paper's recipe ends."""
    from nfs_lib.bench.inversion import inversion

    return inversion()


EITHER: dict[str, Callable[[str], Figures]] = {
    "deformation": deformation, "field": field, "background": background, "upsampler": upsampler,
    "blend": blend, "pti": tuning, "estimator": estimator}
BENCHES: dict[str, Callable[[], Figures]] = {
    **{f"{world}.{name}": partial(row, world) for world in ("open", "paper") for name, row in EITHER.items()},
    "open.lipaint": lipaint, "open.generator": generator, "open.mel": mel, "open.video": writing, "open.import": importing,
    "open.first_picture": first_picture, "open.evaluate": evaluate, "matching": matching,
    # last: their frames let this process keep freed memory (`cpu.keep_freed_memory`), which would change the rows after them
    "open.frame": partial(frame, "open"), "paper.frame": partial(frame, "paper"), "inversion": inverting}
