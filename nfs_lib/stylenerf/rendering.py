"""Volume rendering along rays (Eq. 1, 2): weights, compositing, importance sampling."""

import torch
from jaxtyping import Float
from torch import Tensor


def ray_weights(sigma: Float[Tensor, "*R S"], depth: Float[Tensor, "*R S"], length: Float[Tensor, "*R"], wall: bool = False
                ) -> tuple[Float[Tensor, "*R S"], Float[Tensor, "*R"]]:
    """Compositing weights of the samples of each ray, and the light that passes all of them.

    ``δᵢ = (tᵢ₊₁ − tᵢ)·|d|``, ``αᵢ = 1 − exp(−σᵢ·δᵢ)``, ``Tᵢ = Π (1 − αⱼ) over j < i``, ``wᵢ = αᵢ·Tᵢ``. The last sample has
    no cell behind it and weighs nothing: what isn't stopped before it belongs to the background. wall: there is no background;
    the last sample stops everything, and the weights' sum is 1.

    sigma, depth t: (…, S); length: |d| (…). Returns w (…, S) and the transmittance up to the last sample (…).
    """
    delta = torch.cat([depth.diff(dim=-1), torch.zeros_like(depth[..., :1])], -1) * length[..., None]
    optical = sigma * delta
    alpha = 1 - torch.exp(-optical)
    if wall:
        alpha = torch.cat([alpha[..., :-1], torch.ones_like(alpha[..., :1])], -1)
    through = torch.exp(-(torch.cumsum(optical, -1) - optical))
    return alpha * through, torch.exp(-optical.sum(-1))


def importance_samples(tau: Float[Tensor, "S"], weights: Float[Tensor, "*R S"], n: int) -> Float[Tensor, "*R n"]:
    """n further values of τ where the weights are large: inverse of their cumulative distribution at n even steps.

    tau: the coarse samples' positions in [0, 1]; their midpoints are the bins, the first and last weight are dropped.
    No gradient passes.
    """
    bins = (tau[1:] + tau[:-1]) / 2
    pdf = weights[..., 1:-1].detach() + 1e-5
    pdf = pdf / pdf.sum(-1, keepdim=True)
    cdf = torch.cat([torch.zeros_like(pdf[..., :1]), pdf.cumsum(-1)], -1)
    u = torch.linspace(0, 1, n).to(cdf).expand(*cdf.shape[:-1], n).contiguous()
    index = torch.searchsorted(cdf.contiguous(), u)
    below, above = (index - 1).clamp(min=0), index.clamp(max=cdf.shape[-1] - 1)
    low, high = cdf.gather(-1, below), cdf.gather(-1, above)
    slope = torch.where(high - low < 1e-5, torch.ones_like(low), high - low)
    left, right = bins[below], bins[above]
    return left + (u - low) / slope * (right - left)
