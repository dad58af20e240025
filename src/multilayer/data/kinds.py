"""What the columns of a table are taken for: numbers, categories, or nothing to learn from."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from multilayer.errors import UserError, did_you_mean

log = logging.getLogger(__name__)

SHARE_OF_NUMBERS = 0.5
"""A column of words of which so many are numbers is a column of numbers with slips in it."""

TIMES = (pl.Date, pl.Datetime, pl.Duration, pl.Time)
WORDS = (pl.String, pl.Categorical, pl.Enum)


@dataclass
class Kinds:
    """The columns of a table by kind.

    numbers: numbers, booleans, and times, which become days.
    categories: the labels of each column of categories, sorted.
    dropped: the columns that are left out, and why.
    """

    numbers: list[str] = field(default_factory=list)
    categories: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


def find_kinds(
    frame: pl.DataFrame,
    target: str,
    *,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    name: str,
) -> Kinds:
    """The kinds of all columns but the target.

    categorical: columns that are categories whatever they hold.
    drop: columns to leave out.
    name: what messages call the table.

    Raises `UserError` for a name that is no column, and a column that cannot be used.
    """
    check_names("categorical", categorical, frame, target, name)
    check_names("drop", drop, frame, target, name)
    kinds = Kinds()
    for column in frame.drop(target):
        label = column.name
        if label in drop:
            kinds.dropped[label] = "data.drop"
            continue
        if label not in categorical:
            refuse_slips(column, name)
        reason = reason_to_drop(column, is_declared=label in categorical)
        if reason:
            kinds.dropped[label] = reason
            log.warning(f"{name}: column {label!r} is left out: {reason}")
            continue
        warn(column, frame[target], name)
        if label in categorical or column.dtype in WORDS:
            kinds.categories[label] = labels_of(column)
        elif column.dtype.is_numeric() or column.dtype in (pl.Boolean, *TIMES):
            kinds.numbers.append(label)
        else:
            raise UserError(
                f"{name}: column {label!r} holds {column.dtype}, where one value a row is needed; "
                f"leave it out with data.drop=[{label}]"
            )
    return kinds


def check_names(
    key: str, names: Sequence[str], frame: pl.DataFrame, target: str, name: str
) -> None:
    """Raise `UserError` where a list of columns names one that is not there, or the target."""
    for column in names:
        if column not in frame.columns:
            hint = did_you_mean(column, frame.columns)
            raise UserError(f"{name} has no column {column!r} for data.{key}: {hint}")
        if column == target:
            raise UserError(f"data.{key}: {column!r} is the target")


def reason_to_drop(column: pl.Series, *, is_declared: bool) -> str | None:
    """Why nothing can be learnt from a column, if so."""
    if column.null_count() == len(column):
        return "it has no values"
    if column.dtype.is_nested():
        return None  # which is an error
    n_values = column.n_unique()
    if n_values == 1:
        return "it has the same value in every row"
    if column.dtype in WORDS and n_values == len(column) and not is_declared:
        return "it has another word in every row"
    return None


def warn(column: pl.Series, target: pl.Series, name: str) -> None:
    """Say what is likely a mistake, and can be none."""
    label = column.name
    if column.dtype.is_nested() or column.dtype in TIMES:
        return
    if column.dtype.is_integer() and column.n_unique() == len(column):
        log.warning(
            f"{name}: column {label!r} has another number in every row; if it is a row number, "
            f"leave it out with data.drop=[{label}]"
        )
    if column.cast(pl.String).equals(target.cast(pl.String).alias(label)):
        log.warning(
            f"{name}: column {label!r} equals the target; leave it out with data.drop=[{label}] "
            "if it is not known where predictions are to be made"
        )


def refuse_slips(column: pl.Series, name: str) -> None:
    """Raise `UserError` for words in a column that holds numbers otherwise."""
    if column.dtype != pl.String:
        return
    numbers = column.cast(pl.Float64, strict=False)
    is_word = numbers.is_null() & column.is_not_null()
    n_values = len(column) - column.null_count()
    if n_values == 0 or is_word.sum() > (1 - SHARE_OF_NUMBERS) * n_values or not is_word.any():
        return
    row = is_word.arg_true()[0]
    raise UserError(
        f"{name}: column {column.name!r} holds numbers, but {column[row]!r} in row {row + 1}; "
        f"leave such values empty, or take all for words with data.categorical=[{column.name}]"
    )


def labels_of(column: pl.Series) -> list[str]:
    """The labels of a column of categories as text, in the order of the column's own type."""
    return column.drop_nulls().unique().sort().cast(pl.String).to_list()


def in_days(column: pl.Series) -> pl.Series:
    """Times as days: since 1970, or since midnight, or of a duration."""
    if column.dtype == pl.Date:
        return column.to_physical().cast(pl.Float64)
    if column.dtype == pl.Time:
        return column.to_physical().cast(pl.Float64) / 86_400e9
    if column.dtype == pl.Duration:
        return column.dt.total_microseconds().cast(pl.Float64) / 86_400e6
    return column.dt.epoch("us").cast(pl.Float64) / 86_400e6
