"""How values are written as text, and what they are read as: numbers, booleans, dates or words."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import polars as pl

SPELLED_MISSING = (
    *("nan", "+nan", "-nan", "nan(ind)", "-nan(ind)", "na", "n/a", "<na>", "#n/a", "#n/a n/a"),
    *("#na", "null", "(null)", "none", "nat", "missing", "\\n"),
    *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
)
"""What numpy, pandas, R, Julia, spreadsheets and databases write for a missing value, in small
letters. Among numbers and dates it can be nothing else; among words it may be a label."""

PLACEHOLDERS = ("?", "-", "--", ".", "..", "*")
"""What people write for a missing value; it is read as one only where the user says so."""

DATE = r"\d{4}-\d\d-\d\d"
CLOCK = r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?"
ZONE = r"(?:Z|[+-]\d\d:?\d\d)"
MARKED = (
    r"^[+-]?[$€£¥]?\s?[+-]?(?:\d{1,3}(?:[.,'\s]\d{3})+(?:[.,]\d+)?|\d*[.,]?\d+)"
    r"\s?[%$€£¥]?$"
)
"""Numbers with signs or marks between digits, of which some are no part of a plain number."""

SPACES = "[ \u00a0\u2007\u2009\u202f]"
"""Those that separate thousands: a plain one, those that do not break, and thin ones."""

TYPES = (
    *(pl.Int64(), pl.Float64(), pl.Boolean()),
    *(pl.Date(), pl.Datetime("us"), pl.Time()),
)
"""What text is read as, if all of it can be; the first that fits."""

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class TextFormat:
    """How the values of a table are written, where they are text.

    missing: what stands for a missing value, in every column.
    decimal: the decimal mark of numbers.
    thousands: what separates the thousands of numbers, if anything does.
    categorical: columns whose text is words whatever it looks like.
    words: columns that are words even where a text file's values look like numbers.
    verbatim: columns of words with labels that begin or end with a space.
    numbers: columns that are known to be numbers.
    """

    missing: tuple[str | float, ...] = ()
    decimal: str = "."
    thousands: str | None = None
    categorical: Collection[str] = ()
    words: Collection[str] = ()
    verbatim: Collection[str] = ()
    numbers: Collection[str] = ()

    def __post_init__(self) -> None:
        if self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands are both {self.decimal!r}")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """That of the `data` node of a config; an older one has none of the keys."""
        keys = {"missing": (), "decimal": ".", "thousands": None}
        found = {key: config.get(key, default) for key, default in keys.items()}
        return cls(**found | {"missing": tuple(found["missing"])})

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written as Python writes them."""
        return (self.decimal, self.thousands) == (".", None)

    @property
    def missing_words(self) -> list[str]:
        """What stands for a missing value, as text; `nan` and `null` in the usual spellings.

        >>> TextFormat(missing=("NA", -999, None)).missing_words
        ['NA', '-999', 'null', 'NULL', 'Null']
        """
        words = []
        for value in self.missing:
            if value is None:
                words += ["null", "NULL", "Null"]
            elif isinstance(value, float) and math.isnan(value):
                words += ["nan", "NaN", "NAN"]
            else:
                words.append(str(value))
        return words

    @property
    def missing_numbers(self) -> list[float]:
        """The numbers that stand for a missing value.

        >>> TextFormat(missing=("NA", -999, "9999")).missing_numbers
        [-999.0, 9999.0]
        """
        numbers = pl.Series(self.missing_words, dtype=pl.String).cast(pl.Float64, strict=False)
        return numbers.filter(numbers.is_finite()).to_list()

    def keeps(self, labels: Sequence[str]) -> bool:
        """Whether labels stay what they are where they are read; those of older runs may not."""
        lost = {"", *self.missing_words}
        return all(label == label.strip() and label not in lost for label in labels)

    def text(self, name: str) -> pl.Expr:
        """A column of text without the spaces around values, null where nothing is left."""
        column = pl.col(name).cast(pl.String)
        if name in self.verbatim:
            return column
        stripped = column.str.strip_chars()
        return pl.when(~stripped.is_in(["", *self.missing_words])).then(stripped)

    def values(self, name: str) -> pl.Expr:
        """The same, null where a missing value is spelled out too."""
        text = self.text(name)
        return pl.when(~is_spelled_missing(text)).then(text)

    def parsed(self, text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        """Text as values of one of `TYPES`, null where it does not fit."""
        if dtype == pl.Boolean:
            lower = text.str.to_lowercase()
            return pl.when(lower.is_in(["true", "false"])).then(lower == "true")
        if dtype == pl.Date:
            whole = pl.when(text.str.contains(f"^{DATE}$")).then(text)
            return whole.str.to_date("%Y-%m-%d", strict=False)
        if dtype == pl.Datetime:
            return as_datetime(text)
        if dtype == pl.Time:
            whole = pl.when(text.str.contains(f"^{CLOCK}$")).then(text)
            formats = ("%H:%M:%S%.f", "%H:%M")
            return pl.coalesce(whole.str.to_time(each, strict=False) for each in formats)
        return self.plain_number(text).cast(dtype, strict=False)

    def plain_number(self, text: pl.Expr) -> pl.Expr:
        """Numbers as Python writes them; null where thousands are not separated by threes."""
        if self.is_plain:
            return text
        point, comma = re.escape(self.decimal), re.escape(self.thousands or "")
        comma = SPACES if comma == r"\ " else comma
        grouped = rf"\d{{1,3}}(?:{comma}\d{{3}})+|" if comma else ""
        number = rf"^[+-]?(?:(?:{grouped}\d+)(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?$"
        plain = text.str.replace_all(comma, "") if comma else text
        plain = plain.str.replace(self.decimal, ".", literal=True)
        return pl.when(text.str.contains(number)).then(plain)

    def facts(self, rows: pl.LazyFrame, names: Sequence[str]) -> tuple[int, dict[str, Facts]]:
        """The number of rows, and what is to be known of columns of text: see `type_of`."""
        longer_than_any = "".join(names) + "rows"  # so that no column is called like it
        asked = [pl.len().alias(longer_than_any), *(self.asked(name) for name in names)]
        n_rows, *facts = rows.select(asked).collect(engine="streaming").row(0)
        return n_rows, dict(zip(names, facts, strict=True))

    def asked(self, name: str) -> pl.Expr:
        """The facts of a column as a struct: counts, and how missing values are spelled."""
        text, values = self.text(name), self.values(name)
        raw = pl.col(name).cast(pl.String).str.strip_chars()
        return pl.struct(
            values.count().alias("n"),
            ((raw != "").sum() - values.count()).alias("n_missing"),
            values.cast(pl.Float64, strict=False).is_finite().sum().alias("n_plain"),
            text.filter(is_spelled_missing(text)).unique().sort().implode().alias("spelled"),
            *(self.parsed(values, dtype).count().alias(str(dtype)) for dtype in TYPES),
        ).alias(name)

    def type_of(self, name: str, facts: Facts, *, is_text_file: bool) -> pl.DataType:
        """What a column with these `facts` is read as: Null without values, String for words.

        is_text_file: whether the file has no types of its own. Where it has some, plain numbers
            that it has as text are labels, unless missing values are spelled among them.
        """
        if name in self.words:
            return pl.String()
        if name in self.categorical:
            return pl.String() if facts["n"] or facts["n_missing"] else pl.Null()
        if facts["n"] == 0:
            return pl.Float64() if name in self.numbers and facts["n_missing"] else pl.Null()
        dtype = next((each for each in TYPES if facts[str(each)] == facts["n"]), pl.String())
        is_plain = dtype == pl.Boolean or facts["n_plain"] == facts["n"]
        if is_text_file or name in self.numbers or facts["n_missing"] or not is_plain:
            return dtype
        return pl.String()

    def typed(self, column: pl.Series, dtype: pl.DataType) -> pl.Series | None:
        """A column of text as another type; None where a value is lost."""
        name = column.name
        if dtype not in TYPES:
            return column.to_frame().select(self.text(name).alias(name)).to_series()
        text = column.to_frame().select(self.values(name).alias(name))
        typed = text.select(self.parsed(pl.col(name), dtype).alias(name)).to_series()
        return typed if typed.null_count() == text.to_series().null_count() else None


def is_spelled_missing(text: pl.Expr) -> pl.Expr:
    """Whether text is what some tool writes for a missing value."""
    return text.str.to_lowercase().is_in(SPELLED_MISSING)


def as_datetime(text: pl.Expr) -> pl.Expr:
    """ISO 8601 dates with or without a time; a time with a zone as that of UTC."""
    is_one = text.str.contains(f"^{DATE}(?:[T ]{CLOCK} ?{ZONE}?)?$")
    joined = text.str.replace(" ", "T").str.replace(" ", "").str.replace("Z$", "+00:00")
    whole = pl.when(is_one).then(joined)
    parts = []
    for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f"):
        parts.append(whole.str.to_datetime(form, time_unit="us", strict=False))
    for form in ("%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%.f%z"):
        zoned = whole.str.to_datetime(form, time_unit="us", strict=False)
        parts.append(zoned.dt.convert_time_zone("UTC").dt.replace_time_zone(None))
    return pl.coalesce(parts)
