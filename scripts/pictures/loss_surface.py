"""Draws docs/images/loss_surface.png: the loss over two weights, and the paths of gradient descent.

python scripts/pictures/loss_surface.py docs/images/loss_surface.png

The network has one hidden unit and no biases, p = sigmoid(v tanh(w x)), so that its two weights are
all that there is to learn. x is the mean radius of each tumour in `breast_cancer`, standardized.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from multilayer import BuiltinData
from multilayer.plotting.style import (
    BLACK,
    COLOUR_MAP,
    ORANGE,
    OVER_LINES,
    PINK,
    new_figure,
    save_figure,
    styled,
)

W, V = (-4.0, 7.0), (-5.0, 6.0)
"""What is drawn."""

START = (-1.0, 3.0)
RATES = {0.3: BLACK, 3.0: ORANGE, 10.0: PINK}
N_STEPS = 30

LEVELS = [0.31, 0.32, 0.33, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 1, 1.5, 2, 4]
"""Losses that lines are drawn at; close to each other in the valleys."""


def read_data() -> tuple[Tensor, Tensor]:
    """The mean radius `(N,)`, standardized, and whether the tumour is malignant, in float64."""
    data = BuiltinData(name="breast_cancer")
    data.setup()
    radius = data.features[:, data.columns.features.index("mean radius")].double()
    is_malignant = data.targets == data.columns.classes.index("malignant")
    return radius, is_malignant.double()


def loss(w: Tensor, v: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The mean binary cross entropy `(...)` of networks with weights `(...)`."""
    logits = v[..., None] * torch.tanh(w[..., None] * x)  # (..., N)
    losses = binary_cross_entropy_with_logits(logits, y.expand_as(logits), reduction="none")
    return losses.mean(-1)


def descend(start: tuple[float, float], rate: float, x: Tensor, y: Tensor) -> Tensor:
    """The weights `(N_STEPS + 1, 2)` from the start on: each step goes down the gradient."""
    weights = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    path = [weights.detach().clone()]
    for _ in range(N_STEPS):
        (gradient,) = torch.autograd.grad(loss(weights[0], weights[1], x, y), weights)
        weights = (weights.detach() - rate * gradient).requires_grad_()
        path.append(weights.detach().clone())
    return torch.stack(path)


def draw(axes: Axes, x: Tensor, y: Tensor) -> None:
    """The surface, as lines of equal loss, and the paths."""
    lines = [torch.linspace(*ends, 221, dtype=torch.float64) for ends in (W, V)]
    w, v = torch.meshgrid(*lines, indexing="xy")
    colours: Any = {"cmap": f"{COLOUR_MAP}_r", "norm": BoundaryNorm(LEVELS, 256, extend="both")}
    surface = axes.contourf(w, v, loss(w, v, x, y), LEVELS, extend="both", **colours)
    axes.figure.colorbar(surface, ax=axes, label="loss", ticks=LEVELS[::2])
    for rate, colour in RATES.items():
        path = descend(START, rate, x, y)
        axes.plot(*path.T, color=colour, marker=".", markersize=8, label=f"rate {rate:g}")
    axes.plot(*START, color=BLACK, marker="o", markersize=9, linestyle="", label="start")
    axes.set(xlabel="$w$, of the hidden unit", ylabel="$v$, of the output", xlim=W, ylim=V)
    axes.legend(loc="lower right", **OVER_LINES)


@styled
def main(path: str) -> None:
    """Draw the figure."""
    figure = new_figure(6.4, 5.0)
    draw(figure.subplots(), *read_data())
    save_figure(figure, Path(path))


if __name__ == "__main__":
    main(sys.argv[1])
