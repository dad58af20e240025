"""What is wrong with the lines of a CSV file, where polars does not say it or reads it anyway."""

import csv
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from multilayer.errors import UserError, quoted

UNDECODABLE = "\ufffd"
"""What stands for bytes that are not UTF-8."""


def check_header(path: Path, separator: str) -> None:
    """Refuse a file without a header, and one whose columns cannot be told apart.

    Raises `UserError`.
    """
    first = next(rows_of(path, separator, 1), None)
    if not first:
        raise UserError(f"{path}: empty, expected a header with the names of the columns")
    names = [name.strip() for name in first]
    if any(UNDECODABLE in name for name in names):
        raise UserError(f"{path}: the header is not UTF-8; save the file as UTF-8")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise UserError(f"{path}: several columns are called {quoted(twice)}")


def check_rows(path: Path, separator: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame that was read from a file, without the blank lines at its end.

    polars fills up rows that are too short, and takes a blank line for a row. Such a row ends with
    a missing value: only where there are some, the file is looked at again, line by line.

    Raises `UserError` for a row with too few values.
    """
    if frame.width < 2 or frame.height == 0 or frame.to_series(-1).null_count() == 0:
        return frame
    fault = find_fault(path, separator)
    if fault:
        raise UserError(f"{path}: {fault}")
    n_blank = 0
    for line in reversed(list(lines_of(path))):
        if line.strip():
            break
        n_blank += 1
    return frame.head(frame.height - n_blank)


def find_fault(path: Path, separator: str) -> str | None:
    """The first row that does not fit the header, in words; None where all do.

    Blank lines at the end are no rows.
    """
    rows = rows_of(path, separator)
    width = len(next(rows, []))
    blank = 0
    for number, row in enumerate(rows, 1):
        if not row:
            blank = blank or number
            continue
        if blank:
            return f"row {blank} is blank"
        if any(UNDECODABLE in value for value in row):
            return f"row {number} is not UTF-8; save the file as UTF-8"
        if len(row) != width:
            return f"row {number} has {len(row)} values, the header has {width} names"
    return None


def rows_of(path: Path, separator: str, n_lines: int | None = None) -> Iterator[list[str]]:
    """The values of each row, of the first lines or of all.

    Raises `UserError` where the lines are no rows.
    """
    try:
        yield from csv.reader(lines_of(path, n_lines), delimiter=separator)
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def lines_of(path: Path, n: int | None = None) -> Iterator[str]:
    """The lines of a file, at most n, decompressed by polars; what is not UTF-8 is replaced."""
    read = pl.read_csv(
        path,
        has_header=False,
        separator="\x1f",  # one that hardly any text holds: each line is one value
        truncate_ragged_lines=True,
        extra_columns="ignore",
        quote_char=None,
        encoding="utf8-lossy",
        schema={"line": pl.String},
        n_rows=n,
        raise_if_empty=False,
        glob=False,
    )
    for line in read["line"]:
        yield f"{line or ''}\n"
