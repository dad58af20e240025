"""The labels of classes and categories: how they are written, and their indices."""

import logging
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np
import polars as pl

from multilayer.core.errors import quoted
from multilayer.data.column_types import Floats, as_text
from multilayer.data.text_format import is_spelled_missing

log = logging.getLogger(__name__)

VALUE = r"^(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?|(?i:true|false))$"
"""How a number or a boolean may be written. One with zeros before it is a label of another kind."""


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

    In another place a number may have more zeros behind its decimal point, or a boolean capitals.

    >>> codes_of(pl.Series(["b", "1.0", "c", "2.50"]), ["1", "b", "2.5"]).to_list()
    [1, 0, None, 2]
    """
    codes = replaced(words, {label: index for index, label in enumerate(labels)})
    values = {as_value(label): index for index, label in enumerate(labels)}
    values.pop(None, None)
    unknown = words.filter(codes.is_null()).unique()
    others = unknown.filter(unknown.str.contains(VALUE)).to_list() if values else []
    known = {word: values[as_value(word)] for word in others if as_value(word) in values}
    return codes.fill_null(replaced(words, known)) if known else codes


def replaced(words: pl.Series, values: Mapping[str, int]) -> pl.Series:
    """The value of each word, null for those that have none."""
    old, new = pl.Series(list(values), dtype=pl.String), pl.Series(values.values(), dtype=pl.Int64)
    return words.replace_strict(old, new, default=None, return_dtype=pl.Int64)


def as_value(label: str) -> Decimal | str | None:
    """A label that is a number, with all its digits, or a boolean; None for any other label.

    >>> as_value("1.50") == as_value("1.5"), as_value("True") == as_value("true"), as_value("01")
    (True, True, None)
    """
    if not re.match(VALUE, label):
        return None
    return label.lower() if label.isalpha() else Decimal(label)


def warn_of_unknown(column: pl.Series, labels: Sequence[str], name: str) -> None:
    """Say where a column of categories has values, and training knew none of them.

    Also where one is a label of the training except for zeros before it, which may be a mistake.
    """
    found = as_text(column.unique().sort()).drop_nulls()
    unknown = found.filter(codes_of(found, labels).is_null()).to_list()
    bare = {label.lstrip("0"): label for label in labels if label.isdigit()}
    near = [word for word in unknown if word.lstrip("0") in bare]
    said = f"{name}: column {column.name!r} holds "
    if unknown and len(unknown) == len(found):
        said += f"{quoted(unknown, 3)}, none of which is among the {len(labels)} labels of the "
        log.warning(f"{said}training: {quoted(labels, 3)}")
    elif near:
        label = bare[near[0].lstrip("0")]
        log.warning(f"{said}{near[0]!r}, which is not the label {label!r} of the training")
