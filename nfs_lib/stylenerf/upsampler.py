"""The 2D part (Eq. 2, 14): style-modulated blocks that double the resolution, with RGB accumulated over them."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nfs_lib.stylenerf.config import GeneratorConfig
from nfs_lib.stylenerf.layers import Conv, ModulatedConv, filter2d, leaky, upsample2d


class StyledConv(nn.Module):
    """Modulated convolution, optional learned × 2 upsampling, noise, bias, leaky ReLU.

    `magnitude`, where the configuration has it, is the running mean of the input's square from the authors' training (their
    `w_avg`); the input is divided by its root. This kit doesn't update it. side: of the output in pixels, for the noise.
    """

    magnitude: Tensor
    noise_const: Tensor

    def __init__(self, n_in: int, n_out: int, config: GeneratorConfig, *, up: bool, side: int = 0) -> None:
        super().__init__()
        self.scaled, self.noisy = config.magnitude_gain, config.noise
        if self.scaled:
            self.register_buffer("magnitude", torch.ones([]))
        if self.noisy:
            self.register_buffer("noise_const", torch.randn(side, side))
            self.noise_strength = nn.Parameter(torch.zeros([]))
        self.conv = ModulatedConv(n_in, n_out, config.w_dim, config.kernel)
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.mode, self.clamp = (config.upsample_mode if up else ""), config.clamp
        if up:
            shuffle = "pixelshuffle" in self.mode
            hidden = int(n_out * config.adapter_width)
            self.adapter = nn.Sequential(Conv(n_out if shuffle else 2 * n_out, hidden, 1),
                                         Conv(hidden, 4 * n_out if shuffle else n_out, 1, activate=False))

    def forward(self, x: Float[Tensor, "B i H W"], w: Float[Tensor, "B w"], enlarge: bool = True) -> Float[Tensor, "B o h v"]:
        """enlarge False: without upsampling, whatever else belongs to it, and noise (`stylenerf.regulariser`).

        The official code convolves where it will upsample and correlates where it won't, so without upsampling a kernel larger
        than 1 × 1 is turned round.
        """
        x = self.conv(x, w, self.magnitude.rsqrt() if self.scaled else None, turned=bool(self.mode) and not enlarge)
        if self.mode and enlarge:
            x = self.upsample(x)
        if self.noisy and enlarge:
            x = x + self.noise_const * self.noise_strength
        return leaky(x + self.bias.to(x.dtype)[:, None, None], self.clamp)

    def upsample(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B c 2*H 2*W"]:
        """Nearest neighbour plus a learned correction, then the low-pass filter."""
        large = F.interpolate(x, scale_factor=2.0)
        if "pixelshuffle" in self.mode:
            large = large + F.pixel_shuffle(self.adapter(x), 2)
        else:
            large = large + self.adapter[1](self.beside(x))
        return large if "noblur" in self.mode else filter2d(large, (2, 1))

    def beside(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B d 2*H 2*W"]:
        """The adapter's first layer on the enlarged cells and the means of their neighbours, side by side.

        Both kinds of enlargement only add up cells, so the layer's product comes first, at a quarter of the pixels.
        """
        weight, bias = (self.adapter[0].get_parameter(name).to(x.dtype) for name in ("weight", "bias"))
        own, around = (weight / math.sqrt(weight.shape[1])).split(x.shape[1], 1)
        y = F.interpolate(F.conv2d(x, own), scale_factor=2.0) + neighbour_mean(F.conv2d(x, around))
        return leaky(y + bias[:, None, None])


def neighbour_mean(x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B c 2*H 2*W"]:
    """Each of a cell's four sub-pixels gets the mean of the two neighbours that it touches; zeros outside."""
    p = F.pad(x, (1, 1, 1, 1))
    left, right, up, down = p[:, :, 1:-1, :-2], p[:, :, 1:-1, 2:], p[:, :, :-2, 1:-1], p[:, :, 2:, 1:-1]
    quarters = torch.stack([left + up, right + up, left + down, right + down], 2) / 2        # (B, c, 4, H, W)
    return F.pixel_shuffle(quarters.flatten(1, 2), 2)


class Upsampler(nn.Module):
    """Feature map (B, c, r, r) and its RGB (B, 3, r, r) → image (B, 3, r·2ⁿ, r·2ⁿ)."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        sizes = (config.feature_dim, *config.channels)
        sides = [config.ray_resolution * 2 ** (i + 1) for i in range(len(config.channels))]
        self.first = config.n_nerf_ws
        self.conv0 = nn.ModuleList([StyledConv(a, b, config, up=True, side=side)
                                    for a, b, side in zip(sizes, config.channels, sides, strict=False)])
        self.conv1 = nn.ModuleList([StyledConv(b, b, config, up=False, side=side)
                                    for b, side in zip(config.channels, sides, strict=True)])
        self.torgb = nn.ModuleList([ModulatedConv(b, 3, config.w_dim, 1, demodulate=False) for b in config.channels])
        for layer in self.torgb:                             # training starts from the plainly enlarged 32 × 32 picture
            nn.init.zeros_(layer.get_parameter("weight"))
        self.rgb_bias = nn.ParameterList([torch.zeros(3) for _ in config.channels])
        self.clamp = config.clamp

    def forward(self, features: Float[Tensor, "B c H W"], rgb: Float[Tensor, "B 3 H W"], ws: Float[Tensor, "B L w"],
                enlarge: bool = True) -> list[Tensor]:
        """RGB after each block: (B, 3, 2H, 2W), (B, 3, 4H, 4W), …; the last one is the image. Styles: all slots.

        enlarge False: the same layers at the size of the input, for features of points that are no image.
        """
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else features.dtype
        x = features.to(dtype, memory_format=torch.channels_last)
        pictures = []
        for i, (conv0, conv1, torgb, bias) in enumerate(zip(self.conv0, self.conv1, self.torgb, self.rgb_bias, strict=True)):
            slot = self.first + 2 * i
            x = conv1(conv0(x, ws[:, slot], enlarge), ws[:, slot + 1], enlarge)
            step = torgb(x, ws[:, slot + 2]).float() + bias[:, None, None]
            rgb = upsample2d(rgb.float()) if enlarge else rgb.float()
            rgb = rgb + (step if self.clamp is None else step.clamp(-self.clamp, self.clamp))
            pictures.append(rgb)
        return pictures
