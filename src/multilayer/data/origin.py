"""Where the rows of a table come from, for what is said of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

RowNumbers = Sequence[int] | npt.NDArray[np.int64]


@dataclass
class Origin:
    """The file that each row of a table is from.

    name: what messages call the table as a whole.
    parts: the files one below the other, each with the numbers of its rows there, from 0 on;
        none where rows are counted in the table itself.

    >>> Origin("*.csv", [("a.csv", range(10)), ("b.csv", range(5, 9))]).find(11)
    ('b.csv', 7)
    """

    name: str
    parts: list[tuple[str, RowNumbers]] = field(default_factory=list)

    def find(self, row: int) -> tuple[str, int]:
        """The file of a row, and its number there, from 1 on."""
        for name, rows in self.parts:
            if row < len(rows):
                return name, int(rows[row]) + 1
            row -= len(rows)
        return self.name, row + 1

    def place(self, row: int) -> str:
        """What a message calls a row."""
        name, number = self.find(row)
        return f"row {number} of {name}" if self.parts else f"row {number}"
