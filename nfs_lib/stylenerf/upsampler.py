"""The 2D part (Eq. 2, 14): style-modulated blocks that double the resolution, with RGB accumulated over them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nfs_lib.stylenerf.config import GeneratorConfig
from nfs_lib.stylenerf.layers import SQRT2, Conv, ModulatedConv, filter2d, leaky, upsample2d

ALL = slice(None)
STRIP = 2**23                                            # bytes of a strip's features: they stay in the cache


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

    def forward(self, x: Float[Tensor, "B i H W"], w: Float[Tensor, "#B w"], enlarge: bool = True, rows: slice = ALL
                ) -> Float[Tensor, "B o h v"]:
        """enlarge False: without upsampling, whatever else belongs to it, and noise (`stylenerf.regulariser`). rows: those of
        the whole output that x is a strip for.

        The official code convolves where it will upsample and correlates where it won't, so without upsampling a kernel larger
        than 1 × 1 is turned round. The activation's gain √2 is in the weights and biases from the start: as leaky ReLU keeps
        factors, that is the same, and saves a pass over the picture.
        """
        x = self.conv(x, w, SQRT2 * self.magnitude.rsqrt() if self.scaled else SQRT2, turned=bool(self.mode) and not enlarge)
        if self.mode and enlarge:
            x = self.upsample(x)
        bias = (self.bias * SQRT2).to(x.dtype)[:, None, None]
        if self.noisy and enlarge:
            x = x + self.noise_const[rows] * (self.noise_strength * SQRT2)
        x = F.leaky_relu_(x.add_(bias), 0.2)
        if self.clamp is None:
            return x
        return x.clamp(-self.clamp, self.clamp) if torch.is_grad_enabled() else x.clamp_(-self.clamp, self.clamp)

    def upsample(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B c 2*H 2*W"]:
        """Nearest neighbour plus a learned correction, then the low-pass filter. x has the gain √2 already; biases get it."""
        def scaled(layer: Conv) -> tuple[Tensor, Tensor]:
            return layer.equalised().to(x.dtype), layer.bias.to(x.dtype) * SQRT2

        (first, inner), (last, outer) = map(scaled, self.adapter)                         # type: ignore[arg-type]
        if "pixelshuffle" in self.mode:
            # shuffling the channels of a 1 × 1 convolution is a transposed convolution, nearest neighbour another: both in one
            c, hidden = x.shape[1], leaky(F.conv2d(x, first, inner))
            spread = torch.cat([last.view(c, 2, 2, -1).permute(3, 0, 1, 2),
                                torch.eye(c, dtype=x.dtype, device=x.device)[..., None, None].expand(c, c, 2, 2)])
            large = F.conv_transpose2d(torch.cat([hidden, x], 1), spread, stride=2)
            rows = outer.view(1, c, 2, 2).repeat(1, 1, 1, x.shape[3]).contiguous(memory_format=torch.channels_last)
            large.unflatten(2, (-1, 2)).add_(rows[:, :, None])
            return large if "noblur" in self.mode else filter2d(large, (2, 1))
        hidden = self.beside(x, first, inner)
        if "noblur" in self.mode:
            return F.interpolate(x, scale_factor=2.0) + F.conv2d(hidden, last, outer)
        # the filter goes before the adapter's last layer, which has more channels; it darkens the bias at the picture's edge
        large = F.conv2d(filter2d(hidden, (2, 1)), last).add_(nearest_filtered(x))
        return large.add_(outer[:, None, None] * filter2d(torch.ones_like(large[:1, :1]), (2, 1)))

    @staticmethod
    def beside(x: Float[Tensor, "B c H W"], weight: Float[Tensor, "d e 1 1"], bias: Float[Tensor, "d"]
               ) -> Float[Tensor, "B d 2*H 2*W"]:
        """The adapter's first layer on the enlarged cells and the means of their neighbours, side by side.

        Both kinds of enlargement only add up cells, so the layer's product comes first, at a quarter of the pixels.
        """
        own, around = weight.split(x.shape[1], 1)
        return leaky(neighbour_mean(F.conv2d(x, around)).add_(F.interpolate(F.conv2d(x, own, bias), scale_factor=2.0)))


def neighbour_mean(x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B c 2*H 2*W"]:
    """Each of a cell's four sub-pixels gets the mean of the two neighbours that it touches; zeros outside."""
    c, kernel = x.shape[1], x.new_zeros(6, 6)            # a cell's sub-pixels, in the middle, and its neighbours'
    for row, column in ((1, 2), (1, 3), (4, 2), (4, 3)):
        kernel[row, column] = kernel[column, row] = 0.5
    return F.conv_transpose2d(x, kernel.expand(c, 1, 6, 6), stride=2, padding=2, groups=c)


def nearest_filtered(x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B c 2*H 2*W"]:
    """Nearest neighbour, × 2, then the low-pass filter: [1, 1] ∗ [1, 3, 3, 1] = [1, 4, 6, 4, 1] on both axes."""
    c, k = x.shape[1], x.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 8
    return F.conv_transpose2d(x, torch.outer(k, k).expand(c, 1, 5, 5), stride=2, padding=1, groups=c)[:, :, :-1, :-1]


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
        self.layout = torch.channels_last if config.kernel > 1 else torch.contiguous_format      # the faster one

    def forward(self, features: Float[Tensor, "B c H W"], rgb: Float[Tensor, "B 3 H W"], ws: Float[Tensor, "#B L w"],
                enlarge: bool = True) -> list[Tensor]:
        """RGB after each block: (B, 3, 2H, 2W), (B, 3, 4H, 4W), …; the last one is the image. Styles: all slots;
        one set (batch 1) serves all pictures.

        enlarge False: the same layers at the size of the input, for features of points that are no image.
        """
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else features.dtype
        x = features.to(dtype, memory_format=self.layout)
        pictures, rgb = [], rgb.float()
        for i in range(len(self.conv0)):
            if enlarge and not torch.is_grad_enabled():
                x, rgb = self.strips(i, x, rgb, ws)                                       # type: ignore[assignment]
            else:
                x, rgb = self.block(i, x, rgb, ws, enlarge)
            pictures.append(rgb)
        return pictures

    def block(self, i: int, x: Float[Tensor, "B c H W"], rgb: Float[Tensor, "B 3 H W"], ws: Float[Tensor, "#B L w"],
              enlarge: bool = True, rows: slice = ALL) -> tuple[Float[Tensor, "B o h v"], Float[Tensor, "B 3 h v"]]:
        """The i-th block: features and RGB twice as large. rows: of the whole output, if x and rgb are a strip."""
        slot = self.first + 2 * i
        x = self.conv1[i](self.conv0[i](x, ws[:, slot], enlarge, rows), ws[:, slot + 1], enlarge, rows)
        step = self.torgb[i](x, ws[:, slot + 2]).float() + self.rgb_bias[i][:, None, None]
        rgb = upsample2d(rgb) if enlarge else rgb
        return x, rgb + (step if self.clamp is None else step.clamp(-self.clamp, self.clamp))

    def strips(self, i: int, x: Float[Tensor, "B c H W"], rgb: Float[Tensor, "B 3 H W"], ws: Float[Tensor, "#B L w"]
               ) -> tuple[Float[Tensor, "B o h v"] | None, Float[Tensor, "B 3 h v"]]:
        """The same as `block`, strip by strip: what lies between stays in the processor's cache, and needs little memory.

        Each strip is computed with four more rows above and below, as far as the layers look, and then cut. After the last
        block nobody needs the features (None).
        """
        height, halo, last = x.shape[2], 4, i + 1 == len(self.conv0)
        n_out = len(self.conv1[i].bias)                                                   # type: ignore[arg-type]
        step = max(8, STRIP // (16 * n_out * x.shape[3] * len(x)))
        if step >= height:
            return self.block(i, x, rgb, ws)
        large = (len(x), n_out, 2 * height, 2 * x.shape[3])
        whole = None if last else x.new_empty(large)
        picture = rgb.new_empty(large[0], 3, *large[2:])
        for top in range(0, height, step):
            above, below = max(0, top - halo), min(height, top + step + halo)
            strip = self.block(i, x[:, :, above:below], rgb[:, :, above:below], ws, rows=slice(2 * above, 2 * below))
            made = slice(2 * top, 2 * min(height, top + step))
            for target, part in zip((whole, picture), strip, strict=True):
                if target is not None:
                    target[:, :, made] = part[:, :, made.start - 2 * above : made.stop - 2 * above]
        return whole, picture
