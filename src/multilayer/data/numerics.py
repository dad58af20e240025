"""Arithmetic on columns of numbers: what float32 rounds, centers and scales, and quantiles."""

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

_ROUNDING = 1e-4
"""What float32 may change in a column, as a fraction of its spread: less makes no difference to
what is learned, and float32 takes half the memory."""

FLOAT32_MAX = float(np.finfo(np.float32).max)
_FLOAT32_STEP = 2.0**-24
"""The most that float32 changes in a value, as a fraction of the value."""
_FLOAT32_LEAST = 2.0**-150
"""The most that it changes in a subnormal value."""

_N_QUANTILES = 1000
"""How many quantiles describe a column of numbers, at most."""

_EDGE = 1e-7
"""Fractions of rows are clipped this far from 0 and 1, as in scikit-learn."""

TIMES = (pl.Date, pl.Datetime, pl.Duration, pl.Time)

Floats = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]


def to_float64(column: pl.Series) -> Float64s:
    """A column of numbers or times as `(N,)`, NaN where a value is missing.

    Times become days: since 1970, since midnight, or of a duration.
    """
    if column.dtype in (pl.Date, pl.Time):
        days = column.to_physical() / (1 if column.dtype == pl.Date else 86_400e9)
    elif column.dtype == pl.Duration:
        days = column.dt.total_microseconds() / 86_400e6
    elif column.dtype == pl.Datetime:
        days = column.dt.epoch("us") / 86_400e6
    else:
        days = column
    return days.cast(pl.Float64, strict=False).to_numpy()


def extent(values: Float64s) -> tuple[float, float]:
    """The smallest and the largest value of a column `(B,)`, ignoring NaN."""
    low, high = values.min(), values.max()
    return (np.fmin.reduce(values), np.fmax.reduce(values)) if np.isnan(low) else (low, high)


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
        return bool(moved <= _ROUNDING * self.spread)

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
    return not column.fits_float32 and bool(column.rounding(values).max() > _ROUNDING)


def lost_digits(column: pl.Series) -> str | None:
    """A warning if float64 rounds the whole numbers of a column too coarsely.

    >>> lost_digits(pl.Series("id", [2**60 + 1, 2**60 + 3])).partition("; ")[2]
    'subtract 1152921504606846976 in the file, for example'
    """
    if not column.dtype.is_integer():
        return None
    values = to_float64(column)
    distribution = Distribution.of(values)
    if distribution is None or np.nanmax(np.abs(values)) <= 2**53:
        return None
    moved = (column.cast(pl.Int128) - column.cast(pl.Float64).cast(pl.Int128)).abs().max()
    middle, spread = distribution
    if not isinstance(moved, int) or moved <= _ROUNDING * spread:
        return None
    return (
        f"column {column.name!r}: float64 rounds its whole numbers, near {middle:g}, by up to "
        f"{moved}; subtract {int(middle)} in the file, for example"
    )


def precision_of(columns: Tensor) -> torch.dtype:
    """The precision for raw values: float32, unless they come in a wider type."""
    is_narrow = columns.is_floating_point() and columns.dtype != torch.float64
    return torch.float32 if is_narrow else torch.float64


def center_and_deviation(values: Float64s) -> tuple[Tensor, Tensor]:
    """The mean and standard deviation of values `(N,)`, float64; exactly 0 for a constant.

    >>> center_and_deviation(np.array([1e300, 3e300]))[1]
    tensor(1.0000e+300, dtype=torch.float64)
    """
    low, high = values.min(), values.max()
    if low == high:  # whose computed mean may be off by a rounding
        return torch.tensor(low, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    exponent = np.frexp(max(-low, high))[1]  # squares then neither overflow nor vanish
    small = np.ldexp(values, -exponent)
    both = torch.from_numpy(np.ldexp([small.mean(), small.std()], exponent))
    return both[0], both[1]


def shift_and_scale(center: Tensor, deviation: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What to subtract and to divide by, in a precision, or float64 if that would move the center.

    A constant column, which becomes 0, is divided by 1.
    """
    is_moved = (center - center.to(dtype)).abs() > _ROUNDING * deviation
    if (is_moved & (deviation > 0)).any():
        dtype = torch.float64
    scale = deviation.to(dtype)
    return center.to(dtype), torch.where(scale > 0, scale, 1.0)


def quantiles_of(values: Float64s) -> Float64s:
    """At most `_N_QUANTILES` quantiles of values `(N,)`, evenly spaced from minimum to maximum.

    Interpolated linearly. numpy's own differ by a rounding from values that occur many times,
    which would then no longer be ties.
    """
    ordered = np.sort(values)
    positions = np.linspace(0, len(values) - 1, min(_N_QUANTILES, len(values))).round(9)
    low = positions.astype(np.int64)
    high = np.minimum(low + 1, len(values) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (positions - low)


def normal_quantile(values: Tensor, quantiles: Tensor) -> Tensor:
    """The normal deviate with the same fraction of values below it.

    Where a value is several quantiles, its fraction is the middle of their range, as in
    scikit-learn's `QuantileTransformer`.

    Args:
        values: `(B, n)`.
        quantiles: `(n, Q)`, sorted, evenly spaced from minimum to maximum.
    """
    by_column = values.mT.contiguous()
    from_below = _fraction_below(by_column, quantiles)
    from_above = 1 - _fraction_below(-by_column, -quantiles.flip(1))
    fractions = ((from_below + from_above) / 2).double().clamp(_EDGE, 1 - _EDGE)
    deviates: Tensor = torch.special.ndtri(fractions)
    return deviates.to(values.dtype).mT


def value_at(deviates: Tensor, quantiles: Tensor) -> Tensor:
    """The inverse of `normal_quantile`, within the range of the quantiles; float64.

    Args:
        deviates: `(B, n)`.
        quantiles: `(n, Q)` with Q at least 2.
    """
    n = quantiles.shape[1]
    positions = torch.special.ndtr(deviates.double()) * (n - 1)
    low = positions.long().clamp_max(n - 2)
    by_row = quantiles.double().mT  # (n, Q) -> (Q, n)
    below, above = by_row.gather(0, low), by_row.gather(0, low + 1)
    values: Tensor = below + (above - below) * (positions - low)
    return values


def _fraction_below(values: Tensor, quantiles: Tensor) -> Tensor:
    """The fraction of rows below each value `(n, B)`, interpolated between quantiles."""
    n = quantiles.shape[1]
    if n == 1:
        return torch.full_like(values, 0.5)
    above = torch.searchsorted(quantiles, values).clamp(1, n - 1)
    low, high = quantiles.gather(1, above - 1), quantiles.gather(1, above)
    width = high - low
    part = torch.where(width > 0, (values - low) / width, (values > low).to(values.dtype))
    return (above - 1 + part.clamp(0, 1)) / (n - 1)
