"""Which files are tables, by the ending of their name, and which row is from which. No torch."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

import numpy as np
import numpy.typing as npt

from multilayer.core.errors import UserError

_WRITABLE = (".csv", ".tsv", ".parquet", ".arrow")
_READABLE = (
    *_WRITABLE,
    *(f"{text}.{packed}" for text in ("csv", "tsv") for packed in ("gz", "zst")),
)
SEPARATORS = {".csv": ",", ".tsv": "\t"}
_WILDCARDS = frozenset("*?[")

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


def check_input(path: str | Path) -> list[Path]:
    """The files that a path names, if they are of a kind that can be read; it may hold wildcards.

    Raises:
        UserError: If a file is missing or cannot be read.
    """
    path = Path(path)
    files = [path]
    if _WILDCARDS & set(str(path)) and not path.exists():
        files = [Path(name) for name in sorted(glob(str(path), recursive=True))]
        if not files:
            raise UserError(f"{path}: no file matches this path")
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: {'not a file' if file.exists() else 'no such file'}")
        _check_ending(file, _READABLE)
    return files


def check_output(path: str | Path, *, inputs: Sequence[Path] = ()) -> Path:
    """The path, if a table can be written there.

    Args:
        path: Where to write.
        inputs: Files that must not be replaced, whatever name leads to them.

    Raises:
        UserError: If it cannot be written.
    """
    path = Path(path)
    if path.exists() and any(path.samefile(each) for each in inputs):
        raise UserError(f"{path}: the input itself, which would be lost; choose another output")
    if path.is_dir():
        raise UserError(f"{path}: a folder; expected the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path}: the folder {path.parent} may not be written to")
    return _check_ending(path, _WRITABLE)


def text_ending(path: Path) -> str:
    """`.csv` or `.tsv`, if the file is text, compressed or not; else its ending."""
    *_, ending = [each for each in path.suffixes if each.lower() not in (".gz", ".zst")] or [""]
    return ending.lower()


def is_text(path: Path) -> bool:
    """Whether the file is text, compressed or not."""
    return text_ending(path) in SEPARATORS


def _check_ending(path: Path, endings: Sequence[str]) -> Path:
    """The path, if its name ends in one of these."""
    if not path.name[1:].lower().endswith(tuple(endings)):  # ".csv" alone is not an ending
        raise UserError(f"{path}: its name must end in {', '.join(endings)}")
    return path
