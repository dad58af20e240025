"""Tables in files: read and written by the ending of their name. No torch here."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from multilayer.core.errors import UserError, first_line
from multilayer.core.files import whole_file
from multilayer.data import csv_diagnostics
from multilayer.data.origin import Origin
from multilayer.data.schemas import Schema, difference, wider
from multilayer.data.text_column import Facts, Roles, TextColumn, facts_of, plain_name
from multilayer.data.text_format import TextFormat

WRITABLE = (".csv", ".tsv", ".parquet", ".arrow")
READABLE = (*WRITABLE, *(f"{text}.{packed}" for text in ("csv", "tsv") for packed in ("gz", "zst")))
SEPARATORS = {".csv": ",", ".tsv": "\t"}
WILDCARDS = frozenset("*?[")

ROWS_FOR_TYPES = 5_000
"""The types of a text file's columns are taken from so many rows; if they do not fit the rest, it
is read again with types from all rows, which takes several times as long."""

POLARS_READS = {"POLARS_CSV_CHUNK_SIZE": str(2**23), "POLARS_CSV_CHUNK_PREFETCH_LIMIT": "2"}
"""What polars reads of a text file at a time, and how far ahead. With its own choice, what it reads
takes more memory than a table of 100 MB."""

VALUES_AT_A_TIME = 2**18
"""Of a table that is read in parts: enough to keep Python out of the way, and a megabyte."""

TEXTS = (pl.String, pl.Categorical)
UNPARSED = (pl.String, pl.Boolean)
"""Types of a text file's columns whose values may be of another type in another file."""


class OtherTypesError(Exception):
    """A text file's first rows have led to types that its other rows do not fit."""


class TableFile:
    """The table in a file, or in several one below the other, read a part at a time.

    path: the file, or several with wildcards.
    text: how values are written, where they are text.
    roles: what is known of columns before.
    types_from_all: take the types of a text file's columns from all its rows, not the first ones.

    Raises `UserError` for a file that is missing, of another kind, or unreadable, and for files
    that do not go together; `OtherTypesError` where it must be read again with `types_from_all`.
    """

    def __init__(
        self,
        path: str | Path,
        text: TextFormat | None = None,
        roles: Roles | None = None,
        *,
        types_from_all: bool = False,
    ) -> None:
        self.files = check_input(path)
        self.name = Path(path).name
        self.text, self.roles = text or TextFormat(), roles or {}
        self.types_from_all = types_from_all
        self.raw: dict[Path, Schema] = {}
        self.facts: dict[Path, dict[str, Facts]] = {}
        self.with_nan: set[str] = set()  # columns of numbers in which polars has read some

    @cached_property
    def schema(self) -> Schema:
        """The names and types of the columns, which hold for all files."""
        for file in self.files:
            self.look_at(file)
        schema = self.types_in(self.files[0])
        for file in self.files[1:]:
            schema = self.with_types_of(file, schema)
        return {n: pl.String() if dtype == pl.Null else dtype for n, dtype in schema.items()}

    @property
    def spelled(self) -> dict[str, list[str]]:
        """The words that stand for missing values in columns of numbers or dates."""
        found = {name: {"nan"} for name in self.with_nan}
        for name, own in (each for facts in self.facts.values() for each in facts.items()):
            if self.schema[name] != pl.String:
                found.setdefault(name, set()).update(own["spelled"])
        return {name: sorted(words) for name, words in found.items() if words}

    def with_types_of(self, file: Path, schema: Schema) -> Schema:
        """The schema that holds for another file too."""
        other = self.types_in(file)
        problem = difference(schema, other)
        if problem is None:
            or_words = self.types_from_all and all(map(is_text, self.files))
            found = {n: wider(dtype, other[n], or_words=or_words) for n, dtype in schema.items()}
            types = {n: dtype for n, dtype in found.items() if dtype is not None}
            if len(types) == len(schema):
                return types
            if not self.types_from_all and any(map(is_text, self.files)):
                raise OtherTypesError
            name = next(n for n in schema if n not in types)
            problem = f"its column {name!r} holds {other[name]} instead of {schema[name]}"
        raise UserError(f"{file}: {problem}, unlike {self.files[0]}")

    def column(self, name: str) -> TextColumn:
        """How a column of text is read."""
        return TextColumn(name, self.text, self.roles.get(name))

    def types_in(self, file: Path) -> Schema:
        """The names and types of a file's columns; Null for one of text without any value."""
        types = dict(self.raw[file])
        for name, dtype in types.items():
            if isinstance(dtype, pl.Enum):  # without spaces and what stands for a missing value
                labels = pl.DataFrame({name: dtype.categories}).select(self.column(name).text)
                types[name] = pl.Enum(labels[name].drop_nulls().unique(maintain_order=True))
            elif name in self.facts[file]:
                facts = self.facts_of(name, file)
                types[name] = self.column(name).type_of(facts, is_text_file=is_text(file))
        return types

    def facts_of(self, name: str, file: Path) -> Facts:
        """What a column of text holds: in all files, if it is text in all, or else in this one."""
        found = [facts[name] for facts in self.facts.values() if name in facts]
        if len(found) < len(self.files):
            return self.facts[file][name]
        return {key: sum((each[key] for each in found[1:]), found[0][key]) for key in found[0]}

    def look_at(self, file: Path) -> None:
        """Take in the types that a file's columns have, and the facts of those of text."""
        with self.refusing(file):  # polars reads ahead
            rows = self.scan(file)
            self.raw[file] = schema = rows.collect_schema()
            texts = [self.column(name) for name, dtype in schema.items() if dtype in TEXTS]
            n_rows, facts = facts_of(rows.head(ROWS_FOR_TYPES), texts)
            own = {each.name: each.type_of(facts[each.name], is_text_file=True) for each in texts}
            is_whole = n_rows < ROWS_FOR_TYPES
            if not is_whole and (self.types_from_all or not is_text(file)):
                undecided = [each for each in texts if own[each.name] != pl.String]
                facts |= facts_of(rows, undecided)[1]
            elif not is_whole and pl.Null in own.values():
                raise OtherTypesError
        self.facts[file] = facts

    def separator(self, file: Path) -> str | None:
        """What is between the values of a text file; None for one of another kind.

        Where commas are decimal, a table may be separated by semicolons, as spreadsheets do.
        """
        separator = SEPARATORS.get(text_ending(file))
        if separator == "," and self.text.decimal == ",":
            with refusing(file, separator=","):
                return ";" if ";" in next(csv_diagnostics.lines_of(file, 1), "") else ","
        return separator

    def refusing(self, file: Path) -> AbstractContextManager[None]:
        """Say what is wrong with one of the files that polars cannot read."""
        may_be_types = not self.types_from_all
        return refusing(file, may_be_types=may_be_types, separator=self.separator(file))

    def scan(self, file: Path) -> pl.LazyFrame:
        """The rows of a file, of the types that its own rows have."""
        if not is_text(file):
            scan = pl.scan_parquet if file.suffix.lower() == ".parquet" else pl.scan_ipc
            return with_plain_names(scan(file, glob=False))
        if fault := csv_diagnostics.header_fault(file, str(self.separator(file))):
            raise UserError(f"{file}: {fault}")
        names = self.scan_text(file, infer_schema=False).collect_schema()
        roles = {name: self.roles.get(plain_name(name), "number") for name in names}
        labels = [name for name, role in roles.items() if role not in ("number", "as inferred")]
        is_odd = self.types_from_all and csv_diagnostics.has_odd_digits(file)
        rows = self.scan_text(
            file,
            schema_overrides=dict.fromkeys(labels, pl.String()),
            infer_schema=self.text.is_plain and not is_odd,
            infer_schema_length=None if self.types_from_all else ROWS_FOR_TYPES,
        )
        return with_plain_names(rows)

    def scan_text(self, file: Path, **options: Any) -> pl.LazyFrame:
        """A text file as polars reads it lazily."""
        for name, value in POLARS_READS.items():
            os.environ.setdefault(name, value)
        as_before = "as inferred" in self.roles.values()  # then `""` was a label, as in polars
        return pl.scan_csv(
            file,
            separator=str(self.separator(file)),
            glob=False,
            **{"null_values": None if as_before else ["", *self.text.missing_words], **options},
        )

    def rows(self, file: Path) -> pl.LazyFrame:
        """The rows of one of the files, with text as it is written: see `typed`."""
        if not is_text(file):
            return self.scan(file)
        raw = self.raw[file].items()
        types = [dtype if dtype in UNPARSED else self.schema[name] for name, dtype in raw]
        names = self.scan_text(file, infer_schema=False).collect_schema()
        return with_plain_names(self.scan_text(file, schema=dict(zip(names, types, strict=True))))

    def typed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Some columns of `rows` in the types of the schema.

        Raises `OtherTypesError` for text that is of another type than was thought.
        """
        columns = {each.name: self.typed_column(each) for each in rows}
        return pl.DataFrame({n: each.cast(self.schema[n]) for n, each in columns.items()})

    def typed_column(self, column: pl.Series) -> pl.Series:
        """A column without what stands for a missing value, text as what it is read as."""
        if column.dtype in (*TEXTS, pl.Enum):
            typed = self.column(column.name).typed(column, self.schema[column.name])
            if typed is None:
                raise OtherTypesError
            return typed
        if column.dtype.is_numeric() and (numbers := self.text.missing_numbers):
            is_one = column.cast(pl.Float64, strict=False).is_in(numbers)
            return column.set(is_one.fill_null(False), None)
        return column

    def batches(self, file: Path) -> Iterator[pl.DataFrame]:
        """The rows of one of the files in their order, some thousands at a time.

        Raises as the class does.
        """
        n_rows = max(1, VALUES_AT_A_TIME // len(self.schema))
        separator = self.separator(file)
        with self.refusing(file):
            batches = self.rows(file).collect_batches(chunk_size=n_rows)
            for batch in csv_diagnostics.checked_rows(batches, file, separator):
                floats = batch.select(cs.float()) if separator else pl.DataFrame()
                self.with_nan.update(each.name for each in floats if has_nan(each))
                yield self.typed(batch)

    def as_written(self, file: Path) -> pl.DataFrame:
        """The rows of one of the files as they stand there, with text as text."""
        separator = self.separator(file)
        with self.refusing(file):
            options = {"infer_schema": False, "null_values": [""]}
            rows = self.scan_text(file, **options) if separator else self.scan(file)
            return pl.concat(csv_diagnostics.checked_rows(rows.collect_batches(), file, separator))


def read_frame(
    path: str | Path, text: TextFormat | None = None, roles: Roles | None = None
) -> tuple[pl.DataFrame, Origin]:
    """The whole table in a file, or in several that a path with wildcards names.

    text, roles: as in `TableFile`.

    Raises `UserError` as `TableFile` does.
    """
    try:
        return whole(TableFile(path, text, roles))
    except OtherTypesError:
        return whole(TableFile(path, text, roles, types_from_all=True))


def whole(table: TableFile) -> tuple[pl.DataFrame, Origin]:
    """All rows as one frame."""
    empty = pl.DataFrame(schema=table.schema)
    frames = [pl.concat([empty, *table.batches(file)]) for file in table.files]
    parts = [(each.name, range(len(own))) for each, own in zip(table.files, frames, strict=True)]
    return pl.concat(frames, rechunk=True), Origin(table.name, [*parts])


def read_as_written(path: str | Path, text: TextFormat) -> pl.DataFrame:
    """The same table with every value as it stands in the file: in a text file all are text."""
    table = TableFile(path, text, types_from_all=True)
    parts = [table.as_written(file) for file in table.files]
    for part in parts[1:]:
        part.columns = parts[0].columns  # except for the spaces around them
    try:
        return pl.concat(parts, how="vertical_relaxed")
    except pl.exceptions.SchemaError:  # a column is text in one file alone
        return pl.concat([part.cast(pl.String) for part in parts])


def with_plain_names(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows whose columns are called as they are without the spaces around their names."""
    names = {name: plain_name(name) for name in rows.collect_schema()}
    padded = {name: plain for name, plain in names.items() if name != plain}
    return rows.rename(padded) if padded else rows


def has_nan(column: pl.Series) -> bool:
    """Whether floats hold NaN, which a sum shows without going through them twice."""
    return math.isnan(column.sum()) and column.is_nan().any()


def check_input(path: str | Path) -> list[Path]:
    """The files that a path names, if they are of a kind that can be read; it may hold wildcards.

    Raises `UserError`.
    """
    path = Path(path)
    files = [path]
    if WILDCARDS & set(str(path)) and not path.exists():
        files = [Path(name) for name in sorted(glob(str(path), recursive=True))]
        if not files:
            raise UserError(f"{path}: no file is called so")
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: {'not a file' if file.exists() else 'no such file'}")
        check_ending(file, READABLE)
    return files


def check_output(path: str | Path, *, inputs: Sequence[Path] = ()) -> Path:
    """The path, if a table can be written there.

    inputs: files that must not be replaced, whatever name leads to them.

    Raises `UserError`.
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
    return check_ending(path, WRITABLE)


def check_ending(path: Path, endings: Sequence[str]) -> Path:
    """The path, if its name ends in one of these."""
    if not path.name[1:].lower().endswith(tuple(endings)):  # ".csv" alone is no ending
        raise UserError(f"{path}: its name must end in {', '.join(endings)}")
    return path


@contextmanager
def refusing(
    file: Path, *, may_be_types: bool = False, separator: str | None = None
) -> Iterator[None]:
    """Say what is wrong with a file that polars cannot read.

    may_be_types: whether it may be a text file whose columns are of other types than was thought.
    separator: what is between the values of a text file.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        try:
            fault = (
                csv_diagnostics.find_fault(file, separator, was_refused=not may_be_types)
                if separator
                else None
            )
        except (pl.exceptions.PolarsError, OSError) as other:  # not even its lines can be read
            raise UserError(f"{file}: cannot be read: {first_line(other)}") from other
        if may_be_types and separator and not fault:
            raise OtherTypesError from error
        raise UserError(f"{file}: {fault or f'cannot be read: {first_line(error)}'}") from error


def text_ending(path: Path) -> str:
    """`.csv` or `.tsv`, if the file is text, compressed or not; else its ending."""
    *_, ending = [each for each in path.suffixes if each.lower() not in (".gz", ".zst")] or [""]
    return ending.lower()


def is_text(path: Path) -> bool:
    """Whether the file is text, compressed or not."""
    return text_ending(path) in SEPARATORS


def write_frame(table: pl.DataFrame, path: str | Path) -> None:
    """Write a table.

    Raises `UserError` where it cannot be written.
    """
    path = check_output(path)
    separator = SEPARATORS.get(path.suffix.lower())
    try:
        with whole_file(path) as file:
            if separator:
                table.write_csv(file, separator=separator)
            elif path.suffix.lower() == ".parquet":
                table.write_parquet(file)
            else:
                table.write_ipc(file)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path}: cannot be written: {error}") from error
