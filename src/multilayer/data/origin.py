"""Which file and row of it each row of a table is from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from multilayer.core.errors import UserError

RowNumbers = Sequence[int] | npt.NDArray[np.int64]


@dataclass
class Origin:
    """The file that each row of a table is from.

    Attributes:
        name: What messages call the table as a whole.
        parts: The files, one below the other, each with the numbers of its rows, from 0; empty
            where rows are counted in the table itself.

    >>> Origin("*.csv", [("a.csv", range(10)), ("b.csv", range(5, 9))]).find(11)
    ('b.csv', 7)
    """

    name: str
    parts: list[tuple[str, RowNumbers]] = field(default_factory=list)

    def find(self, row: int) -> tuple[str, int]:
        """The file of a row, and its number there, from 1."""
        for name, rows in self.parts:
            if row < len(rows):
                return name, int(rows[row]) + 1
            row -= len(rows)
        return self.name, row + 1

    def describe(self, row: int) -> str:
        """What a message calls a row."""
        name, number = self.find(row)
        return f"row {number} of {name}" if self.parts else f"row {number}"

    def error(self, row: int, said: str, more: str = "") -> UserError:
        """An error that names a row and its file; `more` follows the row."""
        name, number = self.find(row)
        return UserError(f"{name}: {said} in row {number}{more}")

    def check_none_missing(self, values: pl.Series, what: str) -> None:
        """Raise `UserError` with the first row in which a value is missing."""
        if values.dtype.is_float():
            values = values.fill_nan(None)
        if values.null_count():
            raise self.error(values.is_null().arg_true()[0], f"{what} is missing")

    def check_finite(self, values: npt.NDArray[np.floating[Any]], what: str) -> None:
        """Raise `UserError` with the first row in which a value `(B,)` is infinite."""
        rows = np.flatnonzero(np.isinf(values))
        if rows.size:
            is_target = what.startswith("the target")
            todo = "leave out the row" if is_target else "leave it empty if missing"
            more = f", or beyond 1.8e308, the largest float64; correct it, or {todo}"
            raise self.error(int(rows[0]), f"{what} is infinite", more)
