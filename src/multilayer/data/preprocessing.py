"""What is done to raw columns before the network sees them, as a module that travels with it."""

from typing import Self

import torch
from torch import Tensor, nn


class Preprocessing(nn.Module):
    """Missing values become the median, then every feature its standard score.

    Fitted on the training rows alone. In regression the target is standardised too, so that the
    loss and the rates that suit it do not depend on the target's units. The fitted numbers are
    buffers: they are saved with the network's weights and move to its device.

    **Shape**

    - Input: `(B, n_features)`, NaN where a value is missing
    - Output: `(B, n_features)`, finite

    >>> preprocessing = Preprocessing(2).fit_(torch.tensor([[1.0, 5.0], [3.0, torch.nan]]))
    >>> preprocessing(torch.tensor([[3.0, torch.nan]]))
    tensor([[1., 0.]])
    """

    median: Tensor
    mean: Tensor
    scale: Tensor
    target_mean: Tensor
    target_scale: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        for name, value in {
            "median": torch.zeros(n_features),
            "mean": torch.zeros(n_features),
            "scale": torch.ones(n_features),
            "target_mean": torch.tensor(0.0),
            "target_scale": torch.tensor(1.0),
        }.items():
            self.register_buffer(name, value)

    def fit_(self, features: Tensor, target: Tensor | None = None) -> Self:
        """Fit to features `(N, n_features)`, and to a target `(N,)` of values if there is one."""
        # In float64 the standard score of large numbers (years, prices) keeps its digits.
        wide = features.double()
        # Column by column, since torch takes no quantiles of more than 16 million values at once.
        medians = torch.stack([column.nanquantile(0.5) for column in wide.unbind(1)])
        median = medians.nan_to_num(0.0)  # an empty column becomes 0
        filled = torch.where(wide.isnan(), median, wide)
        self.median.copy_(median)
        self.mean.copy_(filled.mean(0))
        self.scale.copy_(scale_or_one(filled.std(0, correction=0)))
        if target is not None:
            self.target_mean.copy_(target.double().mean())
            self.target_scale.copy_(scale_or_one(target.double().std(correction=0)))
        return self

    def forward(self, features: Tensor) -> Tensor:
        """Map raw `(B, n_features)` to what the network takes."""
        filled = torch.where(features.isnan(), self.median, features)
        return (filled - self.mean) / self.scale

    def scale_target(self, target: Tensor) -> Tensor:
        """Map a target in its own units to the network's."""
        return (target - self.target_mean) / self.target_scale

    def unscale_target(self, output: Tensor) -> Tensor:
        """Map the network's output to the units of the target."""
        return output * self.target_scale + self.target_mean


def scale_or_one(deviation: Tensor) -> Tensor:
    """The deviation to divide by: 1 for a constant column, which then stays at 0."""
    return torch.where(deviation.float() > 0, deviation, 1.0)
