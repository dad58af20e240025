"""The columns of files that are one table: in what they differ, and the types that hold for all."""

from collections.abc import Mapping

import polars as pl

from multilayer.core.errors import quoted

Schema = Mapping[str, pl.DataType]


def difference(first: Schema, other: Schema) -> str | None:
    """In what the names of two tables' columns differ; None where they do not."""
    lacking = [name for name in first if name not in other]
    if lacking:
        return f"it lacks {quoted(lacking)}"
    more = [name for name in other if name not in first]
    if more:
        return f"it has {quoted(more)}"
    if list(first) != list(other):
        return "it has its columns in another order"
    return None


def wider(first: pl.DataType, other: pl.DataType, *, or_words: bool) -> pl.DataType | None:
    """The type that holds the values of both; None where they are of two kinds.

    or_words: whether both are words where one is, as text is.
    """
    if or_words and pl.String in (first, other):
        return pl.String()
    kinds = {kind_of(dtype) for dtype in (first, other) if dtype != pl.Null}
    if len(kinds) > 1:
        return None
    one, two = (pl.DataFrame(schema={"": dtype}) for dtype in (first, other))
    try:
        return pl.concat([one, two], how="vertical_relaxed").schema[""]
    except pl.exceptions.SchemaError:  # such as two enums, or times of two time zones
        return None


def kind_of(dtype: pl.DataType) -> type[pl.DataType]:
    """One type for all those whose values mean the same: numbers, dates, words."""
    if dtype.is_numeric() or dtype == pl.Boolean:
        return pl.Float64
    if dtype in (pl.Date, pl.Datetime):
        return pl.Datetime
    return pl.String if dtype in (pl.Categorical, pl.Enum) else dtype.base_type()
