"""How values are written as text, and what a column of text is read as. No torch here."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Self

import polars as pl

from multilayer.core.text import as_override
from multilayer.data.missing_values import is_spelled_missing

_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?"
_ZONE = "(?:Z|[+-][0-9]{2}:?[0-9]{2})"
_ISO = "%Y-%m-%dT%H:%M:%S%.f"

# Below, \d is a digit of any script.
MARKS = "[.,'\u2019_\\s]"
"""What people write between the digits of a number."""

_SIGNS = "[+\u2212-]?[$€£¥₹]?\\s?[+\u2212-]?"
_DIGITS = rf"(?:\d{{1,3}}(?:{MARKS}\d{{2,3}})*{MARKS}\d{{3}}(?:[.,]\d+)?|\d*[.,]?\d+|\d+[.,])"
_BASES = "0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+"
_UNSIGNED = rf"(?:{_BASES}|{_DIGITS}(?:[eEdD][+-]?\d+)?)"
ANY_NUMBER = rf"^(?:=?[\"'])?\(?{_SIGNS}{_UNSIGNED}\s?[%‰$€£¥₹]?[-)]?[\"']?$"
"""Numbers as any tool may write them; only plain ones can be read."""

_MONTH = "(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z.]*"
_ANY_DATE = (
    r"\d{1,2}[./-]\d{1,2}[./-]\d{4}|\d{1,2}/\d{1,2}/\d{2}|\d{4}[./-]\d{1,2}[./-]\d{1,2}"
    rf"|\d{{1,2}}[ -]{_MONTH}[ -]\d{{2,4}}|{_MONTH} \d{{1,2}},? \d{{4}}"
)
_ANY_CLOCK = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AaPp]\.?[Mm]\.?)?"
_ANY_DAY = rf"^(?:{_ANY_DATE})(?:[T, ]+{_ANY_CLOCK})?$"
_ANY_TIME = rf"^(?:{_ANY_DATE})[T, ]+{_ANY_CLOCK} ?{_ZONE}$"

_VALUE = r"^(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?|(?i:true|false))$"
"""A number or a boolean as a label. With zeros before it, it is a label of another kind."""

_SPACES = "[ \u00a0\u2007\u2009\u202f]"
"""Those that separate thousands: plain, non-breaking and thin spaces."""


WORDS = (pl.String, pl.Categorical, pl.Enum)


class _Kind(NamedTuple):
    """Values that are read from text.

    `pattern` is how people write them, `example` one that can be read.
    """

    dtype: pl.DataType
    pattern: str
    example: str


KINDS = {
    "numbers": _Kind(pl.Float64(), ANY_NUMBER, "-1234.5"),
    "dates without a time zone": _Kind(
        pl.Datetime("us"), _ANY_DAY, "2026-03-01 or 2026-03-01T13:45"
    ),
    "dates with a time zone": _Kind(pl.Datetime("us", "UTC"), _ANY_TIME, "2026-03-01T13:45Z"),
    "times of day": _Kind(pl.Time(), f"^{_ANY_CLOCK}$", "13:45"),
    "booleans": _Kind(pl.Boolean(), "^$", "true"),
}
"""The kinds of values that text may hold, other than words."""

Role = Literal["number", "category", "verbatim", "as inferred"]
"""What is known of a column of text before it is read.

number: its values are numbers, even where a typed file holds them as text.
category: its values are labels; they count as numbers only where each is written as the number
    would be, so not `0123`.
verbatim: its values are labels with every character, spaces included.
as inferred: it is read as polars infers, as older versions did; text is verbatim.
"""

Roles = Mapping[str, Role]

_AS_WRITTEN = ("verbatim", "as inferred")
"""The roles in which text stays as it is."""

_NUMBERS = (pl.Int64(), pl.Int128(), pl.Float64(), pl.Boolean())
_TYPES = (*_NUMBERS, pl.Date(), pl.Datetime("us"), pl.Datetime("us", "UTC"), pl.Time())
"""What text may be read as, where all values fit; the first that fits."""

_REWRITTEN = r"^(?:\+|-?0[0-9])"
"""How numbers begin whose text cannot be recovered from the number."""

TextStats = Mapping[str, Any]
"""What `TextColumn.stats` counts in a column, by name."""


@dataclass(frozen=True)
class TextFormat:
    """How the values of a table are written, where they are text.

    Args:
        missing: What stands for a missing value, in every column.
        decimal: The decimal mark.
        thousands: What separates the thousands of numbers, if anything does.

    Raises:
        ValueError: Where both marks are the same.
    """

    missing: tuple[str | float, ...] = ()
    decimal: str = "."
    thousands: str | None = None

    def __post_init__(self) -> None:
        if self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands are both {self.decimal!r}")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """The format in the `data` node of a config; an older one has none of the keys."""
        missing = tuple(config.get("missing", ()))
        return cls(missing, config.get("decimal", "."), config.get("thousands"))

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

    def also_missing(self, words: Sequence[str]) -> str:
        """The override by which further words stand for a missing value.

        >>> print(TextFormat(missing=("NA",)).also_missing(["-"]))
        "data.missing=['NA','-']"
        """
        return as_override("data.missing", [*dict.fromkeys([*self.missing_words, *words])])

    @property
    def missing_numbers(self) -> list[float]:
        """The numbers that stand for a missing value.

        >>> TextFormat(missing=("NA", -999, "9999")).missing_numbers
        [-999.0, 9999.0]
        """
        numbers = pl.Series(self.missing_words, dtype=pl.String).cast(pl.Float64, strict=False)
        return numbers.filter(numbers.is_finite()).to_list()

    def preserves(self, labels: Sequence[str]) -> bool:
        """Whether labels are unchanged by reading; those of older runs may not be."""
        lost = {"", *self.missing_words}
        are_plain = all(label == label.strip() and label not in lost for label in labels)
        numbers = pl.Series(labels, dtype=pl.String).cast(pl.Float64, strict=False)
        return are_plain and (numbers.has_nulls() or bool(numbers.is_finite().all()))

    def parse(self, text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        """Text as numbers, booleans, dates or times; null where it does not fit."""
        if dtype == pl.Boolean:
            words = {"true": True, "false": False}
            return text.str.to_lowercase().replace_strict(words, default=None)
        if dtype == pl.Date:
            return _matching(text, _DATE).str.to_date("%Y-%m-%d", strict=False)
        if isinstance(dtype, pl.Datetime):
            return _to_datetime(text, is_zoned=dtype.time_zone is not None)
        if dtype == pl.Time:
            whole = _matching(text, _CLOCK)
            forms = ("%H:%M:%S%.f", "%H:%M")
            return pl.coalesce(whole.str.to_time(form, strict=False) for form in forms)
        return self._plain_number(text).cast(dtype, strict=False)

    def _plain_number(self, text: pl.Expr) -> pl.Expr:
        """Numbers as Python writes them; null where thousands are separated in other places.

        Groups have three digits; in India two, except for the last one.
        """
        if self.is_plain:
            return text
        point, comma = re.escape(self.decimal), re.escape(self.thousands or "")
        comma = _SPACES if comma == r"\ " else comma
        grouped = rf"[0-9]{{1,3}}(?:{comma}[0-9]{{2,3}})*{comma}[0-9]{{3}}|" if comma else ""
        whole = rf"(?:{grouped}[0-9]+)(?:{point}[0-9]*)?"
        matched = _matching(text, rf"[+-]?(?:{whole}|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?")
        plain = matched.str.replace_all(comma, "") if comma else matched
        return plain.str.replace(self.decimal, ".", literal=True)


@dataclass(frozen=True)
class TextColumn:
    """A column of text in a file: how it is written, and what is known of it beforehand.

    Args:
        name: Of the column.
        format: How its values are written.
        role: What it is known to hold, if anything.
    """

    name: str
    format: TextFormat
    role: Role | None = None

    @property
    def text(self) -> pl.Expr:
        """Its text without the spaces around values; null where nothing is left."""
        column = pl.col(self.name).cast(pl.String)
        if self.role in _AS_WRITTEN:
            return column
        stripped = column.str.strip_chars()
        return pl.when(~stripped.is_in(["", *self.format.missing_words])).then(stripped)

    @property
    def _is_missing(self) -> pl.Expr:
        """Whether a value spells out that it is missing, unless it is a label."""
        return self.text == "NaN" if self.role == "category" else is_spelled_missing(self.text)

    @property
    def _values(self) -> pl.Expr:
        """The text; null also where a missing value is spelled out."""
        return pl.when(~self._is_missing).then(self.text)

    def _parsed(self, dtype: pl.DataType) -> pl.Expr:
        """The values as one of `_TYPES`; null where they do not fit."""
        values = self._values
        if self.role == "category":
            values = pl.when(~values.str.contains(_REWRITTEN)).then(values)
        return self.format.parse(values, dtype)

    @property
    def _stats(self) -> pl.Expr:
        """What `infer_type` needs, as a struct: counts, and how missing values are spelled."""
        raw = pl.col(self.name).cast(pl.String).str.strip_chars()
        return pl.struct(
            self._values.count().alias("n"),
            ((raw != "").sum() - self._values.count()).alias("n_missing"),
            self._values.cast(pl.Float64, strict=False).is_finite().sum().alias("n_plain"),
            self.text.filter(self._is_missing).unique().sort().implode().alias("spelled"),
            *(self._parsed(dtype).count().alias(str(dtype)) for dtype in _TYPES),
        ).alias(self.name)

    @classmethod
    def stats_of(
        cls, rows: pl.LazyFrame, columns: Sequence[Self]
    ) -> tuple[int, dict[str, TextStats]]:
        """The number of rows, and the stats of columns of text in them."""
        names = [column.name for column in columns]
        longer_than_any = "".join(names) + "rows"  # so that no column has this name
        wanted = [pl.len().alias(longer_than_any), *(column._stats for column in columns)]
        n_rows, *stats = rows.select(wanted).collect(engine="streaming").row(0)
        return n_rows, dict(zip(names, stats, strict=True))

    def infer_type(self, *found: TextStats, is_text_file: bool) -> pl.DataType:
        """What it is read as: Null if it has no values, String for words.

        Args:
            found: Its stats, in one file or in each of several.
            is_text_file: Whether the file is untyped. Plain numbers that a typed file holds as
                text are labels, unless missing values are spelled out among them.
        """
        stats = {key: sum(each[key] for each in found) for key in found[0] if key != "spelled"}
        n, n_missing = stats["n"], stats["n_missing"]
        if self.role in _AS_WRITTEN:
            return pl.String()
        if n == 0:
            empty = {"number": pl.Float64(), "category": pl.String()} if n_missing else {}
            return empty.get(self.role or "", pl.Null() if is_text_file else pl.String())
        dtype = next((each for each in _TYPES if stats[str(each)] == n), pl.String())
        if self.role == "category":
            return dtype if dtype in _NUMBERS and is_text_file else pl.String()
        is_plain = dtype == pl.Boolean or stats["n_plain"] == n
        is_typed = is_text_file or self.role == "number" or n_missing or not is_plain
        return dtype if is_typed else pl.String()

    def cast(self, column: pl.Series, dtype: pl.DataType) -> pl.Series | None:
        """Some of its values as another type; None if one of them does not fit."""
        frame = column.to_frame()
        if dtype not in _TYPES:
            return frame.select(self.text.alias(self.name)).to_series()
        values, cast = frame.select(values=self._values, cast=self._parsed(dtype)).get_columns()
        return cast.rename(column.name) if cast.null_count() == values.null_count() else None


def plain_name(name: str) -> str:
    """The name of a column without spaces around it and without byte-order marks."""
    return name.replace("\ufeff", "").strip()


def kind_of(dtype: pl.DataType) -> str:
    """What the values of a column are, for messages; only equal kinds can be compared."""
    if dtype.is_numeric() or dtype == pl.Boolean:
        return "numbers"
    if dtype in (pl.Date, pl.Datetime):
        is_zoned = isinstance(dtype, pl.Datetime) and dtype.time_zone
        return f"dates {'with' if is_zoned else 'without'} a time zone"
    if dtype in WORDS:
        return "words"
    kinds = {pl.Time: "times of day", pl.Duration: "durations"}
    return kinds.get(dtype.base_type(), str(dtype.base_type()))


def is_number(dtype: pl.DataType) -> bool:
    """Whether the values of a column are numbers, or become numbers."""
    return dtype.is_numeric() or dtype == pl.Boolean or dtype.is_temporal()


def is_fractional(dtype: pl.DataType) -> bool:
    """Whether the numbers of a column have decimals: in text they would be read as floats."""
    return dtype.is_float() or (isinstance(dtype, pl.Decimal) and dtype.scale > 0)


def labels_as_text(column: pl.Series) -> pl.Series:
    """A categorical column as text; whole numbers without a point, and NaN as null."""
    if column.dtype.is_float():
        return column.fill_nan(None).cast(pl.String).str.strip_suffix(".0")
    return column.cast(pl.String)


def label_indices(words: pl.Series, labels: Sequence[str]) -> pl.Series:
    """The indices of labels; null for a word that is none of them.

    Elsewhere a number may have more zeros after its decimal point, or a boolean capitals.

    >>> label_indices(pl.Series(["b", "1.0", "c", "2.50"]), ["1", "b", "2.5"]).to_list()
    [1, 0, None, 2]
    """
    exact = {label: index for index, label in enumerate(labels)}
    others = {_as_value(label): index for label, index in exact.items()}
    distinct = words.drop_nulls().unique()
    codes = [exact[each] if each in exact else others.get(_as_value(each)) for each in distinct]
    new = pl.Series(codes, dtype=pl.Int64)
    return words.replace_strict(distinct, new, default=None, return_dtype=pl.Int64)


def _as_value(label: str) -> Decimal | str:
    """A label that is a number, with all its digits, or a boolean; any other label as it is.

    >>> _as_value("1.50") == _as_value("1.5"), _as_value("True") == _as_value("true")
    (True, True)
    >>> _as_value("01")
    '01'
    """
    if not re.match(_VALUE, label):
        return label
    return label.lower() if label.isalpha() else Decimal(label)


def _matching(text: pl.Expr, pattern: str) -> pl.Expr:
    """Text; null unless all of it matches a pattern."""
    return pl.when(text.str.contains(f"^(?:{pattern})$")).then(text)


def _to_datetime(text: pl.Expr, *, is_zoned: bool) -> pl.Expr:
    """ISO 8601 dates with or without a time of day; if zoned, times with a zone, in UTC."""
    joined = text.str.replace(" ", "T").str.replace(" ", "").str.replace("Z$", "+0000")
    pattern, forms = f"{_DATE}(?:[T ]{_CLOCK})?", ["%Y-%m-%d", "%Y-%m-%dT%H:%M", _ISO]
    if is_zoned:
        pattern, forms = f"{_DATE}[T ]{_CLOCK} ?{_ZONE}", ["%Y-%m-%dT%H:%M%z", f"{_ISO}%z"]
    whole = pl.when(text.str.contains(f"^{pattern}$")).then(joined)
    return pl.coalesce(whole.str.to_datetime(form, time_unit="us", strict=False) for form in forms)
