"""What the columns of a table are taken for: numbers, categories, or nothing to learn from."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from multilayer.core.errors import as_override
from multilayer.data.numerics import Distribution, Float64s, Floats, extent, is_rounded
from multilayer.data.stray_strings import check_stray_strings, possibly_missing_warning
from multilayer.data.table_files import Origin
from multilayer.data.text_format import WORDS, TextFormat

log = logging.getLogger(__name__)

MAX_INTEGER_CLASSES = 20
"""An integer target with more distinct values than this is a number to regress on."""

_NO_VALUES = "it has no values"
_ONE_VALUE = "it has the same value in every row"

_FIRST_ROWS = 1000
"""Two columns are compared in these rows before they are compared as a whole."""

_SAMPLE_ROWS = 128
"""Rows of each batch, at least, from which it is judged whether float32 holds a column."""


@dataclass
class ColumnTypes:
    """The columns of a table that are not numbers.

    Attributes:
        categories: The labels of each categorical column, sorted.
        dropped: The columns that are left out, and why.
    """

    categories: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


class NumericStats:
    """What has to be known of numeric columns, collected batch by batch.

    Args:
        types: The type of each numeric column, by name.
    """

    def __init__(self, types: Mapping[str, pl.DataType]) -> None:
        self.n_rows = 0
        self.low = dict.fromkeys(types, np.nan)
        self.high = dict.fromkeys(types, np.nan)
        self.n_missing = dict.fromkeys(types, 0)
        self.samples: dict[str, list[Float64s]] = {label: [] for label in types}
        self.first: dict[str, Distribution] = {}  # of the first rows of each column
        # Whole numbers that have been unique within each batch so far.
        self.row_numbers: dict[str, list[pl.Series]] = {
            label: [] for label, dtype in types.items() if dtype.is_integer()
        }

    def add(self, numbers: Mapping[str, Float64s], batch: pl.DataFrame) -> None:
        """Take in the next rows: each column `(B,)` with NaN for gaps, and as they were read."""
        if batch.height == 0:
            return
        self.n_rows += batch.height
        every = max(1, batch.height // _SAMPLE_ROWS)
        for label, values in numbers.items():
            low, high = extent(values)
            self.low[label] = np.fmin(self.low[label], low)
            self.high[label] = np.fmax(self.high[label], high)
            if np.isnan(values.min()):
                self.n_missing[label] += int(np.isnan(values).sum())
            self.samples[label].append(values[::every].copy())
        for label, parts in list(self.row_numbers.items()):
            if batch[label].n_unique() == batch.height:
                parts.append(batch[label])
            else:
                del self.row_numbers[label]

    def add_most_rounded(self, label: str, values: Float64s) -> None:
        """Keep the one of a column's next values `(B,)` that float32 rounds most.

        A sample may hold none of the values that it rounds.
        """
        if label not in self.first:
            first = Distribution.of(values[:: max(1, len(values) // _SAMPLE_ROWS)])
            if first is None:
                return
            self.first[label] = first
        first = self.first[label]
        if not first.fits_float32:  # rare
            values = values[np.isfinite(values)]
            self.samples[label].append(values[first.rounding(values).argsort()[-1:]])

    def reason_to_drop(self, label: str) -> str | None:
        """Why nothing can be learned from a column, if so."""
        if self.n_missing[label] == self.n_rows:
            return _NO_VALUES
        if self.n_missing[label] or self.low[label] != self.high[label]:
            return None
        is_exact = abs(self.low[label]) < 2**53
        return _ONE_VALUE if is_exact else f"{_ONE_VALUE}, to the 15 digits of float64"

    def needs_float64(self) -> bool:
        """Whether float32 would round one of the columns too coarsely, or may do so."""
        return any(self.is_rounded(label) for label in self.first)

    def is_rounded(self, label: str) -> bool:
        """Whether float32 would round a column too coarsely, or may do so."""
        if self.low[label] == self.high[label] or not self.samples[label]:
            return False
        values = np.concatenate(self.samples[label])
        whole = Distribution.of(values)
        # Where the first rows fit and the rest does not, not every value was examined.
        was_examined = whole is None or whole.fits_float32 or not self.first[label].fits_float32
        return is_rounded(values) or not was_examined

    def are_row_numbers(self, label: str) -> bool:
        """Whether a column has a different whole number in every row."""
        parts = self.row_numbers.get(label, [])
        return len(parts) > 0 and pl.concat(parts).n_unique() == self.n_rows


def is_number(dtype: pl.DataType) -> bool:
    """Whether the values of a column are numbers, or become numbers."""
    return dtype.is_numeric() or dtype == pl.Boolean or dtype.is_temporal()


def is_fractional(dtype: pl.DataType) -> bool:
    """Whether the numbers of a column have decimals: in text they would be read as floats."""
    return dtype.is_float() or (isinstance(dtype, pl.Decimal) and dtype.scale > 0)


def infer_column_types(
    labels: Sequence[str],
    stats: NumericStats,
    numbers: Mapping[str, Floats],
    others: pl.DataFrame,
    target: pl.Series,
    *,
    categorical_columns: Sequence[str] = (),
    known_words: Collection[str] = (),
    text: TextFormat,
    name: str,
    origin: Origin,
) -> ColumnTypes:
    """Which columns are categories, and which are of no use.

    Args:
        labels: The names of all columns except the target.
        stats: Of the numeric columns.
        numbers: The values `(N,)` of each numeric column.
        others: The other columns.
        target: The target.
        categorical_columns: Columns that are categories whatever they hold.
        known_words: Columns of words that are not checked for stray strings.
        text: How values were written where they were text.
        name: What messages call the table.
        origin: Of the rows.

    Raises:
        UserError: For words among numbers.
    """
    types, settled = ColumnTypes(), {*categorical_columns, *known_words}
    unchecked = {}  # labels that may stand for missing values
    for label in labels:
        said = None
        if label in numbers:
            reason = stats.reason_to_drop(label)
        else:
            if label not in settled and others[label].dtype in WORDS:
                otherwise = as_override("data.categorical_columns", [label])
                said = check_stray_strings(others[label], text, origin, otherwise=otherwise)
            if said:
                log.warning(f"{name}: {said}")
            reason = _reason_to_drop(others[label], is_declared=label in categorical_columns)
        if reason:
            types.dropped[label] = reason
            log.warning(f"{name}: column {label!r} is left out: {reason}")
            continue
        leave_out = f"leave it out with {as_override('data.drop_columns', [label])}"
        if label in numbers:
            if stats.are_row_numbers(label):
                log.warning(
                    f"{name}: column {label!r} has another number in every row; if it is a row "
                    f"number, {leave_out}"
                )
            is_target = _numbers_equal(numbers[label], target)
        else:
            is_target = _words_equal(others[label], target)
            types.categories[label] = _sorted_labels(others[label])
            if said is None and label not in settled:
                unchecked[label] = types.categories[label]
        if is_target:
            log.warning(
                f"{name}: column {label!r} equals the target; {leave_out} if it is not known where "
                "predictions are to be made"
            )
    if said := possibly_missing_warning(unchecked):
        log.warning(f"{name}: {said}")
    return types


def labels_as_text(column: pl.Series) -> pl.Series:
    """A categorical column as text; whole numbers without a point, and NaN as null."""
    if column.dtype.is_float():
        return column.fill_nan(None).cast(pl.String).str.strip_suffix(".0")
    return column.cast(pl.String)


def _sorted_labels(column: pl.Series) -> list[str]:
    """The labels of a categorical column as text, in the order of the column's own type.

    A whole number is written as one even if the column was read as floats, because of other
    values or of missing ones: in another file it may be read as integers.

    >>> _sorted_labels(pl.Series([2.0, 1.5, None]))
    ['1.5', '2']
    """
    labels = column.drop_nulls().unique()
    if labels.dtype == pl.Categorical:
        return labels.cast(pl.String).sort().to_list()
    return labels_as_text(labels.sort()).drop_nulls().to_list()


def _reason_to_drop(column: pl.Series, *, is_declared: bool) -> str | None:
    """Why nothing can be learned from a column of words, if so.

    Args:
        column: The column.
        is_declared: Whether the user has said that it is a category.
    """
    if column.null_count() == len(column):
        return _NO_VALUES
    n_values = column.n_unique()
    if n_values == 1:
        return _ONE_VALUE
    if column.dtype in WORDS and n_values == len(column) and not is_declared:
        return "it has another word in every row"
    return None


def _numbers_equal(values: Floats, target: pl.Series) -> bool:
    """Whether a column `(N,)` is the target; most differ in the first rows."""
    if not (target.dtype == pl.String or target.dtype.is_numeric() or target.dtype == pl.Boolean):
        return False
    for part in (slice(_FIRST_ROWS), slice(None)):
        expected = target[part].cast(pl.Float64, strict=False).to_numpy()
        if not np.array_equal(values[part], expected.astype(values.dtype)):
            return False
    return True


def _words_equal(column: pl.Series, target: pl.Series) -> bool:
    """Whether a column of words is the target."""
    return all(
        column[part].cast(pl.String).equals(target[part].cast(pl.String))
        for part in (slice(_FIRST_ROWS), slice(None))
    )
