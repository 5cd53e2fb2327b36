"""The plain reference for what isn't a frame: a generator for steps of training, the estimator, sound, files (see `plain`)."""

import copy
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from nfs_lib import audio, video
from nfs_lib.bench.plain import Deform, render, upsample
from nfs_lib.camera import Camera
from nfs_lib.face import Coefficients, Estimator
from nfs_lib.face.estimator import EYES, MOUTH, look_up
from nfs_lib.stylenerf import Generator
from nfs_lib.stylenerf.generator import Rendered
from nfs_lib.stylenerf.upsampler import Upsampler


class PlainUpsampler(Upsampler):
    """`upsample` under the module's name, in float32 whatever the caller's precision."""

    def forward(self, features: Tensor, rgb: Tensor, ws: Tensor, enlarge: bool = True) -> list[Tensor]:
        with torch.autocast("cpu", enabled=False):
            return upsample(self, features.float(), rgb.float(), ws.float())


class PlainGenerator(Generator):
    """A generator whose volume and pictures are the plain ones, for the steps of training and inversion: their losses and
    optimisers are the library's, in float32 as far as the generator goes. The background is rendered anew, by the frozen
    camera, whatever is given."""

    upsampler: PlainUpsampler

    def render_rays(self, ws: Tensor, z_bg: Tensor, camera: Camera, x: Tensor, y: Tensor, deform: Deform | None = None,
                    jitter: Tensor | None = None, tau_fine: Tensor | None = None, background: Camera | None = None,
                    behind: tuple[Tensor, Tensor] | None = None) -> Rendered:
        with torch.autocast("cpu", enabled=False):
            return render(self, ws.float(), z_bg, camera, deform, tau_fine, places=(x, y), jitter=jitter)

    def features(self, ws: Tensor, z_bg: Tensor, camera: Camera, deform: Deform | None = None, tau_fine: Tensor | None = None,
                 background: Camera | None = None, behind: tuple[Tensor, Tensor] | None = None) -> Rendered:
        return self.render_rays(ws, z_bg, camera, *self.grid(), deform, None, tau_fine)

    def upsample(self, features: Tensor, rgb: Tensor, ws: Tensor) -> Tensor:
        return self.upsampler(features, rgb, ws)[-1]

    def forward(self, ws: Tensor, z_bg: Tensor, camera: Camera) -> Tensor:
        return self.upsample(*self.features(ws, z_bg, camera).maps(), ws)


def plainly(g: Generator) -> PlainGenerator:
    """A copy that works the plain way."""
    made = copy.deepcopy(g)
    made.__class__, made.upsampler.__class__ = PlainGenerator, PlainUpsampler
    assert isinstance(made, PlainGenerator)
    return made


# around the generator


def estimate(net: Estimator, image: Float[Tensor, "B 3 H W"]) -> Coefficients:
    """The open world's estimator in torch's usual memory layout; net: a copy whose weights have it (`usual_layout`)."""
    image = net.resized(image)
    whole = net.whole(F.avg_pool2d(image, 2))
    pose = net.pose_head(whole)
    camera = Camera.from_pose(pose * net.std[:3] + net.mean[:3])
    mouth, eyes = look_up(image, net.mouth_points, MOUTH, camera), look_up(image, net.eye_points, EYES, camera)
    rest = net.head(torch.cat([whole, net.mouth(mouth.contiguous()), net.eyes(eyes.contiguous())], 1))
    return net.coefficients(torch.cat([pose, rest], 1))


def usual_layout(net: Estimator) -> Estimator:
    """A copy without channels-last weights."""
    net = copy.deepcopy(net)
    for p in net.parameters():
        p.data = p.data.contiguous()
    return net


def mel_windows(wave: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "T 80 16"]:
    """Mel windows as the official script makes them, with librosa and scipy, one frame after the other."""
    import librosa
    from scipy.signal import lfilter

    frames = len(wave) * audio.FPS // audio.SAMPLE_RATE
    emphasised = lfilter([1, -audio.PREEMPHASIS], [1], wave[: frames * audio.SAMPLE_RATE // audio.FPS])
    spectrum = librosa.stft(emphasised, n_fft=audio.N_FFT, hop_length=audio.HOP, win_length=audio.N_FFT, pad_mode="constant")
    filters = librosa.filters.mel(sr=audio.SAMPLE_RATE, n_fft=audio.N_FFT, n_mels=audio.N_MELS, fmin=audio.F_MIN,
                                  fmax=audio.F_MAX)
    decibels = 20 * np.log10(np.maximum(1e-5, filters @ np.abs(spectrum))) - audio.REF_DB
    mel = np.clip(8 * (decibels + 100) / 100 - 4, -4, 4)
    windows = []
    for i in range(frames):
        start = int(80 * (i - 2) / audio.FPS)
        windows.append(mel[:, np.clip(np.arange(start, start + audio.WINDOW), 0, mel.shape[1] - 1)])
    return np.stack(windows)


def write_video(path: Path, frames: Iterable[UInt8[np.ndarray, "H W 3"]], wave: Float[np.ndarray, " samples"]) -> None:
    """Every frame to a PNG file, as the official script does; then the files to a video, by the library's own encoder."""
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for i, frame in enumerate(frames):
            names.append(Path(folder) / f"{i:06d}.png")
            Image.fromarray(frame).save(names[-1])
        video.write_video(path, (np.asarray(Image.open(name)) for name in names), wave)
