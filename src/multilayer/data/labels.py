"""The labels of classes and categories: how they are written, and their indices."""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np
import polars as pl

from multilayer.data.kinds import Floats, as_text
from multilayer.errors import quoted

log = logging.getLogger(__name__)

WHOLE = r"^-?(?:0|[1-9]\d*)(?:\.0*)?(?:[eE]\+?\d\d?)?$"
"""How a whole number may be written. One with zeros before it is a label of another kind."""


def codes_in(column: pl.Series, labels: Sequence[str]) -> Floats:
    """A column of categories as the indices of labels in float32, NaN where one is missing."""
    words = as_text(column)
    codes = codes_of(words, labels).fill_null(len(labels)).cast(pl.Float32)
    return np.where(words.is_null().to_numpy(), np.float32("nan"), codes.to_numpy())


def codes_of(words: pl.Series, labels: Sequence[str]) -> pl.Series:
    """The indices of labels, null for a word that is none of them.

    A whole number may be written with a decimal point in one place and without it in the other.

    >>> codes_of(pl.Series(["b", "1.0", "c"]), ["1", "b"]).to_list()
    [1, 0, None]
    """
    codes = replaced(words, {label: index for index, label in enumerate(labels)})
    whole = {as_whole(label): index for index, label in enumerate(labels)}
    whole.pop("", None)
    unknown = words.filter(codes.is_null()).unique()
    others = unknown.filter(unknown.str.contains(WHOLE)).to_list() if whole else []
    known = {word: whole[as_whole(word)] for word in others if as_whole(word) in whole}
    return codes.fill_null(replaced(words, known)) if known else codes


def replaced(words: pl.Series, values: Mapping[str, int]) -> pl.Series:
    """The value of each word, null for those that have none."""
    old, new = pl.Series(list(values), dtype=pl.String), pl.Series(values.values(), dtype=pl.Int64)
    return words.replace_strict(old, new, default=None, return_dtype=pl.Int64)


def as_whole(label: str) -> str:
    """A label that is a whole number, written without a decimal point; "" for any other label.

    >>> [as_whole(label) for label in ("1", "1.0", "1e+16", "01", "1.5", "A")]
    ['1', '1', '10000000000000000', '', '', '']
    """
    return str(int(Decimal(label))) if re.match(WHOLE, label) else ""


def are_read_alike(labels: Sequence[str], *booleans: str) -> bool:
    """Whether labels are numbers or booleans, and are written as those that are read are."""
    return all(label in booleans or is_written_alike(label) for label in labels)


def is_written_alike(label: str) -> bool:
    """Whether a label is a number that is written as it is where it was read as one.

    >>> [is_written_alike(label) for label in ("7", "07", "0.5", ".5", "A1", "nan")]
    [True, False, True, False, False, False]
    """
    for kind in (int, float):
        try:
            if str(kind(label)) == label and math.isfinite(kind(label)):
                return True
        except ValueError:
            pass
    return False


def warn_of_unknown(column: pl.Series, labels: Sequence[str], name: str) -> None:
    """Say where a column of categories has values, and training knew none of them."""
    found = as_text(column.unique().sort()).drop_nulls()
    if len(found) and codes_of(found, labels).null_count() == len(found):
        log.warning(
            f"{name}: column {column.name!r} holds {quoted(found.to_list(), 3)}, none of which is "
            f"among the {len(labels)} labels of the training: {quoted(labels, 3)}"
        )
