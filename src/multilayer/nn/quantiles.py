"""Quantile regression: its loss, and the order of its outputs."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from multilayer.core.errors import UserError

MEDIAN = 0.5


class QuantileLoss(nn.Module):
    """The pinball loss `max(q * e, (q - 1) * e)` of errors `e = target - output`, for levels q.

    The output that minimizes it for a level is the quantile of the target at that level, given the
    features (Koenker and Bassett 1978).

    Maps outputs `(B, n_levels)`, or `(B,)` of a single level, and targets `(B,)` to the mean over
    rows and levels.

    Args:
        levels: Above 0 and below 1, in ascending order.

    Raises:
        ValueError: For other levels.

    >>> QuantileLoss(levels=[0.1, 0.9])(torch.zeros(1, 2), torch.tensor([10.0]))
    tensor(5.)
    """

    reduction = "mean"

    def __init__(self, *, levels: Sequence[float]) -> None:
        super().__init__()
        if not levels or not all(0 < level < 1 for level in levels):
            raise ValueError(f"levels must be above 0 and below 1, got {list(levels)}")
        if not all(low < high for low, high in pairwise(levels)):
            raise ValueError(f"levels must be in ascending order, each once, got {list(levels)}")
        self.levels = [float(level) for level in levels]

    @property
    def n_outputs(self) -> int:
        """The width of the network's output."""
        return len(self.levels)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Map outputs and targets to the mean loss, or with `reduction="none"` to that of rows."""
        check_quantiles(output, target, self.n_outputs)
        rows = pinball_loss(output.reshape(*target.shape, self.n_outputs), target, self.levels)
        return rows if self.reduction == "none" else rows.mean()


def pinball_loss(quantiles: Tensor, target: Tensor, levels: Sequence[float]) -> Tensor:
    """The mean loss over levels, of quantiles `(..., B, n_levels)` and targets `(..., B)`."""
    error = target.unsqueeze(-1) - quantiles
    level = torch.tensor(levels, dtype=error.dtype, device=error.device)
    return torch.maximum(level * error, (level - 1) * error).mean(dim=-1)


def in_order(quantiles: Tensor) -> Tensor:
    """Quantiles `(..., n_levels)` that cross, sorted: that of a higher level is never smaller.

    The pinball loss of sorted ones is never larger (Chernozhukov, Fernández-Val and Galichon 2010).
    """
    return quantiles.sort(dim=-1).values


def check_quantiles(output: Tensor, target: Tensor, n_levels: int) -> None:
    """Raise `UserError` unless a minibatch has an output for each level, and one target a row."""
    shapes = [(len(output), n_levels), *[(len(output),)] * (n_levels == 1)]
    if tuple(output.shape) not in shapes or target.shape != output.shape[:1]:
        raise UserError(
            f"quantiles: the network must give {n_levels} outputs a row, one for each level, and "
            f"the target one value a row; got outputs {tuple(output.shape)} and target "
            f"{tuple(target.shape)}"
        )
