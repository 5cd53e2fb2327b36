"""The open world's report card: `nfs measure`.

Every figure is measured at 256 × 256 on people that no training used: seeds from 9,000,000 (trainings use seeds below
1,000,000), each part its own range (talk: inversion's), so that the same command gives the same figures. Truth is the
renderer's: it draws the same person from any side with any expression. Definitions are in the functions' docstrings; figures of
the parts that have a training file of their own are defined there (`measure_estimator` and so on).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import radians
from typing import Any

import numpy as np
import torch

from nfs_lib import portraits
from nfs_lib.camera import Camera
from nfs_lib.errors import BadInput, MissingWeights
from nfs_lib.face import Coefficients
from nfs_lib.inversion import Inversion, invert
from nfs_lib.measure_generator import MOUTH, as_picture, box, correlation, measure_generator, psnr, slope
from nfs_lib.portraits import Z_DIM, Portrait, Scene
from nfs_lib.progress import progress
from nfs_lib.talking_head import TalkingHead
from nfs_lib.worlds import World, load

INVERSION_SEED, TALK_SEED = 9_700_000, 9_800_000
Figures = dict[str, Any]


def report(world: str = "open", only: Iterable[str] | str | None = None) -> Figures:
    """Section → figure → value, e.g. report()["generator"]["psnr"].

    only: one section or several of SECTIONS. Sections whose weights aren't there are left out and listed under "missing".
    Raises BadInput for an unknown section.
    """
    chosen = list(SECTIONS) if only is None else [only] if isinstance(only, str) else list(only)
    if unknown := [name for name in chosen if name not in SECTIONS]:
        raise BadInput(f"there is no section {unknown[0]!r} to measure; choose from {', '.join(SECTIONS)}")
    inverted.cache_clear()
    parts, figures, missing = load(world), {}, []
    for name in chosen:
        try:
            figures[name] = _plain(SECTIONS[name](parts))
        except MissingWeights:
            missing.append(name)
    return {**figures, "missing": missing} if missing else figures


def _plain(value: Any) -> Any:
    """Numbers as JSON knows them, to five digits."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return float(f"{float(value):.5g}")


def face_model(world: World) -> Figures:
    """variance_kept: share of the variance of sampled held-out anny people's vertices that the identity basis keeps,
    measured when the asset was baked (scripts/bake_face.py)."""
    return {"variance_kept": world.face_model.info["variance_kept"]}


def generator(world: World) -> Figures:
    """See `measure_generator.measure_generator`."""
    return measure_generator(world.generator, world.face_model)


def estimator(world: World) -> Figures:
    """See `training.estimator.measure_estimator`; "generated": the same on pictures by the generator, where it is there."""
    from nfs_lib.training.estimator import measure_estimator, measure_estimator_generated

    figures: Figures = measure_estimator(world.estimator)
    try:
        return {**figures, "generated": measure_estimator_generated(world.estimator, world.generator)}
    except MissingWeights:
        return figures


def identity(world: World) -> Figures:
    """See `training.identity.measure_identity`."""
    from nfs_lib.training.identity import measure_identity

    return measure_identity(world.identity)


def sync(world: World) -> Figures:
    """See `training.sync.measure_sync`."""
    from nfs_lib.training.sync import measure_sync

    return measure_sync(world.sync)


def audio2exp(world: World) -> Figures:
    """See `training.audio2exp.measure_audio2exp`."""
    from nfs_lib.training.audio2exp import measure_audio2exp

    return measure_audio2exp(world.audio2exp)


@dataclass
class Inverted:
    """A held-out portrait that went through the kit as a user's would: the truth, the fitted face, the inversion."""

    truth: Portrait
    face: Coefficients
    inversion: Inversion


@lru_cache(maxsize=8)
def inverted(world: World, seed: int) -> Inverted:
    """Estimate, fit and invert the portrait of a seed (profile "full"), as `pipeline.talk` does."""
    from nfs_lib.face import fitting

    truth = portraits.portrait(seed)
    image = as_picture(truth)
    face = fitting.fit(world.face_model, world.estimator, image[None])
    found = invert(world.generator, image, face.pose, profile="full", start=world.first_latent(face))
    return Inverted(truth, face.replace(pose=found.pose), found)


def inversion(world: World, people: int = 3) -> Figures:
    """PTI of held-out portraits at their own poses.

    psnr: the input view, reconstructed. novel_psnr: the head turned by ±20° from there, against the rendered truth (the
    turn is added to the found pose on one side and to the true pose on the other). csim: cosine of the identity embeddings
    of the input and of each turned view, mean; csim_truth: the same for rendered turned views, what csim could reach.
    seconds: of one inversion. The identity encoder plays no part in the inversion.
    """
    encoder = world.identity
    same, novel, cosine, ceiling, seconds = [], [], [], [], []
    for i in progress(range(people), "inversion"):
        case = inverted(world, INVERSION_SEED + i)
        image = as_picture(case.truth)
        same.append(psnr(case.inversion.picture()[0], image))
        seconds.append(case.inversion.seconds)
        for yaw in (-20.0, 20.0):
            turn = np.array([radians(yaw), 0, 0], np.float32)
            true = as_picture(portraits.render(case.truth.scene, case.truth.pose + turn))
            made = case.inversion.picture(case.inversion.pose + torch.from_numpy(turn))[0]
            novel.append(psnr(made, true))
            with torch.no_grad():
                seen, view, ideal = encoder(torch.stack([image, made, true]))
            cosine.append(float(seen @ view))
            ceiling.append(float(seen @ ideal))
    return {"psnr": np.mean(same), "novel_psnr": np.mean(novel), "csim": np.mean(cosine), "csim_truth": np.mean(ceiling),
            "seconds": np.mean(seconds)}


def talk(world: World, people: int = 2, frames: int = 40) -> Figures:
    """Does the finished video do what it was told? Inverted held-out portraits are driven with a known jaw curve.

    Their own expression is kept but for jawOpen, which follows a sum of two sines between 0 and 0.8 while the head turns by
    ±10°. jaw_r: correlation of the target with the jaw that the estimator reads off the frames, mean over people;
    jaw_gain: slope of the read on the target curve.
    """
    t = torch.arange(frames) / 25
    curve = 0.4 + 0.25 * torch.sin(2 * torch.pi * 2.1 * t) + 0.15 * torch.sin(2 * torch.pi * 3.7 * t + 1)
    jaw, r, gain = world.face_model.action("jawOpen"), [], []
    for i in progress(range(people), "talking"):
        case = inverted(world, INVERSION_SEED + i)
        betas = case.face.expression.repeat(frames, 1)
        betas[:, jaw] = curve
        poses = case.face.pose.repeat(frames, 1)
        poses[:, 0] += radians(10) * torch.sin(2 * torch.pi * t / t[-1])
        head = TalkingHead(world, case.inversion, case.face)
        pictures = torch.from_numpy(np.stack(list(head.frames(betas, poses)))).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            read = torch.cat([world.estimator(part).expression[:, jaw] for part in pictures.split(20)]).numpy()
        r.append(correlation(read, curve.numpy()))
        gain.append(slope(read, curve.numpy()))
    return {"jaw_r": np.mean(r), "jaw_gain": np.mean(gain)}


def lipaint(world: World, people: int = 6, moments: int = 8) -> Figures:
    """What LipaintNet adds, on held-out people of the generator (their latents are known, so nothing is inverted) who say
    held-out sentences, against the renderer's picture of the same person with the same facial actions.

    mouth_psnr and mouth_psnr_without: PSNR inside the mouth's box (landmarks 48–67, 4 pixels wider), mean over moments and
    people, with and without LipaintNet and blending (ray deformation alone); mouth_gain_db: their difference. Each moment
    stands alone: no mean of masks over time.
    """
    from nfs_lib.training import speech_clips, visemes

    clips = speech_clips.held_out_clips()
    starts, names, g = clips.starts(), world.face_model.expression_names, world.generator
    values: dict[bool, list[float]] = {True: [], False: []}
    for i in progress(range(people), "lips"):
        p = portraits.portrait(TALK_SEED + i)
        truth = _coefficients(p.scene, p.pose)
        z = torch.from_numpy(p.latent)[None]
        with torch.no_grad():
            w = g.mapping(z[:, :Z_DIM])
        person = Inversion(g, w, z[:, Z_DIM:], truth.pose)
        heads = {on: TalkingHead(world, person, truth, lipaint=on, mask_frames=1) for on in values}
        clip = i % len(starts)
        spoken = clips.actions[starts[clip] : clips.ends[clip]]
        at = np.linspace(10, len(spoken) - 10, moments).astype(int)
        for beta in visemes.with_reference(spoken[at], p.scene.expression, names):
            true = portraits.render(p.scene.replace(expression=beta), p.pose)
            rows, columns = box(true.landmarks[MOUTH], 4)
            for on, head in heads.items():
                made = head.frame(torch.from_numpy(beta)[None], Camera.from_pose(truth.pose))
                values[on].append(psnr(made[:, rows, columns], as_picture(true)[:, rows, columns]))
    with_it, without = np.mean(values[True]), np.mean(values[False])
    return {"mouth_gain_db": with_it - without, "mouth_psnr": with_it, "mouth_psnr_without": without}


def _coefficients(scene: Scene, pose: np.ndarray) -> Coefficients:
    """A scene's true coefficients, batch of 1."""
    parts = (scene.identity, scene.expression, pose, scene.light)
    return Coefficients(*(torch.from_numpy(np.asarray(v, np.float32))[None] for v in parts))


SECTIONS: dict[str, Callable[[World], Figures]] = {
    "face_model": face_model, "generator": generator, "estimator": estimator, "identity": identity, "sync": sync,
    "audio2exp": audio2exp, "inversion": inversion, "talk": talk, "lipaint": lipaint}
