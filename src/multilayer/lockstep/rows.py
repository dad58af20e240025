"""The rows that the members of a stack train on, and how an epoch is divided into minibatches."""

from dataclasses import dataclass

import torch
from torch import Tensor

from multilayer.data import Dataset, Minibatches
from multilayer.runs.config import Config
from multilayer.training.steps import limited_batches


@dataclass(frozen=True)
class TrainingRows:
    """What all members of a stack share of their data; the order of the rows is each one's own.

    Attributes:
        features: `(N, D)`, of all rows.
        target: `(N,)`.
        batch_size: the rows of a minibatch.
        n_batches: the minibatches of an epoch; the last one may be smaller.
        n_used: the rows of an epoch.
    """

    features: Tensor
    target: Tensor
    batch_size: int
    n_batches: int
    n_used: int

    def shapes(self) -> dict[int, int]:
        """How many minibatches of an epoch have how many rows.

        >>> rows = TrainingRows(torch.zeros(5, 1), torch.zeros(5), 2, n_batches=3, n_used=5)
        >>> rows.shapes()
        {2: 2, 1: 1}
        """
        n_full, rest = divmod(self.n_used, self.batch_size)
        return {size: n for size, n in ((self.batch_size, n_full), (rest, 1)) if size and n}


def training_rows(
    data: Dataset, trainer: Config, device: torch.device, dtype: torch.dtype
) -> TrainingRows:
    """The rows of a data set that are trained on, where and as a stack needs them.

    Args:
        data: read.
        trainer: the config of the trainer, which may limit the minibatches.
        device: where the stack is.
        dtype: of its weights.
    """
    minibatches = data.train_minibatches(device)
    assert isinstance(minibatches, Minibatches), "the plan stacks no streamed data"
    size = minibatches.batch_size
    n_batches = limited_batches(trainer, len(minibatches))
    return TrainingRows(
        minibatches.features.to(device, dtype),
        minibatches.target.to(device),
        size,
        n_batches,
        min(minibatches.n_rows, n_batches * size),
    )
