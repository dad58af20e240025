"""Tables in files: read and written by the ending of their name. No torch here."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import glob
from pathlib import Path

import polars as pl

from multilayer.csv_faults import check_header, checked_rows, find_fault
from multilayer.errors import UserError, first_line, quoted
from multilayer.runs.folder import beside

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

Schema = Mapping[str, pl.DataType]


class OtherTypesError(Exception):
    """A text file's first rows have led to types that its other rows do not fit."""


class TableFile:
    """The table in a file, or in several one below the other, read a part at a time.

    path: the file, or several with wildcards.
    types_from_all: take the types of a text file's columns from all its rows, not the first ones.
    words: columns of a text file that are read as they are written, whatever they hold.

    Raises `UserError` for a file that is missing, of another kind, or unreadable, and for files
    that do not go together; `OtherTypesError` where it must be read again with `types_from_all`.
    """

    def __init__(
        self, path: str | Path, *, types_from_all: bool = False, words: Collection[str] = ()
    ) -> None:
        self.files = check_input(path)
        self.types_from_all = types_from_all
        self.words = words
        self.schema = schema_of(self.files[0], types_from_all, words)
        for file in self.files[1:]:
            self.schema = self.with_types_of(file)
        words = {name: pl.String() for name, dtype in self.schema.items() if dtype == pl.Null}
        self.schema = {**self.schema, **words}

    def with_types_of(self, file: Path) -> Schema:
        """The schema that holds for another file too."""
        other = schema_of(file, self.types_from_all, self.words)
        problem = difference(self.schema, other)
        if problem:
            raise UserError(f"{file}: {problem}, unlike {self.files[0]}")
        both = {name: wider(dtype, other[name]) for name, dtype in self.schema.items()}
        types = {name: dtype for name, dtype in both.items() if dtype is not None}
        unlike = [name for name in both if name not in types]
        if not unlike:
            return types
        if not self.types_from_all and any(text_ending(each) in SEPARATORS for each in self.files):
            raise OtherTypesError
        raise UserError(
            f"{file}: its column {unlike[0]!r} holds {other[unlike[0]]} instead of "
            f"{self.schema[unlike[0]]}, unlike {self.files[0]}"
        )

    def batches(self, file: Path) -> Iterator[pl.DataFrame]:
        """The rows of one of the files in their order, some thousands at a time.

        Raises as the class does.
        """
        n_rows = max(1, VALUES_AT_A_TIME // len(self.schema))
        with refusing(file, may_be_types=not self.types_from_all):
            batches = scan(file, self.schema).collect_batches(chunk_size=n_rows)
            separator = SEPARATORS.get(text_ending(file))
            yield from checked_rows(batches, file, separator) if separator else batches


def read_frame(path: str | Path, *, words: Collection[str] = ()) -> pl.DataFrame:
    """The whole table in a file, or in several that a path with wildcards names.

    words: as in `TableFile`.

    Raises `UserError` as `TableFile` does.
    """
    try:
        return whole(TableFile(path, words=words))
    except OtherTypesError:
        return whole(TableFile(path, types_from_all=True, words=words))


def whole(table: TableFile) -> pl.DataFrame:
    """All rows as one frame."""
    batches = [batch for file in table.files for batch in table.batches(file)]
    return pl.concat([pl.DataFrame(schema=table.schema), *batches], rechunk=True)


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
        if not file.exists():
            raise UserError(f"{file}: no such file")
        if not file.is_file():
            raise UserError(f"{file}: not a file")
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


def schema_of(file: Path, types_from_all: bool, words: Collection[str] = ()) -> Schema:
    """The names and types of a file's columns; Null for one of a text file without any value.

    words: as in `TableFile`.
    """
    separator = SEPARATORS.get(text_ending(file))
    with refusing(file, may_be_types=not types_from_all):  # polars reads ahead of what it gives
        if separator is None:
            return scan(file).collect_schema()
        check_header(file, separator)
        n_rows_for_types = None if types_from_all else ROWS_FOR_TYPES
        rows = scan(file, n_rows_for_types=n_rows_for_types, words=words)
        schema = rows.collect_schema()
        seen = rows if types_from_all else rows.head(ROWS_FOR_TYPES)
        longer_than_any = "".join(schema) + "rows"  # so that no column is called like it
        asked = seen.select(pl.len().alias(longer_than_any), pl.all().count())
        facts = asked.collect(engine="streaming").row(0)
    n_rows, *counts = facts
    found = zip(schema, counts, strict=True)
    empty = [name for name, count in found if count == 0 and name not in words]
    if empty and n_rows == ROWS_FOR_TYPES and not types_from_all:
        return schema_of(file, True, words)
    return {**schema, **dict.fromkeys(empty, pl.Null())}


def scan(
    file: Path,
    schema: Schema | None = None,
    *,
    n_rows_for_types: int | None = None,
    words: Collection[str] = (),
) -> pl.LazyFrame:
    """A file as polars reads it lazily, with the types of a schema, or those that its rows have."""
    separator = SEPARATORS.get(text_ending(file))
    if separator is not None:
        for name, value in POLARS_READS.items():
            os.environ.setdefault(name, value)
        return pl.scan_csv(
            file,
            separator=separator,
            schema=schema,
            schema_overrides=dict.fromkeys(words, pl.String()),
            infer_schema_length=n_rows_for_types,
            glob=False,
        )
    is_parquet = file.suffix.lower() == ".parquet"
    rows = pl.scan_parquet(file, glob=False) if is_parquet else pl.scan_ipc(file, glob=False)
    own = rows.collect_schema()
    casts = [
        pl.col(name).cast(dtype) for name, dtype in (schema or own).items() if own[name] != dtype
    ]
    return rows.with_columns(casts)


@contextmanager
def refusing(file: Path, *, may_be_types: bool = False) -> Iterator[None]:
    """Say what is wrong with a file that polars cannot read.

    may_be_types: whether it may be a text file whose columns are of other types than was thought.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        separator = SEPARATORS.get(text_ending(file))
        try:
            fault = find_fault(file, separator, was_refused=not may_be_types) if separator else None
        except (pl.exceptions.PolarsError, OSError) as other:  # not even its lines can be read
            raise UserError(f"{file}: cannot be read: {first_line(other)}") from other
        if may_be_types and separator and not fault:
            raise OtherTypesError from error
        raise UserError(f"{file}: {fault or f'cannot be read: {first_line(error)}'}") from error


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


def wider(first: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """The type that holds the values of both; None where they are of two kinds."""
    kinds = {kind_of(dtype) for dtype in (first, other) if dtype != pl.Null}
    if len(kinds) > 1:
        return None
    one, two = (pl.DataFrame(schema={"": dtype}) for dtype in (first, other))
    try:
        return pl.concat([one, two], how="vertical_relaxed").schema[""]
    except pl.exceptions.SchemaError:  # two enums, say, or times of two time zones
        return None


def kind_of(dtype: pl.DataType) -> type[pl.DataType]:
    """One type for all those whose values mean the same: numbers, dates, words."""
    if dtype.is_numeric() or dtype == pl.Boolean:
        return pl.Float64
    if dtype in (pl.Date, pl.Datetime):
        return pl.Datetime
    return pl.String if dtype in (pl.Categorical, pl.Enum) else dtype.base_type()


def text_ending(path: Path) -> str:
    """`.csv` or `.tsv`, if the file is text, compressed or not; else its ending."""
    *_, ending = [each for each in path.suffixes if each.lower() not in (".gz", ".zst")] or [""]
    return ending.lower()


def write_frame(table: pl.DataFrame, path: str | Path) -> None:
    """Write a table, beside its place first and then renamed.

    Raises `UserError` where it cannot be written.
    """
    path = check_output(path)
    try:
        with beside(path) as partial:
            match path.suffix.lower():
                case ".parquet":
                    table.write_parquet(partial)
                case ".arrow":
                    table.write_ipc(partial)
                case ending:
                    table.write_csv(partial, separator=SEPARATORS[ending])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: cannot be written: {error}") from error
