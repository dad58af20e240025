"""Columns that say something of a table's rows, such as their group or time; no features."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import get_args

import numpy as np
import polars as pl
import torch
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.data.numerics import to_float64
from multilayer.data.origin import Origin
from multilayer.data.stray_strings import find_stray
from multilayer.data.table import GROUPED, Split, Table
from multilayer.data.text_format import KINDS, WORDS, TextFormat, is_number, kind_of

_SPELLINGS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing"),
}
"""What a column that names the split may hold, in upper or lower case."""


@dataclass(frozen=True)
class RowColumns:
    """The names of such columns; None for those that there are not.

    Attributes:
        group_column: Rows with one value in it stay in one split.
        time: The newest rows are test rows, and the next newest validation rows.
        split_column: It names the split of each row.
        weight: How much each row counts.
    """

    group_column: str | None = None
    time: str | None = None
    split_column: str | None = None
    weight: str | None = None

    @property
    def by_key(self) -> dict[str, str]:
        """Those that there are, by their keys in `data`."""
        named = {each.name: getattr(self, each.name) for each in fields(self)}
        return {key: name for key, name in named.items() if name is not None}

    @property
    def reasons(self) -> dict[str, str]:
        """Why each is no feature, by its name."""
        keys = {"group_column": GROUPED}
        return {name: keys.get(key, f"data.{key}") for key, name in self.by_key.items()}

    def check(self, batch: pl.DataFrame, origin: Origin) -> None:
        """Raise `UserError` if one of the next rows lacks a value, or has no valid weight."""
        for key, name in self.by_key.items():
            origin.check_none_missing(batch[name], f"data.{key} {name!r}")
        if self.weight is not None and batch[self.weight].dtype not in WORDS:
            read_weights(batch[self.weight], origin)

    def apply(self, table: Table, frame: pl.DataFrame) -> Table:
        """A table with what they say of its rows.

        Raises:
            UserError: For a value that says nothing.
        """

        def read(name: str | None, reader: Callable[[pl.Series, Origin], Tensor]) -> Tensor | None:
            return None if name is None else reader(frame[name], table.origin)

        return replace(
            table,
            groups=read(self.group_column, _ranks),
            times=read(self.time, _times),
            splits=read(self.split_column, _splits),
            weights=read(self.weight, read_weights),
        )


def _ranks(column: pl.Series, origin: Origin) -> Tensor:
    """The place of each row's value among the different ones, from 1."""
    return column.rank("dense").cast(pl.Int64).to_torch()


def _times(column: pl.Series, origin: Origin) -> Tensor:
    """The place of each row's time among the different ones."""
    what, kinds = f"data.time {column.name!r}", "numbers, dates or times"
    if column.dtype in WORDS:
        example = KINDS["dates without a time zone"].example
        written = f"; write dates as {example}"
        raise _stray_error(column, origin, f"{what} must hold {kinds}", written)
    if not is_number(column.dtype):
        raise UserError(f"{origin.name}: {what} must hold {kinds}, found {column.dtype}")
    origin.check_finite(to_float64(column), what)
    return _ranks(column, origin)


def read_weights(column: pl.Series, origin: Origin) -> Tensor:
    """The weight of each row, float64.

    Raises:
        UserError: For one that is missing, negative or infinite, and for other values.
    """
    what = f"data.weight {column.name!r}"
    origin.check_none_missing(column, what)
    if column.dtype in WORDS:
        raise _stray_error(column, origin, f"{what} must hold numbers")
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise UserError(f"{origin.name}: {what} must hold numbers, found {kind_of(column.dtype)}")
    weights = to_float64(column)
    origin.check_finite(weights, what)
    for row in np.flatnonzero(weights < 0)[:1]:
        raise origin.error(int(row), f"{what} is {weights[row]:g}", "; a weight is at least 0")
    return torch.from_numpy(weights.copy())


def _stray_error(column: pl.Series, origin: Origin, needed: str, more: str = "") -> UserError:
    """The error about the first value of a column of words that is one."""
    stray = find_stray(column, TextFormat())
    row = stray.row if stray else 0
    return origin.error(row, f"{needed}, found {str(column[row])!r}", more)


def _splits(column: pl.Series, origin: Origin) -> Tensor:
    """The place of each row's split in `Split`."""
    codes = {word: code for code, split in enumerate(get_args(Split)) for word in _SPELLINGS[split]}
    words = column.cast(pl.String).str.strip_chars().str.to_lowercase()
    found = words.replace_strict(codes, default=None, return_dtype=pl.Int64)
    said = f"data.split_column {column.name!r}"
    if unknown := found.is_null().arg_true().to_list():
        also = ", ".join(_SPELLINGS["validation"][1:])
        expected = f"train, validation (or {also}) or test"
        held = f"{said} holds {str(column[unknown[0]])!r}"
        raise origin.error(unknown[0], held, f"; its values must be {expected}")
    splits = found.to_torch()
    if not np.any(splits.numpy() == 0):
        raise UserError(f"{origin.name}: no row is a training row by {said}")
    return splits
