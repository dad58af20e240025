"""Networks of a user's own, some of which do not stack."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it


class Residual(nn.Module):
    """A block with a way around it, and parameters of its own."""

    def __init__(self, n_features: int, n_outputs: int, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(n_features, width)
        self.inner = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU())
        self.scale = nn.Parameter(torch.ones(width))
        self.frozen = nn.Parameter(torch.ones(width), requires_grad=False)
        self.last = nn.Linear(width, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        x = self.first(x)
        return self.last(x + self.scale * self.inner(x) * self.frozen)


class OwnDropout(nn.Module):
    """Keeps its rate to itself, where a stack cannot reach it."""

    def __init__(self, n_features: int, n_outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)
        self.rate = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        return self.linear(F.dropout(x, self.rate, self.training))


class LooksAtData(nn.Module):
    """Decides by the values of its input, which `vmap` cannot follow."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        return self.linear(x if x.mean().item() > 0 else 2 * x)
