"""What a column of text is read as: numbers, booleans, dates, times or words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from multilayer.data.text_format import TextFormat, is_spelled_missing

Role = Literal["number", "category", "verbatim", "as inferred"]
"""What is known of a column of text before it is read.

number: its values are numbers, in a typed file too.
category: its values are labels, numbers only where each is written as the number is: not `0123`.
verbatim: its values are labels with all that is written, spaces too.
as inferred: it is read as the polars library infers, as older versions did; text is verbatim.
"""

Roles = Mapping[str, Role]

AS_WRITTEN = ("verbatim", "as inferred")
"""The roles in which text stays as it is."""

NUMBERS = (pl.Int64(), pl.Int128(), pl.Float64(), pl.Boolean())
TYPES = (*NUMBERS, pl.Date(), pl.Datetime("us"), pl.Datetime("us", "UTC"), pl.Time())
"""What text is read as, if all of it can be; the first that fits."""

REWRITTEN = r"^(?:\+|-?0[0-9])"
"""How numbers begin that lose something where they are read as such."""

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class TextColumn:
    """A column of text in a file: how it is written, and what is known of it before."""

    name: str
    format: TextFormat
    role: Role | None = None

    @property
    def text(self) -> pl.Expr:
        """Its text without the spaces around values, null where nothing is left."""
        column = pl.col(self.name).cast(pl.String)
        if self.role in AS_WRITTEN:
            return column
        stripped = column.str.strip_chars()
        return pl.when(~stripped.is_in(["", *self.format.missing_words])).then(stripped)

    @property
    def is_missing(self) -> pl.Expr:
        """Whether a value spells out that it is missing, if it is no label."""
        return self.text == "NaN" if self.role == "category" else is_spelled_missing(self.text)

    @property
    def values(self) -> pl.Expr:
        """The text, null where a missing value is spelled out too."""
        return pl.when(~self.is_missing).then(self.text)

    def parsed(self, dtype: pl.DataType) -> pl.Expr:
        """The values as one of `TYPES`, null where they do not fit."""
        values = self.values
        if self.role == "category":
            values = pl.when(~values.str.contains(REWRITTEN)).then(values)
        return self.format.parsed(values, dtype)

    @property
    def facts(self) -> pl.Expr:
        """What `type_of` asks for, as a struct: counts, and how missing values are spelled."""
        raw = pl.col(self.name).cast(pl.String).str.strip_chars()
        return pl.struct(
            self.values.count().alias("n"),
            ((raw != "").sum() - self.values.count()).alias("n_missing"),
            self.values.cast(pl.Float64, strict=False).is_finite().sum().alias("n_plain"),
            self.text.filter(self.is_missing).unique().sort().implode().alias("spelled"),
            *(self.parsed(dtype).count().alias(str(dtype)) for dtype in TYPES),
        ).alias(self.name)

    def type_of(self, facts: Facts, *, is_text_file: bool) -> pl.DataType:
        """What it is read as, by its `facts`: Null without values, String for words.

        is_text_file: whether the file is untyped text. In a typed one, plain numbers
            that it has as text are labels, unless missing values are spelled among them.
        """
        n, n_missing = facts["n"], facts["n_missing"]
        if self.role in AS_WRITTEN:
            return pl.String()
        if n == 0:
            none = pl.Null() if is_text_file else pl.String()
            empty = {"number": pl.Float64(), "category": pl.String()} if n_missing else {}
            return empty.get(self.role or "", none)
        dtype = next((each for each in TYPES if facts[str(each)] == n), pl.String())
        if self.role == "category":
            return dtype if dtype in NUMBERS and is_text_file else pl.String()
        is_plain = dtype == pl.Boolean or facts["n_plain"] == n
        is_typed = is_text_file or self.role == "number" or n_missing or not is_plain
        return dtype if is_typed else pl.String()

    def typed(self, column: pl.Series, dtype: pl.DataType) -> pl.Series | None:
        """Some of its values as another type; None where one is lost."""
        frame = column.to_frame()
        if dtype not in TYPES:
            return frame.select(self.text.alias(self.name)).to_series()
        values, typed = frame.select(values=self.values, typed=self.parsed(dtype)).get_columns()
        return typed.rename(column.name) if typed.null_count() == values.null_count() else None


def facts_of(rows: pl.LazyFrame, columns: Sequence[TextColumn]) -> tuple[int, dict[str, Facts]]:
    """The number of rows, and the facts of columns of text in them."""
    names = [column.name for column in columns]
    longer_than_any = "".join(names) + "rows"  # so that no column is called like it
    asked = [pl.len().alias(longer_than_any), *(column.facts for column in columns)]
    n_rows, *facts = rows.select(asked).collect(engine="streaming").row(0)
    return n_rows, dict(zip(names, facts, strict=True))


def plain_name(name: str) -> str:
    """The name of a column without spaces around it, and without byte-order marks."""
    return name.replace("\ufeff", "").strip()
