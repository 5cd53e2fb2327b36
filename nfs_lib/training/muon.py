"""Muon: gradient steps along orthogonal matrices (Jordan et al. 2024), with Adam for what is no matrix.

torch's own Muon makes matrices orthogonal in bfloat16, which processors without such arithmetic multiply some 400 times slower
than float32. Here it is float32 everywhere.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

A, B, C = 3.4445, -4.775, 2.0315  # the quintic whose repetition brings every singular value near 1


def orthogonal(g: Float[Tensor, "m n"], rounds: int = 5) -> Float[Tensor, "m n"]:
    """The orthogonal matrix next to g, roughly: its singular values become 0.7 to 1.2 (Newton and Schulz's iteration)."""
    x = g / g.norm().clamp(min=1e-7)
    x = x.T if len(g) > g.shape[1] else x
    for _ in range(rounds):
        gram = x @ x.T
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.T if len(g) > g.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Nesterov's momentum, made orthogonal; the step's size is on Adam's scale: 0.2 · √(longer side) · lr (Liu et al. 2025).

    What it remembers has the form of `torch.optim.Muon`.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float = 1e-3, momentum: float = 0.95) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                memory = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p.grad))
                memory.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(memory, group["momentum"]))
                p.add_(update, alpha=-group["lr"] * 0.2 * max(p.shape) ** 0.5)


class MuonAdam:
    """Muon for weight matrices (a convolution's kernel counts as one, flattened), Adam for all else.

    groups: lists of parameters; `set_rates` gives each group its rate. Muon's is on Adam's scale. Muon reaches the same loss
    in a third of Adam's steps here (Jordan et al. 2024; Liu et al. 2025).
    """

    def __init__(self, groups: list[list[nn.Parameter]]) -> None:
        matrix = [[p for p in group if p.ndim > 1 and min(p.flatten(1).shape) > 3] for group in groups]
        chosen = {id(p) for group in matrix for p in group}
        rest = [[p for p in group if id(p) not in chosen] for group in groups]
        # a view shares the parameter's memory; kernels in channels-last layout are looked at in that order
        self.order = {p: (0, 2, 3, 1) if p.ndim == 4 and not p.is_contiguous() else range(p.ndim) for g in matrix for p in g}
        self.view = {p: p.detach().permute(*order).view(len(p), -1) for p, order in self.order.items()}
        self.muon = Muon([{"params": [self.view[p] for p in group]} for group in matrix])
        self.adam = torch.optim.Adam([{"params": group} for group in rest], betas=(0.9, 0.99))

    def set_rates(self, muon: list[float], adam: list[float]) -> None:
        """Learning rates, one per group."""
        for optimiser, rates in ((self.muon, muon), (self.adam, adam)):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate

    def zero_grad(self) -> None:
        self.adam.zero_grad(set_to_none=True)
        for p in self.view:
            p.grad = None

    def step(self) -> None:
        for p, view in self.view.items():
            view.grad = None if p.grad is None else p.grad.permute(*self.order[p]).reshape(view.shape)
        self.muon.step()
        self.adam.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.muon.load_state_dict(state_dict["muon"])
        self.adam.load_state_dict(state_dict["adam"])
