"""Values that do not fit the others of their column: what is said of them."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from multilayer.errors import UserError, quoted
from multilayer.pasted import in_quotes, override
from multilayer.text_format import MARKED, PLACEHOLDERS, TextFormat, is_spelled_missing

SHARE_THAT_FITS = 0.5
"""Share of a column's words; where this many are numbers or dates, the others are slips."""

KINDS = {
    "numbers": pl.Float64(),
    "dates": pl.Datetime("us"),
    "times of day": pl.Time(),
    "booleans": pl.Boolean(),
}

EXAMPLES = {"dates": "2026-03-01", "times of day": "13:45"}


@dataclass(frozen=True)
class Slip:
    """The first value of a column that does not fit the others.

    kind: what the others are, one of `KINDS`.
    word: the value.
    row: its row, from 0 on.
    share: how many of the values do fit, of those that are not missing.
    words: all values that do not fit, each once, in the order of their text.
    has_decimals: whether as many numbers that fit have the decimal mark as others do not fit.
    """

    kind: str
    word: str
    row: int
    share: float
    words: list[str]
    has_decimals: bool


def find_slip(
    column: pl.Series, text: TextFormat, kinds: Collection[str] = KINDS.keys()
) -> Slip | None:
    """The first value of a column of text that is of another kind than most.

    Missing values that are spelled out are slips only where there are no others. None where all
    values fit, and where none does.
    """
    labels, counts = column.drop_nulls().value_counts().get_columns()
    label = pl.col("label")
    fits = {
        kind: text.parsed(label, KINDS[kind]).is_not_null() & ~is_spelled_missing(label)
        for kind in kinds
    }
    found = pl.DataFrame({"label": labels.cast(pl.String), "n": counts}).with_columns(
        is_missing=is_spelled_missing(label), is_marked=label.str.contains(MARKED), **fits
    )
    is_like = {kind: found[kind] for kind in kinds}
    if "numbers" in kinds:
        is_like["numbers"] = (found["numbers"] | found["is_marked"]) & ~found["is_missing"]
    n_like = {kind: sum(found.filter(is_like[kind])["n"]) for kind in kinds}
    kind = max(kinds, key=lambda each: n_like[each])
    bad = found.filter(~found[kind])
    if n_like[kind] == 0 or bad.is_empty():
        return None
    worst = bad.filter(~bad["is_missing"])
    words = (bad if worst.is_empty() else worst)["label"].sort()
    n_other = sum(found.filter(~is_like[kind] & ~found["is_missing"])["n"])
    row = column.cast(pl.String).is_in(words.implode()).arg_max() or 0
    share = n_like[kind] / (n_like[kind] + n_other)
    decimal = found[kind] & found["label"].str.contains(text.decimal, literal=True)
    has_decimals = sum(found.filter(decimal)["n"]) >= sum((bad if worst.is_empty() else worst)["n"])
    return Slip(kind, str(column[row]), int(row), share, words.to_list(), has_decimals)


def check_words(
    column: pl.Series, text: TextFormat, origin: Callable[[int], tuple[str, int]], *, otherwise: str
) -> str | None:
    """What is to be said of a column of text in which there are numbers, say; None if nothing.

    origin: the file of a row, and its number there from 1 on.
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
            f"say {missing(*slip.words[:3])}"
        )
    name, row = origin(slip.row)
    raise UserError(
        f"{name}: column {column.name!r} holds {slip.kind}, but {slip.word!r} in row {row}; "
        f"{remedy(slip, text)}, or take all for words with {otherwise}"
    )


def first_slip(column: pl.Series, kind: str) -> str:
    """What is wrong with a column of text that is of another kind than it was in training.

    kind: what it was then.
    """
    slip = find_slip(column, TextFormat())
    row = slip.row if slip else int(column.is_not_null().arg_max() or 0)
    among = f" among {slip.kind}" if slip else ""
    todo = "leave it empty if it is missing"
    if kind in EXAMPLES:
        todo = f"write {kind} as {EXAMPLES[kind]}, and {todo}"
    elif re.match(MARKED, str(column[row])):
        todo = "write numbers as they were written for the training"
    return f"{str(column[row])!r} in row {row + 1}{among}; {todo}"


def remedy(slip: Slip, text: TextFormat) -> str:
    """What to do about a value that does not fit.

    >>> remedy(Slip("numbers", "1,022", 0, 1, [], has_decimals=False), TextFormat())
    'say "data.thousands=\\',\\'" if it is 1022, "data.decimal=\\',\\'" if it is 1.022'
    >>> remedy(Slip("numbers", "1,5", 0, 1, [], has_decimals=True), TextFormat())
    'write it as 1.5, as the other numbers are'
    >>> remedy(Slip("dates", "?", 0, 1, [], has_decimals=False), TextFormat())
    'if it stands for a missing value, say "data.missing=[\\'?\\']"'
    """
    word = slip.word
    if slip.kind != "numbers" or not re.match(MARKED, word):
        return f"if it stands for a missing value, say {missing(word)}"
    marks = [" " if mark.isspace() else mark for mark in re.findall(r"[.,'\s]", word)]
    if re.search("[%$€£¥]", word) or not marks:
        return "write such numbers without their signs"
    whole, parts = re.sub(r"[.,'\s]", "", word), re.split(r"[.,'\s]", word)
    thousands, decimal = (override(key, in_quotes(marks[0])) for key in ("thousands", "decimal"))
    if slip.has_decimals:
        is_decimal = f"write it as {text.decimal.join(parts)}, as the other numbers are"
    else:
        is_decimal = f"say {decimal}"
    if len(set(marks)) == 2:
        return f"say {thousands} {override('decimal', in_quotes(marks[-1]))}"
    if len(marks) > 1 or marks[0] not in ".,":
        return f"say {thousands}"
    if not re.search(r"[.,]\d{3}$", word):
        return is_decimal
    if slip.has_decimals:
        return f"say {thousands} if it is {whole}, {is_decimal} if it is {'.'.join(parts)}"
    return f"say {thousands} if it is {whole}, {decimal} if it is {'.'.join(parts)}"


def missing(*words: str) -> str:
    """The word of the command line that says what stands for a missing value."""
    return override("missing", f"[{','.join(in_quotes(word) for word in words)}]")


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
        f"values, say {missing(*words)}"
    )
