"""Networks of a user's own, some of which do not stack."""

import random
from dataclasses import dataclass

import numpy as np
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


class CountingLoss(nn.Module):
    """A cross entropy that grows with its uses."""

    def __init__(self) -> None:
        super().__init__()
        self.n_uses = 0

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Map `(B, n_classes)` and `(B,)` to a number."""
        self.n_uses += 1
        return F.cross_entropy(logits, target) * (1 + self.n_uses)


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


class Entangled(nn.Module):
    """Layers used twice and referred to from a list and a method, a scalar, and buffers."""

    def __init__(self, n_features: int, n_outputs: int, width: int = 8) -> None:
        super().__init__()
        act = nn.Tanh()
        self.body = nn.Sequential(nn.Linear(n_features, width), act, nn.Linear(width, width), act)
        self.twice = nn.Linear(width, width)
        self.order = [self.twice, act, self.twice]
        self.way = self.through
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("shift", torch.full((width,), 0.5))
        self.register_buffer("n_seen", torch.tensor(0.0))
        self.last = nn.Linear(width, n_outputs)

    def through(self, x: Tensor) -> Tensor:
        """Through the layers of the list."""
        for layer in self.order:
            x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        if self.training:
            self.n_seen.add_(len(x))
        x = self.way(self.body(x) + self.shift) * self.scale
        return self.last(x + 0.01 * self.n_seen)


class Replaces(nn.Module):
    """Gives a buffer a new tensor in each step, which a stack does not see."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)
        self.register_buffer("mean", torch.zeros(n_features))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        if self.training:
            self.mean = 0.5 * self.mean + 0.5 * x.detach().mean(dim=0)
        return self.linear(x - self.mean)


class OwnRates(OwnDropout):
    """Keeps its rates in a list."""

    def __init__(self, n_features: int, n_outputs: int, dropout: float = 0.0) -> None:
        super().__init__(n_features, n_outputs)
        self.rates = [dropout]

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        return self.linear(F.dropout(x, self.rates[0], self.training))


class MyDropout(nn.Dropout):
    """Torch's by another name, which a stack leaves as it is."""


class OwnLayer(nn.Sequential):
    """Drops out with a layer of its own."""

    def __init__(self, n_features: int, n_outputs: int, dropout: float = 0.0) -> None:
        super().__init__(MyDropout(dropout), nn.Linear(n_features, n_outputs))


class Spare(nn.Module):
    """Has a layer that it never uses: torch's optimizers pass over its weights."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)
        self.spare = nn.Linear(n_features, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        return self.linear(x)


class DropoutIfAny(nn.Sequential):
    """Has a dropout layer only where there is dropout."""

    def __init__(self, n_features: int, n_outputs: int, dropout: float = 0.0) -> None:
        layers = [nn.Dropout(dropout)] if dropout else []
        super().__init__(*layers, nn.Linear(n_features, n_outputs))


@dataclass
class Settings:
    """What a network may be built from."""

    scale: float


class Held(nn.Module):
    """Keeps a number in an object of its own."""

    def __init__(self, n_features: int, n_outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)
        self.settings = Settings(1 - dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        return self.linear(x) * self.settings.scale


class Masked(nn.Module):
    """Draws a mask when it is built, and keeps it as a plain tensor."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)
        self.mask = torch.randn(n_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        return self.linear(x * self.mask)


class Counts(nn.Module):
    """Counts its steps, and trains otherwise as they become more."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)
        self.n_steps = 0

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        if not self.training:
            return self.linear(x)
        self.n_steps += 1
        return self.linear(x) / self.n_steps


class Channels(nn.Module):
    """Convolutions with dropout of whole channels, and a dropout layer that is used twice."""

    def __init__(self, n_features: int, n_outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 8, 3, padding=1)
        self.channels = nn.Dropout1d(dropout)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(8 * n_features, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        x = self.channels(self.first(self.dropout(x).unsqueeze(1)))
        return self.last(self.dropout(x.flatten(1)))


class Bounded(nn.Module):
    """A layer whose weights are a function of its parameters, which makes it of a class apart."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)
        nn.utils.parametrize.register_parametrization(self.linear, "weight", nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        return self.linear(x)


class ByNumpy(nn.Linear):
    """Adds noise that numpy draws."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__(n_features, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        noise = np.random.rand() if self.training else 0.0
        return super().forward(x) + noise


class ByPython(ByNumpy):
    """Leaves out all of its work now and then."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        share = random.random() if self.training else 1.0
        return nn.Linear.forward(self, x) * share


class Recurrent(nn.Module):
    """A layer of torch's that refers to its weights by weak references."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.cells = nn.GRU(1, 4, batch_first=True)
        self.last = nn.Linear(4, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        return self.last(self.cells(x.unsqueeze(2))[0][:, -1])


class NoiseIfAny(nn.Linear):
    """Has an attribute only where there is dropout."""

    def __init__(self, n_features: int, n_outputs: int, dropout: float = 0.0) -> None:
        super().__init__(n_features, n_outputs)
        if dropout:
            self.noise = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        return super().forward(x) * (1 - getattr(self, "noise", 0.0))


class Hooked(nn.Sequential):
    """Has a hook, as those that watch a network have."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__(nn.Linear(n_features, n_outputs), nn.Tanh())
        self[0].register_forward_hook(double)


def double(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Twice a layer's output."""
    return 2 * output


class Reveals(nn.Module):
    """Shows its masks of dropout: those of two layers, and of another use of the first."""

    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)
        self.first, self.second = nn.Dropout(0.5), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to the masks `(B, n_outputs)`, of which there may be three."""
        uses = (self.first, self.second, self.first)[: self.linear.out_features]
        masks = [use(torch.ones_like(x[:, :1])) for use in uses]
        return torch.cat(masks, dim=1) + 0 * self.linear(x)


class Grows(nn.Module):
    """Has an extra layer if there is dropout, else a spare one that nothing goes through."""

    def __init__(self, n_features: int, n_outputs: int, dropout: float = 0) -> None:
        super().__init__()
        if dropout > 0.5 and torch.get_default_device().type != "meta":  # where it is checked
            raise RuntimeError("no network today")
        self.first = nn.Linear(n_features, n_outputs)
        if dropout:
            self.extra = nn.Linear(n_outputs, n_outputs)
        else:
            self.spare = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, n_features)` to `(B, n_outputs)`."""
        x = self.first(x)
        return self.extra(x) if hasattr(self, "extra") else x


class PerRow(nn.Module):
    """A loss of a user's own that gives one number for each row where that is asked for."""

    def __init__(self, **_: object) -> None:
        super().__init__()
        self.reduction = "mean"

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Map outputs and targets `(B,)` to a scalar, or `(B,)`."""
        rows = (output - target).abs().pow(1.5)
        return rows if self.reduction == "none" else rows.mean()
