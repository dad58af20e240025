"""A table in memory: its values as tensors, and the names that go with them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from multilayer.core.errors import UserError, quoted
from multilayer.core.text import counted
from multilayer.data.numerics import Floats, is_rounded
from multilayer.data.origin import Origin
from multilayer.data.text_format import Role, Roles, TextFormat, plain_name
from multilayer.nn.losses import Task

Split = Literal["train", "validation", "test"]

_BLOCK_VALUES = 2**15
"""Values processed per block; fits the CPU cache. torch would split larger blocks among threads,
which wait for each other where the machine has other work."""

_HASH_BLOCK_VALUES = 2**20
"""Values hashed per block, 4 MB: polars has a fixed cost for each column."""

UNLIKE_TRAINING = (
    "the data is not read as it was in the training: other columns are numbers, or categories, or "
    "there are other classes or labels; a file can be given as data.path=FILE"
)

DROPPED, GROUPED = "data.drop", "data.group"
"""Why the user has left a column out. They are part of a table's fingerprint, and so are not
renamed with the keys."""


@dataclass(frozen=True)
class Columns:
    """The names in a table as they were in training: all that is needed to read another like it.

    Attributes:
        features: The names of the features, in order.
        target: The name of the column to predict.
        task: What is to be learned.
        classes: The label of each class, in the order of the outputs; empty in regression.
        categories: The labels of each categorical feature; all other features are numeric.
        dropped: The columns that are left out, and why.
        has_odd_words: Whether the classes are words although they are written as numbers are.
        times: The features that are times, and of which kind; None if an older run does not say.
        weight: The column with the weight of each row, if there is one.

    >>> columns = Columns(["size", "city"], "price", "regression", [], {"city": ["Bonn", "Ulm"]})
    >>> columns.n_outputs, columns.n_labels
    (1, {1: 2})
    """

    features: list[str]
    target: str
    task: Task
    classes: list[str]
    categories: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    # Not part of the fingerprint, since older versions had none of them:
    has_odd_words: bool = field(default=False, repr=False)
    times: dict[str, str] | None = field(default=None, repr=False, compare=False)
    weight: str | None = field(default=None, repr=False, compare=False)

    @property
    def n_outputs(self) -> int:
        """The width of the network's output: a logit for each class, or a single number."""
        return len(self.classes) if self.task == "multiclass" else 1

    @property
    def n_labels(self) -> dict[int, int]:
        """The number of labels of each categorical feature, by its position."""
        return {self.features.index(name): len(own) for name, own in self.categories.items()}

    @property
    def columns_of_words(self) -> list[str]:
        """The columns that held labels: the categorical features, and the target if it has classes.

        Older runs kept the spaces around names.
        """
        return [
            plain_name(name) for name in (*self.categories, *[self.target] * bool(self.classes))
        ]

    def roles(self, text: TextFormat) -> Roles:
        """How to read the columns of another file that is written like that of the training.

        >>> columns = Columns(["a", "b"], "y", "binary", ["0", "1"], {"a": ["07"], "b": ["7"]})
        >>> columns.roles(TextFormat())
        {'a': 'category', 'b': 'category'}
        """
        numbers = [*self.features, *[self.target] * (self.task == "regression")]
        numbers += [self.weight] if self.weight else []
        roles: dict[str, Role] = dict.fromkeys(numbers, "number")
        for name, labels in {**self.categories, self.target: self.classes}.items():
            if not text.preserves(labels):
                roles[name] = "verbatim"
            elif name != self.target or (labels and self.class_series.dtype == pl.String):
                roles[name] = "category"
        return {name.strip(): role for name, role in roles.items()}

    @property
    def class_series(self) -> pl.Series:
        """The classes in the target's own type: integers, floats, booleans or words.

        >>> Columns(["a"], "y", "binary", ["1", "2"]).class_series.to_list()
        [1, 2]
        """
        words = pl.Series(self.classes, dtype=pl.String)
        if self.has_odd_words:
            return words
        if set(self.classes) <= {"True", "False"}:
            return words == "True"
        for dtype in (pl.Int64, pl.Float64):
            numbers = words.cast(dtype, strict=False)
            is_number = numbers.is_finite().fill_null(value=False).all()
            if is_number and [str(number) for number in numbers] == self.classes:
                return numbers
        return words

    def describe(self, n_encoded_labels: Sequence[int]) -> str:
        """The features by kind, and what is left out.

        Args:
            n_encoded_labels: For each categorical feature, how many labels are told apart.

        >>> columns = Columns(["a", "b"], "y", "regression", [], {"b": ["x", "y"]}, {"c": ""})
        >>> columns.describe([2])
        "1 number, 1 category ('b' of 2 labels); without 'c'"
        >>> columns.describe([1])
        "1 number, 1 category ('b' of 2 labels, 1 told apart); without 'c'"
        """
        kinds = []
        n = len(self.features) - len(self.categories)
        if n:
            kinds.append(counted(n, "number"))
        if self.categories:
            each = [
                f"{name!r} of {counted(len(own), 'label')}"
                + (f", {n:,} told apart" * (n < len(own)))
                for (name, own), n in zip(self.categories.items(), n_encoded_labels, strict=True)
            ]
            listed = ", ".join(each[:8]) + (f" and {len(each) - 8} more" if each[8:] else "")
            kinds.append(f"{len(each)} categor{'ies' if each[1:] else 'y'} ({listed})")
        without = f"; without {quoted(list(self.dropped))}" if self.dropped else ""
        return ", ".join(kinds) + without

    def check_like(self, known: "Columns") -> None:
        """Check that these columns are read as those of a training were: codes mean the same.

        Raises:
            UserError: If a feature, class or label differs.
        """
        if self._plain_parts() != known._plain_parts():
            raise UserError(UNLIKE_TRAINING)

    def _plain_parts(self) -> tuple[Any, ...]:
        """What must be equal for codes to mean the same; older runs kept spaces around names."""
        categories = {plain_name(name): own for name, own in self.categories.items()}
        names = [plain_name(name) for name in (*self.features, self.target)]
        return names, self.task, self.classes, categories

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for the checkpoint."""
        return asdict(self)


@dataclass(frozen=True)
class Table:
    """Rows of features with their target.

    Attributes:
        features: `(N, D)` float32, or float64 where float32 would round a column too coarsely.
            NaN is a missing value. A category is the index of its label; an unknown label has
            the number of labels as its index.
        target: `(N,)`, int64 class indices, or values in float32 or float64 likewise.
        columns: The names of the columns, the classes and the categories.
        groups: `(N,)` int64, the group of each row, if rows of one group must stay together.
        times: `(N,)` int64, the place of each row in time; the newest rows are then test rows.
        splits: `(N,)` int64, the place of each row's split in `Split`, if a column names it.
        weights: `(N,)` float64, at least 0, how much each row counts in the loss and the metrics.
        preset_splits: The row numbers of splits that are decided; the other rows are divided.
        owns_memory: Whether nothing else refers to the features, so that they may be
            preprocessed in place.
        origin: The files of the rows.

    >>> columns = Columns(["a", "b"], "y", "binary", ["no", "yes"])
    >>> table = Table(torch.zeros(5, 2), torch.tensor([0, 1, 0, 1, 0]), columns)
    >>> table.missing_summary()
    ''
    """

    features: Tensor
    target: Tensor
    columns: Columns
    groups: Tensor | None = None
    times: Tensor | None = None
    splits: Tensor | None = None
    weights: Tensor | None = None
    preset_splits: dict[Split, Tensor] = field(default_factory=dict)
    owns_memory: bool = False
    origin: Origin = field(default_factory=lambda: Origin("the table"))

    def missing_summary(self) -> str:
        """How many values are missing, and in which features; "" if none are."""
        matrix = self.features.numpy()
        counts = sum(np.isnan(matrix[rows]).sum(axis=0) for rows in blocks(matrix)).tolist()
        gaps = [name for name, n in zip(self.columns.features, counts, strict=True) if n]
        return f"{counted(sum(counts), 'value')} missing in {quoted(gaps)}" if gaps else ""

    def row_hashes(self) -> pl.Series:
        """A hash of each row, equal for equal rows; missing values are equal to each other."""
        matrix, target = self.features.numpy(), self.target.numpy()
        hashes = [
            pl.DataFrame(matrix[rows]).with_columns(target=target[rows]).hash_rows()
            for rows in blocks(matrix, _HASH_BLOCK_VALUES)
        ]
        return pl.concat(hashes)

    def fingerprint(self, version: str = "") -> str:
        """A SHA-256 of the values and the names: equal tables have equal fingerprints.

        Args:
            version: What else distinguishes the table.
        """
        digest = sha256(f"{self.columns!r}{version}".encode())
        of_rows = self.times, self.splits, self.weights
        for tensor in (self.features, self.target, *of_rows):
            if tensor is not None:
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


def left_out_warnings(reasons: Mapping[str, str]) -> list[str]:
    """A line for each reason why columns are left out, by the columns' names.

    >>> why = "it has no values"
    >>> left_out_warnings({"a": why, "b": why, "c": "it has the same value in every row"})[0]
    "2 columns are left out, 'a', 'b': each has no values"
    """
    lines = []
    for reason in dict.fromkeys(reasons.values()):
        labels = [label for label, why in reasons.items() if why == reason]
        if len(labels) == 1:
            lines.append(f"column {labels[0]!r} is left out: {reason}")
        else:
            each = reason.replace("it has", "each has", 1)
            lines.append(f"{len(labels):,} columns are left out, {quoted(labels)}: {each}")
    return lines


def blocks(matrix: Tensor | Floats, n_values: int = _BLOCK_VALUES) -> Iterator[slice]:
    """The rows of a matrix in blocks of about `n_values` values; at least one block.

    >>> list(blocks(torch.empty(3, 4), n_values=8))
    [slice(0, 2, None), slice(2, 4, None)]
    """
    n_rows = max(1, n_values // max(1, matrix.shape[1]))
    for start in range(0, max(1, len(matrix)), n_rows):
        yield slice(start, start + n_rows)


def concat_splits(tables: Mapping[Split, Table]) -> Table:
    """Tables of the same columns as one; those after the first become preset splits.

    All take the precision of the features of the first, which decides what a tie is; targets keep
    float64 if that of any table needs it.
    """
    first = next(iter(tables.values()))
    is_wide = first.columns.task == "regression" and any(
        is_rounded(table.target.numpy()) for table in tables.values()
    )
    target_type = torch.float64 if is_wide else first.target.dtype
    preset, origin, start = dict(first.preset_splits), Origin("the table"), 0
    for split, table in tables.items():
        n_rows = len(table.target)
        origin.parts += table.origin.parts or [(f"the {split} rows", range(n_rows))]
        if table is not first:
            preset[split] = torch.arange(start, start + n_rows)
        start += n_rows
    return Table(
        torch.cat([table.features.to(first.features.dtype) for table in tables.values()]),
        torch.cat([table.target.to(target_type) for table in tables.values()]),
        first.columns,
        weights=None
        if first.weights is None
        else torch.cat([table.weights for table in tables.values() if table.weights is not None]),
        preset_splits=preset,
        owns_memory=True,
        origin=origin,
    )
