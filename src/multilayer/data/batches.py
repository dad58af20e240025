"""Minibatches of tensors in memory: one index per minibatch, on the device of the data."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from math import ceil
from typing import Literal, NamedTuple

import torch
from numpy.random import SeedSequence
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.data.preprocessing import Preprocessing

BatchSize = int | Literal["full"]


class Minibatch(NamedTuple):
    """Features `(B, D)` and target `(B,)` as the network and its loss take them."""

    features: Tensor
    target: Tensor


class EpochShuffle:
    """The order of the rows in each epoch, determined by the seed and the epoch alone.

    A run that is resumed, or trained in a stack, thus sees the rows in the same order. Of several
    processes each takes an equal share; the order then wraps around at the end.

    Args:
        n_rows: The number of rows.
        seed: Decides the order.
        rank: The number of this process.
        n_ranks: The number of processes.
    """

    def __init__(self, n_rows: int, seed: int, *, rank: int = 0, n_ranks: int = 1) -> None:
        self.n_rows = n_rows
        self.seed = seed
        self.rank = rank
        self.n_ranks = n_ranks
        self.epoch = 0

    def __len__(self) -> int:
        return ceil(self.n_rows / self.n_ranks)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0; Lightning calls this before each one."""
        self.epoch = epoch

    def order(self) -> Tensor:
        """The rows of this epoch, `(len(self),)` int64 on the CPU.

        >>> EpochShuffle(5, seed=0).order()
        tensor([1, 3, 0, 4, 2])
        """
        # torch's CPU generator uses only the lower 32 bits of its seed.
        mixed = SeedSequence((self.seed, self.epoch)).generate_state(1)
        generator = torch.Generator().manual_seed(int(mixed[0]))
        order = torch.randperm(self.n_rows, generator=generator)
        if self.n_ranks == 1:
            return order
        wrapped = order.repeat(self.n_ranks)[: len(self) * self.n_ranks]
        return wrapped[self.rank :: self.n_ranks]


class BatchIterator(ABC):
    """Minibatches of features `(B, D)` and target `(B,)`; each iteration over it is an epoch.

    Args:
        n_rows: The number of rows in an epoch.
        batch_size: Rows per minibatch; the last one of an epoch holds the rest.
        sampler: Decides the order; None keeps the rows as they are.
        device: Where the minibatches go.
        preprocessing: What was or is done to the rows; a module without one adopts it.
    """

    def __init__(
        self,
        n_rows: int,
        batch_size: int,
        sampler: EpochShuffle | None,
        device: torch.device,
        preprocessing: Preprocessing | None,
    ) -> None:
        self.n_rows = n_rows
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.sampler = sampler
        self.device = device
        self.n_yielded = 0
        self.resumed: dict[str, int] = {}
        self.batch_sampler = None  # Lightning looks for one besides `sampler`

    @abstractmethod
    def __iter__(self) -> Iterator[Minibatch]:
        """The minibatches of an epoch, starting at the one that `begin` returns."""

    def __len__(self) -> int:
        return ceil(self.n_rows / self.batch_size)

    @property
    def _epoch(self) -> int:
        return self.sampler.epoch if self.sampler is not None else 0

    def begin(self) -> int:
        """The number of the first minibatch to yield: 0, except in a run that is resumed.

        Raises:
            UserError: If an epoch cannot continue in its middle, because its minibatches have
                changed.
        """
        resumed, self.resumed = self.resumed, {}
        self.n_yielded = resumed["n_given"] if resumed.get("epoch") == self._epoch else 0
        # The epoch's length when it was interrupted: with other minibatches it is another now.
        if 0 < self.n_yielded < ceil(self.n_rows / resumed.get("batch_size", self.batch_size)):
            for key, now in self.batching_key().items():
                if resumed[key] != now:
                    raise UserError(
                        f"data.{key}={now}: the run to be resumed was interrupted in the middle of "
                        f"epoch {self._epoch + 1}; it can only go on with data.{key}={resumed[key]}"
                    )
        return self.n_yielded

    def batching_key(self) -> dict[str, int]:
        """What decides which rows are in which minibatch of an epoch."""
        key = {"batch_size": self.batch_size}
        return key | ({"shuffle_seed": self.sampler.seed} if self.sampler is not None else {})

    def state_dict(self) -> dict[str, int]:
        """How many minibatches of which epoch were yielded; Lightning saves it in checkpoints."""
        return {"n_given": self.n_yielded, "epoch": self._epoch, **self.batching_key()}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue in the middle of an epoch, where the run that is resumed was interrupted."""
        self.resumed = state_dict


class Minibatches(BatchIterator):
    """Minibatches of rows in memory, one index each.

    Args:
        features: Of all rows, `(N, D)`.
        target: Of all rows, `(N,)`.
        batch_size: Rows per minibatch; 1 is one sample at a time, "full" is all rows at once. The
            last minibatch of an epoch holds the rest.
        rows: The row numbers to use, `(n_rows,)` int64; None for all.
        sampler: Decides the order; None keeps the rows as they are.
        device: Where the minibatches go, if the rows are not there already.
        preprocessing: What was done to the features, or is still to be done.
        is_raw: Whether the features are still to be preprocessed, minibatch by minibatch.

    >>> rows = torch.arange(5.0).reshape(5, 1)
    >>> [len(target) for _, target in Minibatches(rows, torch.arange(5), batch_size=2)]
    [2, 2, 1]
    """

    def __init__(
        self,
        features: Tensor,
        target: Tensor,
        *,
        batch_size: BatchSize,
        rows: Tensor | None = None,
        sampler: EpochShuffle | None = None,
        device: torch.device | None = None,
        preprocessing: Preprocessing | None = None,
        is_raw: bool = False,
    ) -> None:
        n_rows = len(target) if rows is None else len(rows)
        n_rows = n_rows if sampler is None else len(sampler)
        size = n_rows if batch_size == "full" else batch_size
        super().__init__(n_rows, size, sampler, device or features.device, preprocessing)
        self.features = features
        self.target = target
        self.rows = rows
        self.is_raw = is_raw

    def order(self) -> Tensor:
        """The row numbers in the order of this epoch, `(n_rows,)` int64."""
        if self.sampler is None:
            return torch.arange(self.n_rows) if self.rows is None else self.rows
        order = self.sampler.order()
        return order if self.rows is None else self.rows[order]

    def __iter__(self) -> Iterator[Minibatch]:
        order = self.order().to(self.features.device)
        for rows in torch.split(order, self.batch_size)[self.begin() :]:
            self.n_yielded += 1
            # Four times as fast as `features[rows]`.
            features = self.features.index_select(0, rows)
            target = self.target.index_select(0, rows)
            if self.is_raw and self.preprocessing is not None:
                features = self.preprocessing(features)
            yield Minibatch(features.to(self.device), target.to(self.device))
