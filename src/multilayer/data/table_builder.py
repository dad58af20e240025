"""Tables of frames: built batch by batch in training, or read as the columns of a training were."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import polars.selectors as cs
import torch
from torch import Tensor

from multilayer.core.errors import UserError, quoted
from multilayer.data.column_types import ColumnTypeInference
from multilayer.data.missing_values import is_spelled_missing
from multilayer.data.numerics import Float64s, Floats, is_rounded, lost_digits, to_float64
from multilayer.data.origin import Origin, RowNumbers
from multilayer.data.row_columns import read_weights
from multilayer.data.stray_strings import raise_stray_string
from multilayer.data.table import Columns, Table, blocks
from multilayer.data.table_io import Schema
from multilayer.data.text_format import (
    KINDS,
    WORDS,
    is_number,
    kind_of,
    label_indices,
    labels_as_text,
)

log = logging.getLogger(__name__)

_GROWTH = 1.125
"""The matrix grows by this factor when it is full; the excess is given back at the end."""


class Float64NeededError(Exception):
    """A table was built as float32, which rounds one of its columns too coarsely."""


class TableBuilder:
    """Builds a table that predicts one column from all others, out of batches of its rows.

    No row is in memory twice: numbers are kept only as the features that they become, and words
    as codes.

    Args:
        schema: The names and types of the columns.
        dtype: Of the numbers; float32 holds most tables.
        options: For `ColumnTypeInference`.

    Raises:
        UserError: As `ColumnTypeInference` does.
    """

    def __init__(
        self, schema: Schema, *, dtype: type[np.floating[Any]] = np.float32, **options: Any
    ) -> None:
        self.types = ColumnTypeInference(schema, **options)
        self.positions = {label: index for index, label in enumerate(self.types.features)}
        self.matrix: Floats = np.empty((0, len(self.positions)), dtype)
        self.n_seen: Counter[Path | None] = Counter()
        self.n_rows = 0
        self.parts: list[pl.DataFrame] = []
        self.origin = Origin(self.types.name)
        self.is_sample = False

    def add(
        self,
        batch: pl.DataFrame,
        chosen: npt.NDArray[np.bool_] | None = None,
        *,
        file: Path | None = None,
    ) -> None:
        """Take in the next rows.

        Args:
            batch: The rows.
            chosen: Which of them to keep, `(B,)`; the others are only checked. None keeps all.
            file: The file that they are from; None for the table as a whole.

        Raises:
            UserError: For a missing target, group or the like, and an infinite value.
        """
        if batch.height == 0:
            return
        types, before = self.types, self.n_seen[file]
        self.n_seen[file] += batch.height
        name = file.name if file else types.name
        rows: RowNumbers = range(before, before + batch.height)
        numbers = types.check(batch, Origin(types.name, [(name, rows)]))
        if chosen is not None:
            self.is_sample |= not chosen.all()
            rows = before + np.flatnonzero(chosen)
            if len(rows) == 0:
                return
            numbers = {label: values[chosen] for label, values in numbers.items()}
            batch = batch.filter(chosen)
        self.origin.parts.append((name, rows))
        start, self.n_rows = self.n_rows, self.n_rows + batch.height
        if self.n_rows > len(self.matrix):
            self._resize(int(self.n_rows * _GROWTH))
        kept = self.matrix[start : self.n_rows]
        with np.errstate(over="ignore"):  # a table that goes beyond float32 is built again
            for label, values in numbers.items():
                kept[:, self.positions[label]] = values
                types.numbers[label].add(values, batch[label])
        words = cs.string() - cs.by_name(types.not_features)
        part = batch[types.others + types.not_features]
        self.parts.append(part.with_columns(words.cast(pl.Categorical)))

    def table(self) -> Table:
        """The table of all rows; to be called once.

        Raises:
            UserError: If it cannot be trained on.
            Float64NeededError: If it must be built again as float64.
        """
        types = self.types
        if self.n_rows == 0:
            raise UserError(f"{types.name} has a header and no rows")
        is_float32 = self.matrix.dtype == np.float32
        if is_float32 and types.needs_float64():
            raise Float64NeededError
        self._resize(self.n_rows)
        frame = pl.concat(self.parts, rechunk=True)
        self.parts.clear()
        numbers = {label: self.matrix[:, self.positions[label]] for label in types.numbers}
        name = f"a sample of {types.name}" if self.is_sample else types.name
        columns = types.infer(frame, numbers, self.origin, name)
        for label, labels in columns.categories.items():
            self.matrix[:, self.positions[label]] = _encode_labels(frame[label], labels)
        target = _encode_target(frame[types.target], columns, self.origin)
        if columns.task == "regression" and (said := lost_digits(frame[types.target])):
            types.said_of_digits[types.target] = said
        for said in types.said_of_digits.values():
            log.warning(f"{types.name}: {said}")
        if is_float32 and target.is_floating_point() and not is_rounded(target.numpy()):
            target = target.float()
        kept = [self.positions[label] for label in columns.features]
        table = Table(
            torch.from_numpy(_compact_columns(self.matrix, kept)),
            target,
            columns,
            owns_memory=True,
            origin=self.origin,
        )
        return types.row_columns.apply(table, frame)

    def _resize(self, n_rows: int) -> None:
        """Make room for `n_rows` rows; where the system can, the matrix is not copied."""
        self.matrix.resize((n_rows, len(self.positions)), refcheck=False)


def table_from_frame(frame: pl.DataFrame, **options: Any) -> Table:
    """The table in a frame.

    >>> frame = pl.DataFrame({"size": [30, 50, 70], "price": [0.5, 1.5, 2.0]})
    >>> table_from_frame(frame, target="price", name="flats").features.shape
    torch.Size([3, 1])

    Args:
        frame: The rows.
        options: For `TableBuilder`.
    """
    builder = TableBuilder(frame.schema, **options)
    builder.add(frame)
    try:
        return builder.table()
    except Float64NeededError:
        return table_from_frame(frame, **options, dtype=np.float64)


def encode_table(frame: pl.DataFrame, columns: Columns, origin: Origin) -> Table:
    """A frame as a table whose columns are known; additional columns are ignored.

    Raises:
        UserError: For a missing column and a value that does not fit.
    """
    if columns.target not in frame.columns:
        raise UserError(f"{origin.name} has no column {columns.target!r}, the target")
    if columns.weight and columns.weight not in frame.columns:
        raise UserError(f"{origin.name} has no column {columns.weight!r}, the weight of each row")
    return Table(
        encode_features(frame, columns, origin),
        _encode_target(frame[columns.target], columns, origin),
        columns,
        weights=read_weights(frame[columns.weight], origin) if columns.weight else None,
        origin=origin,
    )


def encode_features(frame: pl.DataFrame, columns: Columns, origin: Origin) -> Tensor:
    """The features as `(N, D)` float64, as in `Table`.

    Raises:
        UserError: For a missing column, words where numbers belong, and an infinite value.
    """
    missing = [label for label in columns.features if label not in frame.columns]
    if missing:
        raise UserError(f"{origin.name} lacks {quoted(missing)}; it has {quoted(frame.columns)}")
    matrix = np.empty((frame.height, len(columns.features)))
    for position, label in enumerate(columns.features):
        labels = columns.categories.get(label)
        if labels is None:
            matrix[:, position] = _encode_numbers(frame[label], columns.times, origin)
        else:
            matrix[:, position] = _encode_labels(frame[label], labels)
    return torch.from_numpy(matrix)


def _encode_labels(column: pl.Series, labels: Sequence[str]) -> npt.NDArray[np.float32]:
    """A categorical column as the indices of its labels in float32, NaN where one is missing.

    An unknown label has the index `len(labels)`. What spells out a missing value is one, unless
    it was a label in training.
    """
    words = labels_as_text(column)
    codes = label_indices(words, labels)
    unknown = words.filter(codes.is_null()).unique().drop_nulls().to_frame("word")
    spelled = unknown.filter(is_spelled_missing(pl.col("word")))["word"]
    is_missing = words.is_null() | words.is_in(spelled.implode())
    numbers = codes.fill_null(len(labels)).cast(pl.Float32).to_numpy()
    return np.where(is_missing.to_numpy(), np.float32("nan"), numbers)


def _encode_target(target: pl.Series, columns: Columns, origin: Origin) -> Tensor:
    """The target as `(N,)`: class indices (int64) or values (float64).

    Raises:
        UserError: For a missing value and for a class or word that training did not know.
    """
    origin.check_none_missing(target, f"the target {target.name!r}")
    if columns.task == "regression":
        return torch.from_numpy(_encode_numbers(target, {}, origin, "the target").copy())
    distinct = target.unique()
    words = pl.Series([str(value) for value in distinct.to_list()], dtype=pl.String)
    codes = label_indices(words, columns.classes).fill_null(-1)
    found = target.replace_strict(distinct, codes, return_dtype=pl.Int64)
    unknown = (found < 0).arg_true()
    if len(unknown):
        said = f"the target {target.name!r} is {str(target[unknown[0]])!r}"
        raise origin.error(unknown[0], said, f", none of the classes {quoted(columns.classes)}")
    return found.to_torch()


def _encode_numbers(
    column: pl.Series, times: Mapping[str, str] | None, origin: Origin, what: str = "column"
) -> Float64s:
    """A column of numbers or times as `(N,)`.

    Args:
        column: The column.
        times: The kind of each column that is not "numbers"; an older run does not know it, or
            not whether its dates had a time zone.
        origin: Of the rows.
        what: What a message calls it.

    Raises:
        UserError: If it is of another kind than in training, or has an infinite value.
    """
    expected, found = (times or {}).get(column.name, "numbers"), str(column.dtype)
    is_empty = column.null_count() == len(column)  # such a column is read as text
    if column.dtype in WORDS and not is_empty:
        raise_stray_string(column, expected, origin, what)
    if is_number(column.dtype):
        found = kind_of(column.dtype)
        is_empty |= times is None or found.startswith(expected)
    if not is_empty:
        todo = f"; write {expected} as {KINDS[expected].example}" if expected in KINDS else ""
        raise UserError(
            f"{origin.name}: {what} {column.name!r} must hold {expected}, as in training, found "
            f"{found}{todo}"
        )
    values = to_float64(column)
    origin.check_finite(values, f"{what} {column.name!r}")
    return values


def _compact_columns(matrix: Floats, column_indices: Sequence[int]) -> Floats:
    """Some columns of a matrix, moved together in place, so that none is in memory twice."""
    if list(column_indices) == list(range(matrix.shape[1])):
        return matrix
    flat, width = matrix.reshape(-1), len(column_indices)
    for rows in blocks(matrix):
        part = matrix[rows, column_indices]  # a copy
        flat[rows.start * width : rows.start * width + part.size] = part.reshape(-1)
    return flat[: len(matrix) * width].reshape(len(matrix), width)
