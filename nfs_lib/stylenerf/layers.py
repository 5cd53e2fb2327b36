"""The building blocks that StyleNeRF shares with StyleGAN2: equalised layers, modulated layers, the FIR resampler."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SQRT2 = math.sqrt(2)


def leaky(x: Tensor, clamp: float | None = None) -> Tensor:
    """Leaky ReLU (slope 0.2) with StyleGAN2's gain √2, then an optional clamp."""
    y = F.leaky_relu(x, 0.2) * SQRT2
    return y if clamp is None else y.clamp(-clamp, clamp)


class FullyConnected(nn.Module):
    """Equalised linear layer: weight · lr_mult / √in, bias · lr_mult."""

    def __init__(self, n_in: int, n_out: int, *, activate: bool = False, lr_mult: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) / lr_mult)
        self.bias = nn.Parameter(torch.full((n_out,), bias / lr_mult))
        self.lr_mult, self.activate = lr_mult, activate

    def forward(self, x: Float[Tensor, "*B i"]) -> Float[Tensor, "*B o"]:
        y = F.linear(x, self.weight * (self.lr_mult / math.sqrt(self.weight.shape[1])), self.bias * self.lr_mult)
        return leaky(y) if self.activate else y


class ModulatedLinear(nn.Module):
    """A point-wise layer whose weights are scaled by a style: a modulated 1 × 1 convolution.

    demodulate: rows are normalised, leaky ReLU follows; otherwise linear ("ToRGB" form, style / √in).
    shift: the style also adds to the output.
    """

    def __init__(self, n_in: int, n_out: int, w_dim: int, *, demodulate: bool = True, shift: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.affine = FullyConnected(w_dim, n_in, bias=1.0)
        self.shift = FullyConnected(w_dim, n_out) if shift else None
        self.demodulate = demodulate

    def style(self, w: Float[Tensor, "B w"]) -> tuple[Float[Tensor, "B o i"], Float[Tensor, "B o"]]:
        """The layer's weights and biases for these styles; the same for every point of an image."""
        s = self.affine(w).float()
        weight = self.weight * s[:, None]
        if self.demodulate:
            weight = weight * torch.rsqrt((weight**2).sum(2, keepdim=True) + 1e-8)
        else:
            weight = weight / math.sqrt(self.weight.shape[1])
        bias = self.bias.expand(len(w), -1) if self.shift is None else self.bias + self.shift(w)
        return weight, bias

    def forward(self, x: Float[Tensor, "B P i"], w: Float[Tensor, "B w"]) -> Float[Tensor, "B P o"]:
        return self.apply_style(x, *self.style(w))

    def apply_style(self, x: Float[Tensor, "B P i"], weight: Float[Tensor, "#B o i"], bias: Float[Tensor, "#B o"]
                    ) -> Float[Tensor, "B P o"]:
        """The layer with weights and biases from `style` (of one style for all: batch 1), activated where it is demodulated."""
        if self.demodulate:                                  # the gain √2 moves through the leaky ReLU into the weights
            weight, bias = weight * SQRT2, bias * SQRT2
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if len(weight) == 1:
            y = F.linear(x.to(dtype), weight[0].to(dtype), bias[0].to(dtype))
        else:
            y = torch.baddbmm(bias[:, None].to(dtype), x.to(dtype), weight.transpose(1, 2).to(dtype))
        return F.leaky_relu_(y, 0.2) if self.demodulate else y


class ModulatedConv(nn.Module):
    """A modulated convolution on images (StyleGAN2); linear, the caller adds bias and activation.

    demodulate False is the ToRGB form: style / √(in · k²), no normalisation. One style (batch 1) serves all images. gain:
    scales the output, by way of the weights. turned: with the kernel turned round.
    """

    def __init__(self, n_in: int, n_out: int, w_dim: int, kernel: int, *, demodulate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in, kernel, kernel))
        self.affine = FullyConnected(w_dim, n_in, bias=1.0)
        self.demodulate = demodulate

    def forward(self, x: Float[Tensor, "B i H W"], w: Float[Tensor, "#B w"], gain: Tensor | float | None = None,
                turned: bool = False) -> Float[Tensor, "B o H W"]:
        s = self.affine(w).float()
        weight = self.weight * s[:, None, :, None, None]
        if self.demodulate:
            weight = weight * torch.rsqrt((weight**2).sum((2, 3, 4), keepdim=True) + 1e-8)
        else:
            weight = weight / math.sqrt(self.weight[0].numel())
        padding = self.weight.shape[-1] // 2
        weight = (weight if gain is None else weight * gain).to(x.dtype)
        weight = weight.flip(3, 4) if turned else weight
        if len(weight) == 1:
            return F.conv2d(x, weight[0], padding=padding)
        return torch.cat([F.conv2d(x[i : i + 1], weight[i], padding=padding) for i in range(len(x))])


class Conv(nn.Module):
    """Equalised convolution with bias, optional leaky ReLU, optional low-pass filter and stride 2."""

    def __init__(self, n_in: int, n_out: int, kernel: int, *, activate: bool = True, down: bool = False,
                 clamp: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.activate, self.down, self.clamp = activate, down, clamp

    def equalised(self) -> Float[Tensor, "o i k k"]:
        """The weights as they are used: divided by √(in · k²)."""
        return self.weight / math.sqrt(self.weight[0].numel())

    def forward(self, x: Float[Tensor, "B i H W"]) -> Float[Tensor, "B o h w"]:
        weight = self.equalised()
        kernel = weight.shape[-1]
        if self.down:
            x = filter2d(x, (2, 2) if kernel == 3 else (1, 1))
            y = F.conv2d(x, weight.to(x.dtype), stride=2)
        else:
            y = F.conv2d(x, weight.to(x.dtype), padding=kernel // 2)
        y = y + self.bias.to(y.dtype)[:, None, None]
        return leaky(y, self.clamp) if self.activate else y


def fir(x: Tensor) -> Float[Tensor, "4 4"]:
    """The low-pass kernel [1, 3, 3, 1] ⊗ [1, 3, 3, 1] / 64."""
    k = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device)
    return torch.outer(k, k) / 64


def filter2d(x: Float[Tensor, "B C H W"], padding: tuple[int, int], gain: float = 1.0, stride: int = 1) -> Tensor:
    """Convolve every channel with the FIR kernel; zeros outside, padding = (before, after) on both axes."""
    c = x.shape[1]
    before, after = padding
    x = F.pad(x, (before, after, before, after))
    return F.conv2d(x, (fir(x) * gain).expand(c, 1, 4, 4), groups=c, stride=stride)


def upsample2d(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C 2*H 2*W"]:
    """× 2 by zero insertion and the FIR kernel with gain 4 (StyleGAN2's RGB skip): one transposed convolution."""
    c = x.shape[1]
    return F.conv_transpose2d(x, (fir(x) * 4).expand(c, 1, 4, 4), stride=2, padding=1, groups=c)


def downsample2d(x: Float[Tensor, "B C H W"]) -> Tensor:
    """Half the size: FIR kernel, then every second sample."""
    return filter2d(x, (1, 1), stride=2)
