"""Rows as the network and its loss take them: a whole table, or minibatch by minibatch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from numpy.random import SeedSequence
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.data.numerics import is_rounded
from multilayer.data.preprocessing import Preprocessing
from multilayer.data.table import Table, blocks
from multilayer.nn.losses import with_weights

BatchSize = int | Literal["full", "auto"]
"""Rows per minibatch, all of them, or `auto_batch_size`."""

_Item = TypeVar("_Item")


def auto_batch_size(n_rows: int) -> int:
    """The rows of a minibatch that suit a number of rows, those of training and validation.

    Large tables gain nothing from more steps in an epoch, and larger steps are faster:
    docs/benchmarks.md measures that for 256 rows. A refit, which trains on both splits, has the
    size of its run.

    >>> [auto_batch_size(n_rows) for n_rows in (100, 24_999, 25_000, 1_000_000)]
    [64, 64, 256, 1024]
    """
    return 64 if n_rows < 25_000 else 256 if n_rows < 250_000 else 1024


class Minibatch(NamedTuple):
    """Features `(B, D)` and target `(B,)` as the network and its loss take them.

    >>> features, target = Minibatch(torch.zeros(5, 2), torch.zeros(5))
    >>> features.shape
    torch.Size([5, 2])
    """

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

    >>> shuffle = EpochShuffle(4, seed=0)
    >>> sorted(shuffle.order().tolist())
    [0, 1, 2, 3]
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
        whole = order.repeat(self.n_ranks)[: len(self) * self.n_ranks]
        return whole[self.rank :: self.n_ranks]


class BatchIterator(ABC):
    """Minibatches of features `(B, D)` and target `(B,)`; each iteration over it is an epoch.

    Args:
        n_rows: The number of rows in an epoch.
        batch_size: Rows per minibatch; the last one of an epoch holds the rest.
        sampler: Decides the order; None keeps the rows as they are.
        device: Where the minibatches go; None for the CPU.
        preprocessing: What was or is done to the rows; a module without one adopts it.
    """

    batch_sampler = None  # Lightning looks for one besides `sampler`

    def __init__(
        self,
        n_rows: int,
        batch_size: int,
        sampler: EpochShuffle | None,
        device: torch.device | None,
        preprocessing: Preprocessing | None,
    ) -> None:
        self.n_rows = n_rows
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.sampler = sampler
        self.device = device or torch.device("cpu")
        # What decides which rows are in which minibatch of an epoch:
        self.batching_key = {"batch_size": batch_size}
        self.batching_key |= {"shuffle_seed": sampler.seed} if sampler is not None else {}
        self.n_yielded = 0
        self.resumed: dict[str, int] = {}

    def __iter__(self) -> Iterator[Minibatch]:
        for features, target in self._minibatches(self._begin()):
            self.n_yielded += 1
            yield Minibatch(features.to(self.device), target.to(self.device))

    @abstractmethod
    def _minibatches(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The minibatches of an epoch on any device, without the first `start`."""

    def __len__(self) -> int:
        return ceil(self.n_rows / self.batch_size)

    @property
    def _epoch(self) -> int:
        return self.sampler.epoch if self.sampler is not None else 0

    def _begin(self) -> int:
        """The number of the first minibatch to yield: 0, except in a run that is resumed.

        Raises:
            UserError: If an epoch cannot continue in its middle, because its minibatches have
                changed.
        """
        resumed, self.resumed = self.resumed, {}
        self.n_yielded = resumed["n_given"] if resumed.get("epoch") == self._epoch else 0
        # The epoch's length when it was interrupted: with other minibatches it is another now.
        if 0 < self.n_yielded < ceil(self.n_rows / resumed.get("batch_size", self.batch_size)):
            for key, now in self.batching_key.items():
                if resumed[key] != now:
                    raise UserError(
                        f"data.{key}={now}: the run to be resumed was interrupted in the middle of "
                        f"epoch {self._epoch + 1}; it can only go on with data.{key}={resumed[key]}"
                    )
        return self.n_yielded

    def state_dict(self) -> dict[str, int]:
        """How many minibatches of which epoch were yielded; Lightning saves it in checkpoints."""
        return {"n_given": self.n_yielded, "epoch": self._epoch, **self.batching_key}

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
        batch_size: int | Literal["full"],
        rows: Tensor | None = None,
        sampler: EpochShuffle | None = None,
        device: torch.device | None = None,
        preprocessing: Preprocessing | None = None,
        is_raw: bool = False,
    ) -> None:
        self.rows = torch.arange(len(target)) if rows is None else rows
        n_rows = len(self.rows if sampler is None else sampler)
        size = n_rows if batch_size == "full" else batch_size
        super().__init__(n_rows, size, sampler, device or features.device, preprocessing)
        self.features = features
        self.target = target
        self.is_raw = is_raw

    def order(self) -> Tensor:
        """The row numbers in the order of this epoch, `(n_rows,)` int64."""
        return self.rows if self.sampler is None else self.rows[self.sampler.order()]

    def _minibatches(self, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.order().to(self.features.device)
        for rows in torch.split(order, self.batch_size)[start : len(self)]:  # no rows are one part
            # Four times as fast as `features[rows]`.
            features = self.features.index_select(0, rows)
            if self.is_raw and self.preprocessing is not None:
                features = self.preprocessing(features)
            yield features, self.target.index_select(0, rows)


def prefetch(items: Iterator[_Item]) -> Iterator[_Item]:
    """The items, each fetched by a thread while the one before it is used.

    What fetching raises is raised where the item would have been yielded.

    >>> list(prefetch(iter("abc")))
    ['a', 'b', 'c']
    """
    end: Any = object()
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        ahead = thread.submit(next, items, end)
        while (item := ahead.result()) is not end:
            ahead = thread.submit(next, items, end)
            yield item


def preprocess_table(preprocessing: Preprocessing, table: Table) -> tuple[Tensor, Tensor]:
    """All rows as the network and its loss take them: features `(N, n_features)`, target `(N,)`.

    If the table owns its memory, is float32 and as wide as the features, they replace its values,
    so that it is in memory once. For what is raised see the two functions below.

    >>> from multilayer.data import BuiltinDataset
    >>> data = BuiltinDataset(name="iris")
    >>> data.setup()
    >>> features, target = preprocess_table(data.preprocessing, data.load())
    >>> features.shape, target.shape
    (torch.Size([150, 4]), torch.Size([150]))
    """
    raw = table.features
    target = preprocess_target(preprocessing, table)
    is_as_large = raw.dtype == torch.float32 and preprocessing.n_features == raw.shape[1]
    in_place = table.owns_memory and is_as_large
    names, describe_row = table.columns.features, table.origin.describe
    return preprocess_features(preprocessing, raw, names, describe_row, in_place=in_place), target


def preprocess_features(
    preprocessing: Preprocessing,
    raw: Tensor,
    names: Sequence[str],
    describe_row: Callable[[int], str],
    *,
    in_place: bool = False,
) -> Tensor:
    """Raw columns `(N, n_columns)` as the network takes them, `(N, n_features)`, block by block.

    Args:
        preprocessing: Fitted.
        raw: The raw columns.
        names: Of the columns.
        describe_row: What a message calls a row.
        in_place: Whether the features replace the raw columns.

    Raises:
        UserError: For a number that scaling takes beyond float32, with its column and row.
    """
    features = raw if in_place else torch.empty(len(raw), preprocessing.n_features)
    for rows in blocks(raw):
        part = preprocessing(raw[rows])
        if not part.sum().isfinite():  # one pass; a sum of finite values may be infinite too
            found = (~part[:, : preprocessing.n_numbers].isfinite()).nonzero().tolist()
            for row, k in found[:1]:
                position = preprocessing.number_columns[k]
                what, value = f"column {names[position]!r}", raw[rows][row, position]
                where, scale = describe_row(rows.start + row), preprocessing.scale[k]
                raise UserError(_too_far(what, value, where, preprocessing.mean[k], scale))
        features[rows] = part
    return features


def preprocess_target(
    preprocessing: Preprocessing, table: Table, *, is_chunk: bool = False
) -> Tensor:
    """The target of all rows as the loss takes it, `(N,)`; class indices stay.

    In a table with weights it comes with them, `(N, 2)`.

    The targets of no split may be too far from those of the training rows: standardized as those
    are, they would be infinite in float32, or lose their differences. The median of the training
    rows themselves is within a standard deviation of their mean.

    Args:
        preprocessing: Fitted.
        table: The rows.
        is_chunk: Whether they are a part of the training rows, of which no median is taken.

    Raises:
        UserError: With the farthest row, or the first that would be infinite.
    """
    if not table.target.is_floating_point():
        return with_weights(table.target, _scaled_weights(table))
    target, scaled = table.target, preprocessing.scale_target(table.target)
    mean, scale = preprocessing.target_mean, preprocessing.target_scale
    too_far = (~scaled.isfinite()).nonzero().flatten().tolist()
    splits = [*table.preset_splits.values()] or [torch.arange(len(target))]
    for rows in splits if not is_chunk else ():
        wide = (target[rows].double() - mean.double().cpu()) / scale.double().cpu()
        if wide.median().abs() > 1 and is_rounded(wide.numpy()):
            too_far.append(int(rows[wide.abs().argmax()]))
    for row in too_far[:1]:
        what, where = f"the target {table.columns.target!r}", table.origin.describe(row)
        message = _too_far(what, target[row], where, mean, scale)
        raise UserError(f"{message}; is it in the same unit?")
    return with_weights(scaled, _scaled_weights(table))


def _scaled_weights(table: Table) -> Tensor | None:
    """The weights of a table as float32, in units of a power of two, so that none overflows."""
    if table.weights is None:
        return None
    _, exponent = torch.frexp(table.weights.max())
    return torch.ldexp(table.weights, -exponent).float()


def _too_far(what: str, value: Tensor, where: str, mean: Tensor, scale: Tensor) -> str:
    """The message about a number that is too far from the training rows."""
    size = f"{value:g}" if value.isfinite() else "beyond float32"
    return (
        f"{what} is {size} in {where}: too far from the training rows, whose mean is {mean:g} and "
        f"standard deviation {scale:g}"
    )
