"""Who is it? ArcFace's network (iresnet of 18, 50 or 100 layers) with insightface's names, and the face as it expects it.

CSIM of the paper's kind is the cosine between its vectors of the portrait and of a frame, mean over the frames.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nfs_lib.cropping import similarity
from nfs_lib.errors import BadInput

SIDE = 112  # pixels
TEMPLATE = np.array([(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)])
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}


class Block(nn.Module):
    """Norm, convolution, norm, PReLU, convolution, norm, and the input added; nothing after the sum."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.prelu = nn.PReLU(after)
        self.conv2 = nn.Conv2d(after, after, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (self.downsample(x) if hasattr(self, "downsample") else x)


def stage(before: int, after: int, blocks: int) -> nn.Sequential:
    """Blocks of which the first halves the picture."""
    return nn.Sequential(Block(before, after, 2), *(Block(after, after, 1) for _ in range(blocks - 1)))


class ArcFace(nn.Module):
    """Aligned faces (B, 3, 112, 112) in [-1, 1] → vectors (B, 512), not normalised. The file is `backbone.pth`.

    layers: 18, 50 or 100. Raises BadInput for another number, or pictures of another size.
    """

    def __init__(self, layers: int = 100) -> None:
        super().__init__()
        if layers not in BLOCKS:
            raise BadInput(f"an ArcFace of {layers} layers was asked for; there are those of 18, 50 and 100")
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(64), nn.PReLU(64)
        one, two, three, four = BLOCKS[layers]
        self.layer1, self.layer2 = stage(64, 64, one), stage(64, 128, two)
        self.layer3, self.layer4 = stage(128, 256, three), stage(256, 512, four)
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512 * 7 * 7, 512)
        self.features = nn.BatchNorm1d(512)

    def forward(self, faces: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 512"]:
        if faces.shape[-2:] != (SIDE, SIDE):
            raise BadInput(f"faces of {tuple(faces.shape)} were given; ArcFace expects (B, 3, {SIDE}, {SIDE}): use `aligned`")
        x = self.prelu(self.bn1(self.conv1(faces)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(self.bn2(x).flatten(1)))


def alignment(five: Float[np.ndarray, "5 2"]) -> Float[np.ndarray, "2 3"]:
    """The similarity that brings five points nearest to ArcFace's template (least squares, Umeyama).

    five: as `face.align.five_points` orders them; x right and y down, 0 at the first pixel's centre, as the template has it.
    """
    return similarity(np.asarray(five, np.float64), TEMPLATE)[:2]


def aligned(pictures: Float[Tensor, "B 3 H W"], five: Float[np.ndarray, "B 5 2"]) -> Float[Tensor, "B 3 112 112"]:
    """Faces as ArcFace expects them: bilinear, black beyond the picture. pictures: [-1, 1]; five: see `alignment`."""
    height, width = pictures.shape[-2:]
    y, x = np.mgrid[:SIDE, :SIDE]
    target = np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    grids = []
    for points in five:
        linear, shift = np.split(alignment(points), [2], axis=1)
        source = np.linalg.solve(linear, target[:2] - shift)
        grids.append(((source.T + 0.5) / (width, height) * 2 - 1).reshape(SIDE, SIDE, 2))
    grid = torch.from_numpy(np.stack(grids)).to(pictures)
    return F.grid_sample(pictures + 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False) - 1
