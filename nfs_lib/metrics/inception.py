"""What FID looks with: TensorFlow's Inception-v3, whose 2048 numbers after the last pooling are a picture's features.

The network of the weights that FID was published with (1008 classes); its tensors have torchvision's names. Unlike
torchvision's it averages without the padding, and its last block pools by the maximum.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SIDE = 299  # pixels that it was trained on
ONE, THREE, FIVE = (1, 1), (3, 3), (5, 5)  # kernels: height, width
ROW3, COLUMN3, ROW7, COLUMN7 = (1, 3), (3, 1), (1, 7), (7, 1)


class Conv(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, before: int, after: int, kernel: int | tuple[int, int], stride: int = 1,
                 padding: int | tuple[int, int] = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=0.001)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, their channels one after the other; the last one starts by pooling.

    branches: name → chain of (channels, kernel); with two kernels, both are applied to the same input. pooled: channels of a
    1 × 1 convolution after the pooling; without it, the block halves the picture.
    """

    def __init__(self, before: int, branches: dict[str, list[tuple]], pooled: int = 0, largest: bool = False) -> None:
        super().__init__()
        self.largest, self.chains = largest, []
        for branch, steps in branches.items():
            chain, last = [], before
            for i, (after, *kernels) in enumerate(steps, 1):
                stride = 1 if pooled or i < len(steps) else 2
                names = [branch + f"_{i}" * (len(steps) > 1) + letter for letter in ("ab" if len(kernels) > 1 else [""])]
                for name, (h, w) in zip(names, kernels, strict=True):
                    self.add_module(name, Conv(last, after, (h, w), stride, (h // 2, w // 2) if stride == 1 else 0))
                chain.append(names)
                last = after
            self.chains.append(chain)
        self.branch_pool = Conv(before, pooled, 1) if pooled else None

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        outputs = []
        for chain in self.chains:
            y = x
            for names in chain:
                y = torch.cat([getattr(self, name)(y) for name in names], 1)
            outputs.append(y)
        if self.branch_pool is None:
            outputs.append(F.max_pool2d(x, 3, 2))
        elif self.largest:
            outputs.append(self.branch_pool(F.max_pool2d(x, 3, 1, 1)))
        else:
            outputs.append(self.branch_pool(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)))
        return torch.cat(outputs, 1)


def block_5(before: int, pooled: int) -> Mixed:
    return Mixed(before, {"branch1x1": [(64, ONE)], "branch5x5": [(48, ONE), (64, FIVE)],
                          "branch3x3dbl": [(64, ONE), (96, THREE), (96, THREE)]}, pooled)


def block_6(width: int) -> Mixed:
    seven = [(width, ONE), (width, ROW7), (192, COLUMN7)]
    double = [(width, ONE), (width, COLUMN7), (width, ROW7), (width, COLUMN7), (192, ROW7)]
    return Mixed(768, {"branch1x1": [(192, ONE)], "branch7x7": seven, "branch7x7dbl": double}, 192)


def block_7(before: int, largest: bool) -> Mixed:
    return Mixed(before, {"branch1x1": [(320, ONE)], "branch3x3": [(384, ONE), (384, ROW3, COLUMN3)],
                          "branch3x3dbl": [(448, ONE), (384, THREE), (384, ROW3, COLUMN3)]}, 192, largest)


class Inception(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] → features (B, 2048). Resized to 299 pixels inside, bilinear, without smoothing, as
    pytorch-fid does. The classifier `fc` belongs to the weights' file and isn't used."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, 2)
        self.Conv2d_2a_3x3, self.Conv2d_2b_3x3 = Conv(32, 32, 3), Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Conv(64, 80, 1), Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = block_5(192, 32), block_5(256, 64), block_5(288, 64)
        self.Mixed_6a = Mixed(288, {"branch3x3": [(384, THREE)], "branch3x3dbl": [(64, ONE), (96, THREE), (96, THREE)]})
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (block_6(width) for width in (128, 160, 160, 192))
        self.Mixed_7a = Mixed(768, {"branch3x3": [(192, ONE), (320, THREE)],
                                    "branch7x7x3": [(192, ONE), (192, ROW7), (192, COLUMN7), (192, THREE)]})
        self.Mixed_7b, self.Mixed_7c = block_7(1280, largest=False), block_7(2048, largest=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 2048"]:
        x = F.interpolate(pictures, (SIDE, SIDE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))
