"""Pictures and clips with known faults: what a metric should notice, and what it overlooks. For notebook 09."""

import json
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from nfs_lib import portraits, samples
from nfs_lib.audio import FPS, SAMPLE_RATE, load_speech
from nfs_lib.images import to_uint8
from nfs_lib.measure_generator import as_picture
from nfs_lib.metrics.backend import Backend
from nfs_lib.metrics.cpbd import cpbd, luminance
from nfs_lib.metrics.fid import fid
from nfs_lib.metrics.sync import SyncScorer, mouth_crops, windows
from nfs_lib.portraits.chart import face_model
from nfs_lib.training import visemes
from nfs_lib.training.speech import Phoneme

SAMPLES = SAMPLE_RATE // FPS                         # of sound, in a frame
EVERY = 8                                            # CPBD of every 8th frame: it changes slowly and is dear


class Spoken(NamedTuple):
    """Frames (T, 256, 256, 3) and their sound (640 T,) at 16 kHz."""

    frames: UInt8[np.ndarray, "T H W 3"]
    wave: Float32[np.ndarray, " N"]


def spoken(number: int = 1, name: str = "hello", frames: int | None = None) -> Spoken:
    """The renderer's pictures of a sample portrait that says a sample sentence (its first `frames` frames), at the portrait's
    pose: a true clip."""
    wave, about = load_speech(samples.speech_file(name)), samples.speech_file(name).with_suffix(".json")
    sounds = [Phoneme(*sound) for sound in json.loads(about.read_text(encoding="utf8"))["sounds"]]
    who, names = samples.truth(number), face_model().expression_names
    betas = visemes.with_reference(visemes.facial_actions(sounds, wave, names), who.scene.expression, names)[:frames]
    drawn = [portraits.render(who.scene.replace(expression=beta), who.pose).image for beta in betas]
    return Spoken(np.stack(drawn), wave[: SAMPLES * len(drawn)])


def people(seeds: Iterable[int], resolution: int = 128, mirrored: bool = False) -> Float[Tensor, "n 3 _ _"]:
    """Portraits of the open world's people of these seeds, [-1, 1]; mirrored: the same people with yaw and roll reversed."""
    turn = np.array([-1, 1, -1] if mirrored else [1, 1, 1], np.float32)
    return torch.stack([as_picture(portraits.render(portraits.chart(portraits.sample_latent(seed)),
                                                    portraits.sample_pose(seed) * turn, resolution)) for seed in seeds])


# faults


def blurred(pictures: Float[Tensor, "*n 3 H W"], sigma: float) -> Float[Tensor, "*n 3 H W"]:
    """Blurred by a Gaussian, sigma in pixels; 0 leaves them as they are."""
    if not sigma:
        return pictures
    return torch.from_numpy(gaussian_filter1d(gaussian_filter1d(pictures.numpy(), sigma, axis=-1), sigma, axis=-2))


def noisy(pictures: Float[Tensor, "*n 3 H W"], levels: float, seed: int = 0) -> Float[Tensor, "*n 3 H W"]:
    """With noise of so many grey levels (standard deviation), another in each pixel, channel and picture."""
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(seed))
    return (pictures + noise * levels / 127.5).clamp(-1, 1)


def pale(pictures: Float[Tensor, "*n 3 H W"], contrast: float = 0.5) -> Float[Tensor, "*n 3 H W"]:
    """With so much of the contrast, around medium grey."""
    return contrast * pictures


def late(wave: Float32[np.ndarray, " N"], frames: int) -> Float32[np.ndarray, " N"]:
    """The sound so many frames later, after silence; early where `frames` is negative. As long as before."""
    silence = np.zeros(SAMPLES * abs(frames), np.float32)
    return (np.concatenate([silence, wave]) if frames >= 0 else np.concatenate([wave, silence])[len(silence) :])[: len(wave)]


def flattered(
    scorer: SyncScorer, pictures: Float[Tensor, "T 3 H W"], heard: Float[Tensor, "n d"], levels: float = 1.0, steps: int = 6
) -> Float[Tensor, "T 3 H W"]:
    """The pictures, changed by at most `levels` grey levels so that the scorer finds their lips nearer to the sound.

    heard: n = T − 4 embeddings. A few steps along the gradient's sign (Goodfellow et al., 2015), as adversarial examples are
    made; the result is rounded to 8 bits.
    """
    given, bound = pictures, levels / 127.5
    for _ in range(steps):
        pictures = pictures.detach().requires_grad_()
        apart = (scorer.see(windows(mouth_crops(pictures))) - heard).square().sum(1).mean()
        (slope,) = torch.autograd.grad(apart, pictures)
        pictures = (pictures.detach() - 2 * bound / steps * slope.sign()).clamp(given - bound, given + bound)
    return ((pictures + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


# what the metrics say


def scores(
    pictures: Float[Tensor, "T 3 H W"], wave: Float32[np.ndarray, " N"],
    true: tuple[Float[Tensor, "n D"], Float[Tensor, "n d"]], backend: Backend,
) -> dict[str, float]:  # fmt: skip
    """The five columns of one clip: FID to the frames of its truth, CSIM to the first of them, CPBD of every 8th frame, LSE.

    true: what `backend.look` sees in the truth's frames.
    """
    features, who = backend.look(pictures)
    synced = backend.sync(pictures, wave)
    sharp = [cpbd(luminance(frame)) for frame in to_uint8(pictures[::EVERY])]
    return {"FID": max(0.0, fid(features, true[0])), "CSIM": float((who @ true[1][0]).mean()), "CPBD": float(np.mean(sharp)),
            "LSE-D": synced.distance, "LSE-C": synced.confidence}
