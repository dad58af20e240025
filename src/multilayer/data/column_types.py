"""What the columns of a table are taken for: numbers, categories, or nothing to learn from."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from multilayer.core.errors import UserError, did_you_mean
from multilayer.core.text import as_override
from multilayer.data.origin import Origin
from multilayer.data.slips import check_words, labels_that_may_be_missing, spelled_labels
from multilayer.data.text_format import TextFormat

log = logging.getLogger(__name__)

TIMES = (pl.Date, pl.Datetime, pl.Duration, pl.Time)
WORDS = (pl.String, pl.Categorical, pl.Enum)

NO_VALUES = "it has no values"
ONE_VALUE = "it has the same value in every row"

FIRST_ROWS = 1000
"""Two columns are compared in these before they are compared whole."""

ROUNDING = 1e-4
"""What float32 may change in a column, as a share of its spread: less makes no difference to what
is learnt, and float32 takes half the memory."""

ROWS_TO_JUDGE = 128
"""Rows of each part of a table, at least, by which it is judged whether float32 holds a column."""

FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT32_STEP = 2.0**-24
"""What float32 changes in a value, at most, as a share of the value."""
FLOAT32_LEAST = 2.0**-150
"""What it changes in a value that is so near to 0 that it loses digits, at most."""

Floats = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]


@dataclass
class ColumnTypes:
    """The columns of a table that are not numbers: categories, or left out.

    categories: the labels of each column of categories, sorted.
    dropped: the columns that are left out, and why.
    """

    categories: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


class NumericStats:
    """What is to be known of columns of numbers, gathered a part at a time.

    numbers: the names and types of the columns.
    """

    def __init__(self, numbers: Mapping[str, pl.DataType]) -> None:
        self.n_rows = 0
        self.low = dict.fromkeys(numbers, np.nan)
        self.high = dict.fromkeys(numbers, np.nan)
        self.n_missing = dict.fromkeys(numbers, 0)
        self.samples: dict[str, list[Float64s]] = {label: [] for label in numbers}
        self.first: dict[str, Distribution] = {}  # of the first rows of each column
        # Whole numbers that no row shares with another, so far.
        self.row_numbers: dict[str, list[pl.Series]] = {
            label: [] for label, dtype in numbers.items() if dtype.is_integer()
        }

    def note(self, numbers: Mapping[str, Float64s], batch: pl.DataFrame) -> None:
        """Take in the next rows: each column `(B,)` with NaN for gaps, and as they were read."""
        if batch.height == 0:
            return
        self.n_rows += batch.height
        every = max(1, batch.height // ROWS_TO_JUDGE)
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

    def note_rounding(self, label: str, values: Float64s) -> None:
        """Keep that of the next values `(B,)` of a column which float32 rounds most.

        A sample may have none of the rows that it rounds.
        """
        if label not in self.first:
            first = Distribution.of(values[:: max(1, len(values) // ROWS_TO_JUDGE)])
            if first is None:
                return
            self.first[label] = first
        first = self.first[label]
        if not first.fits_float32:  # most columns do
            values = values[np.isfinite(values)]
            self.samples[label].append(values[first.rounding(values).argsort()[-1:]])

    def reason_to_drop(self, label: str) -> str | None:
        """Why nothing can be learnt from a column, if so."""
        if self.n_missing[label] == self.n_rows:
            return NO_VALUES
        if self.n_missing[label] or self.low[label] != self.high[label]:
            return None
        is_exact = abs(self.low[label]) < 2**53
        return ONE_VALUE if is_exact else f"{ONE_VALUE}, to the 15 digits of float64"

    def needs_float64(self) -> bool:
        """Whether float32 would round one of the columns too coarsely, or may do so."""
        return any(self.is_rounded(label) for label in self.first)

    def is_rounded(self, label: str) -> bool:
        """Whether float32 would round a column too coarsely, or may do so."""
        if self.low[label] == self.high[label] or not self.samples[label]:
            return False
        values = np.concatenate(self.samples[label])
        whole = Distribution.of(values)
        # Where the first rows fitted and the others do not, nobody has looked at each value.
        was_looked_at = whole is None or whole.fits_float32 or not self.first[label].fits_float32
        return is_rounded(values) or not was_looked_at

    def are_row_numbers(self, label: str) -> bool:
        """Whether a column has another whole number in every row."""
        parts = self.row_numbers.get(label, [])
        return len(parts) > 0 and pl.concat(parts).n_unique() == self.n_rows


def is_number(dtype: pl.DataType) -> bool:
    """Whether the values of a column are numbers, or become some."""
    return dtype.is_numeric() or dtype == pl.Boolean or dtype in TIMES


def is_fractional(dtype: pl.DataType) -> bool:
    """Whether the numbers of a column have decimals: in text they would be read as floats."""
    return dtype.is_float() or (isinstance(dtype, pl.Decimal) and dtype.scale > 0)


def kind_of_time(dtype: pl.DataType) -> str:
    """What the values of a column of numbers are, in words: those of one kind may be compared."""
    if dtype in (pl.Date, pl.Datetime):
        is_zoned = isinstance(dtype, pl.Datetime) and dtype.time_zone
        return "dates with a time zone" if is_zoned else "dates without a time zone"
    return {pl.Time: "times of day", pl.Duration: "durations"}.get(dtype.base_type(), "numbers")


def infer_column_types(
    labels: Sequence[str],
    facts: NumericStats,
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

    labels: the names of all columns but the target.
    numbers: the values `(N,)` of each column of numbers, of which `facts` are known.
    others: the other columns.
    categorical_columns: columns that are categories whatever they hold.
    known_words: columns of words where slips are not looked for.
    text: how values were written where they were text.
    name: what messages call the table.
    origin: the file of a row, and its number there from 1 on.

    Raises `UserError` for words among numbers.
    """
    kinds, settled = ColumnTypes(), {*categorical_columns, *known_words}
    spelled = {}  # the labels of each category that may stand for missing values
    for label in labels:
        if label in numbers:
            reason = facts.reason_to_drop(label)
        else:
            said = None
            if label not in settled and others[label].dtype in WORDS:
                otherwise = as_override("data.categorical_columns", [label])
                said = check_words(others[label], text, origin, otherwise=otherwise)
            if said:
                log.warning(f"{name}: {said}")
            reason = reason_to_drop(others[label], is_declared=label in categorical_columns)
        if reason:
            kinds.dropped[label] = reason
            log.warning(f"{name}: column {label!r} is left out: {reason}")
            continue
        if label in numbers:
            warn_of_row_numbers(label, facts, name)
            is_target = numbers_equal(numbers[label], target)
        else:
            is_target = words_equal(others[label], target)
            kinds.categories[label] = labels_of(others[label])
            found = spelled_labels(kinds.categories[label])
            if found and said is None and label not in settled:
                spelled[label] = found
        if is_target:
            log.warning(
                f"{name}: column {label!r} equals the target; leave it out with "
                f"{as_override('data.drop_columns', [label])} "
                "if it is not known where predictions are to be made"
            )
    if spelled:
        log.warning(f"{name}: {labels_that_may_be_missing(spelled)}")
    return kinds


def check_names(
    key: str, names: Sequence[str], columns: Sequence[str], target: str, name: str
) -> None:
    """Raise `UserError` where a list of columns names one that is not there, or the target."""
    for column in names:
        if column not in columns:
            hint = did_you_mean(column, columns)
            raise UserError(f"{name} has no column {column!r} for data.{key}: {hint}")
        if column == target:
            raise UserError(f"data.{key}: {column!r} is the target")


def refuse_nested(label: str, dtype: pl.DataType, name: str, *, is_target: bool) -> None:
    """Raise `UserError` for a column of lists, say."""
    if not (is_number(dtype) or dtype in (*WORDS, pl.Null)):
        raise UserError(
            f"{name}: column {label!r} holds {dtype}, where one value a row is needed"
            + f"; leave it out with {as_override('data.drop_columns', [label])}" * (not is_target)
        )


def reason_to_drop(column: pl.Series, *, is_declared: bool) -> str | None:
    """Why nothing can be learnt from a column of words, if so.

    is_declared: whether the user has said that it is a category.
    """
    if column.null_count() == len(column):
        return NO_VALUES
    n_values = column.n_unique()
    if n_values == 1:
        return ONE_VALUE
    if column.dtype in WORDS and n_values == len(column) and not is_declared:
        return "it has another word in every row"
    return None


def warn_of_row_numbers(label: str, facts: NumericStats, name: str) -> None:
    """Say where a column is likely a number of the row, from which nothing can be learnt."""
    if facts.are_row_numbers(label):
        log.warning(
            f"{name}: column {label!r} has another number in every row; if it is a row number, "
            f"leave it out with {as_override('data.drop_columns', [label])}"
        )


def numbers_equal(values: Floats, target: pl.Series) -> bool:
    """Whether a column `(N,)` is the target; most differ in the first rows."""
    if not (target.dtype == pl.String or target.dtype.is_numeric() or target.dtype == pl.Boolean):
        return False
    for part in (slice(FIRST_ROWS), slice(None)):
        expected = target[part].cast(pl.Float64, strict=False).to_numpy()
        if not np.array_equal(values[part], expected.astype(values.dtype)):
            return False
    return True


def words_equal(column: pl.Series, target: pl.Series) -> bool:
    """Whether a column of words is the target."""
    return all(
        column[part].cast(pl.String).equals(target[part].cast(pl.String))
        for part in (slice(FIRST_ROWS), slice(None))
    )


def labels_of(column: pl.Series) -> list[str]:
    """The labels of a column of categories as text, in the order of the column's own type.

    A whole number is written as one, though it was read as a floating-point number since others
    are none, or are missing: in another file it may be of the other type.

    >>> labels_of(pl.Series([2.0, 1.5, None]))
    ['1.5', '2']
    """
    labels = column.drop_nulls().unique()
    if labels.dtype == pl.Categorical:
        return labels.cast(pl.String).sort().to_list()
    return as_text(labels.sort()).drop_nulls().to_list()


def as_text(column: pl.Series) -> pl.Series:
    """A column of categories as text; whole numbers without a point, and NaN is missing."""
    if column.dtype.is_float():
        return column.fill_nan(None).cast(pl.String).str.strip_suffix(".0")
    return column.cast(pl.String)


def in_float64(column: pl.Series) -> Float64s:
    """A column of numbers `(N,)`, NaN where a value is missing."""
    if column.dtype in TIMES:
        column = in_days(column)
    return column.cast(pl.Float64, strict=False).to_numpy()


def extent(values: Float64s) -> tuple[float, float]:
    """The smallest and the largest value of a column `(B,)`; NaN is left out."""
    low, high = values.min(), values.max()
    return (np.fmin.reduce(values), np.fmax.reduce(values)) if np.isnan(low) else (low, high)


class Distribution(NamedTuple):
    """Where the values of a column lie.

    middle: the median.
    spread: twice the median distance from it, of those values that differ: most may be equal.
    """

    middle: float
    spread: float

    @classmethod
    def of(cls, values: Float64s) -> Self | None:
        """That of a column `(B,)`; None where it has no finite value."""
        values = values[np.isfinite(values)]
        if len(values) == 0:
            return None
        middle = np.partition(values, len(values) // 2)[len(values) // 2]
        distances = np.abs(values - middle)
        distances = distances[distances > 0]
        return cls(middle, 2 * float(np.median(distances)) if len(distances) else 0.0)

    @property
    def fits_float32(self) -> bool:
        """Whether float32 rounds no value too coarsely, however far away it may be.

        A value at the distance d from the middle m moves by at most (|m| + d) `FLOAT32_STEP`, or
        next to 0 by `FLOAT32_LEAST`.
        """
        moved = max(abs(self.middle) * FLOAT32_STEP, FLOAT32_LEAST)
        return bool(moved <= ROUNDING * self.spread)

    def rounding(self, values: Float64s) -> Float64s:
        """How far float32 moves each value `(B,)` of the column, as a share of its spread.

        A value far away is compared with its distance: neither does it hide what is done to others.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            moved = np.abs(values - values.astype(np.float32))
            within = self.spread + np.abs(values - self.middle)
            return np.divide(moved, within, out=np.zeros_like(moved), where=within > 0)


def is_rounded(values: Float64s) -> bool:
    """Whether float32 would move a value of a column `(N,)` by more than `ROUNDING` of its spread.

    >>> is_rounded(np.array([1.5, 2.0, 3.1])), is_rounded(1e9 + np.array([1.5, 2.0, 3.1]))
    (False, True)
    >>> is_rounded(np.array([1e9] * 99 + [1e9 + 5]))
    True
    """
    values = values[np.isfinite(values)]
    column = Distribution.of(values)
    if column is None:
        return False
    if np.abs(values).max() > FLOAT32_MAX:
        return True
    return not column.fits_float32 and bool(column.rounding(values).max() > ROUNDING)


def in_days(column: pl.Series) -> pl.Series:
    """Times as days: since 1970, or since midnight, or of a duration."""
    if column.dtype == pl.Date:
        return column.to_physical().cast(pl.Float64)
    if column.dtype == pl.Time:
        return column.to_physical().cast(pl.Float64) / 86_400e9
    if column.dtype == pl.Duration:
        return column.dt.total_microseconds().cast(pl.Float64) / 86_400e6
    return column.dt.epoch("us").cast(pl.Float64) / 86_400e6


def refuse_infinite(values: Floats, label: str, origin: Origin, what: str = "column") -> None:
    """Raise `UserError` for an infinite value in a column `(B,)`, with its row.

    what: what it is called.
    """
    rows = np.flatnonzero(np.isinf(values))
    if rows.size:
        name, row = origin.find(int(rows[0]))
        raise UserError(
            f"{name}: {what} {label!r} is infinite in row {row}, or beyond "
            "1.8e308, the largest float64; correct it, "
            + ("or leave out the row" if what == "the target" else "or leave it empty if missing")
        )


def lost_digits(column: pl.Series) -> str | None:
    """What is said where float64 rounds the whole numbers of a column too coarsely.

    >>> lost_digits(pl.Series("id", [2**60 + 1, 2**60 + 3])).partition("; ")[2]
    'subtract 1152921504606846976 in the file, say'
    """
    if not column.dtype.is_integer():
        return None
    values = in_float64(column)
    distribution = Distribution.of(values)
    if distribution is None or np.nanmax(np.abs(values)) <= 2**53:
        return None
    moved = (column.cast(pl.Int128) - column.cast(pl.Float64).cast(pl.Int128)).abs().max()
    middle, spread = distribution
    if not isinstance(moved, int) or moved <= ROUNDING * spread:
        return None
    return (
        f"column {column.name!r}: float64 rounds its whole numbers, near {middle:g}, by up to "
        f"{moved}; subtract {int(middle)} in the file, say"
    )
