"""A table built batch by batch: numbers go straight into one matrix."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from multilayer.core.errors import UserError, as_override, did_you_mean
from multilayer.core.renamed import current_key
from multilayer.data.column_types import (
    MAX_INTEGER_CLASSES,
    NumericStats,
    infer_column_types,
    is_fractional,
    is_number,
)
from multilayer.data.encoding import check_finite, check_none_missing, encode_labels, encode_target
from multilayer.data.numerics import (
    FLOAT32_MAX,
    Float64s,
    Floats,
    extent,
    is_rounded,
    lost_digits,
    to_float64,
)
from multilayer.data.stray_strings import check_stray_strings, possibly_missing_warning
from multilayer.data.table import DROPPED, GROUPED, Columns, Table, blocks
from multilayer.data.table_files import Origin, RowNumbers
from multilayer.data.table_io import Schema
from multilayer.data.text_format import ANY_NUMBER, WORDS, TextFormat, kind_of, plain_name
from multilayer.nn.losses import Task

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
        target: The column to predict.
        task: None to follow the target: words, booleans and few distinct integers are classes,
            other numbers are regressed on.
        categorical_columns: Columns that are categories whatever they hold.
        drop_columns: Columns to leave out.
        group_column: Rows with one value in this column are a group; it is not a feature.
        known: The columns as they were in an earlier training on the table, if there was one.
        text: How values were written where they were text, for messages about stray strings.
        name: What messages call the table.
        dtype: Of the numbers; float32 holds most tables.

    Raises:
        UserError: For a name that is not a column, and a column that cannot be used.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        target: str,
        task: Task | None = None,
        categorical_columns: Sequence[str] = (),
        drop_columns: Sequence[str] = (),
        group_column: str | None = None,
        known: Columns | None = None,
        text: TextFormat | None = None,
        name: str,
        dtype: type[np.floating[Any]] = np.float32,
    ) -> None:
        grouping = [group_column] if group_column is not None else []
        named = {
            "target": [target],
            "categorical_columns": categorical_columns,
            "drop_columns": drop_columns,
            "group_column": grouping,
        }
        for key, columns in named.items():
            _check_names(key, columns, schema, target, name)
        self.target, self.task, self.group, self.name = target, task, group_column, name
        self.categorical = categorical_columns
        words = [*known.categories, *[known.target] * bool(known.classes)] if known else []
        self.known_words = set(map(plain_name, words))
        self.text = text or TextFormat()
        self.dropped = dict.fromkeys(drop_columns, DROPPED) | dict.fromkeys(grouping, GROUPED)
        if known:
            self.dropped |= {plain_name(name): why for name, why in known.dropped.items()}
        self.features = [label for label in schema if label not in {target, *self.dropped}]
        for label in (*self.features, target):
            _check_scalar(label, schema[label], name, is_target=label == target)
        for label in categorical_columns:
            if schema[label] == pl.Duration:
                raise UserError(
                    f"{name}: data.categorical_columns: {label!r} holds durations, not labels"
                )
        # The numeric features, and their positions among all.
        self.numbers = {
            label: position
            for position, label in enumerate(self.features)
            if is_number(schema[label]) and label not in categorical_columns
        }
        kinds = {label: kind_of(schema[label]) for label in self.numbers}
        self.times = {label: kind for label, kind in kinds.items() if kind != "numbers"}
        self.others = [label for label in self.features if label not in self.numbers]
        self.not_features = [target, *grouping]
        self.stats = NumericStats({name: schema[name] for name in self.numbers})
        self.matrix: Floats = np.empty((0, len(self.features)), dtype)
        self.is_beyond_float32 = False
        self.said_of_digits: dict[str, str] = {}
        self.n_seen = self.n_rows = 0
        self.parts: list[pl.DataFrame] = []
        self.origin = Origin(name)
        self.is_sample = False

    def add(
        self,
        batch: pl.DataFrame,
        chosen: npt.NDArray[np.bool_] | None = None,
        *,
        name: str | None = None,
        rows_before: int | None = None,
    ) -> None:
        """Take in the next rows.

        Args:
            batch: The rows.
            chosen: Which of them to keep, `(B,)`; the others are only checked. None keeps all.
            name: The file that they are from; None for the table as a whole.
            rows_before: How many rows of that file came before; None for all rows seen so far.

        Raises:
            UserError: For a missing target or group, and an infinite value.
        """
        before = self.n_seen if rows_before is None else rows_before
        self.n_seen += batch.height
        if batch.height == 0:
            return
        rows: RowNumbers = range(before, before + batch.height)
        part = Origin(self.name, [(name or self.name, rows)])
        target = batch[self.target]
        check_none_missing(target, part)
        if self.group is not None:
            check_none_missing(batch[self.group], part, f"data.group_column {self.group!r}")
        if target.dtype.is_float():
            self._check_size(to_float64(target), self.target, part, "the target")
        numbers = {label: to_float64(batch[label]) for label in self.numbers}
        for label, values in numbers.items():
            largest = self._check_size(values, label, part)
            self.stats.add_most_rounded(label, values)
            if largest > 2**53 and (said := lost_digits(batch[label])):
                self.said_of_digits.setdefault(label, said)
        if chosen is not None:
            self.is_sample = self.is_sample or not chosen.all()
            rows = before + np.flatnonzero(chosen)
            numbers = {label: values[chosen] for label, values in numbers.items()}
            batch = batch.filter(chosen)
        self.origin.parts.append((name or self.name, rows))
        self._keep(numbers, batch)

    def _check_size(
        self, values: Float64s, label: str, origin: Origin, what: str = "column"
    ) -> float:
        """The largest absolute value in a column `(B,)`; notes whether float32 holds it.

        Raises:
            UserError: For an infinite one.
        """
        low, high = extent(values)
        largest = max(-low, high)
        if largest == np.inf:
            check_finite(values, label, origin, what)
        self.is_beyond_float32 |= largest > FLOAT32_MAX
        return largest

    def _keep(self, numbers: Mapping[str, Float64s], batch: pl.DataFrame) -> None:
        """Keep the rows of a batch: its numbers as features, and its other columns."""
        start, self.n_rows = self.n_rows, self.n_rows + batch.height
        if self.n_rows > len(self.matrix):
            self._resize(int(self.n_rows * _GROWTH))
        rows = self.matrix[start : self.n_rows]
        with np.errstate(over="ignore"):  # a table that goes beyond float32 is built again
            for label, position in self.numbers.items():
                rows[:, position] = numbers[label]
        self.stats.add(numbers, batch)
        part = batch[self.others + self.not_features]
        words = [label for label in self.others if part.schema[label] == pl.String]
        self.parts.append(part.with_columns(pl.col(words).cast(pl.Categorical)) if words else part)

    def table(self) -> Table:
        """The table of all rows; to be called once.

        Raises:
            UserError: If it cannot be trained on.
            Float64NeededError: If it must be built again as float64.
        """
        if self.n_rows == 0:
            raise UserError(f"{self.name} has a header and no rows")
        is_float32 = self.matrix.dtype == np.float32
        if is_float32 and (self.is_beyond_float32 or self.stats.needs_float64()):
            raise Float64NeededError
        self._resize(self.n_rows)
        frame = pl.concat(self.parts, rechunk=True)
        self.parts.clear()
        columns = self._find_columns(frame)
        for label, labels in columns.categories.items():
            self.matrix[:, self.features.index(label)] = encode_labels(frame[label], labels)
        column_indices = [self.features.index(label) for label in columns.features]
        groups = None
        if self.group is not None:
            groups = frame[self.group].rank("dense").cast(pl.Int64).to_torch()
        target = encode_target(frame[self.target], columns, self.origin)
        if columns.task == "regression" and (said := lost_digits(frame[self.target])):
            self.said_of_digits[self.target] = said
        for said in self.said_of_digits.values():
            log.warning(f"{self.name}: {said}")
        if is_float32 and target.is_floating_point() and not is_rounded(target.numpy()):
            target = target.float()
        return Table(
            torch.from_numpy(_compact_columns(self.matrix, column_indices)),
            target,
            columns,
            groups=groups,
            owns_memory=True,
            origin=self.origin,
        )

    def _find_columns(self, frame: pl.DataFrame) -> Columns:
        """The types of the columns, and the classes.

        Args:
            frame: All columns that are not numeric features, the target among them.
        """
        target, name = frame[self.target], self.name
        self._check_words_of_others(frame)
        task = self.task or _task_of(target)
        classes = [] if task == "regression" else _sorted_classes(target, name, task)
        if task == "regression" and target.min() == target.max():
            raise UserError(
                f"{name}: the target {target.name!r} is {target[0]} in every row: there is nothing "
                "to learn"
            )
        types = infer_column_types(
            self.features,
            self.stats,
            {label: self.matrix[:, position] for label, position in self.numbers.items()},
            frame.select(self.others),
            target,
            categorical_columns=self.categorical,
            known_words=self.known_words,
            text=self.text,
            name=f"a sample of {name}" if self.is_sample else name,
            origin=self.origin,
        )
        dropped = self.dropped | types.dropped
        features = [label for label in self.features if label not in dropped]
        if not features:
            reasons = ", ".join(f"{each!r} ({current_key(why)})" for each, why in dropped.items())
            without = f", without {reasons}" if reasons else ""
            raise UserError(f"{name} has no feature columns beside the target{without}")
        columns = Columns(features, self.target, task, classes, types.categories, dropped)
        has_words = target.dtype in WORDS and columns.class_series.dtype != pl.String
        times = {label: kind for label, kind in self.times.items() if label in features}
        return replace(columns, has_odd_words=has_words, times=times)

    def _check_words_of_others(self, frame: pl.DataFrame) -> None:
        """Look for stray strings and missing values among the words of the target and the group."""
        for label in self.not_features:
            column = frame[label]
            if column.dtype not in WORDS or label in self.known_words:
                continue
            labels = column.unique().cast(pl.String).drop_nulls().to_list()
            may_be_missing = possibly_missing_warning({label: labels})
            # A few numbers among words are classes, unless a word may hide a missing value.
            may_be_classes = (
                self.task is None
                and may_be_missing is None
                and len(labels) <= MAX_INTEGER_CLASSES
                and not all(re.match(ANY_NUMBER, word) for word in labels)
            )
            said = None
            if label == self.target and self.task in (None, "regression") and not may_be_classes:
                otherwise = "data.task=multiclass"
                said = check_stray_strings(column, self.text, self.origin, otherwise=otherwise)
            if said := said or may_be_missing:
                log.warning(f"{self.name}: {said}")

    def _resize(self, n_rows: int) -> None:
        """Make room for `n_rows` rows; where the system can, the matrix is not copied."""
        self.matrix.resize((n_rows, len(self.features)), refcheck=False)


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


def _check_names(
    key: str, names: Sequence[str], schema: Schema, target: str, table_name: str
) -> None:
    """Raise `UserError` where a key names a column that does not exist, or the target wrongly."""
    for name in names:
        if name not in schema:
            hint = did_you_mean(name, schema)
            raise UserError(f"{table_name} has no column {name!r} for data.{key}: {hint}")
        if name == target and key != "target":
            raise UserError(f"data.{key}: {name!r} is the target")


def _check_scalar(label: str, dtype: pl.DataType, name: str, *, is_target: bool) -> None:
    """Raise `UserError` for a column of lists, for example."""
    if not (is_number(dtype) or dtype in (*WORDS, pl.Null)):
        leave_out = f"; leave it out with {as_override('data.drop_columns', [label])}"
        raise UserError(
            f"{name}: column {label!r} holds {dtype}, where one value a row is needed"
            + leave_out * (not is_target)
        )


def _task_of(target: pl.Series) -> Task:
    """The task that a target column asks for."""
    if is_fractional(target.dtype):
        return "regression"
    n_values = target.drop_nulls().n_unique()
    if target.dtype.is_numeric() and n_values > MAX_INTEGER_CLASSES:
        return "regression"
    return "binary" if n_values == 2 else "multiclass"


def _sorted_classes(target: pl.Series, name: str, task: Task) -> list[str]:
    """The labels of the classes as text, in the order of the column's own type."""
    classes = [str(value) for value in target.drop_nulls().unique().sort().to_list()]
    found = f"{name}: column {target.name!r} has {len(classes)} class"
    if len(classes) < 2:
        raise UserError(f"{found}, needs at least 2")
    if task == "binary" and len(classes) != 2:
        raise UserError(f"{found}es, binary needs 2")
    return classes


def _compact_columns(matrix: Floats, column_indices: Sequence[int]) -> Floats:
    """Some columns of a matrix, moved together in place, so that none is in memory twice."""
    if list(column_indices) == list(range(matrix.shape[1])):
        return matrix
    flat, width = matrix.reshape(-1), len(column_indices)
    for rows in blocks(matrix):
        part = matrix[rows, column_indices]  # a copy
        flat[rows.start * width : rows.start * width + part.size] = part.reshape(-1)
    return flat[: len(matrix) * width].reshape(len(matrix), width)
