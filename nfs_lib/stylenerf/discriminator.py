"""StyleNeRF's discriminator: StyleGAN2's skip architecture."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nfs_lib.stylenerf.layers import Conv, FullyConnected, downsample2d


class Discriminator(nn.Module):
    """Image (B, 3, r, r) in [−1, 1] → logit (B, 1): large for a picture that looks real.

    channels: of the blocks r, r/2, …, 8, and of the 4 × 4 head, so log2(r) − 1 numbers. group: how many pictures are compared
    with one another (`batch_deviation`).
    """

    def __init__(self, resolution: int = 256, channels: tuple[int, ...] = (16, 24, 32, 48, 64, 96, 96),
                 clamp: float | None = 256.0, group: int = 4) -> None:
        super().__init__()
        self.resolution, self.group = resolution, group
        self.fromrgb = nn.ModuleList([Conv(3, c, 1, clamp=clamp) for c in channels[:-1]])
        self.conv0 = nn.ModuleList([Conv(c, c, 3, clamp=clamp) for c in channels[:-1]])
        self.conv1 = nn.ModuleList([Conv(a, b, 3, down=True, clamp=clamp)
                                    for a, b in zip(channels, channels[1:], strict=False)])
        last = channels[-1]
        self.fromrgb4, self.conv4 = Conv(3, last, 1), Conv(last + 1, last, 3, clamp=clamp)
        self.fc, self.out = FullyConnected(last * 16, last, activate=True), FullyConnected(last, 1)

    def forward(self, image: Float[Tensor, "B 3 r r"]) -> Float[Tensor, "B 1"]:
        return self.judge(image)[0]

    def judge(self, image: Float[Tensor, "B 3 r r"]) -> tuple[Tensor, list[Tensor]]:
        """The logits, and the activations after each block (for feature matching)."""
        x: Tensor | None = None
        activations = []
        for fromrgb, conv0, conv1 in zip(self.fromrgb, self.conv0, self.conv1, strict=True):
            y = fromrgb(image)
            x = conv1(conv0(y if x is None else x + y))
            image = downsample2d(image)
            activations.append(x)
        x = x + self.fromrgb4(image)
        x = self.conv4(torch.cat([x, self.deviation(x)], 1))
        return self.out(self.fc(x.flatten(1))), activations

    def deviation(self, x: Float[Tensor, "B C 4 4"]) -> Float[Tensor, "B 1 4 4"]:
        """What each picture is told of the others that are looked at with it."""
        return batch_deviation(x, self.group)


def batch_deviation(x: Float[Tensor, "B C H W"], group: int = 4) -> Float[Tensor, "B 1 H W"]:
    """One constant channel: the mean standard deviation over groups of pictures, which betrays a lack of variety.

    A batch that can't be split into groups of this size is one group.
    """
    b, _, h, w = x.shape
    g = group if b % group == 0 else b
    deviation = (x.view(g, b // g, *x.shape[1:]).var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    return deviation.repeat(g)[:, None, None, None].expand(b, 1, h, w).to(x.dtype)
