"""The learning-rate range test: one training in which the learning rate rises with every step.

After Smith 2017, with the derivative by the logarithm of the rate: by the rate itself it is largest
among the smallest rates, where a small difference is divided by next to nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars

from multilayer.core.errors import UserError
from multilayer.lr_sweep.analysis import Array, edge_warning, two_digits

N_STEPS = 200
"""Steps of a range test."""

_SMOOTHING = 0.9
"""The weight of the past in the moving average of the losses."""

_EXPLODED = 3.0
"""The test ends where the loss exceeds its lowest value so far by this factor times that value."""

_HALF_WINDOW = 10**0.5
"""The derivative at a rate is the slope of a line over all rates up to this factor away: from step
to step, minibatches differ more than rates do."""

_BEYOND_STEEPEST = 2.0
"""The suggested rate as a multiple of the steepest. The averaged loss is steepest while it is still
catching up; on the built-in data sets, twice that rate leads to lower losses."""


@dataclass(frozen=True)
class RangeTestResult:
    """What range tests with S seeds show together, up to where the loss exploded.

    Attributes:
        rates: the learning rate of each step, `(n,)`.
        losses: of the minibatches, `(S, n)`.
        smoothed: the moving average of the mean over the seeds, `(n,)`.
        steepest: the rate at which that falls fastest, on the way to its lowest value.
        by_seed: the same for each seed by itself, `(S,)`.
        max_lr: the rate at which the test was to end.
    """

    rates: Array
    losses: Array
    smoothed: Array
    steepest: float
    by_seed: list[float]
    max_lr: float

    @property
    def suggested(self) -> float:
        """The rate to use, with two digits."""
        return min(two_digits(_BEYOND_STEEPEST * self.steepest), self.max_lr)

    def warning(self) -> str | None:
        """What to try if the loss falls fastest on the edge of the rates that were tried."""
        words = f"the loss falls fastest on the edge of what was tried, {self.steepest:.2g}"
        return edge_warning(words, self.steepest, self.rates[0], self.max_lr, _HALF_WINDOW)

    def describe(self) -> list[str]:
        """One line: where the loss falls fastest, and the suggestion."""
        return [
            f"suggested {self.suggested:.2g}: the loss falls fastest at {self.steepest:.2g}, by "
            f"single seeds at {min(self.by_seed):.2g} to {max(self.by_seed):.2g}"
        ]

    def table(self) -> polars.DataFrame:
        """A row for each step."""
        by_seed = {f"train_loss_seed_{k}": losses for k, losses in enumerate(self.losses)}
        return polars.DataFrame({"learning_rate": self.rates, "smoothed": self.smoothed, **by_seed})


def analyze_ramps(rates: Sequence[float], ramps: Sequence[Sequence[float]]) -> RangeTestResult:
    """Find where the loss falls fastest.

    Args:
        rates: the learning rate of each step.
        ramps: the losses of each seed; fewer than there are rates where a test ended early.

    Raises:
        UserError: where the loss exploded before a slope could be seen.
    """
    n_common = min(map(len, ramps))
    losses = np.array([losses[:n_common] for losses in ramps], dtype=np.float64)
    grid = np.asarray(rates[:n_common], dtype=np.float64)
    smoothed = _smooth(losses.mean(axis=0))
    n = _steps_until_explosion(smoothed)
    if n < 3:
        raise UserError(
            f"callbacks.lr_sweep: the loss explodes from the first rate on, {rates[0]:.2g}; "
            f"try smaller ones: callbacks.lr_sweep.min_lr={rates[0] / 1000:.2g}"
        )
    return RangeTestResult(
        grid[:n],
        losses[:, :n],
        smoothed[:n],
        _steepest(grid[:n], smoothed[:n]),
        [_steepest(grid[:n], _smooth(own)[:n]) for own in losses],
        max_lr=rates[-1],
    )


def _smooth(losses: Array) -> Array:
    """The moving average, without the pull of a start at 0 (as in Adam).

    >>> _smooth(np.array([1.0, 1.0])).round(6)
    array([1., 1.])
    """
    averages: Array = polars.Series(losses).ewm_mean(alpha=1 - _SMOOTHING, adjust=True).to_numpy()
    return averages


def _steps_until_explosion(smoothed: Array) -> int:
    """How many steps come before the loss explodes; see `_EXPLODED`."""
    lowest = np.minimum.accumulate(smoothed)
    exploded = smoothed > lowest + _EXPLODED * np.abs(lowest)
    return int(np.append(exploded, True).argmax())


def _steepest(rates: Array, smoothed: Array) -> float:
    """The rate where a loss falls fastest by the logarithm of the rate, before its lowest point."""
    log_rates = np.log(rates)
    slopes = []
    for centre in log_rates[: smoothed.argmin() + 1]:
        near = np.abs(log_rates - centre) <= np.log(_HALF_WINDOW) + 1e-9
        slopes.append(np.polyfit(log_rates[near], smoothed[near], 1)[0])
    return float(rates[int(np.argmin(slopes))])
