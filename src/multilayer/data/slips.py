"""Values that do not fit the others of their column: what is said of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from multilayer.core.errors import UserError, quoted
from multilayer.core.text import as_override
from multilayer.data.origin import Origin
from multilayer.data.text_format import KINDS, MARKS, PLACEHOLDERS, TextFormat, is_spelled_missing

SHARE_THAT_FITS = 0.5
"""Share of a column's words; where this many are numbers or dates, the others are slips."""


@dataclass(frozen=True)
class Slip:
    """The first value of a column that does not fit the others.

    kind: what the others are, one of `KINDS`, or are meant to be.
    word: the value.
    row: its row, from 0 on.
    share: how many of the values are of that kind, of those that are not missing.
    words: all values that do not fit, each once, in the order of their text.
    has_decimals: whether as many numbers that fit have the decimal mark as others do not fit.
    """

    kind: str
    word: str
    row: int
    share: float
    words: list[str]
    has_decimals: bool


def find_slip(column: pl.Series, text: TextFormat) -> Slip | None:
    """The first value of a column of text that is of another kind than most.

    Missing values that are spelled out are slips only where there are no others. None where all
    values fit, and where none is like one of `KINDS`.
    """
    found = column.rename("label").drop_nulls().value_counts(name="n")
    found = found.with_columns(pl.col("label").cast(pl.String))
    label, is_given = pl.col("label"), ~is_spelled_missing(pl.col("label"))

    def count(mask: pl.Expr) -> int:
        return int(found.filter(mask)["n"].sum())

    fits = {
        name: text.parsed(label, kind.dtype).is_not_null() & is_given
        for name, kind in KINDS.items()
    }
    like = {name: fits[name] | (label.str.contains(KINDS[name].looks) & is_given) for name in KINDS}
    name = max(KINDS, key=lambda each: count(like[each]))
    bad = ~fits[name] & is_given
    bad = bad if count(bad) else ~fits[name]
    n_like, n_bad, n_other = count(like[name]), count(bad), count(~like[name] & is_given)
    if n_like == 0 or n_bad == 0:
        return None
    words = found.filter(bad)["label"].sort()
    row = int(column.cast(pl.String).is_in(words.implode()).arg_max() or 0)
    n_decimals = count(fits[name] & label.str.contains(text.decimal, literal=True))
    share = n_like / (n_like + n_other)
    return Slip(name, str(column[row]), row, share, words.to_list(), n_decimals >= n_bad)


def check_words(
    column: pl.Series, text: TextFormat, origin: Origin, *, otherwise: str
) -> str | None:
    """What to say of a column of text that holds numbers, dates or times; None if nothing.

    otherwise: the word of the command line that takes all values for words.

    Raises `UserError` where most values are numbers, dates or times: then the others are slips.
    """
    slip = find_slip(column, text)
    if slip is None:
        return None
    if slip.share < SHARE_THAT_FITS or slip.kind == "booleans":  # which a third label may join
        return (
            f"column {column.name!r} is taken for words: of its values {slip.share:.0%} are "
            f"{slip.kind}, the others {quoted(slip.words, 3)}; if these stand for missing values, "
            f"say {as_override('data.missing', slip.words[:3])}"
        )
    name, row = origin.find(slip.row)
    raise UserError(
        f"{name}: column {column.name!r} holds {slip.kind}, but {slip.word!r} in row {row}; "
        f"{remedy(slip, text)}, or take all for words with {otherwise}"
    )


def refuse_slip(column: pl.Series, kind: str, origin: Origin, what: str) -> None:
    """Raise `UserError` for a column of text that is of another kind than it was in training.

    kind: what it was then.
    what: what it is called.
    """
    slip = find_slip(column, TextFormat())
    first = slip.row if slip else int(column.is_not_null().arg_max() or 0)
    (name, row), word = origin.find(first), str(column[first])
    todo = "leave it empty if it is missing"
    if kind == "numbers" and re.match(KINDS[kind].looks, word):
        todo = "write numbers as they were written for the training"
    elif kind != "numbers" and kind in KINDS:
        todo = f"write {kind} as {KINDS[kind].example}, and {todo}"
    among = f" among {slip.kind}" if slip else ""
    raise UserError(
        f"{name}: {what} {column.name!r} must hold {kind}, found {word!r} in row {row}{among}; "
        f"{todo}"
    )


def remedy(slip: Slip, text: TextFormat) -> str:
    """What to do about a value that does not fit.

    >>> remedy(Slip("numbers", "1,022", 0, 1, [], has_decimals=False), TextFormat())
    'say "data.thousands=\\',\\'" if it is 1022, "data.decimal=\\',\\'" if it is 1.022'
    >>> remedy(Slip("numbers", "1,5", 0, 1, [], has_decimals=True), TextFormat())
    'write it as 1.5, as the other numbers are'
    >>> remedy(Slip("numbers", "0x1F", 0, 1, [], has_decimals=True), TextFormat())
    'write numbers as -1234.5'
    >>> remedy(Slip("dates with a time zone", "?", 0, 1, [], has_decimals=False), TextFormat())
    'if it stands for a missing value, say "data.missing=[\\'?\\']"'
    """
    word, kind = slip.word, KINDS[slip.kind]
    of_numbers = slip.kind == "numbers"
    alike = [each.looks for name, each in KINDS.items() if (name == "numbers") == of_numbers]
    if not any(re.match(looks, word) for looks in alike):
        return f"if it stands for a missing value, say {as_override('data.missing', [word])}"
    between = rf"(?<=\d){MARKS}(?=\d)|[.,]"
    marks = [" " if mark.isspace() else mark for mark in re.findall(between, word)]
    parts = re.split(between, word)
    whole = "".join(parts)
    if not (of_numbers and marks and re.fullmatch("[0-9eE+-]+", whole)):
        return f"write {slip.kind} as {kind.example}"
    thousands, decimal = (as_override(f"data.{key}", marks[0]) for key in ("thousands", "decimal"))
    if slip.has_decimals:
        is_decimal = f"write it as {text.decimal.join(parts)}, as the other numbers are"
    else:
        is_decimal = f"say {decimal}"
    if len(set(marks)) == 2:
        return f"say {thousands} {as_override('data.decimal', marks[-1])}"
    if len(marks) > 1 or marks[0] not in ".,":
        return f"say {thousands}"
    if not re.search(r"[.,]\d{3}$", word):
        return is_decimal
    is_decimal = is_decimal if slip.has_decimals else decimal
    return f"say {thousands} if it is {whole}, {is_decimal} if it is {'.'.join(parts)}"


def spelled_labels(labels: Sequence[str]) -> list[str]:
    """The labels that may stand for a missing value.

    >>> spelled_labels(["Nadia", "NA", "?", "none"])
    ['NA', '?', 'none']
    """
    words = pl.DataFrame({"label": labels}, schema={"label": pl.String})
    is_one = is_spelled_missing(pl.col("label")) | pl.col("label").is_in(PLACEHOLDERS)
    return words.filter(is_one)["label"].to_list()


def labels_that_may_be_missing(labels: Mapping[str, Sequence[str]]) -> str:
    """What is said of columns of words with such labels."""
    words = list(dict.fromkeys(word for own in labels.values() for word in own))
    return (
        f"{quoted(words)} in {quoted(list(labels))} count as labels; if they stand for missing "
        f"values, say {as_override('data.missing', words)}"
    )
