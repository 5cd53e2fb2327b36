"""What the studies measure on: held-out people who say held-out sentences, with the true picture of every frame.

Only the open world can give this. A person of a seed that no training used is drawn once, as a portrait; that one picture goes
through the kit as a user's would (estimate, fit, invert). The renderer then draws the same person saying the sentence, the head
turning a little: the truth that every method is held against.
"""

from dataclasses import dataclass
from math import radians
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nfs_lib import inversion, portraits
from nfs_lib.face import Coefficients, fitting
from nfs_lib.inversion import Inversion
from nfs_lib.measure_generator import as_picture
from nfs_lib.portraits import Portrait
from nfs_lib.portraits.chart import face_model
from nfs_lib.studies import kept
from nfs_lib.training import speech_clips, visemes
from nfs_lib.worlds import World
from nfs_lib.writing import intact

PEOPLE_SEED = 9_900_000
SWAY = radians(6)                                    # how far the head turns to each side while it speaks


@dataclass(frozen=True)
class Person:
    """A held-out person: the portrait that was given, with its truth, and what the kit made of it."""

    seed: int
    portrait: Portrait
    face: Coefficients
    inversion: Inversion

    @property
    def picture(self) -> Float[Tensor, "3 256 256"]:
        """The portrait in [-1, 1]."""
        return as_picture(self.portrait)


@dataclass(frozen=True)
class Clip:
    """T frames of a held-out sentence: mel windows (T, 80, 16) and the speech's own facial actions (T, E)."""

    number: int
    heard: Float[np.ndarray, "T 80 16"]
    actions: Float[np.ndarray, "T E"]


@dataclass(frozen=True)
class Truth:
    """Frames (T, 256, 256, 3) uint8, landmarks (T, 68, 2) in pixels, facial actions (T, E), poses (T, 3) in radians."""

    frames: UInt8[np.ndarray, "T H W 3"]
    landmarks: Float[np.ndarray, "T 68 2"]
    betas: Float[Tensor, "T E"]
    poses: Float[Tensor, "T 3"]


@torch.enable_grad()                                 # fitting and inversion descend gradients, also where a study measures
def person(world: World, seed: int, yaw: float | None = None, folder: Path = Path("runs/people")) -> Person:
    """The portrait of a seed, estimated, fitted and inverted.

    yaw: radians at which it is taken, without pitch and roll (the seed's own pose by default). The inversion (profile "fast")
    is kept in `folder`, under a name that changes with the weights, so that a study can be stopped and goes on where it was.
    """
    scene = portraits.chart(portraits.sample_latent(seed))
    pose = portraits.sample_pose(seed) if yaw is None else np.array([yaw, 0, 0], np.float32)
    seen = portraits.render(scene, pose)
    picture = as_picture(seen)
    path = folder / f"{seed}_{pose[0]:+.2f}_{kept.key(world.generator, world.estimator, world.face_model)}.safetensors"
    if not intact(path, inversion.load):
        folder.mkdir(parents=True, exist_ok=True)
        face = fitting.fit(world.face_model, world.estimator, picture[None])
        found = inversion.invert(world.generator, picture, face.pose, profile="fast", start=world.first_latent(face), face=face)
        inversion.save(found, path)
    found = inversion.load(path)
    assert found.face is not None                    # it was given
    return Person(seed, seen, found.face, found)


def clips(count: int, frames: int) -> list[Clip]:
    """`count` pieces of `frames` frames from the middle of as many held-out sentences, the longest ones."""
    spoken = speech_clips.held_out_clips()
    starts, columns = spoken.starts(), spoken.columns()
    chosen = np.argsort(starts - spoken.ends, kind="stable")[:count]
    pieces = []
    for i in sorted(chosen.tolist()):
        first = (starts[i] + spoken.ends[i] - frames) // 2
        at = slice(first, first + frames)
        pieces.append(Clip(i, spoken.mel[columns[at]].transpose(0, 2, 1), spoken.actions[at]))
    return pieces


def sway(frames: int) -> Float[Tensor, "T 3"]:
    """A slow turn to one side and the other, radians, that starts and ends at 0."""
    turn = torch.zeros(frames, 3)
    turn[:, 0] = SWAY * torch.sin(torch.linspace(0, 2 * torch.pi, frames))
    return turn


def truth(who: Person, clip: Clip, poses: Float[Tensor, "T 3"]) -> Truth:
    """The renderer's pictures of this person saying the clip, the head at these poses."""
    scene = who.portrait.scene
    betas = visemes.with_reference(clip.actions, scene.expression, face_model().expression_names)
    drawn = [portraits.render(scene.replace(expression=b), p) for b, p in zip(betas, poses.numpy(), strict=True)]
    return Truth(np.stack([d.image for d in drawn]), np.stack([d.landmarks for d in drawn]), torch.from_numpy(betas), poses)
