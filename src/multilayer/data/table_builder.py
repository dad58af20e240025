"""A table taken in a part at a time: numbers go straight into one matrix."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from multilayer.core.errors import UserError, did_you_mean
from multilayer.core.renamed import current_key
from multilayer.data.column_types import (
    FLOAT32_MAX,
    WORDS,
    Float64s,
    Floats,
    NumericStats,
    check_names,
    extent,
    in_float64,
    infer_column_types,
    is_number,
    is_rounded,
    kind_of_time,
    lost_digits,
    refuse_infinite,
    refuse_nested,
)
from multilayer.data.labels import codes_in
from multilayer.data.origin import Origin, RowNumbers
from multilayer.data.schemas import Schema
from multilayer.data.slips import check_words, labels_that_may_be_missing, spelled_labels
from multilayer.data.table import (
    DROPPED,
    GROUPED,
    MAX_INTEGER_CLASSES,
    Columns,
    Table,
    blocks,
    refuse_missing,
    sorted_classes,
    target_tensor,
    task_of,
)
from multilayer.data.text_column import plain_name
from multilayer.data.text_format import MARKED, TextFormat
from multilayer.nn.losses import Task

log = logging.getLogger(__name__)

Bools = npt.NDArray[np.bool_]

GROWTH = 1.125
"""The matrix grows by this factor when it is full; what is too much is given back at the end."""


class Float64NeededError(Exception):
    """A table was taken in as float32, which rounds one of its columns too coarsely."""


class TableBuilder:
    """Makes a table that predicts column `target` from all others, out of batches of its rows.

    schema: the names and types of the columns.
    target: the column to predict.
    task: None to follow the target: words, booleans and few distinct integers are classes, other
        numbers are to be regressed on.
    categorical_columns: columns that are categories whatever they hold.
    drop_columns: columns to leave out.
    group_column: rows with one value in this column are a group; it is no feature.
    known: the columns as they were in an earlier training on the table; None where there was none.
    text: how values were written where they were text, for what is said of slips.
    name: what messages call the table.
    dtype: of the numbers; float32 holds most tables.

    No row is in memory twice: numbers are kept only as the features that they become, and words
    as codes.

    Raises `UserError` for a name that is no column, and a column that cannot be used, and
    `Float64NeededError` where the table must be taken in again as float64.
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
        if target not in schema:
            hint = did_you_mean(target, schema)
            raise UserError(f"{name} has no column {target!r} for data.target: {hint}")
        grouping = [group_column] if group_column is not None else []
        named = {
            "categorical_columns": categorical_columns,
            "drop_columns": drop_columns,
            "group_column": grouping,
        }
        for key, given in named.items():
            check_names(key, given, list(schema), target, name)
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
            refuse_nested(label, schema[label], name, is_target=label == target)
        for label in categorical_columns:
            if schema[label] == pl.Duration:
                raise UserError(
                    f"{name}: data.categorical_columns: {label!r} holds durations, not labels"
                )
        # The features that are numbers, and where they are among all.
        self.numbers = {
            label: position
            for position, label in enumerate(self.features)
            if is_number(schema[label]) and label not in categorical_columns
        }
        kinds = {label: kind_of_time(schema[label]) for label in self.numbers}
        self.times = {label: kind for label, kind in kinds.items() if kind != "numbers"}
        self.others = [label for label in self.features if label not in self.numbers]
        self.beside = [target, *grouping]
        self.facts = NumericStats({name: schema[name] for name in self.numbers})
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
        chosen: Bools | None = None,
        *,
        name: str | None = None,
        rows_before: int | None = None,
    ) -> None:
        """Take in the next rows.

        chosen: which of them, `(B,)`; the others are only looked at. None takes all.
        name, rows_before: the file that they are from, and how many rows of it came before; None
            for the table and all that was taken in.

        Raises `UserError` for a missing target or group, and an infinite value.
        """
        before = self.n_seen if rows_before is None else rows_before
        self.n_seen += batch.height
        if batch.height == 0:
            return
        rows: RowNumbers = range(before, before + batch.height)
        part = Origin(self.name, [(name or self.name, rows)])
        target = batch[self.target]
        refuse_missing(target, part)
        if self.group is not None:
            refuse_missing(batch[self.group], part, f"data.group_column {self.group!r}")
        if target.dtype.is_float():
            self.check_size(in_float64(target), self.target, part, "the target")
        numbers = {label: in_float64(batch[label]) for label in self.numbers}
        for label, values in numbers.items():
            largest = self.check_size(values, label, part)
            self.facts.note_rounding(label, values)
            if largest > 2**53 and (said := lost_digits(batch[label])):
                self.said_of_digits.setdefault(label, said)
        if chosen is not None:
            self.is_sample = self.is_sample or not chosen.all()
            rows = before + np.flatnonzero(chosen)
            numbers = {label: values[chosen] for label, values in numbers.items()}
            batch = batch.filter(chosen)
        self.origin.parts.append((name or self.name, rows))
        self.keep(numbers, batch)

    def check_size(
        self, values: Float64s, label: str, origin: Origin, what: str = "column"
    ) -> float:
        """The largest absolute value in a column `(B,)`; note whether float32 holds it.

        Raises `UserError` for an infinite one.
        """
        low, high = extent(values)
        largest = max(-low, high)
        if largest == np.inf:
            refuse_infinite(values, label, origin, what)
        self.is_beyond_float32 |= largest > FLOAT32_MAX
        return largest

    def keep(self, numbers: Mapping[str, Float64s], batch: pl.DataFrame) -> None:
        """Keep the rows of a batch: its numbers as features, and its other columns."""
        start, self.n_rows = self.n_rows, self.n_rows + batch.height
        if self.n_rows > len(self.matrix):
            self.resize(int(self.n_rows * GROWTH))
        rows = self.matrix[start : self.n_rows]
        with np.errstate(over="ignore"):  # a table that goes beyond float32 is taken in again
            for label, position in self.numbers.items():
                rows[:, position] = numbers[label]
        self.facts.note(numbers, batch)
        part = batch[self.others + self.beside]
        words = [label for label in self.others if part.schema[label] == pl.String]
        self.parts.append(part.with_columns(pl.col(words).cast(pl.Categorical)) if words else part)

    def table(self) -> Table:
        """The table of all rows; to be called once.

        Raises `UserError` where it is no table to train on, and `Float64NeededError`.
        """
        if self.n_rows == 0:
            raise UserError(f"{self.name} has a header and no rows")
        is_float32 = self.matrix.dtype == np.float32
        if is_float32 and (self.is_beyond_float32 or self.facts.needs_float64()):
            raise Float64NeededError
        self.resize(self.n_rows)
        frame = pl.concat(self.parts, rechunk=True)
        self.parts.clear()
        columns = self.find_columns(frame)
        for label, labels in columns.categories.items():
            self.matrix[:, self.features.index(label)] = codes_in(frame[label], labels)
        places = [self.features.index(label) for label in columns.features]
        groups = None
        if self.group is not None:
            groups = frame[self.group].rank("dense").cast(pl.Int64).to_torch()
        target = target_tensor(frame[self.target], columns, self.origin)
        if columns.task == "regression" and (said := lost_digits(frame[self.target])):
            self.said_of_digits[self.target] = said
        for said in self.said_of_digits.values():
            log.warning(f"{self.name}: {said}")
        if is_float32 and target.is_floating_point() and not is_rounded(target.numpy()):
            target = target.float()
        return Table(
            torch.from_numpy(compact_columns(self.matrix, places)),
            target,
            columns,
            groups=groups,
            owns_memory=True,
            origin=self.origin,
        )

    def find_columns(self, frame: pl.DataFrame) -> Columns:
        """The kinds of the columns, and the classes.

        frame: all columns that are not numbers, the target among them.
        """
        target, name = frame[self.target], self.name
        self.check_words_beside(frame)
        task = self.task or task_of(target)
        classes = [] if task == "regression" else sorted_classes(target, name)
        if task == "binary" and len(classes) != 2:
            raise UserError(
                f"{name}: column {target.name!r} has {len(classes)} classes, binary needs 2"
            )
        if task == "regression" and target.min() == target.max():
            raise UserError(
                f"{name}: the target {target.name!r} is {target[0]} in every row: there is nothing "
                "to learn"
            )
        kinds = infer_column_types(
            self.features,
            self.facts,
            {label: self.matrix[:, position] for label, position in self.numbers.items()},
            frame.select(self.others),
            target,
            categorical_columns=self.categorical,
            known_words=self.known_words,
            text=self.text,
            name=f"a sample of {name}" if self.is_sample else name,
            origin=self.origin,
        )
        dropped = self.dropped | kinds.dropped
        features = [label for label in self.features if label not in dropped]
        if not features:
            reasons = ", ".join(f"{label!r} ({current_key(why)})" for label, why in dropped.items())
            without = f", without {reasons}" if reasons else ""
            raise UserError(f"{name} has no feature columns beside the target{without}")
        columns = Columns(features, self.target, task, classes, kinds.categories, dropped)
        has_words = target.dtype in WORDS and columns.class_series.dtype != pl.String
        times = {label: kind for label, kind in self.times.items() if label in features}
        return replace(columns, has_odd_words=has_words, times=times)

    def check_words_beside(self, frame: pl.DataFrame) -> None:
        """Look for numbers and missing values among the words of the target and the group."""
        for label in self.beside:
            column = frame[label]
            if column.dtype not in WORDS or label in self.known_words:
                continue
            labels = column.unique().cast(pl.String).drop_nulls().to_list()
            spelled = spelled_labels(labels)
            # A few numbers among words are classes, unless a word may hide a missing value.
            may_be_classes = (
                self.task is None
                and not spelled
                and len(labels) <= MAX_INTEGER_CLASSES
                and not all(re.match(MARKED, word) for word in labels)
            )
            said = None
            if label == self.target and self.task in (None, "regression") and not may_be_classes:
                otherwise = "data.task=multiclass"
                said = check_words(column, self.text, self.origin, otherwise=otherwise)
            if said is None and spelled:
                said = labels_that_may_be_missing({label: spelled})
            if said:
                log.warning(f"{self.name}: {said}")

    def resize(self, n_rows: int) -> None:
        """Make room for so many rows; where the system can, the matrix is not copied."""
        self.matrix.resize((n_rows, len(self.features)), refcheck=False)


def table_from_frame(frame: pl.DataFrame, **options: Any) -> Table:
    """The table in a frame; for the options see `Intake`."""
    intake = TableBuilder(frame.schema, **options)
    intake.add(frame)
    try:
        return intake.table()
    except Float64NeededError:
        return table_from_frame(frame, **options, dtype=np.float64)


def compact_columns(matrix: Floats, places: Sequence[int]) -> Floats:
    """Some columns of a matrix, moved together where they lie, so that none is there twice."""
    if list(places) == list(range(matrix.shape[1])):
        return matrix
    flat, width = matrix.reshape(-1), len(places)
    for rows in blocks(matrix):
        part = matrix[rows, places]  # a copy
        flat[rows.start * width : rows.start * width + part.size] = part.reshape(-1)
    return flat[: len(matrix) * width].reshape(len(matrix), width)
