"""Wav2Lip (Prajwal et al., 2020): speech redraws the lower half of a face in its picture.

The generator of the paper, layer by layer, under the names of its public state dict, so that `wav2lip.pth` and
`wav2lip_gan.pth` load into `Wav2Lip()`. The open world's is the same network with fewer channels (`width`).
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from nfs_lib.errors import BadInput
from nfs_lib.images import to_uint8

SIDE = 96  # pixels of the face that the network sees
FACE = (50, 146, 32, 128)  # top, bottom, left, right of the face in a 160-pixel portrait of the kit's framing
FEATHER = 3  # pixels of the 96 over which what is drawn fades into the picture


class Block(nn.Module):
    """Convolution (or its transpose), batch norm, the input added if it is residual, ReLU."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, residual: bool = False) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels))
        self.residual = residual

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B C H W"]:
        y = self.conv_block(x)
        return F.relu(y + x if self.residual else y)


class Wav2Lip(nn.Module):
    """Mel window and six picture channels → the face that says it, 96 × 96.

    The pictures are those of OpenCV: channels blue, green, red in [0, 1]; first the face whose lower half is black, then a
    face of the same person (in inference the same picture, whole). width: all channel numbers times this, to a multiple of
    eight; 1 is the published network, 36.3 M parameters.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()

        def c(channels: int) -> int:
            return max(8, 8 * round(channels * width / 8))

        def conv(a: int, b: int, kernel: int = 3, stride: int | tuple[int, int] = 1, padding: int = 1) -> Block:
            return Block(nn.Conv2d(a if a in (1, 6) else c(a), c(b), kernel, stride, padding))

        def same(a: int, times: int) -> list[Block]:
            return [Block(nn.Conv2d(c(a), c(a), 3, 1, 1), residual=True) for _ in range(times)]

        def up(deep: int, skip: int, b: int, stride: int = 2) -> Block:
            return Block(nn.ConvTranspose2d(c(deep) + c(skip), c(b), 3, stride, padding=stride - 1, output_padding=stride - 1))

        self.dimensions = c(512)  # of what the audio encoder makes of a window
        self.face_encoder_blocks = nn.ModuleList(nn.Sequential(*block) for block in (
            [conv(6, 16, 7, padding=3)],                                # 96
            [conv(16, 32, stride=2), *same(32, 2)],                     # 48
            [conv(32, 64, stride=2), *same(64, 3)],                     # 24
            [conv(64, 128, stride=2), *same(128, 2)],                   # 12
            [conv(128, 256, stride=2), *same(256, 2)],                  # 6
            [conv(256, 512, stride=2), *same(512, 1)],                  # 3
            [conv(512, 512, padding=0), conv(512, 512, 1, padding=0)],  # 1
        ))  # fmt: skip
        self.audio_encoder = nn.Sequential(
            conv(1, 32), *same(32, 2),                                  # 80 × 16
            conv(32, 64, stride=(3, 1)), *same(64, 2),                  # 27 × 16
            conv(64, 128, stride=3), *same(128, 2),                     # 9 × 6
            conv(128, 256, stride=(3, 2)), *same(256, 1),               # 3 × 3
            conv(256, 512, padding=0), conv(512, 512, 1, padding=0),    # 1
        )  # fmt: skip
        self.face_decoder_blocks = nn.ModuleList(nn.Sequential(*block) for block in (
            [conv(512, 512, 1, padding=0)],
            [up(512, 512, 512, stride=1), *same(512, 1)],
            [up(512, 512, 512), *same(512, 2)],
            [up(512, 256, 384), *same(384, 2)],
            [up(384, 128, 256), *same(256, 2)],
            [up(256, 64, 128), *same(128, 2)],
            [up(128, 32, 64), *same(64, 2)],
        ))  # fmt: skip
        self.output_block = nn.Sequential(
            Block(nn.Conv2d(c(64) + c(16), c(32), 3, 1, 1)), nn.Conv2d(c(32), 3, 1), nn.Sigmoid()
        )

    def forward(
        self, heard: Float[Tensor, "B 1 80 16"], faces: Float[Tensor, "B 6 96 96"]
    ) -> Float[Tensor, "B 3 96 96"]:
        """Blue, green, red in [0, 1]."""
        skips, x = [], faces
        for block in self.face_encoder_blocks:
            x = block(x)
            skips.append(x)
        x = self.audio_encoder(heard)
        for block in self.face_decoder_blocks:
            x = torch.cat([block(x), skips.pop()], 1)
        return self.output_block(x)


def face_channels(own: Float[Tensor, "B 3 96 96"], other: Float[Tensor, "B 3 96 96"]) -> Float[Tensor, "B 6 96 96"]:
    """What the network sees: `own` without its lower half, and another picture of the same face, whole."""
    masked = own.clone()
    masked[:, :, SIDE // 2 :] = 0
    return torch.cat([masked, other], 1)


def face_box(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the face in a portrait of the kit's framing: 60 % of the picture, brows to chin.

    Raises BadInput for a picture that isn't square.
    """
    if height != width or height < 64:
        raise BadInput(
            f"a picture of {width}×{height} pixels was given; a square portrait in the kit's framing of at least 64 was "
            "expected (see cropping.crop_portrait): crop it first, or say where the face is (box)"
        )
    top, bottom, left, right = (round(edge * height / 160) for edge in FACE)
    return top, bottom, left, right


def feather() -> Float[Tensor, "96 96"]:
    """The share of what is drawn in the face that is pasted: the lower half, fading out at its border."""
    at = torch.arange(SIDE) + 0.5
    down = torch.minimum(at - SIDE // 2, SIDE - at)
    across = torch.minimum(at, SIDE - at)
    return (torch.minimum(down[:, None], across[None]) / FEATHER).clamp(0, 1)


def lip_frames(
    model: nn.Module, picture: Float[Tensor, "3 H W"], heard: Float[Tensor, "T 80 16"],
    box: tuple[int, int, int, int] | None = None,
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The picture, its mouth redrawn for each mel window; the head stays as it is.

    model: a `Wav2Lip`, in evaluation. picture: [-1, 1]. box: top, bottom, left, right of the face in pixels, as a face
    detector gives them (forehead to below the chin); by default where the kit's framing has it (`face_box`). The crop is
    resized to 96 × 96 and shown twice, once with its lower half black; of what the network draws the lower half is pasted,
    its border faded over 3 of 96 pixels. (The public script pastes the whole crop with a hard border.)
    heard: `audio.mel_windows` for the open world. The public weights expect the window of frame i two frames later: give
    them heard[2:] with the last one repeated.
    Raises BadInput for a box outside the picture, or for no windows.
    """
    height, width = picture.shape[1:]
    top, bottom, left, right = face_box(height, width) if box is None else box
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise BadInput(
            f"the face's box {(top, bottom, left, right)} isn't inside the picture of {width}×{height} pixels; expected "
            "top, bottom, left, right in pixels"
        )
    if len(heard) == 0:
        raise BadInput("no mel windows were given; expected one per frame (audio.mel_windows)")
    return _drawn(model, picture, heard, (slice(top, bottom), slice(left, right)))


@torch.no_grad()
def _drawn(
    model: nn.Module, picture: Float[Tensor, "3 H W"], heard: Float[Tensor, "T 80 16"], place: tuple[slice, slice]
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """`lip_frames` after its checks, which so come before the first frame is asked for."""
    still, crop = to_uint8(picture), picture[(slice(None), *place)][None]
    size = crop.shape[-2:]
    face = F.interpolate(crop, (SIDE, SIDE), mode="bilinear", antialias=True).flip(1) / 2 + 0.5
    share = F.interpolate(feather()[None, None], size, mode="bilinear", align_corners=False)
    for windows in heard.split(16):
        seen = face_channels(face, face).expand(len(windows), -1, -1, -1)
        drawn = F.interpolate(model(windows[:, None], seen).flip(1) * 2 - 1, size, mode="bicubic", antialias=True)
        for pasted in to_uint8(torch.lerp(crop, drawn, share)):
            frame = still.copy()
            frame[place] = pasted
            yield frame
