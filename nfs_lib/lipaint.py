"""LipaintNet: from an expression to the latent that paints the inside of the mouth (paper, 4.4)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LipaintNet(nn.Module):
    """w_exp = w + MLP(w, beta): the same person's latent with the expression that beta names (Eq. 8).

    Names and shapes in the state dict are those of the official `LipaintNet.pt` at w_dim=512, n_exp=64. hidden: the width of
    the layers between, by default that of w.
    """

    def __init__(self, w_dim: int = 512, n_exp: int = 64, hidden: int | None = None) -> None:
        super().__init__()
        hidden = w_dim if hidden is None else hidden
        self.fc1 = nn.Linear(w_dim + n_exp, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, hidden)
        self.fc4 = nn.Linear(hidden, w_dim)
        for layer in (self.fc1, self.fc2, self.fc3, self.fc4):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, w: Float[Tensor, "B W"], beta: Float[Tensor, "B E"]) -> Float[Tensor, "B W"]:
        """w: latent of the mapping network; beta: expression as the deformation uses it (times lambda_exp).

        The latent comes first in the network's input.
        """
        x = torch.relu(self.fc1(torch.cat([w, beta], dim=1)))
        x = torch.relu(self.fc2(x))
        x = torch.relu(self.fc3(x))
        return w + self.fc4(x)
