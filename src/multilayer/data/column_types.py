"""What the columns of a table are taken for: numbers, categories, or nothing to learn from."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from itertools import starmap

import numpy as np
import polars as pl

from multilayer.core.errors import UserError, nearest_override, quoted, raise_all
from multilayer.core.renamed import current_key
from multilayer.core.text import as_override, counted, plural
from multilayer.data.numeric_column import NO_VALUES, ONE_VALUE, NumericColumn
from multilayer.data.numerics import FLOAT32_MAX, Float64s, Floats, extent, lost_digits, to_float64
from multilayer.data.origin import Origin
from multilayer.data.row_columns import RowColumns
from multilayer.data.stray_strings import (
    check_stray_strings,
    numbers_warning,
    possibly_missing_warning,
)
from multilayer.data.table import DROPPED, Columns, left_out_warnings
from multilayer.data.table_io import Schema
from multilayer.data.target_copies import numbers_equal, words_equal
from multilayer.data.text_format import (
    ANY_NUMBER,
    WORDS,
    TextFormat,
    is_fractional,
    is_number,
    kind_of,
    labels_as_text,
    plain_name,
)
from multilayer.nn.losses import Task

log = logging.getLogger(__name__)

MAX_INTEGER_CLASSES = 20
"""An integer target with more distinct values than this is a number to regress on."""


@dataclass(eq=False)
class ColumnTypeInference:
    """Infers what each column of a table is from evidence collected batch by batch.

    Args:
        schema: The names and types of the columns.
        name: What messages call the table.
        target: The column to predict.
        task: None to follow the target: words, booleans and few distinct integers are classes,
            other numbers are regressed on.
        categorical_columns: Columns that are categories whatever they hold.
        drop_columns: Columns to leave out.
        group_column, time, split_column, weight: As in `RowColumns`; they are no features.
        known: The columns as they were in an earlier training on the table, if there was one.
        text: How values were written where they were text, for messages about stray strings.

    Attributes:
        features: All columns but the target and those that the user leaves out.
        numbers: What is known of the numeric ones among them.
        others: Those that are not numeric.
        row_columns: Those that say something of the rows.
        not_features: They, and the target.
        is_beyond_float32: Whether a number is too large for float32.

    Raises:
        UserError: For a name that is not a column, and a column that cannot be used.
    """

    schema: Schema
    _: KW_ONLY
    name: str
    target: str
    task: Task | None = None
    categorical_columns: Sequence[str] = ()
    drop_columns: Sequence[str] = ()
    group_column: str | None = None
    time: str | None = None
    split_column: str | None = None
    weight: str | None = None
    known: Columns | None = None
    text: TextFormat = field(default_factory=TextFormat)

    def __post_init__(self) -> None:
        self.row_columns = RowColumns(self.group_column, self.time, self.split_column, self.weight)
        by_key = self.row_columns.by_key
        self.not_features = list(dict.fromkeys([self.target, *by_key.values()]))
        named = {
            "target": [self.target],
            "categorical_columns": self.categorical_columns,
            "drop_columns": self.drop_columns,
            **{key: [name] for key, name in by_key.items()},
        }
        raise_all([*filter(None, starmap(self._name_problem, named.items()))])
        self.dropped = dict.fromkeys(self.drop_columns, DROPPED) | self.row_columns.reasons
        self.known_words: Sequence[str] = ()
        if self.known:
            self.known_words = self.known.columns_of_words
            self.dropped |= {plain_name(each): why for each, why in self.known.dropped.items()}
        self.features = [each for each in self.schema if each not in {self.target, *self.dropped}]
        for label in (*self.features, self.target):
            self._check_scalar(label)
        self.numbers = {
            label: NumericColumn(self.schema[label])
            for label in self.features
            if is_number(self.schema[label]) and label not in self.categorical_columns
        }
        self.others = [label for label in self.features if label not in self.numbers]
        self.is_beyond_float32 = False
        self.said_of_digits: dict[str, str] = {}

    def _name_problem(self, key: str, names: Sequence[str]) -> str:
        """What is wrong with the columns that a key of `data` names; empty if nothing is."""
        lacking = [name for name in names if name not in self.schema]
        if lacking:
            is_list = key in ("categorical_columns", "drop_columns")
            hint = nearest_override(f"data.{key}", names, self.schema, is_list=is_list)
            columns = f"{plural('column', len(lacking))} {quoted(lacking)}"
            return f"{self.name} has no {columns} for data.{key}: {hint}"
        if key != "target" and self.target in names:
            return f"data.{key}: {self.target!r} is the target"
        return ""

    def _check_scalar(self, label: str) -> None:
        """Raise `UserError` for a column of lists, for example."""
        dtype = self.schema[label]
        if label in self.categorical_columns and dtype == pl.Duration:
            raise UserError(
                f"{self.name}: data.categorical_columns: {label!r} holds durations, not labels"
            )
        if not (is_number(dtype) or dtype in (*WORDS, pl.Null)):
            leave_out = f"; leave it out with {self._drop_word(label)}"
            raise UserError(
                f"{self.name}: column {label!r} holds {dtype}, where one value a row is needed"
                + leave_out * (label != self.target)
            )

    def check(self, batch: pl.DataFrame, origin: Origin) -> dict[str, Float64s]:
        """Check the next rows, and return the numeric features among them, each `(B,)`.

        Raises:
            UserError: For a missing target, group or the like, and an infinite value.
        """
        target = batch[self.target]
        origin.check_none_missing(target, f"the target {self.target!r}")
        self.row_columns.check(batch, origin)
        numbers = {label: to_float64(batch[label]) for label in self.numbers}
        floats = {self.target: to_float64(target)} if target.dtype.is_float() else {}
        for label, values in (floats | numbers).items():
            low, high = extent(values)
            largest = max(-low, high)
            if largest == np.inf:
                what = "column" if label in numbers else "the target"
                origin.check_finite(values, f"{what} {label!r}")
            self.is_beyond_float32 |= largest > FLOAT32_MAX
            if label in numbers:
                self.numbers[label].examine(values)
            if largest > 2**53 and (said := lost_digits(batch[label])):
                self.said_of_digits.setdefault(label, said)
        return numbers

    def needs_float64(self) -> bool:
        """Whether float32 would round one of the columns too coarsely, or may do so."""
        columns = self.numbers.values()
        return self.is_beyond_float32 or any(each.needs_float64() for each in columns)

    def infer(
        self, frame: pl.DataFrame, numbers: Mapping[str, Floats], origin: Origin, name: str
    ) -> Columns:
        """Which columns are categories, which are of no use, and the classes.

        Args:
            frame: All columns that are not numeric features, the target among them.
            numbers: The values `(N,)` of each numeric feature.
            origin: Of the rows.
            name: What messages call the rows.

        Raises:
            UserError: For words among numbers, and where there is nothing to learn.
        """
        target = frame[self.target]
        for label in filter(None, (self.target, self.group_column)):
            self._check_words(frame[label], origin)
        task = self.task or _task_of(target)
        classes = [] if task == "regression" else _sorted_classes(target, self.name, task)
        if task == "regression" and target.min() == target.max():
            raise UserError(
                f"{self.name}: the target {target.name!r} is {target[0]} in every row: there is "
                "nothing to learn"
            )
        categories, dropped = self._find_categories(frame, numbers, origin, name)
        features = [label for label in self.features if label not in dropped]
        if not features:
            reasons = ", ".join(f"{each!r} ({current_key(why)})" for each, why in dropped.items())
            without = f", without {reasons}" if reasons else ""
            raise UserError(f"{self.name} has no feature columns besides the target{without}")
        columns = Columns(features, self.target, task, classes, categories, dropped)
        has_words = target.dtype in WORDS and columns.class_series.dtype != pl.String
        kinds = ((label, kind_of(self.schema[label])) for label in features if label in numbers)
        times = {label: kind for label, kind in kinds if kind != "numbers"}
        return replace(columns, has_odd_words=has_words, times=times, weight=self.weight)

    def _find_categories(
        self, frame: pl.DataFrame, numbers: Mapping[str, Floats], origin: Origin, name: str
    ) -> tuple[dict[str, list[str]], dict[str, str]]:
        """The labels of each categorical feature, and why other columns are left out."""
        settled = {*self.categorical_columns, *self.known_words}
        unchecked = {}  # labels that may stand for missing values
        categories, dropped = {}, dict(self.dropped)
        for label in self.features:
            said = None
            if label in numbers:
                reason = self.numbers[label].reason_to_drop()
            else:
                column = frame[label]
                if label not in settled and column.dtype in WORDS:
                    otherwise = as_override(
                        "data.categorical_columns", [*self.categorical_columns, label]
                    )
                    said = check_stray_strings(column, self.text, origin, otherwise=otherwise)
                self._advise(name, said)
                is_declared = label in self.categorical_columns
                reason = _reason_to_drop(column, is_declared=is_declared)
            if reason:
                dropped[label] = reason
                continue
            what = f"column {label!r}"
            leave_out = f"leave it out with {self._drop_word(label)}"
            if label in numbers:
                is_target = numbers_equal(numbers[label], frame[self.target])
                if self.numbers[label].are_row_numbers():
                    todo = f"if it is a row number, {leave_out}"
                    self._advise(name, f"{what} has another number in every row; {todo}")
            else:
                is_target = words_equal(column, frame[self.target])
                categories[label] = _sorted_labels(column)
                if said is None and label not in settled:
                    unchecked[label] = categories[label]
            if is_target:
                todo = f"{leave_out} if it is not known where predictions are to be made"
                self._advise(name, f"{what} equals the target; {todo}")
        new = {each: why for each, why in dropped.items() if each not in self.dropped}
        may_be_missing = possibly_missing_warning(unchecked, self.text)
        are_numbers = numbers_warning(unchecked, self.categorical_columns)
        for said in (*left_out_warnings(new), may_be_missing, are_numbers):
            self._advise(name, said)
        return categories, dropped

    def _advise(self, name: str, said: str | None) -> None:
        """Log what can be done about a column, unless it is settled by an earlier training."""
        if said and self.known is None:
            log.warning(f"{name}: {said}")

    def _drop_word(self, label: str) -> str:
        """The override that leaves out a further column."""
        return as_override("data.drop_columns", [*self.drop_columns, label])

    def _check_words(self, column: pl.Series, origin: Origin) -> None:
        """Look for stray strings and missing values among the words of the target or the group."""
        if column.dtype not in WORDS or column.name in self.known_words:
            return
        labels = column.unique().cast(pl.String).drop_nulls().to_list()
        may_be_missing = possibly_missing_warning({column.name: labels}, self.text)
        # A few numbers among words are classes, unless a word may hide a missing value.
        may_be_classes = (
            self.task is None
            and may_be_missing is None
            and len(labels) <= MAX_INTEGER_CLASSES
            and not all(re.match(ANY_NUMBER, word) for word in labels)
        )
        said, is_target = may_be_missing, column.name == self.target
        if is_target and self.task in (None, "regression") and not may_be_classes:
            otherwise = "data.task=multiclass"
            said = check_stray_strings(column, self.text, origin, otherwise=otherwise) or said
        self._advise(self.name, said)


def _task_of(target: pl.Series) -> Task:
    """The task that a target column asks for."""
    n_values = target.drop_nulls().n_unique()
    is_count = target.dtype.is_numeric() and n_values > MAX_INTEGER_CLASSES
    if is_fractional(target.dtype) or is_count:
        return "regression"
    return "binary" if n_values == 2 else "multiclass"


def _sorted_classes(target: pl.Series, name: str, task: Task) -> list[str]:
    """The labels of the classes as text, in the order of the column's own type."""
    classes = [str(value) for value in target.drop_nulls().unique().sort().to_list()]
    found = f"{name}: column {target.name!r} has {counted(len(classes), 'class')}"
    if len(classes) < 2:
        raise UserError(f"{found}, needs at least 2")
    if task == "binary" and len(classes) != 2:
        raise UserError(f"{found}, binary needs 2")
    return classes


def _sorted_labels(column: pl.Series) -> list[str]:
    """The labels of a categorical column as text, in the order of the column's own type.

    A whole number is written as one even if the column was read as floats, because of other
    values or of missing ones: in another file it may be read as integers.

    >>> _sorted_labels(pl.Series([2.0, 1.5, None]))
    ['1.5', '2']
    """
    labels = column.drop_nulls().unique()
    if labels.dtype == pl.Categorical:
        labels = labels.cast(pl.String)
    return labels_as_text(labels.sort()).drop_nulls().to_list()


def _reason_to_drop(column: pl.Series, *, is_declared: bool) -> str | None:
    """Why nothing can be learned from a column of words, if so.

    One that the user has declared a category may have another word in every row.
    """
    n_values = column.n_unique()
    if n_values == 1:
        return NO_VALUES if column.null_count() else ONE_VALUE
    if column.dtype in WORDS and n_values == len(column) and not is_declared:
        return "it has another word in every row"
    return None
