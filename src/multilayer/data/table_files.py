"""Which files are tables, and what is wrong with them. No torch here."""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Literal, Self

import polars as pl

from multilayer.core.errors import UserError, first_line, nearest
from multilayer.core.files import names_stream, said_path
from multilayer.core.text import as_override, counted, in_numbers
from multilayer.data.text_format import plain_name

_WRITABLE = (".csv", ".tsv", ".parquet", ".arrow")
_READABLE = (*_WRITABLE, ".csv.gz", ".csv.zst", ".tsv.gz", ".tsv.zst")
_WILDCARDS = frozenset("*?[")

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_SEPARATOR_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}

_UNDECODABLE = "\ufffd"
"""What replaces bytes that are not UTF-8; text may hold it too, but rarely does."""


class OtherTypesError(Exception):
    """The types inferred from a text file's first rows do not fit its other rows."""


def check_input(path: str | Path, key: str | None = None) -> list[Path]:
    """The files that a path names, if they are of a kind that can be read; it may hold wildcards.

    Args:
        path: The path.
        key: What the path is the value of, for a hint that can be pasted.

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
        if names_stream(file):
            raise UserError(f"{file}: not a file; it is read more than once: save it as one first")
        if not file.is_file():
            raise UserError(
                f"{file}: {'not a file' if file.exists() else _no_such_file(file, key)}"
            )
        _check_ending(file, _READABLE)
    return files


def _no_such_file(path: Path, key: str | None) -> str:
    """That there is no file, and which table there is whose name is nearly the same."""
    names: list[str] = []
    with suppress(OSError):  # there is no folder either, or it cannot be read
        names = [name for name in os.listdir(path.parent) if _stem(name) != name]
    near = nearest(path.name, names)
    if _stem(path.name) != path.name:  # what has an ending is compared without: all are alike
        stem = nearest(_stem(path.name), set(map(_stem, names)))
        alike = [name for name in names if _stem(name) == stem]
        near = nearest(path.name, alike) or min(alike, default=None)
    if near is None:
        return "no such file"
    meant = said_path(path.parent / near)
    return f"no such file, did you mean {as_override(key, meant) if key else meant}?"


def _stem(name: str) -> str:
    """A file's name without the ending of a table.

    >>> _stem("my.v2.csv.gz"), _stem("notes.txt")
    ('my.v2', 'notes.txt')
    """
    endings = [each for each in _READABLE if name.lower().endswith(each)]
    return name[: -len(max(endings, key=len))] if endings else name


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


def _check_ending(path: Path, endings: Sequence[str]) -> Path:
    """The path, if its name ends in one of these."""
    if not path.name[1:].lower().endswith(tuple(endings)):  # ".csv" alone is not an ending
        raise UserError(f"{path}: its name must end in {', '.join(endings)}")
    return path


@dataclass(frozen=True)
class TextFile:
    """A table as text, compressed or not, whose lines tell what polars does not.

    Args:
        path: The file.
        separator: Between values.
    """

    path: Path
    separator: str

    @classmethod
    def of(cls, path: Path, decimal: str = ".") -> Self | None:
        """The file, if its name says that it is text.

        With decimal commas, a table may be separated by semicolons, as spreadsheets do.
        """
        *_, ending = [each for each in path.suffixes if each.lower() not in (".gz", ".zst")] or [""]
        separator = _SEPARATORS.get(ending.lower())
        if separator is None:
            return None
        file = cls(path, separator)
        if separator == "," == decimal:
            with explaining(path, file):
                return cls(path, ";" if ";" in file.first_line() else ",")
        return file

    def header_fault(self) -> str | None:
        """What is wrong with a file's header: there is none, or columns have the same name.

        A header of one name that holds another separator is wrong too.
        """
        line = self.first_line()
        if not line.strip():
            what = "its first line is blank" if line else "empty"
            return f"{what}, expected a header with the names of the columns"
        if "\r" in line.rstrip():
            return "its lines end with \\r alone; save the file with \\n after each line"
        if line.lower().startswith("sep="):
            return f"its first line, {line.strip()!r}, is no header; delete that line"
        try:
            names = list(map(plain_name, next(csv.reader([line], delimiter=self.separator))))
        except csv.Error as error:
            return f"the header cannot be read: {error}"
        if _UNDECODABLE in line and not self._is_utf8():
            return "the header is not UTF-8; save the file as UTF-8"
        others = {mark: word for mark, word in _SEPARATOR_NAMES.items() if mark in names[0]}
        if len(names) == 1 and others:
            comma = "; if it is written 0,5, say \"data.decimal=','\"" if ";" in others else ""
            return (
                f"its columns are separated by {' and '.join(others.values())}; they must be "
                f"by {_SEPARATOR_NAMES[self.separator]}, and 0.5 written with a point{comma}"
            )
        return name_fault(names)

    def checked_rows(self, batches: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """The rows that polars read from a file, of a text file without the blank lines at its end.

        polars pads rows that are too short, and takes a blank line for a row. Such a row ends with
        a missing value: only if there are any, the file is read again line by line.

        Raises:
            UserError: For a row with too few values.
        """
        held = n_blank = None
        for batch in batches:
            rows = batch if held is None else pl.concat([held, batch])
            if n_blank is None and rows.width > 1 and rows.to_series(-1).null_count():
                if fault := self.find_fault():
                    raise UserError(f"{self.path}: {fault}")
                n_blank = self._n_blank_at_end()
            if n_blank:
                n_kept = max(0, rows.height - n_blank)
                rows, held = rows[:n_kept], rows[n_kept:]
            yield rows

    def has_odd_digits(self) -> bool:
        """Whether it has digits of another script: polars infers numbers, but cannot read them."""
        return self._any_line(pl.col("line").str.contains(r"[^\P{Nd}0-9]"))

    def _n_blank_at_end(self) -> int:
        """How many lines at the end are blank."""
        last = pl.col("number").filter(pl.col("line").str.strip_chars() != "").max()
        found = self._lines().with_row_index("number").select(pl.len() - 1 - last)
        return int(found.collect(engine="streaming").item())

    def find_fault(self, *, was_refused: bool = False) -> str | None:
        """A message about the first row that does not fit the header; None if all do.

        Blank lines at the end are not rows.

        Args:
            was_refused: Whether polars cannot read it, whatever the types of its columns. Then
                rows with misplaced quotes are reported even if they fit: polars reads some of them.
        """
        rows = csv.reader(self._read_lines(), delimiter=self.separator)
        width = len(next(rows, []))
        line = pl.col("line")  # polars looks at lines many times faster than Python reads rows
        is_odd = line.str.count_matches(self.separator, literal=True) != width - 1
        if not self._any_line(is_odd | line.str.contains(f'["{_UNDECODABLE}]')):
            return None
        number, problem = _find_misfit(rows, width, was_decoded=self._is_utf8())
        if number or was_refused:
            quote = self._find_quote()
            if quote is not None and (problem is None or quote <= number):
                where = f"row {quote}" if quote else "the header"
                return (
                    f"{where} has a quote within a value, or one that nothing closes; put such a "
                    'value in quotes and each quote within it twice: "5"" pipe"'
                )
        return problem

    def _find_quote(self) -> int | None:
        """The first row in which quotes do not enclose whole values; 0 for the header.

        Pairs of quotes within a value are ignored, as polars does.
        """
        inside = '[^"]*(?:""[^"]*)*'
        other = f'[^"{self.separator}]'
        value = f'(?:"{inside}"|(?:{other}(?:{other}|"{other}*")*)?)'
        whole = re.compile(f"{value}(?:{self.separator}{value})*\\n")
        beginning = re.compile(f'(?:{value}{self.separator})*"{inside}')
        number, held, is_open = 0, "", False
        for line in self._read_lines():
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

    def _is_utf8(self) -> bool:
        """Whether a file can be decoded."""
        try:
            self._lines(encoding="utf8").select(pl.col("line").count()).collect(engine="streaming")
        except pl.exceptions.ComputeError:
            return False
        return True

    def _any_line(self, condition: pl.Expr) -> bool:
        """Whether a condition on `line` holds for any line of a file."""
        return bool(self._lines().select(condition.any()).collect(engine="streaming").item())

    def first_line(self) -> str:
        """The first line of a file; "" if it is empty."""
        return next(self._read_lines(1), "")

    def _read_lines(self, n: int | None = None) -> Iterator[str]:
        """The lines of a file, at most n."""
        for batch in self._lines().slice(0, n).collect_batches():
            yield from batch["line"] + "\n"

    def _lines(self, encoding: Literal["utf8", "utf8-lossy"] = "utf8-lossy") -> pl.LazyFrame:
        """Its lines, decompressed by polars; what is not UTF-8 is replaced, or an error."""
        return pl.scan_csv(
            self.path,
            has_header=False,
            separator="\x1f",  # hardly any text holds it: each line is one value
            truncate_ragged_lines=True,
            extra_columns="ignore",
            quote_char=None,
            encoding=encoding,
            schema={"line": pl.String},
            raise_if_empty=False,
            glob=False,
        ).fill_null("")


def _against(n_values: int, width: int) -> str:
    """How a row differs from the header."""
    return f"has {counted(n_values, 'value')}, the header has {counted(width, 'name')}"


def name_fault(names: Sequence[str]) -> str | None:
    """Which columns have the same name, by their places; None if each has another one.

    >>> name_fault(["x", "", "y", ""])
    "several columns are called '' (columns 2, 4)"
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names, start=1):
        places.setdefault(name, []).append(place)
    twice = [(name, in_numbers(own)) for name, own in places.items() if own[1:]]
    if not twice:
        return None
    said = ", ".join(f"{name!r} (columns {own})" for name, own in twice[:8])
    return f"several columns are called {said}" + f" and {len(twice) - 8} more" * bool(twice[8:])


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
                return number, f"row {number} {_against(len(row), width)}"
    except csv.Error:
        return number + 1, None
    return 0, None


@contextmanager
def explaining(
    file: Path, text: TextFile | None = None, *, may_be_types: bool = False
) -> Iterator[None]:
    """Say what is wrong with a file that polars cannot read.

    Args:
        file: The file.
        text: The same, if it is text.
        may_be_types: Whether columns may be of other types than inferred.

    Raises:
        UserError: In place of polars' own error.
        OtherTypesError: If types may be the reason, and no other is found.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        fault = None
        if text:
            with explaining(file):  # not even its lines may be readable
                fault = text.find_fault(was_refused=not may_be_types)
            if may_be_types and not fault:
                raise OtherTypesError from error
        raise UserError(f"{file}: {fault or f'cannot be read: {first_line(error)}'}") from error
