"""How values are written as text: numbers, dates and times, and what stands for a missing value."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

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

DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
CLOCK = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?"
ZONE = "(?:Z|[+-][0-9]{2}:?[0-9]{2})"
ISO = "%Y-%m-%dT%H:%M:%S%.f"

# Below, \d is a digit of any script.
MARKS = "[.,'\u2019_\\s]"
"""What people write between the digits of a number."""

SIGNS = "[+\u2212-]?[$€£¥₹]?\\s?[+\u2212-]?"
DIGITS = rf"(?:\d{{1,3}}(?:{MARKS}\d{{2,3}})*{MARKS}\d{{3}}(?:[.,]\d+)?|\d*[.,]?\d+|\d+[.,])"
BASES = "0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+"
MARKED = rf"^(?:=?[\"'])?\(?{SIGNS}(?:{BASES}|{DIGITS}(?:[eEdD][+-]?\d+)?)\s?[%‰$€£¥₹]?[-)]?[\"']?$"
"""Numbers as any tool may write them; what is not a plain number too is refused as a number."""

MONTH = "(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z.]*"
ANY_DATE = (
    r"\d{1,2}[./-]\d{1,2}[./-]\d{4}|\d{1,2}/\d{1,2}/\d{2}|\d{4}[./-]\d{1,2}[./-]\d{1,2}"
    rf"|\d{{1,2}}[ -]{MONTH}[ -]\d{{2,4}}|{MONTH} \d{{1,2}},? \d{{4}}"
)
ANY_CLOCK = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AaPp]\.?[Mm]\.?)?"
ANY_DAY = rf"^(?:{ANY_DATE})(?:[T, ]+{ANY_CLOCK})?$"
ANY_TIME = rf"^(?:{ANY_DATE})[T, ]+{ANY_CLOCK} ?{ZONE}$"

SPACES = "[ \u00a0\u2007\u2009\u202f]"
"""Those that separate thousands: a plain one, those that do not break, and thin ones."""


class Kind(NamedTuple):
    """Values that are read from text.

    looks: a pattern of what people write for them; only some of it can be read.
    example: one that can be read.
    """

    dtype: pl.DataType
    looks: str
    example: str


KINDS = {
    "numbers": Kind(pl.Float64(), MARKED, "-1234.5"),
    "dates without a time zone": Kind(pl.Datetime("us"), ANY_DAY, "2026-03-01 or 2026-03-01T13:45"),
    "dates with a time zone": Kind(pl.Datetime("us", "UTC"), ANY_TIME, "2026-03-01T13:45Z"),
    "times of day": Kind(pl.Time(), f"^{ANY_CLOCK}$", "13:45"),
    "booleans": Kind(pl.Boolean(), "^$", "true"),
}


@dataclass(frozen=True)
class TextFormat:
    """How the values of a table are written, where they are text.

    missing: what stands for a missing value, in every column.
    decimal: the decimal mark of numbers.
    thousands: what separates the thousands of numbers, if anything does.
    """

    missing: tuple[str | float, ...] = ()
    decimal: str = "."
    thousands: str | None = None

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
            is_nan = isinstance(value, float) and math.isnan(value)
            usual = ["null", "NULL", "Null"] if value is None else ["nan", "NaN", "NAN"]
            words += usual if value is None or is_nan else [str(value)]
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
        are_plain = all(label == label.strip() and label not in lost for label in labels)
        numbers = pl.Series(labels, dtype=pl.String).cast(pl.Float64, strict=False)
        return are_plain and (numbers.has_nulls() or bool(numbers.is_finite().all()))

    def parsed(self, text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        """Text as numbers, booleans, dates or times, null where it does not fit."""
        if dtype == pl.Boolean:
            words = {"true": True, "false": False}
            return text.str.to_lowercase().replace_strict(words, default=None)
        if dtype == pl.Date:
            return matching(text, DATE).str.to_date("%Y-%m-%d", strict=False)
        if isinstance(dtype, pl.Datetime):
            return as_datetime(text, is_zoned=dtype.time_zone is not None)
        if dtype == pl.Time:
            formats = ("%H:%M:%S%.f", "%H:%M")
            whole = matching(text, CLOCK)
            return pl.coalesce(whole.str.to_time(each, strict=False) for each in formats)
        return self.plain_number(text).cast(dtype, strict=False)

    def plain_number(self, text: pl.Expr) -> pl.Expr:
        """Numbers as Python writes them; null where thousands are separated in other places.

        Those are groups of three digits; in India of two, except for the last one.
        """
        if self.is_plain:
            return text
        point, comma = re.escape(self.decimal), re.escape(self.thousands or "")
        comma = SPACES if comma == r"\ " else comma
        grouped = rf"[0-9]{{1,3}}(?:{comma}[0-9]{{2,3}})*{comma}[0-9]{{3}}|" if comma else ""
        number = (
            rf"[+-]?(?:(?:{grouped}[0-9]+)(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?"
        )
        whole = matching(text, number)
        plain = whole.str.replace_all(comma, "") if comma else whole
        return plain.str.replace(self.decimal, ".", literal=True)


def matching(text: pl.Expr, pattern: str) -> pl.Expr:
    """Text, null where it is no instance of a pattern as a whole."""
    return pl.when(text.str.contains(f"^(?:{pattern})$")).then(text)


def is_spelled_missing(text: pl.Expr) -> pl.Expr:
    """Whether text is what some tool writes for a missing value."""
    return text.str.to_lowercase().is_in(SPELLED_MISSING)


def as_datetime(text: pl.Expr, *, is_zoned: bool) -> pl.Expr:
    """ISO 8601 dates with or without a time; or else times with a zone, as those of UTC."""
    joined = text.str.replace(" ", "T").str.replace(" ", "").str.replace("Z$", "+0000")
    pattern, forms = f"{DATE}(?:[T ]{CLOCK})?", ["%Y-%m-%d", "%Y-%m-%dT%H:%M", ISO]
    if is_zoned:
        pattern, forms = f"{DATE}[T ]{CLOCK} ?{ZONE}", ["%Y-%m-%dT%H:%M%z", f"{ISO}%z"]
    whole = pl.when(text.str.contains(f"^{pattern}$")).then(joined)
    each = (whole.str.to_datetime(form, time_unit="us", strict=False) for form in forms)
    return pl.coalesce(each)
