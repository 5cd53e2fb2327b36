"""What is where in a portrait: BiSeNet, 16 classes, as the official code uses it (file `seg.pth`).

It says which points belong to the torso and stay where they are (section 4.3), and where the mouth is (Eq. 12). The names of
its tensors are the file's.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

SIDE = 512  # pixels of the picture that it sees
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's colours
CLASSES = ("background", "skin", "nose", "glasses", "eyes", "brows", "ears", "mouth", "upper lip", "lower lip", "hair", "hat",
           "earring", "necklace", "neck", "cloth")  # the official code confirms 7 to 10, 14 and 15; the others are inferred
MOUTH, TORSO = (7, 8, 9), (10, 14, 15)


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, before: int, after: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B d H W"]:
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """ResNet-18's block: two 3 × 3 convolutions and the input added."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        if before != after or stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B d h w"]:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet18(nn.Module):
    """The trunk: 1/8, 1/16 and 1/32 of the picture's size, with 128, 256 and 512 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, Tensor, Tensor]:
        x = self.layer1(F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1))
        x8 = self.layer2(x)
        x16 = self.layer3(x8)
        return x8, x16, self.layer4(x16)


class Refinement(nn.Module):
    """Attention refinement: a convolution whose channels are weighed by what the whole picture shows of them."""

    def __init__(self, before: int) -> None:
        super().__init__()
        self.conv = ConvBN(before, 128)
        self.conv_atten = nn.Conv2d(128, 128, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(128)

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B 128 H W"]:
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(x.mean((2, 3), keepdim=True))))


class ContextPath(nn.Module):
    """The trunk with its coarse levels brought back to 1/8 and 1/16: (trunk's 1/8, from 1/16, from 1/32)."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = ResNet18()
        self.arm16, self.arm32 = Refinement(256), Refinement(512)
        self.conv_head16, self.conv_head32 = ConvBN(128, 128), ConvBN(128, 128)
        self.conv_avg = ConvBN(512, 128, kernel=1)

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, Tensor, Tensor]:
        x8, x16, x32 = self.resnet(x)
        whole = self.conv_avg(x32.mean((2, 3), keepdim=True))
        from32 = self.conv_head32(F.interpolate(self.arm32(x32) + whole, x16.shape[2:]))
        from16 = self.conv_head16(F.interpolate(self.arm16(x16) + from32, x8.shape[2:]))
        return x8, from16, from32


class Fusion(nn.Module):
    """Feature fusion: two maps become one, and its channels are weighed as in `Refinement`."""

    def __init__(self) -> None:
        super().__init__()
        self.convblk = ConvBN(256, 256, kernel=1)
        self.conv1 = nn.Conv2d(256, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 256, 1, bias=False)

    def forward(self, fine: Float[Tensor, "B 128 H W"], context: Float[Tensor, "B 128 H W"]) -> Float[Tensor, "B 256 H W"]:
        x = self.convblk(torch.cat([fine, context], 1))
        return x + x * torch.sigmoid(self.conv2(F.relu(self.conv1(x.mean((2, 3), keepdim=True)))))


class Head(nn.Module):
    """A score for each class."""

    def __init__(self, before: int, hidden: int, n_classes: int) -> None:
        super().__init__()
        self.conv = ConvBN(before, hidden)
        self.conv_out = nn.Conv2d(hidden, n_classes, 1, bias=False)

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B n H W"]:
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """Pictures as `prepare` makes them → scores (B, 16, H, W), which are no probabilities; the largest one names the class."""

    def __init__(self, n_classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.cp, self.ffm = ContextPath(), Fusion()
        self.conv_out = Head(256, 256, n_classes)
        self.conv_out16, self.conv_out32 = Head(128, 64, n_classes), Head(128, 64, n_classes)

    def all_scores(self, prepared: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, Tensor, Tensor]:
        """The scores, and those of the two heads that only training needs, (B, 16, H, W) each."""
        x8, from16, from32 = self.cp(prepared)
        scores = self.conv_out(self.ffm(x8, from16)), self.conv_out16(from16), self.conv_out32(from32)
        first, second, third = (F.interpolate(s, prepared.shape[2:], mode="bilinear", align_corners=True) for s in scores)
        return first, second, third

    def forward(self, prepared: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B n H W"]:
        scores = self.conv_out(self.ffm(*self.cp(prepared)[:2]))
        return F.interpolate(scores, prepared.shape[2:], mode="bilinear", align_corners=True)

    @torch.no_grad()
    def labels(self, image: Float[Tensor, "B 3 H W"], official: bool = True) -> Integer[Tensor, "B 512 512"]:
        """The class of each pixel of pictures in [-1, 1], at 512 × 512. official: see `prepare`."""
        return self(prepare(image, official=official)).argmax(1)

    def mouth(self, image: Float[Tensor, "B 3 H W"], official: bool = True) -> Float[Tensor, "B 512 512"]:
        """Where the mouth is in pictures in [-1, 1], at 512 × 512: 1 inside, lips included. official: see `prepare`."""
        return mouth(self.labels(image, official))


def prepare(image: Float[Tensor, "B 3 H W"], side: int = SIDE, official: bool = True) -> Float[Tensor, "B 3 s s"]:
    """Pictures in [-1, 1] as the network sees them: side × side, bicubic, ImageNet's mean and deviation.

    official: values are clamped to [0, 1], as the official code does although its pictures reach down to -1: whatever is darker
    than mid-grey is black to the network, and the official masks depend on it. Otherwise [-1, 1] is mapped to [0, 1].
    """
    x = F.interpolate(image, (side, side), mode="bicubic", align_corners=False)
    x = (x if official else (x + 1) / 2).clamp(0, 1)
    return (x - x.new_tensor(MEAN)[:, None, None]) / x.new_tensor(STD)[:, None, None]


def among(labels: Integer[Tensor, "*B H W"], classes: tuple[int, ...]) -> Bool[Tensor, "*B H W"]:
    """Where the class is one of these."""
    return torch.isin(labels, torch.tensor(classes, dtype=labels.dtype, device=labels.device))


def mouth(labels: Integer[Tensor, "*B H W"]) -> Float[Tensor, "*B H W"]:
    """1 inside the mouth (lips included), 0 elsewhere: the M of Eq. 12 for `blending.MaskMean` and `blending.blend_at`.

    The official code's m is the complement, 1 - M.
    """
    return among(labels, MOUTH).float()


def torso_points(labels: Integer[Tensor, "H W"], every: int = 4) -> Float[Tensor, "n 2"]:
    """Points of hair, neck and clothes that the face's motion must not move (official code; the paper doesn't name them).

    labels: of the frontal picture. Returns every 4th of their pixels, counted row by row, as x (right) and y (up): the picture,
    0 to its side in pixels (official: 512), becomes [-0.1, 0.1] in the generator's plane. An empty (0, 2) where there are none.
    """
    pixels = among(labels, TORSO).nonzero()[::every].flip(1).float()
    return (pixels / labels.shape[-1] * 0.2 - 0.1) * pixels.new_tensor([1, -1])
