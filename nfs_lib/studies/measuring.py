"""All that the metrics of section 5.3 need of one video.

The face is found once for the clip, every frame is cropped once and shown to all metrics. Frames are streamed: what is kept
doesn't grow with the clip's length, but for a vector a frame that LSE needs.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32

from nfs_lib import audio, worlds
from nfs_lib.checkpoints import find_part
from nfs_lib.errors import BadInput
from nfs_lib.framing import LARGEST, Framing, frame_clip, place, stack
from nfs_lib.images import load_portrait, to_uint8
from nfs_lib.metrics import Backend, Lse, cpbd, load_backend, lse, luminance
from nfs_lib.metrics.sync import FRAMES
from nfs_lib.studies.moments import Moments, join, moments
from nfs_lib.video import FPS, length, read_sound, stream_frames

SHORTEST = FPS                                       # frames; in less, LSE compares with silence more than with speech
BATCH = 16                                           # frames that the networks see at once


@dataclass(frozen=True)
class Measured:
    """What one video gave. embedding (d,): identity, mean over its frames, so that its product with a source's is CSIM; first
    (d,): that of its first frame; seconds: spent on each part."""

    frames: int
    framing: Framing
    cpbd: float
    sync: Lse
    embedding: Float[np.ndarray, " d"]
    first: Float[np.ndarray, " d"]
    moments: Moments
    seconds: dict[str, float] = field(default_factory=dict, repr=False)


class Networks(NamedTuple):
    """What a measurement needs. Faces are found by the open world's estimator, whichever world measures."""

    backend: Backend
    finder: worlds.World


@lru_cache(maxsize=1)
def networks(world: str) -> Networks:
    """The networks of a world by its name, loaded once in a process. Raises MissingWeights for a part that isn't there."""
    for part in ("inception", "arcface", "estimator", "face_model", "syncnet") if world == "paper" else ():
        find_part(world, part)                       # now, and not after the first hour
    return Networks(load_backend(worlds.load(world)), worlds.load("open"))


def measured(path: Path, world: str = "open") -> Measured | str:
    """`measure`, or in words why this video can't be measured."""
    try:
        return measure(path, world)
    except (BadInput, OSError, ValueError) as error:  # the last two: what decoders make of broken files
        return " ".join(str(error).removeprefix(f"{path} ").split()) or type(error).__name__


def measure(path: Path, world: str = "open") -> Measured:
    """All that the metrics need of one video.

    The face is framed once for the clip (`framing`). All metrics see the same crops of all frames, 256 × 256 pixels, CPBD too,
    so that methods of different sizes can be compared. LSE is that of the video's own sound.
    Raises BadInput, saying what is wrong, for a video that can't be decoded, is cut short, has less than a second, has no sound
    or only silence, or shows no face.
    """
    backend, finder = networks(world)
    clock, told = Clock(), length(path)
    with clock("sound"):
        wave = speech(path)
    with clock("faces"):
        framing = frame_clip(path, finder.estimator, finder.face_model)
    sharp: list[float] = []
    seen: list[np.ndarray] = []                      # features that no moments hold yet
    who: list[np.ndarray] = []
    lips: list[torch.Tensor] = []
    of_clip: Moments | None = None
    run = torch.zeros(0, 3, 256, 256)                # crops that LSE sees: lips are read in runs of five
    frames = stream_frames(path, LARGEST)
    while True:
        with clock("decode"):
            batch = list(islice(frames, BATCH))
        if not batch:
            break
        with clock("crop"):
            crops = stack(batch, framing.transform)
        with clock("FID, CSIM"):
            features, embeddings = backend.look(crops)
            seen.append(features.numpy())
            who.append(embeddings.numpy())
            if sum(map(len, seen)) > features.shape[1]:
                of_clip, seen = _with(of_clip, seen), []
        with clock("CPBD"):
            sharp += [cpbd(luminance(crop)) for crop in to_uint8(crops)]
        with clock("LSE"):
            run = torch.cat([run[1 - FRAMES :], crops])
            lips += [backend.see(run)] if len(run) >= FRAMES else []
    count = len(sharp)
    if count < SHORTEST:
        raise BadInput(f"it has {count} frames; at least {SHORTEST} (one second) are expected")
    if told and count < 0.9 * told - 5:
        raise BadInput(f"its picture ends after {count / FPS:.1f} s of {told / FPS:.1f} s: cut short, or its sound goes on")
    with clock("LSE"):
        heard = backend.hear(wave, count)
        synced = lse(torch.cat(lips)[: len(heard)], heard)
    with clock("FID, CSIM"):
        of_clip = _with(of_clip, seen)
        embedded = np.concatenate(who)
    return Measured(count, framing, float(np.mean(sharp)), synced, embedded.mean(0), embedded[0], of_clip, dict(clock.seconds))


def _with(of_clip: Moments | None, seen: list[np.ndarray]) -> Moments:
    """The clip's moments with further features."""
    if of_clip is None or not seen:
        return of_clip or moments(np.concatenate(seen))
    return join(of_clip, moments(np.concatenate(seen)))


def speech(path: Path) -> Float32[np.ndarray, " N"]:
    """The sound of a video, 16 kHz mono. Raises BadInput if there is none, or nothing but silence."""
    wave = read_sound(path)
    if wave is None or not len(wave):
        raise BadInput("it has no sound; put the speech into the file")
    loudest = float(np.abs(wave - wave.mean()).max())
    if not loudest >= audio.QUIETEST:
        raise BadInput(f"it is silent: its loudest sample is {loudest:.2g} of full scale; put the speech into the file")
    return wave


def embedded(path: Path, world: str = "open") -> Float[np.ndarray, " d"] | None:
    """The identity of a portrait, for CSIM; None if the picture can't be read or shows no face."""
    backend, finder = networks(world)
    try:
        frame = to_uint8(load_portrait(path))
    except BadInput:
        return None
    transform = place(frame, finder.estimator, finder.face_model)
    return None if transform is None else backend.identity(stack([frame], transform))[0].numpy()


class Clock:
    """Adds up the seconds spent on named parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - begin
