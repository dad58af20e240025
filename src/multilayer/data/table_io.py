"""Tables in files: read and written by the ending of their name. No torch here."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

import polars as pl
import polars.selectors as cs

from multilayer.core.errors import UserError, quoted
from multilayer.core.files import whole_file
from multilayer.data.origin import Origin
from multilayer.data.table_files import (
    OtherTypesError,
    TextFile,
    check_input,
    check_output,
    explaining,
    name_fault,
)
from multilayer.data.text_format import (
    Roles,
    TextColumn,
    TextFormat,
    TextStats,
    kind_of,
    plain_name,
)

_ROWS_FOR_TYPES = 5_000
"""The types of a text file's columns are inferred from this many rows; if they do not fit the
rest, it is read again with types from all rows, which takes several times as long."""

_POLARS_READS = {"POLARS_CSV_CHUNK_SIZE": str(2**23), "POLARS_CSV_CHUNK_PREFETCH_LIMIT": "2"}
"""How much of a text file polars reads at a time, and how far ahead. By its own choice, this takes
more memory than a table of 100 MB."""

_BATCH_VALUES = 2**18
"""Values per batch of rows: few enough for a megabyte, enough that Python costs little."""

_TEXTS = (pl.String, pl.Categorical)
_UNPARSED = (pl.String, pl.Boolean)
"""Types of a text file's columns whose values may be of another type in another file."""

Schema = Mapping[str, pl.DataType]
_T = TypeVar("_T")


class TableFile:
    """The table in a file, in several one below the other, or in memory, read batch by batch.

    Args:
        path: The file, or several with wildcards; of a table in memory what messages call it.
        text: How values are written, where they are text.
        roles: What is known of columns beforehand.
        frame: The table in memory.
        types_from_all: Whether to infer the types of a text file's columns from all its rows,
            rather than from the first ones.

    Raises:
        UserError: For a file that is missing, of another kind, or unreadable, and for files that
            do not go together.
        OtherTypesError: If it must be read again with `types_from_all`.
    """

    def __init__(
        self,
        path: str | Path,
        text: TextFormat | None = None,
        roles: Roles | None = None,
        frame: pl.DataFrame | None = None,
        *,
        types_from_all: bool = False,
    ) -> None:
        self.files = check_input(path) if frame is None else [Path(path)]
        self.frame = frame
        self.name = Path(path).name
        self.text, self.roles = text or TextFormat(), roles or {}
        self.types_from_all = types_from_all
        self.texts = {file: TextFile.of(file, self.text.decimal) for file in self.files}
        self.raw: dict[Path, Schema] = {}
        self.stats: dict[Path, dict[str, TextStats]] = {}
        self.with_nan: set[str] = set()  # columns of numbers in which polars has read NaN

    @classmethod
    def read(cls, build: Callable[[Self], _T], *options: Any) -> _T:
        """What `build` makes of a table; again with types from all rows, if the others do not fit.

        Args:
            build: Reads the table.
            options: Its path, and how it is written and what is known of it, as for the class.

        Raises:
            UserError: As the class does.
        """
        try:
            return build(cls(*options))
        except OtherTypesError:
            return build(cls(*options, types_from_all=True))

    @cached_property
    def schema(self) -> Schema:
        """The names and types of the columns, which hold for all files."""
        for file in self.files:
            self._inspect(file)
        schema = self._types_in(self.files[0])
        for file in self.files[1:]:
            schema = self._with_types_of(file, schema)
        return {n: pl.String() if dtype == pl.Null else dtype for n, dtype in schema.items()}

    @property
    def spelled_missing(self) -> dict[str, list[str]]:
        """The words that stand for missing values in columns of numbers or dates."""
        found = {name: {"nan"} for name in self.with_nan}
        for name, own in (each for stats in self.stats.values() for each in stats.items()):
            if self.schema[name] != pl.String:
                found.setdefault(name, set()).update(own["spelled"])
        return {name: sorted(words) for name, words in found.items() if words}

    def rows(self, file: Path) -> pl.LazyFrame:
        """The rows of one of the files, with text as it is written: see `typed`."""
        if not (text := self.texts[file]):
            return self._scan(file)
        raw, schema = self.raw[file], self.schema
        types = {name: raw[name] if raw[name] in _UNPARSED else schema[name] for name in raw}
        return self._scan_text(text, types)

    def typed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Some columns of `rows` in the types of the schema.

        Raises:
            OtherTypesError: For text that is not of the inferred type.
        """
        return pl.DataFrame(
            {each.name: self._typed(each).cast(self.schema[each.name]) for each in rows}
        )

    def batches(self, file: Path) -> Iterator[pl.DataFrame]:
        """The rows of one of the files in order, some thousands at a time.

        Raises:
            UserError: As the class does.
            OtherTypesError: Likewise.
        """
        n_rows = max(1, _BATCH_VALUES // len(self.schema))
        text = self.texts[file]
        with self._explaining(file):
            batches = self.rows(file).collect_batches(chunk_size=n_rows)
            for batch in text.checked_rows(batches) if text else batches:
                floats = batch.select(cs.float()) if text else pl.DataFrame()
                self.with_nan.update(each.name for each in floats if _has_nan(each))
                yield self.typed(batch[list(self.schema)])  # in the order of the first file

    def _with_types_of(self, file: Path, schema: Schema) -> Schema:
        """The schema that holds for another file too."""
        other = self._types_in(file)
        problem = _difference(schema, other)
        if problem is None:
            or_words = self.types_from_all and all(self.texts.values())
            found = {n: _common(dtype, other[n], or_words=or_words) for n, dtype in schema.items()}
            types = {n: dtype for n, dtype in found.items() if dtype is not None}
            if len(types) == len(schema):
                return types
            if not self.types_from_all and any(self.texts.values()):
                raise OtherTypesError
            name = next(n for n in schema if n not in types)
            problem = f"its column {name!r} holds {other[name]} instead of {schema[name]}"
        raise UserError(f"{file}: {problem}, unlike {self.files[0]}")

    def _column(self, name: str) -> TextColumn:
        """How a column of text is read."""
        return TextColumn(name, self.text, self.roles.get(name))

    def _types_in(self, file: Path) -> Schema:
        """The names and types of a file's columns; Null for one of text without any value."""
        types = dict(self.raw[file])
        for name, dtype in types.items():
            if isinstance(dtype, pl.Enum):  # without spaces and what stands for a missing value
                labels = pl.DataFrame({name: dtype.categories}).select(self._column(name).text)
                types[name] = pl.Enum(labels[name].drop_nulls().unique(maintain_order=True))
            elif name in self.stats[file]:
                found = [stats[name] for stats in self.stats.values() if name in stats]
                if len(found) < len(self.files):  # it is text in some of the files alone
                    found = [self.stats[file][name]]
                is_text_file = self.texts[file] is not None
                types[name] = self._column(name).infer_type(*found, is_text_file=is_text_file)
        return types

    def _inspect(self, file: Path) -> None:
        """Collect the types that a file's columns have, and the stats of those of text."""
        with self._explaining(file):  # polars reads ahead
            rows = self._scan(file)
            self.raw[file] = schema = rows.collect_schema()
            texts = [self._column(name) for name, dtype in schema.items() if dtype in _TEXTS]
            n_rows, stats = TextColumn.stats_of(rows.head(_ROWS_FOR_TYPES), texts)
            if n_rows == _ROWS_FOR_TYPES:  # there may be more
                own = {each: each.infer_type(stats[each.name], is_text_file=True) for each in texts}
                if self.types_from_all or not self.texts[file]:
                    undecided = [each for each, dtype in own.items() if dtype != pl.String]
                    stats |= TextColumn.stats_of(rows, undecided)[1]
                elif pl.Null in own.values():
                    raise OtherTypesError
        self.stats[file] = stats

    def _explaining(self, file: Path) -> AbstractContextManager[None]:
        """Say what is wrong with one of the files that polars cannot read."""
        return explaining(file, self.texts[file], may_be_types=not self.types_from_all)

    def _scan(self, file: Path) -> pl.LazyFrame:
        """The rows of a file, in the types of its own rows."""
        text = self.texts[file]
        if self.frame is not None:
            return self.frame.lazy().rename(plain_name)
        if text is None:
            scan = pl.scan_parquet if file.suffix.lower() == ".parquet" else pl.scan_ipc
            names = [plain_name(name) for name in scan(file, glob=False).collect_schema()]
            if fault := name_fault(names):
                raise UserError(f"{file}: {fault}")
            return scan(file, glob=False).rename(plain_name)
        if fault := text.header_fault():
            raise UserError(f"{file}: {fault}")
        inferred = ("number", "as inferred")
        labels = [name for name, role in self.roles.items() if role not in inferred]
        is_odd = self.types_from_all and text.has_odd_digits()
        return self._scan_text(
            text,
            dict.fromkeys(labels, pl.String()),
            infer_schema=self.text.is_plain and not is_odd,
            infer_schema_length=None if self.types_from_all else _ROWS_FOR_TYPES,
        )

    def _scan_text(self, file: TextFile, types: Schema, **options: Any) -> pl.LazyFrame:
        """A text file as polars reads it lazily, some of its columns in types that are given."""
        for name, value in _POLARS_READS.items():
            os.environ.setdefault(name, value)
        as_before = "as inferred" in self.roles.values()  # then `""` was a label, as in polars
        options["null_values"] = None if as_before else ["", *self.text.missing_words]
        scan = partial(pl.scan_csv, file.path, separator=file.separator, glob=False)
        names = {name: plain_name(name) for name in scan(infer_schema=False).collect_schema()}
        own = {name: types[plain] for name, plain in names.items() if plain in types}
        return scan(schema_overrides=own, **options).rename(names)

    def _typed(self, column: pl.Series) -> pl.Series:
        """A column without what stands for a missing value, text as what it is read as."""
        if column.dtype in (*_TEXTS, pl.Enum):
            typed = self._column(column.name).cast(column, self.schema[column.name])
            if typed is None:
                raise OtherTypesError
            return typed
        if column.dtype.is_numeric() and (numbers := self.text.missing_numbers):
            is_one = column.cast(pl.Float64, strict=False).is_in(numbers)
            return column.set(is_one.fill_null(False), None)
        return column


def read_frame(
    path: str | Path,
    text: TextFormat | None = None,
    roles: Roles | None = None,
    frame: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, Origin]:
    """The whole table, as one frame; the arguments are those of `TableFile`.

    Raises:
        UserError: As `TableFile` does.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pl.DataFrame({"size": [30, None], "city": ["Bonn", "Ulm"]}).write_csv(f"{folder}/t.csv")
    ...     frame, origin = read_frame(f"{folder}/t.csv")
    >>> frame.rows()
    [(30, 'Bonn'), (None, 'Ulm')]
    >>> origin.describe(1)
    'row 2 of t.csv'
    """
    return TableFile.read(_whole, path, text, roles, frame)


def read_as_written(path: str | Path, text: TextFormat) -> pl.DataFrame:
    """The same table with every value as it stands in the file: in a text file all are text."""
    table, parts = TableFile(path, text, types_from_all=True), []
    for file, own in table.texts.items():
        with explaining(file, own):
            if own:
                options: dict[str, Any] = {"infer_schema": False, "null_values": [""]}
                rows = pl.scan_csv(file, separator=own.separator, glob=False, **options)
                parts.append(pl.concat(own.checked_rows(rows.collect_batches())))
            else:
                parts.append(table.rows(file).collect())
    names = {plain_name(name): name for name in parts[0].columns}
    for index, part in enumerate(parts[1:], 1):  # the order may differ, and spaces around names
        part.columns = [names[plain_name(name)] for name in part.columns]
        parts[index] = part[parts[0].columns]
    try:
        return pl.concat(parts, how="vertical_relaxed")
    except pl.exceptions.SchemaError:  # a column is text in one file alone
        return pl.concat([part.cast(pl.String) for part in parts])


def write_frame(table: pl.DataFrame, path: str | Path) -> None:
    """Write a table.

    Raises:
        UserError: If it cannot be written.
    """
    path = check_output(path)
    writers: dict[str, Callable[[BinaryIO], object]] = {
        ".csv": table.write_csv,
        ".tsv": partial(table.write_csv, separator="\t"),
        ".parquet": table.write_parquet,
        ".arrow": table.write_ipc,
    }
    try:
        with whole_file(path) as file:
            writers[path.suffix.lower()](file)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path}: cannot be written: {error}") from error


def _whole(table: TableFile) -> tuple[pl.DataFrame, Origin]:
    """All rows as one frame."""
    empty = pl.DataFrame(schema=table.schema)
    frames = [pl.concat([empty, *table.batches(file)]) for file in table.files]
    parts = [(each.name, range(len(own))) for each, own in zip(table.files, frames, strict=True)]
    return pl.concat(frames, rechunk=True), Origin(table.name, [*parts])


def _has_nan(column: pl.Series) -> bool:
    """Whether floats hold NaN; a sum tells most that do not, ten times faster."""
    return math.isnan(column.sum()) and column.is_nan().any()


def _difference(first: Schema, other: Schema) -> str | None:
    """How the names of two tables' columns differ; None if they do not."""
    lacking = [name for name in first if name not in other]
    if lacking:
        return f"it lacks {quoted(lacking)}"
    more = [name for name in other if name not in first]
    if more:
        return f"it has {quoted(more)}"
    return None


def _common(first: pl.DataType, other: pl.DataType, *, or_words: bool) -> pl.DataType | None:
    """The type that holds the values of both; None if they mean different things.

    Args:
        first: One type.
        other: The other type.
        or_words: Whether both are words where one is, as in text.
    """
    if or_words and pl.String in (first, other):
        return pl.String()
    if len({kind_of(dtype) for dtype in (first, other) if dtype != pl.Null}) > 1:
        return None
    one, two = (pl.DataFrame(schema={"": dtype}) for dtype in (first, other))
    try:
        return pl.concat([one, two], how="vertical_relaxed").schema[""]
    except pl.exceptions.SchemaError:  # such as two enums, or times of two time zones
        return None
