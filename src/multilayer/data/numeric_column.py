"""What is known of a column of numbers, as it is read."""

import numpy as np
import polars as pl

from multilayer.data.numerics import Distribution, Float64s, extent, is_rounded

NO_VALUES = "it has no values"
ONE_VALUE = "it has the same value in every row"

_SAMPLE_ROWS = 128
"""Rows of each batch, at least, from which it is judged whether float32 holds a column."""


class NumericColumn:
    """What has to be known of a column of numbers, collected batch by batch."""

    def __init__(self, dtype: pl.DataType) -> None:
        self.low = self.high = np.nan
        self.has_gaps = False
        self.samples: list[Float64s] = []
        self.first: Distribution | None = None  # of its first rows
        # Whole numbers that have been unique within each batch so far:
        self.row_numbers: list[pl.Series] | None = [] if dtype.is_integer() else None

    def examine(self, values: Float64s) -> None:
        """Keep the one of the next values `(B,)` that float32 rounds most.

        A sample may hold none of the values that it rounds.
        """
        self.first = self.first or Distribution.of(_sample(values))
        if self.first and not self.first.fits_float32:  # rare
            values = values[np.isfinite(values)]
            self.samples.append(values[self.first.rounding(values).argsort()[-1:]])

    def add(self, values: Float64s, column: pl.Series) -> None:
        """Take in the next rows: as numbers `(B,)` with NaN for gaps, and as they were read."""
        low, high = extent(values)
        self.low, self.high = np.fmin(self.low, low), np.fmax(self.high, high)
        self.has_gaps |= bool(np.isnan(values.min()))
        self.samples.append(_sample(values).copy())
        if self.row_numbers is not None:
            is_unique = column.n_unique() == len(column)
            self.row_numbers = [*self.row_numbers, column] if is_unique else None

    def reason_to_drop(self) -> str | None:
        """Why nothing can be learned from it, if so."""
        if np.isnan(self.low):
            return NO_VALUES
        if self.has_gaps or self.low != self.high:
            return None
        is_exact = abs(self.low) < 2**53
        return ONE_VALUE if is_exact else f"{ONE_VALUE}, to the 15 digits of float64"

    def needs_float64(self) -> bool:
        """Whether float32 would round it too coarsely, or may do so."""
        if self.first is None or self.low == self.high or not self.samples:
            return False
        values = np.concatenate(self.samples)
        whole = Distribution.of(values)
        # Where the first rows fit and the rest does not, not every value was examined.
        was_examined = whole is None or whole.fits_float32 or not self.first.fits_float32
        return is_rounded(values) or not was_examined

    def are_row_numbers(self) -> bool:
        """Whether it has a different whole number in every row."""
        numbers = pl.concat(self.row_numbers) if self.row_numbers else pl.Series([0, 0])
        return numbers.n_unique() == len(numbers)


def _sample(values: Float64s) -> Float64s:
    """A hundred or two of the values `(B,)` of a batch, evenly spaced."""
    return values[:: max(1, len(values) // _SAMPLE_ROWS)]
