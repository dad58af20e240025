"""Text that does not fit the rest of its column, such as a `?` among numbers: what to say of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from multilayer.core.errors import quoted
from multilayer.core.text import as_override
from multilayer.data.missing_values import PLACEHOLDERS, SPELLED_MISSING, is_spelled_missing
from multilayer.data.origin import Origin
from multilayer.data.text_format import ANY_NUMBER, KINDS, MARKS, TextFormat

_FEW = 2
"""Labels of a column that might as well be read as numbers."""

_MAJORITY = 0.5
"""Where this fraction of a column's text is numbers or dates, the rest is a mistake."""


@dataclass(frozen=True)
class StrayString:
    """The first value of a column that does not fit the others.

    Attributes:
        kind: What the others are, or are meant to be; one of `KINDS`.
        word: The value.
        row: Its row, from 0.
        share: The fraction of non-missing values that are of that kind.
        words: All distinct values that do not fit, sorted.
        has_decimals: Whether the decimal mark occurs in at least as many values that fit as there
            are values that do not.
    """

    kind: str
    word: str
    row: int
    share: float
    words: list[str]
    has_decimals: bool


def check_stray_strings(
    column: pl.Series, text: TextFormat, origin: Origin, *, otherwise: str
) -> str | None:
    """A warning about a column of text that holds some numbers, dates or times; None if none.

    Args:
        column: The column.
        text: How values are written.
        origin: Of the rows.
        otherwise: The override that makes all values words.

    Raises:
        UserError: If most values are numbers, dates or times: then the others are mistakes.
    """
    stray = find_stray(column, text)
    if stray is None:
        return None
    if stray.share < _MAJORITY or stray.kind == "booleans":  # which a third label may join
        return (
            f"column {column.name!r} is taken for words: of its values {stray.share:.0%} are "
            f"{stray.kind}, the others {quoted(stray.words, 3)}; if these stand for missing "
            f"values, say {text.also_missing(stray.words[:3])}"
        )
    raise origin.error(
        stray.row,
        f"column {column.name!r} holds {stray.kind}, but {stray.word!r}",
        f"; {_remedy(stray, text)}, or take all for words with {otherwise}",
    )


def raise_stray_string(column: pl.Series, kind: str, origin: Origin, what: str) -> None:
    """Refuse a column of text that was of another kind in training.

    Args:
        column: The column.
        kind: What it was in training.
        origin: Of the rows.
        what: What a message calls the column.

    Raises:
        UserError: Always, with the first value that does not fit.
    """
    stray = find_stray(column, TextFormat())
    first = stray.row if stray else int(column.is_not_null().arg_max() or 0)
    word = str(column[first])
    todo = "leave it empty if it is missing"
    if kind == "numbers" and re.match(KINDS[kind].pattern, word):
        todo = "write numbers as they were written for the training"
    elif kind != "numbers" and kind in KINDS:
        todo = f"write {kind} as {KINDS[kind].example}, and {todo}"
    among = f" among {stray.kind}" if stray else ""
    said = f"{what} {column.name!r} must hold {kind}, found {word!r}"
    raise origin.error(first, said, f"{among}; {todo}")


def possibly_missing_warning(labels: Mapping[str, Sequence[str]], text: TextFormat) -> str | None:
    """A warning about labels, by column, that may stand for missing values; None if none does.

    >>> print(possibly_missing_warning({"name": ["Nadia", "NA", "none"]}, TextFormat()))
    'NA', 'none' in 'name' count as labels; if they stand for missing values, say \
"data.missing=[NA,none]"
    """
    signs = {*SPELLED_MISSING, *PLACEHOLDERS}
    found = [(name, word) for name, own in labels.items() for word in own if word.lower() in signs]
    if not found:
        return None
    columns, words = (list(dict.fromkeys(each)) for each in zip(*found, strict=True))
    return (
        f"{quoted(words)} in {quoted(columns)} count as labels; if they stand for missing "
        f"values, say {text.also_missing(words)}"
    )


def numbers_warning(
    labels: Mapping[str, Sequence[str]], categorical_columns: Sequence[str]
) -> str | None:
    """A warning about labels, by column, that are numbers in a typed file; None if none are.

    Args:
        labels: The distinct labels of each column that is not declared a category.
        categorical_columns: Those that are.

    >>> print(numbers_warning({"zip": ["0100", "7300", "810"], "name": ["Nadia"]}, []))
    'zip': numbers that are text in the file count as labels: if they are quantities, have the \
file hold numbers; if not, say "data.categorical_columns=[zip]"
    """
    found = [
        name
        for name, own in labels.items()
        if len(own) > _FEW and all(re.fullmatch(ANY_NUMBER, each) for each in own)
    ]
    if not found:
        return None
    settled = as_override("data.categorical_columns", [*categorical_columns, *found])
    return (
        f"{quoted(found)}: numbers that are text in the file count as labels: if they are "
        f"quantities, have the file hold numbers; if not, say {settled}"
    )


def find_stray(column: pl.Series, text: TextFormat) -> StrayString | None:
    """The first value of a column of text that is of another kind than most.

    Missing values that are spelled out are strays only where there are no others. None where all
    values fit, and where none resembles one of `KINDS`.
    """
    found = column.rename("label").drop_nulls().value_counts(name="n")
    found = found.with_columns(pl.col("label").cast(pl.String))
    label, is_given = pl.col("label"), ~is_spelled_missing(pl.col("label"))

    def count(mask: pl.Expr) -> int:
        return int(found.filter(mask)["n"].sum())

    fits = {
        name: text.parse(label, kind.dtype).is_not_null() & is_given for name, kind in KINDS.items()
    }
    resembles = {
        name: fits[name] | (label.str.contains(kind.pattern) & is_given)
        for name, kind in KINDS.items()
    }
    name = max(KINDS, key=lambda each: count(resembles[each]))
    bad = ~fits[name] & is_given
    bad = bad if count(bad) else ~fits[name]
    n_like, n_bad = count(resembles[name]), count(bad)
    if n_like == 0 or n_bad == 0:
        return None
    words = found.filter(bad)["label"].sort()
    row = int(column.cast(pl.String).is_in(words.implode()).arg_max() or 0)
    n_decimals = count(fits[name] & label.str.contains(text.decimal, literal=True))
    share = n_like / (n_like + count(~resembles[name] & is_given))
    return StrayString(name, str(column[row]), row, share, words.to_list(), n_decimals >= n_bad)


def _remedy(stray: StrayString, text: TextFormat) -> str:
    r"""What to do about a value that does not fit.

    >>> _remedy(StrayString("numbers", "1,022", 0, 1, [], has_decimals=False), TextFormat())
    'say "data.thousands=\',\'" if it is 1022, "data.decimal=\',\'" if it is 1.022'
    >>> _remedy(StrayString("numbers", "1,5", 0, 1, [], has_decimals=True), TextFormat())
    'write it as 1.5, as the other numbers are'
    >>> _remedy(StrayString("numbers", "0x1F", 0, 1, [], has_decimals=True), TextFormat())
    'write numbers as -1234.5'
    >>> _remedy(StrayString("times of day", "?", 0, 1, [], has_decimals=False), TextFormat())
    'if it stands for a missing value, say "data.missing=[\'?\']"'
    """
    word, are_numbers = stray.word, stray.kind == "numbers"
    patterns = [kind.pattern for name, kind in KINDS.items() if (name == "numbers") == are_numbers]
    if not any(re.match(pattern, word) for pattern in patterns):
        return f"if it stands for a missing value, say {text.also_missing([word])}"
    between = rf"(?<=\d){MARKS}(?=\d)|[.,]"
    marks = [" " if mark.isspace() else mark for mark in re.findall(between, word)]
    parts = re.split(between, word)
    whole = "".join(parts)
    if not (are_numbers and marks and re.fullmatch("[0-9eE+-]+", whole)):
        return f"write {stray.kind} as {KINDS[stray.kind].example}"
    thousands, decimal = (as_override(f"data.{key}", marks[0]) for key in ("thousands", "decimal"))
    if len(set(marks)) == 2:
        return f"say {thousands} {as_override('data.decimal', marks[-1])}"
    if len(marks) > 1 or marks[0] not in ".,":
        return f"say {thousands}"
    is_ambiguous = re.search(r"[.,]\d{3}$", word) is not None
    if stray.has_decimals:
        is_decimal = f"write it as {text.decimal.join(parts)}, as the other numbers are"
    else:
        is_decimal = decimal if is_ambiguous else f"say {decimal}"
    if not is_ambiguous:
        return is_decimal
    return f"say {thousands} if it is {whole}, {is_decimal} if it is {'.'.join(parts)}"
