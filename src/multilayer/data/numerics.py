"""Arithmetic on columns of numbers: times as days, and what float32 and float64 round."""

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl

ROUNDING = 1e-4
"""What float32 may change in a column, as a fraction of its spread: less makes no difference to
what is learned, and float32 takes half the memory."""

FLOAT32_MAX = float(np.finfo(np.float32).max)
_FLOAT32_STEP = 2.0**-24
"""The most that float32 changes in a value, as a fraction of the value."""
_FLOAT32_LEAST = 2.0**-150
"""The most that it changes in a subnormal value."""

_PER_DAY = {pl.Date: 1, pl.Datetime: 86_400e6, pl.Duration: 86_400e6, pl.Time: 86_400e9}
"""A day in the units of each type of times; of two of them after a cast to microseconds."""

Floats = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]


def to_float64(column: pl.Series) -> Float64s:
    """A column of numbers or times as `(N,)`, NaN where a value is missing.

    Times become days: since 1970, since midnight, or of a duration.
    """
    day = _PER_DAY.get(column.dtype.base_type())
    if column.dtype in (pl.Datetime, pl.Duration):
        column = column.dt.cast_time_unit("us")
    days = column.to_physical() / day if day else column
    return days.cast(pl.Float64, strict=False).to_numpy()


def extent(values: Float64s) -> tuple[float, float]:
    """The smallest and the largest value of a column `(B,)`, ignoring NaN."""
    return np.fmin.reduce(values), np.fmax.reduce(values)


class Distribution(NamedTuple):
    """Where the values of a column lie.

    Attributes:
        middle: The median.
        spread: Twice the median distance from it, of the values that differ from it: most may
            be equal.
    """

    middle: float
    spread: float

    @classmethod
    def of(cls, values: Float64s) -> Self | None:
        """The distribution of a column `(B,)`; None if it has no finite value."""
        values = values[np.isfinite(values)]
        if len(values) == 0:
            return None
        middle = np.partition(values, len(values) // 2)[len(values) // 2]
        distances = np.abs(values - middle)
        distances = distances[distances > 0]
        return cls(middle, 2 * float(np.median(distances)) if len(distances) else 0.0)

    @property
    def fits_float32(self) -> bool:
        """Whether float32 rounds no value too coarsely, however far away it may be.

        A value at distance d from the middle m moves by at most (|m| + d) `_FLOAT32_STEP`, or
        near 0 by `_FLOAT32_LEAST`.
        """
        moved = max(abs(self.middle) * _FLOAT32_STEP, _FLOAT32_LEAST)
        return bool(moved <= ROUNDING * self.spread)

    def rounding(self, values: Float64s) -> Float64s:
        """How far float32 moves each value `(B,)` of the column, as a fraction of its spread.

        An outlier is compared with its own distance, so that it does not hide what happens to
        the other values.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            moved = np.abs(values - values.astype(np.float32))
            within = self.spread + np.abs(values - self.middle)
            return np.divide(moved, within, out=np.zeros_like(moved), where=within > 0)


def is_rounded(values: Float64s) -> bool:
    """Whether float32 would move a value of a column `(N,)` by more than `ROUNDING` of its spread.

    >>> is_rounded(np.array([1.5, 2.0, 3.1])), is_rounded(1e9 + np.array([1.5, 2.0, 3.1]))
    (False, True)
    >>> is_rounded(np.array([1e9] * 99 + [1e9 + 5]))
    True
    """
    values = values[np.isfinite(values)]
    column = Distribution.of(values)
    if column is None:
        return False
    if np.abs(values).max() > FLOAT32_MAX:
        return True
    return not column.fits_float32 and bool(column.rounding(values).max() > ROUNDING)


def lost_digits(column: pl.Series) -> str | None:
    """A warning if float64 rounds the whole numbers of a column too coarsely.

    >>> lost_digits(pl.Series("id", [2**60 + 1, 2**60 + 3])).partition("; ")[2]
    'subtract 1152921504606846976 in the file, for example'
    """
    if not column.dtype.is_integer():
        return None
    moved: Any = (column.cast(pl.Int128) - column.cast(pl.Float64).cast(pl.Int128)).abs().max()
    found = Distribution.of(to_float64(column))
    if found is None or moved <= ROUNDING * found.spread:
        return None
    return (
        f"column {column.name!r}: float64 rounds its whole numbers, near {found.middle:g}, by up "
        f"to {moved}; subtract {int(found.middle)} in the file, for example"
    )
