"""Deep3DFaceReconstruction's estimator: a picture of a face → the 257 numbers of the Basel Face Model (section 4.1).

A ResNet-50 with torchvision's names and seven 1 × 1 convolutions instead of its last layer. The file is `epoch_20.pth`, entry
`net_recon` (in SadTalker's file under `face_3drecon.`). As the official code of NeRFFaceSpeech has it, it is shown the whole
picture, not a crop about the face, which it was trained on: hence the fit (`bfm_fitting`).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from nfs_lib.errors import BadInput
from nfs_lib.face.bfm import SIDE, BfmCoefficients
from nfs_lib.face.estimator import SMALLEST
from nfs_lib.images import to_uint8

BLOCKS = (3, 4, 6, 3)
HEADS = (80, 64, 80, 3, 27, 2, 1)  # identity, expression, texture, angles, light, translation in x and y, in z


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3 (which may halve the picture) and 1 × 1 convolutions, each with its norm, and the input added."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        if before != 4 * width:
            self.downsample = nn.Sequential(nn.Conv2d(before, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(y)) + (self.downsample(x) if hasattr(self, "downsample") else x))


def stage(before: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """Blocks of which the first may halve the picture."""
    return nn.Sequential(Bottleneck(before, width, stride), *(Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)))


class Backbone(nn.Module):
    """ResNet-50 without its last layer: (B, 3, H, W) → mean features (B, 2048, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.layer1, self.layer2 = stage(64, 64, BLOCKS[0], 1), stage(256, 128, BLOCKS[1], 2)
        self.layer3, self.layer4 = stage(512, 256, BLOCKS[2], 2), stage(1024, 512, BLOCKS[3], 2)

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 2048 1 1"]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3), keepdim=True)


class ReconNet(nn.Module):
    """Faces (B, 3, 224, 224), RGB in [0, 1] → (B, 257). 24 034 625 parameters; use it in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.final_layers = nn.ModuleList(nn.Conv2d(2048, numbers, 1) for numbers in HEADS)

    def pooled(self, faces: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 2048"]:
        """The backbone's mean features. Raises BadInput for pictures of another size than 224."""
        if faces.ndim != 4 or faces.shape[1:] != (3, SIDE, SIDE):
            raise BadInput(f"faces of {tuple(faces.shape)} were given; ReconNet expects (B, 3, {SIDE}, {SIDE}) in [0, 1]: use "
                           "`read` for pictures of another size")
        return self.backbone(faces).flatten(1)

    def forward(self, faces: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 257"]:
        features = self.pooled(faces)[..., None, None]
        return torch.cat([layer(features) for layer in self.final_layers], 1).flatten(1)

    def read(self, pictures: Float[Tensor, "B 3 H W"]) -> BfmCoefficients:
        """What B pictures show; they are in [-1, 1], square, of any size from 64 pixels on (BadInput otherwise)."""
        return BfmCoefficients.from_vector(self(resized(pictures)))

    def pose(self, coefficients: Float[Tensor, "B 257"]) -> Float[Tensor, "B 3"]:
        """Yaw, pitch and roll in radians (see `camera`) of what `forward` gave."""
        return BfmCoefficients.from_vector(coefficients).pose()


def resized(pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 224 224"]:
    """Square pictures in [-1, 1] → [0, 1] and 224 pixels, bicubic.

    As the official code does it: Pillow, on 8 bits a channel. Where the pictures carry a gradient (LipaintNet's training), in
    floating point instead, with the same kernel: rounding apart, the same values. Raises BadInput for another form.
    """
    if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.shape[2] != pictures.shape[3] or pictures.shape[3] < SMALLEST:
        raise BadInput(f"pictures of {tuple(pictures.shape)} were given; ReconNet reads (B, 3, H, H), H at least {SMALLEST}: "
                       "crop or resize them first")
    if pictures.requires_grad and torch.is_grad_enabled():
        unit = (pictures + 1) / 2
        if pictures.shape[-1] == SIDE:
            return unit
        return F.interpolate(unit, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    small = [Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for p in to_uint8(pictures)]
    bytes_ = torch.stack([torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8) for p in small])
    return bytes_.view(-1, SIDE, SIDE, 3).permute(0, 3, 1, 2).to(pictures) / 255
