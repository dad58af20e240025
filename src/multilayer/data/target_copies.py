"""Whether a feature is the target itself, from which nothing is learned that a user would know."""

import numpy as np
import polars as pl

from multilayer.data.numerics import Floats
from multilayer.data.text_format import WORDS

_FIRST_ROWS = 1000
"""Two columns are compared in these rows before they are compared as a whole."""


def numbers_equal(values: Floats, target: pl.Series) -> bool:
    """Whether a column `(N,)` is the target; most differ in the first rows."""
    if not (target.dtype == pl.String or target.dtype.is_numeric() or target.dtype == pl.Boolean):
        return False
    for part in (slice(_FIRST_ROWS), slice(None)):
        expected = target[part].cast(pl.Float64, strict=False).to_numpy()
        if not np.array_equal(values[part], expected.astype(values.dtype)):
            return False
    return True


def words_equal(column: pl.Series, target: pl.Series) -> bool:
    """Whether a column of words is the target; durations and other times are not compared."""
    if not (target.dtype in WORDS or target.dtype.is_numeric() or target.dtype == pl.Boolean):
        return False
    return all(
        column[part].cast(pl.String).equals(target[part].cast(pl.String))
        for part in (slice(_FIRST_ROWS), slice(None))
    )
