"""What every data set builds on: load, split, preprocess, minibatches; torch alone."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy, deepcopy
from dataclasses import replace
from math import ceil
from typing import Any, Self

import torch
from torch import Tensor

from multilayer.core.device import free_memory
from multilayer.core.errors import UserError
from multilayer.core.text import counted
from multilayer.data.batches import (
    BatchIterator,
    BatchSize,
    EpochShuffle,
    Minibatch,
    Minibatches,
    auto_batch_size,
    preprocess_table,
    preprocess_target,
)
from multilayer.data.parquet_stream import ParquetStream, StreamedMinibatches
from multilayer.data.preprocessing import NumericScaling, Preprocessing
from multilayer.data.split import Split, SplitRule, join_validation, split_rows, split_warnings
from multilayer.data.table import UNLIKE_TRAINING, Columns, Table
from multilayer.nn.losses import Task

log = logging.getLogger(__name__)

EVALUATION_BATCH_SIZE = 8192
"""Rows per minibatch where nothing is learned; it bounds memory and changes no result."""

_GPU_FRACTION = 0.8
"""Of a GPU's free memory, which the table may take; the rest is for the network."""


_OURS = ("multilayer.", "pytorch_lightning.")
"""Packages whose data sets yield plain rows."""


class Dataset(ABC):
    """A data set: subclass it and write `load`.

    Args:
        batch_size: Rows per minibatch; 1 for one sample at a time, "full" for all training rows,
            "auto" for a number that suits them, which takes its place once they are read.
        split_seed: Decides the split, and nothing else does.
        validation_fraction: Of all rows.
        test_fraction: Of all rows.
        folds: The number of folds for cross-validation; the test rows are one fold.
        fold: Which fold.
        max_train_rows: At most this many of the training rows, drawn at random; None keeps all.
        shuffle_seed: Decides the order of the rows in each epoch.
        numeric_scaling: How numbers are scaled; see `Preprocessing`.
        min_frequency: Categories with fewer training rows share one feature.
        max_categories: So do all beyond this many of the most frequent ones of a column.
        preprocessing: Already fitted; None fits a new one on the training rows.

    Attributes:
        known_columns: The columns in a training that is resumed or evaluated.
        joins_validation: Whether the validation rows are training rows too, so that none are left
            to validate with; see `multilayer.training.refit`.
        rank: The number of this process among those that train together.
        n_ranks: How many they are; each trains on its share of the rows.
        task: Known before anything is read, or None if the target decides.
        features: Of all rows, `(N, D)`; `rows` has the row numbers of each split. They are
            preprocessed, unless the training rows are streamed: then `batch_preprocessing` is
            still to be applied, since categories take much less memory before it.
        targets: Of all rows, `(N,)`; with their weights `(N, 2)`, where the table has any.
        columns: Their names, the classes and the categories.
        fingerprint: Of the table.
        missing_summary: How many values are missing, and in which features.

    Raises:
        ValueError: For an argument outside its range.

    >>> from multilayer.data import Columns
    >>> class Sums(Dataset):
    ...     def load(self):
    ...         rows = torch.rand(100, 2)
    ...         return Table(rows, rows.sum(dim=1), Columns(["a", "b"], "sum", "regression", []))
    >>> data = Sums()
    >>> data.setup()
    >>> data.split_tensors("train").features.shape
    torch.Size([70, 2])
    """

    known_columns: Columns | None = None
    joins_validation: bool = False
    rank: int = 0
    n_ranks: int = 1
    _has_larger_batches: bool = False
    task: Task | None = None
    features: Tensor
    targets: Tensor
    columns: Columns
    preprocessing: Preprocessing
    fingerprint: str
    missing_summary: str

    def __init__(
        self,
        *,
        batch_size: BatchSize = "auto",
        split_seed: int = 0,
        validation_fraction: float = 0.15,
        test_fraction: float = 0.15,
        folds: int | None = None,
        fold: int = 0,
        max_train_rows: int | None = None,
        shuffle_seed: int = 0,
        numeric_scaling: NumericScaling = "standard",
        min_frequency: int = 5,
        max_categories: int = 256,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        super().__init__()  # Lightning's, of a data set that is a `DataModule` too
        if isinstance(batch_size, int) and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, full or auto, got {batch_size}")
        smallest = min(validation_fraction, test_fraction)
        if not (smallest > 0 and validation_fraction + test_fraction < 1):
            raise ValueError(
                "validation_fraction and test_fraction must be above 0 and below 1 together, got "
                f"{validation_fraction} and {test_fraction}"
            )
        for name, seed in (("split_seed", split_seed), ("shuffle_seed", shuffle_seed)):
            if not isinstance(seed, int) or not 0 <= seed < 2**32:
                raise ValueError(f"{name} must be an integer from 0 to 2**32 - 1, got {seed}")
        if folds is not None and not (folds >= 2 and 0 <= fold < folds):
            given = f"got fold {fold} of folds={folds}"
            raise ValueError(f"folds must be at least 2 and are counted from 0, {given}")
        if max_train_rows is not None and max_train_rows < 1:
            raise ValueError(f"max_train_rows must be at least 1 or None, got {max_train_rows}")
        self.batch_size = batch_size
        self.split_rule = SplitRule(split_seed, validation_fraction, test_fraction, folds, fold)
        self.max_train_rows = max_train_rows
        self.shuffle_seed = shuffle_seed
        self.preprocessing_options: dict[str, Any] = {
            "numeric_scaling": numeric_scaling,
            "min_frequency": min_frequency,
            "max_categories": max_categories,
        }
        self.fitted_preprocessing = preprocessing
        self.rows: dict[Split, Tensor] = {}
        self.moved: tuple[Tensor, Tensor] | None = None
        self.moved_to: torch.device | None = None
        self.stream: ParquetStream | None = None  # set by a `load` that keeps only a sample
        self.batch_preprocessing: Preprocessing | None = None

    @abstractmethod
    def load(self) -> Table:
        """Read the whole table. It is not modified unless its `owns_memory` is true."""

    def setup(self, stage: str | None = None) -> None:
        """Load, split and preprocess; only the first call does anything.

        Args:
            stage: Lightning's, which makes no difference.
        """
        if not self.rows:
            self._prepare_rows()

    def _prepare_rows(self) -> None:
        """Load, split and preprocess."""
        table = self.load()
        if self.known_columns:
            table.columns.check_like(self.known_columns)
            table = replace(table, columns=self.known_columns)
        self.columns = table.columns
        self.fingerprint = table.fingerprint(self.stream.version if self.stream else "")
        self.missing_summary = table.missing_summary()
        rows = split_rows(table, self.split_rule)
        rows["train"] = rows["train"][: self.max_train_rows]
        self.rows = join_validation(rows) if self.joins_validation else rows
        _check_weights(table, self.rows)
        for line in split_warnings(table, self.rows, is_sample=self.stream is not None):
            log.warning(f"data: {line}")
        fitted = self.fitted_preprocessing
        expected = len(table.columns.features), table.columns.n_labels
        if fitted is not None and (fitted.n_columns, fitted.n_labels) != expected:
            raise UserError(UNLIKE_TRAINING)
        self.preprocessing = fitted or self._fit_preprocessing(table)
        if self.stream is None:
            self.features, self.targets = preprocess_table(self.preprocessing, table)
        else:
            self.features = table.features
            self.targets = preprocess_target(self.preprocessing, table)
            # The module's own moves to the network's device, and changes its precision.
            self.batch_preprocessing = deepcopy(self.preprocessing)
        self._choose_batch_size()

    def _choose_batch_size(self) -> None:
        """Put a number in the place of "auto"."""
        if self.batch_size == "auto":
            n_rows = self.count_rows()
            size = auto_batch_size(n_rows["train"] + n_rows["validation"])
            self.batch_size, self._has_larger_batches = size, size > auto_batch_size(0)

    def _fit_preprocessing(self, table: Table) -> Preprocessing:
        """A preprocessing fitted on the training rows of a table."""
        unfitted = Preprocessing.of(table.columns, **self.preprocessing_options)
        rows = self.rows["train"].sort().values  # reads memory in order
        target = table.target if table.columns.task == "regression" else None
        fitted = unfitted.fit_(table.features, target, rows=rows)
        categories = table.columns.categories.items()
        for (label, labels), n in zip(categories, fitted.n_encoded_labels, strict=True):
            if n == 0:
                own = counted(len(labels), "label")
                log.warning(
                    f"column {label!r}: none of its {own} has data.min_frequency="
                    f"{fitted.min_frequency} training rows; all count as one, which says nothing"
                )
        return fitted

    def with_shuffle_seed(self, shuffle_seed: int) -> Self:
        """The same rows, not copied, whose order in each epoch follows another seed."""
        other = copy(self)
        other.shuffle_seed = shuffle_seed
        return other

    def split_tensors(self, split: Split, at_most: int | None = None) -> Minibatch:
        """A copy of the rows of a split: preprocessed features `(N, D)`, and their `targets`.

        Args:
            split: Which split.
            at_most: No more than this many rows, evenly spaced; None for all.
        """
        rows = self.rows[split]
        if at_most is not None:
            rows = rows[:: ceil(len(rows) / at_most)]
        features = self.features[rows]
        if self.batch_preprocessing is not None:
            features = self.batch_preprocessing(features)
        return Minibatch(features, self.targets[rows])

    def target_values(self, split: Split) -> Tensor:
        """The target of those rows of a split that count, `(N,)`: their weight is not 0."""
        target = self.targets[self.rows[split]]
        if self.columns.weight is None:
            return target
        values = target[target[:, 1] > 0, 0]
        return values if self.columns.task == "regression" else values.long()

    def minibatches(self, split: Split, device: torch.device | None = None) -> Minibatches:
        """The rows of a split in order, for evaluation."""
        return Minibatches(
            *self.on_device(device),
            batch_size=EVALUATION_BATCH_SIZE,
            rows=self.rows[split],
            device=device,
            preprocessing=self.batch_preprocessing or self.preprocessing,
            is_raw=self.batch_preprocessing is not None,
        )

    def train_minibatches(self, device: torch.device | None = None) -> BatchIterator:
        """This process's share of the training rows, in an order that changes each epoch."""
        self._choose_batch_size()  # a `setup` of one's own may have read the rows
        options: dict[str, Any] = {"batch_size": self.batch_size, "device": device}
        if self.stream is not None:
            if self.batch_size == "full":
                raise UserError("data.batch_size=full: all rows at once do not fit; give a number")
            if self.n_ranks > 1:
                raise UserError("data.stream=true: it takes one process; use trainer.devices=1")
            options |= {"seed": self.shuffle_seed, "preprocessing": self.batch_preprocessing}
            return StreamedMinibatches(self.stream, self.columns, **options)
        n_rows = len(self.rows["train"])
        sampler = EpochShuffle(n_rows, self.shuffle_seed, rank=self.rank, n_ranks=self.n_ranks)
        options |= {"rows": self.rows["train"], "preprocessing": self.preprocessing}
        return Minibatches(*self.on_device(device), sampler=sampler, **options)

    def on_device(self, device: torch.device | None) -> tuple[Tensor, Tensor]:
        """Features and target of all rows on a device, moved once.

        They stay where they are if they are too large for it, or still to be preprocessed.
        """
        if device is None or device == self.features.device or self.batch_preprocessing is not None:
            return self.features, self.targets
        if self.moved is None or self.moved_to != device:
            n_bytes = self.features.nbytes + self.targets.nbytes
            if n_bytes > _GPU_FRACTION * free_memory(device):
                return self.features, self.targets
            self.moved = self.features.to(device), self.targets.to(device)
            self.moved_to = device  # such as "cuda": what is there says "cuda:0"
        return self.moved

    def count_rows(self) -> dict[str, int]:
        """How many rows each split has."""
        counts: dict[str, int] = {split: len(rows) for split, rows in self.rows.items()}
        if self.stream is not None:
            counts["train"] = sum(self.stream.n_training)
        return counts

    def describe(self) -> str:
        """What was read, in one line: rows, features by kind, missing values and the task.

        Of a table that is streamed, kinds and missing values are those of the rows in memory. Where
        there are more rows in a minibatch than usual, because the table is large, it says so.

        >>> from multilayer.data import BuiltinDataset
        >>> data = BuiltinDataset(name="iris")
        >>> data.setup()
        >>> data.describe()
        'train 104, validation 23, test 23 rows; 4 numbers; multiclass, 3 classes'
        """
        rows = ", ".join(f"{split} {n:,}" for split, n in self.count_rows().items())
        columns = self.columns
        classes = f", {len(columns.classes)} classes" if columns.classes else ""
        sample = f"training rows are streamed, {len(self.rows['train']):,} of them kept as a sample"
        parts = [
            f"{rows} rows",
            sample if self.stream else "",
            columns.describe(self.preprocessing.n_encoded_labels),
            self.missing_summary,
            f"minibatches of {self.batch_size} rows" if self._has_larger_batches else "",
            f"weighted by {columns.weight!r}" if columns.weight else "",
            f"{columns.task}{classes}",
        ]
        return "; ".join(filter(None, parts))


def _check_weights(table: Table, rows: Mapping[Split, Tensor]) -> None:
    """Raise `UserError` if all weights of a split are 0."""
    if (table.weights is None) != (table.columns.weight is None):
        raise ValueError("a table with weights has them in `weights`, and a name in `columns`")
    if table.weights is None:
        return
    for split, numbers in rows.items():
        if len(numbers) and not table.weights[numbers].any():
            raise UserError(
                f"data.weight: {table.columns.weight!r} is 0 in all of the "
                f"{counted(len(numbers), f'{split} row')}"
            )


def overridden_loader(kind: Any) -> str | None:
    """The method by which a data set changes its minibatches; None if it yields plain rows."""
    ours = [each for each in kind.__mro__ if each.__module__.startswith(_OURS)]
    loaders = {
        name
        for each in ours
        for name in vars(each)  # among Lightning's are some such as `on_after_batch_transfer`
        if "batch" in name or name in ("train_dataloader", "val_dataloader")
    }
    own = [name for each in kind.__mro__ if each not in ours for name in vars(each)]
    return next((name for name in own if name in loaders), None)
