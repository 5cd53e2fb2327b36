"""The radiance fields: style-modulated foreground, NeRF++-style background (Eq. 1: (p, w) → density, feature)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from nfs_lib.stylenerf.config import FieldConfig, GeneratorConfig
from nfs_lib.stylenerf.layers import Conv, ModulatedLinear

PORTION = 4096                                           # points


def positional_encoding(p: Float[Tensor, "*B c"], n: int, first: int = 0) -> Float[Tensor, "*B d"]:
    """sin and cos of ``2^k π p`` for k = first … first + n − 1; frequency by frequency, d = 2·n·c."""
    angles = p[..., None, :] * (2.0 ** torch.arange(first, first + n, device=p.device, dtype=p.dtype) * math.pi)[:, None]
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)


class ForegroundField(nn.Module):
    """(p, w) → density and hidden features of a point; `head` turns composited hidden features into the feature map.

    The feature and RGB heads are linear, so they commute with volume rendering: Σ wᵢ·(A·hᵢ + b) = A·Σ wᵢ·hᵢ + b·Σ wᵢ. They
    are applied once per ray instead of once per sample; the numbers are the same.
    """

    def __init__(self, config: FieldConfig, w_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        n_in = 6 * config.n_frequencies + (3 if config.append_xyz else 0)
        self.fc_in = ModulatedLinear(n_in, config.hidden, w_dim, shift=config.style_shift)
        self.blocks = nn.ModuleList([ModulatedLinear(config.hidden, config.hidden, w_dim, shift=config.style_shift)
                                     for _ in range(config.n_blocks - 1)])
        self.sigma_out = ModulatedLinear(config.hidden, 1, w_dim, demodulate=False)
        self.feat_out = ModulatedLinear(config.hidden, feature_dim, w_dim, demodulate=False)
        self.to_rgb = Conv(feature_dim, 3, 1, activate=False)
        if config.density == "softplus":                     # start nearly empty, or the silhouette is never found
            nn.init.constant_(self.sigma_out.bias, -4.0)

    def forward(self, p: Float[Tensor, "B P 3"], ws: Float[Tensor, "#B L w"]
                ) -> tuple[Float[Tensor, "B P"], Float[Tensor, "B P h"]]:
        """Points (B, P, 3) in the NeRF frame, styles (B or 1, L ≥ n_blocks + 2, w) → density σ ≥ 0 (B, P), hidden (B, P, h)."""
        raw, x = self.raw(p, ws)
        return (F.relu(raw) if self.config.density == "relu" else F.softplus(raw) * self.config.density_scale), x

    def raw(self, p: Float[Tensor, "B P 3"], ws: Float[Tensor, "#B L w"]
            ) -> tuple[Float[Tensor, "B P"], Float[Tensor, "B P h"]]:
        """The same, with the density as the last layer gives it, of either sign.

        Without gradients the points go through in portions that stay in the processor's cache.
        """
        c = self.config
        styles = [layer.style(ws[:, i]) for i, layer in enumerate([self.fc_in, *self.blocks, self.sigma_out])]
        size = p.shape[1] if torch.is_grad_enabled() else PORTION // len(p)
        done: list[tuple[Tensor, Tensor]] = []
        for part in p.split(max(1, size), 1):
            x = positional_encoding(part, c.n_frequencies, c.first_frequency)
            if c.append_xyz:
                x = torch.cat([x, part / 0.12], -1)
            for layer, style in zip([self.fc_in, *self.blocks], styles, strict=False):
                x = layer.apply_style(x, *style)
            done.append((self.sigma_out.apply_style(x, *styles[-1]).squeeze(-1).float(), x))
        sigma, hidden = zip(*done, strict=True)
        return done[0] if len(done) == 1 else (torch.cat(sigma, 1), torch.cat(hidden, 1))

    def head(self, hidden: Float[Tensor, "B R h"], alpha: Float[Tensor, "B R"], ws: Float[Tensor, "#B L w"]
             ) -> tuple[Float[Tensor, "B R 3"], Float[Tensor, "B R c"]]:
        """Composited hidden features and Σ w per ray → RGB (B, R, 3) and features (B, R, c)."""
        weight, bias = self.feat_out.style(ws[:, self.config.n_blocks + 1])
        features = hidden @ weight.transpose(1, 2) + alpha[..., None] * bias[:, None]
        rgb_weight = self.to_rgb.weight.flatten(1) / math.sqrt(self.to_rgb.weight.shape[1])
        return features @ rgb_weight.T + alpha[..., None] * self.to_rgb.bias, features


class BackgroundField(nn.Module):
    """What lies behind the head, as in NeRF++: points outside the unit sphere, given by direction and inverse radius.

    It has a latent of its own (z_bg) and plain layers. The camera that it is seen with stays fixed ("freeze_bg"), so the
    background doesn't move when the head is seen from elsewhere.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        hidden, self.frequencies = config.background_hidden, config.background_frequencies
        self.samples, self.start = config.background_samples, config.background_start
        self.fc_in = nn.Linear(8 * self.frequencies + config.z_bg_dim, hidden)
        self.blocks = nn.ModuleList([nn.Linear(hidden, hidden) for _ in range(config.background_blocks - 1)])
        self.sigma_out = nn.Linear(hidden, 1)
        self.feat_out = nn.Linear(hidden, config.feature_dim)
        self.to_rgb = Conv(config.feature_dim, 3, 1, activate=False)

    def forward(self, origin: Float[Tensor, "B 3"], direction: Float[Tensor, "B R 3"], z_bg: Float[Tensor, "B z"]
                ) -> tuple[Float[Tensor, "B R 3"], Float[Tensor, "B R c"]]:
        """Rays of the background's camera (NeRF frame) → RGB (B, R, 3) and features (B, R, c)."""
        weight, hidden = self.march(inverted_sphere(origin, direction, -self.depth().to(origin)), z_bg)
        return self.head((weight[..., None] * hidden).sum(2))               # Σ weight = 1: the linear heads come after

    def depth(self) -> Float[Tensor, "S"]:
        """The samples' places: minus the inverse radius, from −background_start to 0."""
        return torch.linspace(-1, 0, self.samples) * self.start

    def march(self, points: Float[Tensor, "B R S 4"], z_bg: Float[Tensor, "B z"]
              ) -> tuple[Float[Tensor, "B R S"], Float[Tensor, "B R S h"]]:
        """Points on the inverted sphere → their weights, which sum to 1 on each ray, and their hidden features."""
        x = positional_encoding(points, self.frequencies)
        b, r, s, _ = x.shape
        x = F.relu(self.fc_in(torch.cat([x, z_bg[:, None, None].expand(-1, r, s, -1)], -1)))
        for block in self.blocks:
            x = F.relu(block(x))
        sigma = F.relu(self.sigma_out(x).squeeze(-1).float())
        depth = self.depth().to(sigma)
        step = torch.cat([depth.diff(), depth.new_full((1,), 1e10)])
        alpha = 1 - torch.exp(-sigma * step)
        alpha = torch.cat([alpha[..., :-1], torch.ones_like(alpha[..., :1])], -1)
        return alpha * torch.cumprod(torch.cat([torch.ones_like(alpha[..., :1]), 1 - alpha[..., :-1] + 1e-10], -1), -1), x

    def head(self, hidden: Float[Tensor, "*R h"]) -> tuple[Float[Tensor, "*R 3"], Float[Tensor, "*R c"]]:
        """Hidden features, of samples or composited ones → RGB (…, 3) and features (…, c)."""
        features = self.feat_out(hidden)
        rgb_weight = self.to_rgb.weight.flatten(1) / math.sqrt(self.to_rgb.weight.shape[1])
        return features @ rgb_weight.T + self.to_rgb.bias, features


def inverted_sphere(origin: Float[Tensor, "B 3"], direction: Float[Tensor, "B R 3"], inverse_radius: Float[Tensor, "S"]
                    ) -> Float[Tensor, "B R S 4"]:
    """NeRF++ coordinates (unit direction, 1/radius) of the points at these inverse radii along rays from |origin| ≤ 1."""
    d = F.normalize(direction, dim=-1)
    o = origin[:, None].expand_as(d)
    along = -(d * o).sum(-1, keepdim=True)
    middle = o + along * d
    m = middle.norm(dim=-1, keepdim=True)
    on_sphere = o + (along + (1 - m**2).clamp(min=0).sqrt()) * d
    axis = F.normalize(torch.cross(o, on_sphere, dim=-1), dim=-1)[:, :, None]
    angle = (m.asin() - (m * inverse_radius).asin())[..., None]
    p = on_sphere[:, :, None].expand(-1, -1, len(inverse_radius), -1)
    axis = axis.expand_as(p)
    turned = (p * angle.cos() + torch.cross(axis, p, dim=-1) * angle.sin()
              + axis * (axis * p).sum(-1, keepdim=True) * (1 - angle.cos()))
    radius = inverse_radius.expand(p.shape[:-1])[..., None]
    return torch.cat([F.normalize(turned, dim=-1), radius], -1)


