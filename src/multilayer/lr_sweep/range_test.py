"""The learning-rate range test: one training in which the rate rises with every step.

After Smith 2017, with the derivative by the logarithm of the rate: by the rate itself it is largest
among the smallest rates, where a small difference is divided by next to nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars
from numpy.typing import NDArray

from multilayer.core.errors import UserError
from multilayer.lr_sweep.analysis import two_digits

Array = NDArray[np.float64]

N_STEPS = 200
"""Of a range test."""

SMOOTHING = 0.9
"""Of the losses: the share of the past in their moving average."""

EXPLODED = 3.0
"""Where the loss is above its lowest by so many times that, the test ends."""

HALF_WINDOW = 10**0.5
"""The derivative at a rate is the slope of a line over all rates up to this factor away. From step
to step, minibatches differ more than rates do."""

BEYOND = 2.0
"""The suggested rate is so many times the steepest. The averaged loss is steepest while it is still
catching up; on the built-in data sets, twice that rate leads to lower losses."""


@dataclass(frozen=True)
class RangeTest:
    """What range tests with S seeds say together, up to where the loss exploded.

    rates: `(n,)`, of each step. losses: `(S, n)`, of the minibatches.
    smoothed: `(n,)`, the moving average of the mean over the seeds.
    steepest: the rate where that falls fastest, on the way to its lowest.
    by_seed: the same for each seed alone, `(S,)`.
    max_lr: where the test was to end.
    """

    rates: Array
    losses: Array
    smoothed: Array
    steepest: float
    by_seed: list[float]
    max_lr: float

    @property
    def suggested(self) -> float:
        """The rate to take, with two digits."""
        return min(two_digits(BEYOND * self.steepest), self.max_lr)

    def warning(self) -> str | None:
        """What to try where the loss falls fastest on the edge of what was tried."""
        words = f"the loss falls fastest on the edge of what was tried, {self.steepest:.2g}"
        if self.steepest <= self.rates[0] * HALF_WINDOW:
            return f"{words}: try callbacks.lr_sweep.min_lr={self.rates[0] / 100:.2g}"
        if self.steepest >= self.max_lr / HALF_WINDOW:
            return f"{words}: try callbacks.lr_sweep.max_lr={self.max_lr * 100:.2g}"
        return None

    def in_words(self) -> list[str]:
        """Where the loss falls fastest."""
        return [
            f"suggested {self.suggested:.2g}: the loss falls fastest at {self.steepest:.2g}, by "
            f"single seeds at {min(self.by_seed):.2g} to {max(self.by_seed):.2g}"
        ]

    def table(self) -> polars.DataFrame:
        """A row for each step."""
        by_seed = {f"train_loss_seed_{k}": losses for k, losses in enumerate(self.losses)}
        return polars.DataFrame({"learning_rate": self.rates, "smoothed": self.smoothed, **by_seed})


def judge_ramps(rates: Sequence[float], ramps: Sequence[Sequence[float]]) -> RangeTest:
    """Find where the loss falls fastest.

    ramps: the losses of each seed; one that ended early has fewer than there are rates.

    Raises `UserError` where the loss exploded before anything could be seen.
    """
    n_common = min(map(len, ramps))
    losses = np.array([losses[:n_common] for losses in ramps], dtype=np.float64)
    grid = np.asarray(rates[:n_common], dtype=np.float64)
    smoothed = smooth(losses.mean(axis=0))
    n = steps_until_explosion(smoothed)
    if n < 3:
        raise UserError(
            f"callbacks.lr_sweep: the loss explodes from the first rate on, {rates[0]:.2g}; "
            f"try smaller ones: callbacks.lr_sweep.min_lr={rates[0] / 1000:.2g}"
        )
    return RangeTest(
        grid[:n],
        losses[:, :n],
        smoothed[:n],
        steepest(grid[:n], smoothed[:n]),
        [steepest(grid[:n], smooth(own)[:n]) for own in losses],
        max_lr=rates[-1],
    )


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


def steps_until_explosion(smoothed: Array) -> int:
    """How many steps come before the loss has `EXPLODED`."""
    lowest = np.minimum.accumulate(smoothed)
    exploded = np.flatnonzero(smoothed > lowest + EXPLODED * np.abs(lowest))
    return int(exploded[0]) if len(exploded) else len(smoothed)


def steepest(rates: Array, smoothed: Array) -> float:
    """The rate where a loss falls fastest for a factor in the rate, before its lowest point."""
    log_rates = np.log(rates)
    slopes = []
    for centre in log_rates[: smoothed.argmin() + 1]:
        near = np.abs(log_rates - centre) <= np.log(HALF_WINDOW) + 1e-9
        x, y = log_rates[near], smoothed[near]
        deviation = x - x.mean()
        slopes.append((deviation @ y) / (deviation @ deviation))
    return float(rates[int(np.argmin(slopes))])
