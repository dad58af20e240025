"""Rows in memory, of any of the usual kinds, as a frame that is read as the same rows of a file."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from multilayer.core.errors import UserError, quoted
from multilayer.core.text import counted
from multilayer.data.table_files import name_fault
from multilayer.data.text_format import plain_name


class _PandasFrame(Protocol):
    """What tells a pandas frame: pandas itself is not needed, and not imported."""

    @property
    def columns(self) -> Any:
        """The names."""

    @property
    def iloc(self) -> Any:
        """The values by position."""


RowsInMemory = pl.DataFrame | pl.LazyFrame | _PandasFrame | npt.NDArray[Any] | Mapping[str, Any]
Rows = RowsInMemory | str | Path
"""A polars or pandas frame, a numpy array, a dict of columns, or the path of a file."""

_ARRAY_KINDS = "biufMmU"
"""numpy's kinds of values that polars has too: booleans, numbers, times and text."""

_NUMBERS = {bool, int, float}
_VALUES = (str, bool, int, float, Decimal, date, time, timedelta)
_MISSING = ("NAType", "NaTType")
"""pandas' two kinds of missing values besides None and NaN."""


def frame_of(rows: RowsInMemory, features: Sequence[str]) -> tuple[pl.DataFrame, str]:
    """Rows in memory as a frame, and what messages call them.

    Args:
        rows: `(N, D)`. An array has the features alone, in their order; the columns of anything
            else are found by their names. A dict of single values is one row.
        features: The names of the features in the training.

    Raises:
        UserError: For anything else, an array of another shape, columns of several lengths, and
            values that no table holds.

    >>> frame_of({"size": 30, "city": "Bonn"}, ["size", "city"])[0].rows()
    [(30, 'Bonn')]
    >>> frame_of(np.zeros((5, 2)), ["size", "rooms"])[0].columns
    ['size', 'rooms']
    """
    named: Iterable[tuple[Any, Any]]
    if isinstance(rows, pl.DataFrame | pl.LazyFrame):
        what, named = "the frame", [(each.name, each) for each in rows.lazy().collect()]
    elif isinstance(rows, Mapping):
        what, named = "the dict", rows.items()
    elif isinstance(rows, np.ndarray):
        what, named = "the array", zip(features, _columns_of(rows, features), strict=True)
    elif hasattr(rows, "iloc") and hasattr(rows, "columns"):
        what = "the frame"
        named = [(name, rows.iloc[:, place]) for place, name in enumerate(rows.columns)]
    else:
        raise UserError(
            "rows must be a polars or pandas frame, a numpy array, a dict of columns or the path "
            f"of a file, got {type(rows).__name__}"
        )
    return _frame([(str(name), values) for name, values in named], what), what


def _columns_of(array: npt.NDArray[Any], features: Sequence[str]) -> Iterable[npt.NDArray[Any]]:
    """The columns of an array that has the shape and the values of a table."""
    if isinstance(array, np.ma.MaskedArray):
        raise UserError("the array is masked; fill it with NaN, as array.filled(numpy.nan) does")
    if array.dtype.kind not in f"{_ARRAY_KINDS}O":
        raise UserError(f"the array must hold numbers, text or objects, got {array.dtype}")
    n, shape = len(features), array.shape
    if array.ndim != 2:
        one_row = "; for one row give array[None]" if shape == (n,) else ""
        raise UserError(f"the array must be (N, {n}), got the shape {shape}{one_row}")
    if shape[1] != n:
        raise UserError(
            f"the array has {counted(shape[1], 'column')}, expected {n} in this order: "
            f"{quoted(features)}"
        )
    return array.T


def _frame(named: Sequence[tuple[str, Any]], what: str) -> pl.DataFrame:
    """A frame of columns, none of which hides another."""
    if fault := name_fault([plain_name(name) for name, _ in named]):
        raise UserError(f"{what}: {fault}")
    if not named:
        raise UserError(f"{what} has no columns")
    columns = [_column(name, values, what) for name, values in named]
    for each in columns:
        if len(each) != len(columns[0]):
            first = columns[0]
            raise UserError(
                f"{what}: column {each.name!r} has {counted(len(each), 'value')}, {first.name!r} "
                f"has {len(first):,}"
            )
    return pl.DataFrame(columns)


def _column(name: str, values: Any, what: str) -> pl.Series:
    """One column; a single value is a column of one row."""
    if isinstance(values, pl.Series) and values.dtype != pl.Object:
        return values.alias(name)
    if hasattr(values, "notna"):  # of pandas, whose own types would become floats or nothing
        if not isinstance(values.dtype, np.dtype) or values.dtype.kind not in _ARRAY_KINDS:
            values = values.astype(object).where(values.notna(), None)
        values = values.to_numpy()
    if isinstance(values, np.ma.MaskedArray):
        is_masked, values = np.ma.getmaskarray(values), np.array(values.data, object)
        values[is_masked] = None
    if isinstance(values, np.ndarray):
        if values.ndim > 1:
            raise UserError(f"{what}: column {name!r} must be (N,), got the shape {values.shape}")
        if values.ndim == 1 and values.dtype.kind in _ARRAY_KINDS:
            is_wide = values.dtype == np.longdouble
            return pl.Series(name, values.astype(np.float64) if is_wide else values)
        values = values.tolist()
    is_one = isinstance(values, str | bytes | dict | set) or not hasattr(values, "__len__")
    return _series_of(name, [_plain(each) for each in ([values] if is_one else values)], what)


def _plain(value: Any) -> Any:
    """A value without numpy's type; None for pandas' missing ones."""
    if type(value).__name__ in _MISSING:
        return None
    return value.item() if isinstance(value, np.generic) else value


def _series_of(name: str, values: list[Any], what: str) -> pl.Series:
    """A column of Python's objects; as text where they are of several kinds."""
    kinds = {type(each) for each in values} - {type(None)}
    for row, each in enumerate(values, 1):
        if each is not None and not isinstance(each, _VALUES):
            raise UserError(
                f"{what}: column {name!r} holds a value of the type {type(each).__name__} in row "
                f"{row}; expected numbers, text, booleans, dates or times"
            )
    try:
        if len(kinds) <= 1:
            return pl.Series(name, values)
        if kinds <= _NUMBERS:
            return pl.Series(name, values, dtype=pl.Float64, strict=False)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        pass  # numbers that no type of polars holds
    is_there = [each is not None and each == each for each in values]
    texts = [str(each) if there else None for each, there in zip(values, is_there, strict=True)]
    return pl.Series(name, texts, dtype=pl.String)
