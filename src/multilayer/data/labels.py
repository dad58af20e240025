"""The labels of classes and categories: how they are written, and their indices."""

import logging
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np
import polars as pl

from multilayer.data.kinds import Floats, as_text
from multilayer.errors import quoted
from multilayer.text_format import is_spelled_missing

log = logging.getLogger(__name__)

NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?$"
"""How a number may be written. One with zeros before it is a label of another kind."""


def codes_in(column: pl.Series, labels: Sequence[str]) -> Floats:
    """A column of categories as the indices of labels in float32, NaN where one is missing.

    What is spelled as a missing value is one, unless it was a label in the training.
    """
    words = as_text(column)
    codes = codes_of(words, labels)
    unknown = words.filter(codes.is_null()).unique().drop_nulls().to_frame("word")
    spelled = unknown.filter(is_spelled_missing(pl.col("word")))["word"]
    is_missing = words.is_null() | words.is_in(spelled.implode())
    numbers = codes.fill_null(len(labels)).cast(pl.Float32).to_numpy()
    return np.where(is_missing.to_numpy(), np.float32("nan"), numbers)


def codes_of(words: pl.Series, labels: Sequence[str]) -> pl.Series:
    """The indices of labels, null for a word that is none of them.

    A number may have other zeros behind its decimal point in another place, or no point.

    >>> codes_of(pl.Series(["b", "1.0", "c", "2.50"]), ["1", "b", "2.5"]).to_list()
    [1, 0, None, 2]
    """
    codes = replaced(words, {label: index for index, label in enumerate(labels)})
    numbers = {as_number(label): index for index, label in enumerate(labels)}
    numbers.pop(None, None)
    unknown = words.filter(codes.is_null()).unique()
    others = unknown.filter(unknown.str.contains(NUMBER)).to_list() if numbers else []
    known = {word: numbers[as_number(word)] for word in others if as_number(word) in numbers}
    return codes.fill_null(replaced(words, known)) if known else codes


def replaced(words: pl.Series, values: Mapping[str, int]) -> pl.Series:
    """The value of each word, null for those that have none."""
    old, new = pl.Series(list(values), dtype=pl.String), pl.Series(values.values(), dtype=pl.Int64)
    return words.replace_strict(old, new, default=None, return_dtype=pl.Int64)


def as_number(label: str) -> Decimal | None:
    """A label that is a number, with all its digits; None for any other label.

    >>> as_number("1.50") == as_number("1.5"), as_number("1e+16"), as_number("01")
    (True, Decimal('1E+16'), None)
    """
    return Decimal(label) if re.match(NUMBER, label) else None


def are_read_alike(labels: Sequence[str], *booleans: str) -> bool:
    """Whether labels are numbers or booleans, and are written as those that are read are."""
    return all(label in booleans or is_written_alike(label) for label in labels)


def is_written_alike(label: str) -> bool:
    """Whether a label is a number that is written as it is where it was read as one.

    >>> [is_written_alike(label) for label in ("7", "07", "0.5", ".5", "A1", "nan")]
    [True, False, True, False, False, False]
    """
    number = as_number(label)
    return number is not None and label in (str(int(number)), str(float(number)))


def warn_of_unknown(column: pl.Series, labels: Sequence[str], name: str) -> None:
    """Say where a column of categories has values, and training knew none of them.

    Also where one is a label of the training but for the zeros before it, which may be a mistake.
    """
    found = as_text(column.unique().sort()).drop_nulls()
    unknown = found.filter(codes_of(found, labels).is_null())
    if len(found) and len(unknown) == len(found):
        log.warning(
            f"{name}: column {column.name!r} holds {quoted(found.to_list(), 3)}, none of which is "
            f"among the {len(labels)} labels of the training: {quoted(labels, 3)}"
        )
    bare = {label.lstrip("0"): label for label in labels if label.strip("0").isdigit()}
    for word in (word for word in unknown.to_list() if word.lstrip("0") in bare):
        log.warning(
            f"{name}: column {column.name!r} holds {word!r}, which is not the label "
            f"{bare[word.lstrip('0')]!r} of the training"
        )
        break
