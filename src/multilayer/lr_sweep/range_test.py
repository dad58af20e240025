"""The learning-rate range test: one training in which the rate rises with every step.

After Smith 2017, with the derivative by the logarithm of the rate: by the rate itself it is largest
among the smallest rates, where a small difference is divided by next to nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars
from numpy.typing import NDArray

from multilayer.errors import UserError
from multilayer.lr_sweep.regimes import two_digits

Array = NDArray[np.float64]

SMOOTHING = 0.9
"""Of the losses: the share of the past in their moving average."""

EXPLODED = 4.0
"""Times the lowest loss: there the test ends."""


N_STEPS = 200
"""Of a range test."""


@dataclass(frozen=True)
class Ramp:
    """The losses of one range test, up to where it ended.

    rates, losses, smoothed: `(n,)`.
    steepest: the rate where the smoothed loss falls fastest for a factor in the rate, on the way
        to its lowest: after that it jumps.
    """

    rates: Array
    losses: Array
    smoothed: Array
    steepest: float


@dataclass(frozen=True)
class RangeTest:
    """What several range tests up to a rate say together, one for each seed."""

    ramps: list[Ramp]
    max_lr: float

    @property
    def suggested(self) -> float:
        """The geometric mean of the steepest rates, with two digits."""
        return two_digits(float(np.exp(np.mean([np.log(ramp.steepest) for ramp in self.ramps]))))

    def warning(self) -> str | None:
        """What to try where the loss falls fastest on the edge of what was tried."""
        for ramp in self.ramps:
            words = f"the loss falls fastest on the edge of what was tried, {ramp.steepest:.2g}"
            if ramp.steepest == ramp.rates[0]:
                return f"{words}: try callbacks.lr_sweep.min_lr={ramp.steepest / 100:.2g}"
            if ramp.steepest == self.max_lr:
                return f"{words}: try callbacks.lr_sweep.max_lr={ramp.steepest * 100:.2g}"
        return None

    def in_words(self) -> list[str]:
        """Where the loss falls fastest."""
        steepest = [ramp.steepest for ramp in self.ramps]
        return [
            f"suggested {self.suggested:.2g}: there the loss falls fastest, by single seeds at "
            f"{min(steepest):.2g} to {max(steepest):.2g}"
        ]

    def table(self) -> polars.DataFrame:
        """A row for each seed and step."""
        return polars.concat(
            polars.DataFrame(
                {
                    "seed": number,
                    "learning_rate": ramp.rates,
                    "train_loss": ramp.losses,
                    "smoothed": ramp.smoothed,
                }
            )
            for number, ramp in enumerate(self.ramps)
        )


def judge_ramp(rates: Sequence[float], losses: Sequence[float]) -> Ramp:
    """Find where the loss falls fastest.

    Raises `UserError` where it exploded before anything could be seen.
    """
    noisy = np.asarray(losses, dtype=np.float64)
    smoothed = smooth(noisy)
    lowest = np.minimum.accumulate(smoothed)
    exploded = np.flatnonzero(smoothed > EXPLODED * lowest)
    n = int(exploded[0]) if len(exploded) else len(smoothed)
    if n < 3:
        raise UserError(
            f"callbacks.lr_sweep: the loss explodes from the first rate on, {rates[0]:.2g}; "
            f"try smaller ones: callbacks.lr_sweep.min_lr={rates[0] / 1000:.2g}"
        )
    grid = np.asarray(rates[:n], dtype=np.float64)
    slope = np.gradient(smoothed[:n], np.log(grid))[: smoothed[:n].argmin() + 1]
    return Ramp(grid, noisy[:n], smoothed[:n], float(grid[slope.argmin()]))


def smooth(losses: Array) -> Array:
    """The moving average, without the pull of a start at 0 (as in Adam).

    >>> smooth(np.array([1.0, 1.0])).round(6)
    array([1., 1.])
    """
    mean, found = 0.0, []
    for i, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        found.append(mean / (1 - SMOOTHING**i))
    return np.array(found)
