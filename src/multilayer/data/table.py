"""A table in memory: what was read, as tensors, and the names that go with them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from multilayer.core.errors import UserError, quoted
from multilayer.data.column_types import (
    WORDS,
    Float64s,
    Floats,
    in_float64,
    is_fractional,
    is_number,
    is_rounded,
    kind_of_time,
    refuse_infinite,
)
from multilayer.data.labels import codes_in, codes_of, warn_of_unknown
from multilayer.data.origin import Origin
from multilayer.data.slips import refuse_slip
from multilayer.data.table_io import check_input, is_text, read_frame
from multilayer.data.text_column import Role, Roles, plain_name
from multilayer.data.text_format import KINDS, TextFormat
from multilayer.nn.losses import Task

log = logging.getLogger(__name__)

Split = Literal["train", "validation", "test"]

VALUES_AT_A_TIME = 2**15
"""What goes through at once where a table is gone through: it stays in the processor's cache, and
torch divides more among threads, which wait for each other where the machine has other work."""

HASHED_VALUES = 2**20
"""What is hashed at a time, since polars takes some time for each column: 4 MB."""

MAX_INTEGER_CLASSES = 20
"""An integer target with more distinct values than this is taken for a number to regress on."""


UNLIKE_TRAINING = (
    "the data is not read as it was in the training: other columns are numbers, or categories, or "
    "there are other classes or labels; a file can be given as data.path=FILE"
)

DROPPED, GROUPED = "data.drop", "data.group"
"""Why the user has left a column out. They are part of a table's fingerprint, and so are not
renamed with the keys."""


@dataclass(frozen=True)
class Columns:
    """The names a table had in training: all that is needed to read another one like it.

    classes: the label of each class, in the order of the outputs; empty in regression.
    categories: the labels of each feature that is a category; all other features are numbers.
    dropped: the columns that are left out, and why.
    has_odd_words: whether the classes are words, although they are written as numbers are.
    times: the features that are times, and of what kind; None where an older run does not know.
    """

    features: list[str]
    target: str
    task: Task
    classes: list[str]
    categories: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    # No part of the fingerprint, which older versions made without them:
    has_odd_words: bool = field(default=False, repr=False)
    times: dict[str, str] | None = field(default=None, repr=False, compare=False)

    @property
    def n_outputs(self) -> int:
        """The width of the network's output: a logit for each class, or a single number."""
        return len(self.classes) if self.task == "multiclass" else 1

    @property
    def n_labels(self) -> dict[int, int]:
        """The position of each feature that is a category, and the number of its labels."""
        return {self.features.index(name): len(own) for name, own in self.categories.items()}

    def roles(self, text: TextFormat) -> Roles:
        """How the columns of another file are read, which is written like that of the training.

        >>> columns = Columns(["a", "b"], "y", "binary", ["0", "1"], {"a": ["07"], "b": ["7"]})
        >>> columns.roles(TextFormat())
        {'a': 'category', 'b': 'category'}
        """
        numbers = [*self.features, *[self.target] * (self.task == "regression")]
        roles: dict[str, Role] = dict.fromkeys(numbers, "number")
        for name, labels in {**self.categories, self.target: self.classes}.items():
            if not text.keeps(labels):
                roles[name] = "verbatim"
            elif name != self.target or (labels and self.class_series.dtype == pl.String):
                roles[name] = "category"
        return {name.strip(): role for name, role in roles.items()}

    @property
    def class_series(self) -> pl.Series:
        """The classes in the target's own type: whole numbers, numbers, booleans or words.

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

        n_told_apart: for each category, how many of its labels have a feature of their own.

        >>> columns = Columns(["a", "b"], "y", "regression", [], {"b": ["x", "y"]}, {"c": ""})
        >>> columns.describe([2])
        "1 number, 1 category ('b' of 2 labels); without 'c'"
        >>> columns.describe([1])
        "1 number, 1 category ('b' of 2 labels, 1 told apart); without 'c'"
        """
        kinds = []
        n = len(self.features) - len(self.categories)
        if n:
            kinds.append(f"{n} number{'s' * (n > 1)}")
        if self.categories:
            each = [
                f"{name!r} of {len(own):,} labels" + (f", {n:,} told apart" * (n < len(own)))
                for (name, own), n in zip(self.categories.items(), n_encoded_labels, strict=True)
            ]
            listed = ", ".join(each[:8]) + (f" and {len(each) - 8} more" if each[8:] else "")
            kinds.append(f"{len(each)} categor{'ies' if each[1:] else 'y'} ({listed})")
        without = f"; without {quoted(list(self.dropped))}" if self.dropped else ""
        return ", ".join(kinds) + without

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for the checkpoint."""
        return asdict(self)


@dataclass(frozen=True)
class Table:
    """Rows of features with their target.

    features: `(N, D)` float32, or float64 where float32 would round a column too coarsely; NaN
        where a value is missing; a category is the index of its label, or the number of labels
        for one that is not known.
    target: `(N,)`, int64 class indices, or values in float32 or float64 likewise.
    groups: `(N,)` int64, the group of each row, if rows of one are to stay together.
    given: the row numbers of splits that are given; the rest is to be divided.
    is_ours: whether nobody else has the features, so that they may be preprocessed where they lie.
    origin: the files of the rows.
    """

    features: Tensor
    target: Tensor
    columns: Columns
    groups: Tensor | None = None
    preset_splits: dict[Split, Tensor] = field(default_factory=dict)
    owns_memory: bool = False
    origin: Origin = field(default_factory=lambda: Origin("the table"))

    def missing_summary(self) -> str:
        """How many values are missing, and in which features."""
        matrix = self.features.numpy()
        counts = sum(np.isnan(matrix[rows]).sum(axis=0) for rows in blocks(matrix)).tolist()
        gaps = [name for name, n in zip(self.columns.features, counts, strict=True) if n]
        return f"{sum(counts):,} values missing in {quoted(gaps)}" if gaps else ""

    def row_hashes(self) -> pl.Series:
        """A number for each row, which equal rows share; a missing value is equal to another."""
        matrix, target = self.features.numpy(), self.target.numpy()
        hashes = [
            pl.DataFrame(matrix[rows]).with_columns(target=target[rows]).hash_rows()
            for rows in blocks(matrix, HASHED_VALUES)
        ]
        return pl.concat(hashes)

    def fingerprint(self, more: str = "") -> str:
        """A SHA-256 of the values and the names: equal tables, equal fingerprints.

        more: what else tells the table from others.
        """
        digest = sha256(f"{self.columns!r}{more}".encode())
        for tensor in (self.features, self.target):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


def blocks(matrix: Tensor | Floats, n_values: int = VALUES_AT_A_TIME) -> Iterator[slice]:
    """The rows of a matrix in parts of a bounded size; at least one part.

    >>> list(blocks(torch.empty(3, VALUES_AT_A_TIME // 2)))
    [slice(0, 2, None), slice(2, 4, None)]
    """
    n_rows = max(1, n_values // max(1, matrix.shape[1]))
    for start in range(0, max(1, len(matrix)), n_rows):
        yield slice(start, start + n_rows)


def read_frame_like(
    path: str | Path, columns: Columns, text: TextFormat
) -> tuple[pl.DataFrame, Origin]:
    """The frame in a file that is not the one of the training, with its columns read as there.

    text: how values were written in training.

    Warns of a category of which no value is known.

    Raises `UserError` as `read_frame` does, and for a file without rows.
    """
    frame, origin = read_frame(path, text, columns.roles(text))
    empty = [name.strip() for name, labels in columns.categories.items() if "" in labels]
    if empty and is_text(check_input(path)[0]):
        log.warning(
            f"{origin.name}: {quoted(empty)}: empty values count as a label, as in training"
        )
        frame = frame.with_columns(pl.col(each).fill_null("") for each in empty)
    if frame.height == 0:
        raise UserError(f"{origin.name} has a header and no rows")
    names = [*columns.features, columns.target]  # of older runs, with the spaces around them
    frame = frame.rename({name.strip(): name for name in names}, strict=False)
    for label, labels in columns.categories.items():
        if label in frame.columns:
            warn_of_unknown(frame[label], labels, origin.name)
    return frame, origin


def read_table(frame: pl.DataFrame, columns: Columns, origin: Origin) -> Table:
    """A frame read as the table whose columns are known; extra columns are left out.

    Raises `UserError` for a missing column and a value that does not fit.
    """
    if columns.target not in frame.columns:
        raise UserError(f"{origin.name} has no column {columns.target!r}, the target")
    return Table(
        feature_tensor(frame, columns, origin),
        target_tensor(frame[columns.target], columns, origin),
        columns,
        origin=origin,
    )


def joined(tables: Mapping[Split, Table]) -> Table:
    """Tables of the same columns, one below the other; those after the first are splits given.

    All have the precision of the first, which decides what a tie is; but targets of another that
    it would round stay as they are.
    """
    first = next(iter(tables.values()))
    is_wide = first.columns.task == "regression" and any(
        is_rounded(table.target.numpy()) for table in tables.values()
    )
    target_type = torch.float64 if is_wide else first.target.dtype
    given, origin, start = dict(first.preset_splits), Origin("the table"), 0
    for split, table in tables.items():
        origin.parts += table.origin.parts or [(f"the {split} rows", range(len(table.target)))]
        if table is not first:
            given[split] = torch.arange(start, start + len(table.target))
        start += len(table.target)
    return Table(
        torch.cat([table.features.to(first.features.dtype) for table in tables.values()]),
        torch.cat([table.target.to(target_type) for table in tables.values()]),
        first.columns,
        preset_splits=given,
        owns_memory=True,
        origin=origin,
    )


def as_in_training(found: Columns, known: Columns) -> Columns:
    """The columns of a training, where the same were found again.

    Raises `UserError` for another feature, class or label: codes would mean something else.
    """

    def parts(columns: Columns) -> tuple[Any, ...]:
        categories = {plain_name(name): own for name, own in columns.categories.items()}
        names = [plain_name(name) for name in (*columns.features, columns.target)]
        return names, columns.task, columns.classes, categories

    if parts(found) != parts(known):
        raise UserError(UNLIKE_TRAINING)
    return known


def task_of(target: pl.Series) -> Task:
    """The task that a target column asks for."""
    if is_fractional(target.dtype):
        return "regression"
    n_values = target.drop_nulls().n_unique()
    if target.dtype.is_numeric() and n_values > MAX_INTEGER_CLASSES:
        return "regression"
    return "binary" if n_values == 2 else "multiclass"


def sorted_classes(target: pl.Series, name: str) -> list[str]:
    """The labels of the classes as text, in the order of the column's own type."""
    classes = [str(value) for value in target.drop_nulls().unique().sort().to_list()]
    if len(classes) < 2:
        raise UserError(
            f"{name}: column {target.name!r} has {len(classes)} class, needs at least 2"
        )
    return classes


def feature_tensor(frame: pl.DataFrame, columns: Columns, origin: Origin) -> Tensor:
    """The features as `(N, D)` float64, as in `Table`.

    Raises `UserError` for a missing column, words where numbers belong, and an infinite value.
    """
    missing = [label for label in columns.features if label not in frame.columns]
    if missing:
        raise UserError(f"{origin.name} lacks {quoted(missing)}; it has {quoted(frame.columns)}")
    matrix = np.empty((frame.height, len(columns.features)))
    for position, label in enumerate(columns.features):
        labels = columns.categories.get(label)
        if labels is None:
            matrix[:, position] = numbers_in(frame[label], columns.times, origin)
        else:
            matrix[:, position] = codes_in(frame[label], labels)
    return torch.from_numpy(matrix)


def numbers_in(
    column: pl.Series, times: Mapping[str, str] | None, origin: Origin, what: str = "column"
) -> Float64s:
    """A column of numbers or dates as `(N,)`.

    times: the kind of each column that is not "numbers"; an older run does not know it, or not
        whether its dates had a time zone.
    what: what the column is called.

    Raises `UserError` where it is of another kind than in training, and for an infinite value.
    """
    expected, found = (times or {}).get(column.name, "numbers"), str(column.dtype)
    is_empty = column.null_count() == len(column)  # which is read as words
    if column.dtype in WORDS and not is_empty:
        refuse_slip(column, expected, origin, what)
    if is_number(column.dtype):
        found = kind_of_time(column.dtype)
        is_empty |= times is None or found.startswith(expected)
    if not is_empty:
        todo = f"; write {expected} as {KINDS[expected].example}" if expected in KINDS else ""
        raise UserError(
            f"{origin.name}: {what} {column.name!r} must hold {expected}, as in training, found "
            f"{found}{todo}"
        )
    values = in_float64(column)
    refuse_infinite(values, column.name, origin, what)
    return values


def refuse_missing(target: pl.Series, origin: Origin, what: str | None = None) -> None:
    """Raise `UserError` where a target is missing, with the first such row.

    what: what it is called, if it is not the target.
    """
    if target.dtype.is_float() and np.isnan(target.to_numpy()).any():
        target = target.fill_nan(None)
    if target.null_count():
        name, row = origin.find(target.is_null().arg_true()[0])
        what = what or f"the target {target.name!r}"
        raise UserError(f"{name}: {what} is missing in row {row}")


def target_tensor(target: pl.Series, columns: Columns, origin: Origin) -> Tensor:
    """The target as `(N,)`: class indices (int64) or values (float64).

    Raises `UserError` for a missing value and for a class or word that training did not know.
    """
    refuse_missing(target, origin)
    if columns.task == "regression":
        return torch.from_numpy(numbers_in(target, {}, origin, "the target").copy())
    distinct = target.unique()
    words = pl.Series([str(value) for value in distinct.to_list()], dtype=pl.String)
    codes = codes_of(words, columns.classes).fill_null(-1)
    found = target.replace_strict(distinct, codes, return_dtype=pl.Int64)
    unknown = (found < 0).arg_true()
    if len(unknown):
        name, row = origin.find(unknown[0])
        raise UserError(
            f"{name}: the target {target.name!r} is {str(target[unknown[0]])!r} in row {row}, "
            f"none of the classes {quoted(columns.classes)}"
        )
    return found.to_torch()
