"""What is wrong with the lines of a CSV file, where polars does not say so or reads it anyway."""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import polars as pl

from multilayer.core.errors import UserError, quoted
from multilayer.data.text_format import plain_name

_SEPARATOR_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}

_UNDECODABLE = "\ufffd"
"""What replaces bytes that are not UTF-8; text may hold it too, but rarely does."""


def header_fault(path: Path, separator: str) -> str | None:
    """What is wrong with a file's header: there is none, or columns have the same name.

    Args:
        path: The file.
        separator: Between values. A header of one name that holds another separator is wrong too.
    """
    line = first_line_of(path)
    if not line.strip():
        what = "its first line is blank" if line else "empty"
        return f"{what}, expected a header with the names of the columns"
    if "\r" in line.rstrip():
        return "its lines end with \\r alone; save the file with \\n after each line"
    if line.lower().startswith("sep="):
        return f"its first line, {line.strip()!r}, is no header; delete that line"
    try:
        names = [plain_name(name) for name in next(_rows_of(path, separator, 1))]
    except csv.Error as error:
        return f"the header cannot be read: {error}"
    if _UNDECODABLE in line and not _is_utf8(path):
        return "the header is not UTF-8; save the file as UTF-8"
    others = {mark: word for mark, word in _SEPARATOR_NAMES.items() if mark in names[0]}
    if len(names) == 1 and others:
        comma = "; if it is written 0,5, say \"data.decimal=','\"" if ";" in others else ""
        return (
            f"its columns are separated by {' and '.join(others.values())}; they must be "
            f"by {_SEPARATOR_NAMES[separator]}, and 0.5 written with a point{comma}"
        )
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return f"several columns are called {quoted(twice)}" if twice else None


def checked_rows(
    batches: Iterable[pl.DataFrame], path: Path, separator: str | None
) -> Iterator[pl.DataFrame]:
    """The rows that polars read from a file, of a text file without the blank lines at its end.

    polars pads rows that are too short, and takes a blank line for a row. Such a row ends with a
    missing value: only if there are any, the file is read again line by line.

    Raises:
        UserError: For a row with too few values.
    """
    was_looked_at, held = False, None
    for batch in batches:
        rows = batch if held is None else pl.concat([held, batch])
        held = None
        if separator and rows.width > 1 and rows.to_series(-1).null_count():
            fault = None if was_looked_at else find_fault(path, separator)
            if fault:
                raise UserError(f"{path}: {fault}")
            was_looked_at = True
            n_empty = _n_empty_at_end(rows)
            held, rows = rows.tail(n_empty), rows.head(rows.height - n_empty)
        yield rows
    if held is not None and held.height:
        yield held.head(max(0, held.height - _n_blank_at_end(path)))


def _n_empty_at_end(rows: pl.DataFrame) -> int:
    """How many rows at the end have no value at all."""
    has_value = rows.select(~pl.all_horizontal(pl.all().is_null())).to_series().reverse()
    return int(has_value.arg_max() or 0) if has_value.any() else rows.height


def _n_blank_at_end(path: Path) -> int:
    """How many lines at the end are blank."""
    is_blank = pl.col("line").fill_null("").str.strip_chars() == ""
    last = pl.col("number").filter(~is_blank).max().fill_null(-1)
    found = _lines(path).with_row_index("number").select(n=pl.len() - 1 - last.cast(pl.Int64))
    return int(found.collect(engine="streaming")["n"][0])


def find_fault(path: Path, separator: str, *, was_refused: bool = False) -> str | None:
    """A message about the first row that does not fit the header; None if all do.

    Blank lines at the end are not rows.

    Args:
        path: The file.
        separator: Between values.
        was_refused: Whether polars cannot read the file, whatever the types of its columns. Then
            rows with misplaced quotes are reported even if they fit: polars reads some of them.
    """
    rows = _rows_of(path, separator)
    width = len(next(rows, []))
    if _is_plain(path, separator, width):
        return None
    number, problem = _find_misfit(rows, width, was_decoded=_is_utf8(path))
    if number or was_refused:
        quote = _find_quote(path, separator)
        if quote is not None and (problem is None or quote <= number):
            where = f"row {quote}" if quote else "the header"
            return (
                f"{where} has a quote within a value, or one that nothing closes; put such a value "
                'in quotes and each quote within it twice: "5"" pipe"'
            )
    return problem


def _find_misfit(
    rows: Iterable[list[str]], width: int, *, was_decoded: bool
) -> tuple[int, str | None]:
    """The number of the first row that does not fit the header, and why; 0 if all do.

    A row that Python cannot read has no reason: one of its values is very long, perhaps because
    a quote is not closed.
    """
    number = blank = 0
    try:
        for number, row in enumerate(rows, 1):
            if blank and row:
                return blank, f"row {blank} is blank"
            if not row:
                blank = blank or number
            elif not was_decoded and any(_UNDECODABLE in value for value in row):
                return number, f"row {number} is not UTF-8; save the file as UTF-8"
            elif len(row) != width:
                return number, f"row {number} has {len(row)} values, the header has {width} names"
    except csv.Error:
        return number + 1, None
    return 0, None


def _find_quote(path: Path, separator: str) -> int | None:
    """The first row in which quotes do not enclose whole values; 0 for the header.

    Pairs of quotes within a value are ignored, as polars does.
    """
    inside = '[^"]*(?:""[^"]*)*'
    other = f'[^"{separator}]'
    value = f'(?:"{inside}"|(?:{other}(?:{other}|"{other}*")*)?)'
    whole = re.compile(f"{value}(?:{separator}{value})*\\n")
    beginning = re.compile(f'(?:{value}{separator})*"{inside}')
    number, held, is_open = 0, "", False
    for line in _lines_of(path):
        is_open ^= line.count('"') % 2 == 1
        if is_open and not held and not beginning.fullmatch(line):
            return number
        held += line  # a value may have several lines
        if is_open:
            continue
        if '"' in held and not whole.fullmatch(held):
            return number
        number, held = number + 1, ""
    return number if held else None


def _is_plain(path: Path, separator: str, width: int) -> bool:
    """Whether every line has as many separators as the header, and none has quotes.

    polars counts them many times faster than Python reads rows.
    """
    line = pl.col("line").fill_null("")
    is_odd = (
        (line.str.count_matches(separator, literal=True) != width - 1)
        | line.str.contains('"', literal=True)
        | line.str.contains(_UNDECODABLE, literal=True)
    )
    return not _lines(path).select(is_odd.any()).collect(engine="streaming").item()


def has_odd_digits(path: Path) -> bool:
    """Whether a file has digits of another script: polars infers numbers, but cannot read them."""
    is_odd = pl.col("line").str.contains(r"[^\P{Nd}0-9]").any()
    return bool(_lines(path).select(is_odd).collect(engine="streaming").item())


def _is_utf8(path: Path) -> bool:
    """Whether a file can be decoded."""
    try:
        _lines(path, encoding="utf8").select(pl.col("line").count()).collect(engine="streaming")
    except pl.exceptions.ComputeError:
        return False
    return True


def _rows_of(path: Path, separator: str, n_lines: int | None = None) -> Iterator[list[str]]:
    """The values of each row, of the first `n_lines` or of all.

    Raises:
        csv.Error: For a value that is very long.
    """
    yield from csv.reader(_lines_of(path, n_lines), delimiter=separator)


def first_line_of(path: Path) -> str:
    """The first line of a file; "" if it is empty."""
    return next(_lines_of(path, 1), "")


def _lines_of(path: Path, n: int | None = None) -> Iterator[str]:
    """The lines of a file, at most n."""
    wanted = _lines(path) if n is None else _lines(path).head(n)
    for batch in wanted.collect_batches():
        for line in batch["line"]:
            yield f"{line or ''}\n"


def _lines(path: Path, encoding: Literal["utf8", "utf8-lossy"] = "utf8-lossy") -> pl.LazyFrame:
    """The lines of a file, decompressed by polars; what is not UTF-8 is replaced, or an error."""
    return pl.scan_csv(
        path,
        has_header=False,
        separator="\x1f",  # hardly any text holds it: each line is one value
        truncate_ragged_lines=True,
        extra_columns="ignore",
        quote_char=None,
        encoding=encoding,
        schema={"line": pl.String},
        raise_if_empty=False,
        glob=False,
    )
