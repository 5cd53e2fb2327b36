"""Do the lips fit the sound? SyncNet with its authors' names, as Wav2Lip's evaluation feeds it.

Which part of the picture it sees is a matter of protocol, and figures differ with it. `whole_frames`, the protocol that
Wav2Lip's evaluation calls LRS, is for videos that are cropped to the face already. `track_crops`, called real_videos, cuts the
face of a tracked box out of any video. Both give pictures of 224 × 224.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn

from nfs_lib import audio
from nfs_lib.errors import BadInput
from nfs_lib.metrics.sync import FRAMES, Lse, lse

SIDE = 224  # pixels
HEARD = 20  # MFCC columns that go with five frames: 0.2 s
PER_FRAME = 4  # MFCC columns a frame
CHUNK = 50  # frames that go through the network at once
SMOOTHED = 13  # frames of the median that steadies a track
MARGIN = 0.4  # of the box's side, left, right and below
BORDER = 110 / 127.5 - 1  # beyond the picture


def layers(*parts: nn.Module) -> nn.Sequential:
    """The parts in a row, a norm and a ReLU after each convolution."""
    chain: list[nn.Module] = []
    for part in parts:
        chain.append(part)
        if isinstance(part, nn.Conv2d | nn.Conv3d):
            norm = nn.BatchNorm3d if isinstance(part, nn.Conv3d) else nn.BatchNorm2d
            chain += [norm(part.out_channels), nn.ReLU()]
    return nn.Sequential(*chain)


def head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


class SyncNet(nn.Module):
    """Five frames and 0.2 s of sound → two vectors (1024), near each other when they belong together. The file is
    `syncnet_v2.model`."""

    def __init__(self) -> None:
        super().__init__()
        one, half = (1, 1, 1), (1, 2, 2)
        self.netcnnaud = layers(
            nn.Conv2d(1, 64, 3, 1, 1), nn.MaxPool2d(1),
            nn.Conv2d(64, 192, 3, 1, 1), nn.MaxPool2d(3, (1, 2)),
            nn.Conv2d(192, 384, 3, 1, 1), nn.Conv2d(384, 256, 3, 1, 1), nn.Conv2d(256, 256, 3, 1, 1), nn.MaxPool2d(3, 2),
            nn.Conv2d(256, 512, (5, 4)),
        )  # fmt: skip
        self.netcnnlip = layers(
            nn.Conv3d(3, 96, (5, 7, 7), half), nn.MaxPool3d((1, 3, 3), half),
            nn.Conv3d(96, 256, (1, 5, 5), half, (0, 1, 1)), nn.MaxPool3d((1, 3, 3), half, (0, 1, 1)),
            nn.Conv3d(256, 256, (1, 3, 3), one, (0, 1, 1)), nn.Conv3d(256, 256, (1, 3, 3), one, (0, 1, 1)),
            nn.Conv3d(256, 256, (1, 3, 3), one, (0, 1, 1)), nn.MaxPool3d((1, 3, 3), half),
            nn.Conv3d(256, 512, (1, 6, 6)),
        )  # fmt: skip
        self.netfcaud, self.netfclip = head(), head()

    def hear(self, mfcc: Float[Tensor, "B 1 13 20"]) -> Float[Tensor, "B 1024"]:
        """Windows of 20 columns of `audio.mfcc`."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def see(self, frames: Float[Tensor, "B 3 T 224 224"]) -> Float[Tensor, "B n 1024"]:
        """A vector for each run of five frames, n = T − 4. frames: channels blue, green, red; 0–255."""
        seen = self.netcnnlip(frames).flatten(2).transpose(1, 2)
        return self.netfclip(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])

    def lips(self, frames: Float[Tensor, "T 3 224 224"]) -> Float[Tensor, "n 1024"]:
        """`see` for the frames of a video, in [-1, 1], red first; n = T − 4."""
        pictures = (frames.flip(1) + 1) * 127.5
        starts = range(0, len(frames) - FRAMES + 1, CHUNK)
        return torch.cat([self.see(pictures[i : i + CHUNK + FRAMES - 1].transpose(0, 1)[None])[0] for i in starts])

    def sound(self, wave: Float32[np.ndarray, " N"], frames: int) -> Float[Tensor, "n 1024"]:
        """`hear` for the sound of a video of `frames` frames, 16 kHz, in [-1, 1].

        Row i hears MFCC columns 4 i … 4 i + 19, which go with frames i … i + 4; n = min(frames, ⌊N / 640⌋) − 5, one fewer
        than would fit, as in the official evaluation. Raises BadInput if that is none.
        """
        count = min(frames, audio.video_frames(wave)) - FRAMES
        if count < 1:
            raise BadInput(f"{frames} frames and {len(wave) / audio.SAMPLE_RATE:.2f} s of sound were given; SyncNet needs at "
                           f"least {FRAMES + 1} frames (0.24 s) of both: give a longer clip")
        mfcc = torch.from_numpy(audio.mfcc(as_int16(wave))).float()
        heard = mfcc.unfold(1, HEARD, PER_FRAME)[:, :count].transpose(0, 1)[:, None]
        return torch.cat([self.hear(part) for part in heard.split(256)])

    @torch.no_grad()
    def score(self, frames: Float[Tensor, "T 3 224 224"], wave: Float32[np.ndarray, " N"]) -> Lse:
        """LSE of a video: `whole_frames` or `track_crops`, and its sound."""
        sound = self.sound(wave, len(frames))
        return lse(self.lips(frames)[: len(sound)], sound)


def as_int16(wave: Float32[np.ndarray, " N"]) -> np.ndarray:
    """Samples as a 16-bit file holds them."""
    return np.rint(wave * 32768).clip(-32768, 32767).astype(np.int16)


def whole_frames(frames: Float[Tensor, "T 3 H W"]) -> Float[Tensor, "T 3 224 224"]:
    """The protocol LRS: each frame as a whole, whatever its shape, bilinear."""
    return F.interpolate(frames, (SIDE, SIDE), mode="bilinear", align_corners=False)


def track_crops(frames: Float[Tensor, "T 3 H W"], boxes: Float[np.ndarray, "t 4"]) -> Float[Tensor, "T 3 224 224"]:
    """The protocol real_videos: the face of one track, with 0.4 of its box's side around it, but none above.

    boxes: left, top, right, bottom in pixels, one per frame, where a face was found and gaps were filled in. Centre and half
    side b (of the longer side) become their medians over 13 frames, zeros beyond the ends; rows y − b … y + 1.8 b, columns
    x ± 1.4 b are cut out, grey beyond the picture, and resized, bilinear. The official pipeline finds the boxes with S3FD and
    keeps tracks of more than 100 frames whose boxes have more than 100 pixels.
    Raises BadInput unless each frame has a box, and for fewer than 13 frames.
    """
    from scipy.signal import medfilt

    boxes = np.asarray(boxes, np.float64)
    if len(boxes) != len(frames) or len(boxes) < SMOOTHED or not (boxes[:, 2:] > boxes[:, :2]).all():
        raise BadInput(f"{len(frames)} frames and {len(boxes)} boxes were given; expected one box per frame, left < right and "
                       f"top < bottom, and {SMOOTHED} frames at least")
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    x, y, half = (medfilt(v, SMOOTHED) for v in (*centre.T, (boxes[:, 2:] - boxes[:, :2]).max(1) / 2))
    return torch.cat([cut(frame[None], cx, cy, b) for frame, cx, cy, b in zip(frames, x, y, half, strict=True)])


def cut(frames: Float[Tensor, "T 3 H W"], x: float, y: float, half: float) -> Float[Tensor, "T 3 224 224"]:
    """The same piece of all frames: rows y − b … y + 1.8 b, columns x ± 1.4 b for a half side b, in whole pixels."""
    pad = int(half * (1 + 2 * MARGIN))
    rows = slice(int(y + pad - half), int(y + pad + half * (1 + 2 * MARGIN)))
    columns = slice(int(x + pad - half * (1 + MARGIN)), int(x + pad + half * (1 + MARGIN)))
    return whole_frames(F.pad(frames, (pad,) * 4, value=BORDER)[..., rows, columns])
