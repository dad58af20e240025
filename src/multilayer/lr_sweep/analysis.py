"""What each learning rate did to the loss, and which to use: by short trainings or a range test.

In a range test the rate rises with every step (Smith 2017). The derivative is by the logarithm of
the rate: by the rate itself it is largest among the smallest rates, where a small difference is
divided by next to nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
import polars
from numpy.typing import NDArray

from multilayer.core.errors import UserError
from multilayer.lr_sweep.trials import TrialLosses

Regime = Literal["slow", "stable", "divergent"]
Array = NDArray[np.float64]

_DIVERGENT_ABOVE = 0.1
"""A training loss that ends above its value before the first step by more than this fraction of
that value has diverged."""

_SLOW_BELOW = 0.5
"""A rate is slow if it reduces the training loss by less than this fraction of the largest
reduction."""

_NEARLY_BEST = 0.03
"""A rate whose validation loss is higher than the best by this fraction weighs 1/e of the best."""

_MIN_SCALE = 0.1
"""Losses are compared relative to the best loss, or to this fraction of the reduction if that is
more: a loss may fall to zero, and then no other would be nearly as good."""


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
class LRSweepResult:
    """What is known of R learning rates, each tried with S seeds.

    Attributes:
        rates: `(R,)`, ascending.
        regimes: of each rate.
        train_before: training losses before the first step, `(R, S)`.
        train_after: training losses after the last step, `(R, S)`.
        validation: the lowest validation loss after an epoch, `(R, S)`.
        best: the stable rate with the lowest mean validation loss.
        suggested: the rate to use, with two digits.
        largest_stable: the largest stable rate below the first divergent one; None for none.
        by_seed: what each seed would suggest by itself, `(S,)`.
    """

    rates: Array
    regimes: list[Regime]
    train_before: Array
    train_after: Array
    validation: Array
    best: float
    suggested: float
    largest_stable: float | None
    by_seed: list[float]

    def warning(self) -> str | None:
        """That nothing was learned, or that the best rate is on the edge of the grid; or None."""
        if "stable" not in self.regimes:
            return "no rate is stable: the loss hardly falls in the short trainings"
        words = f"the best rate is on the edge of what was tried, {self.best:.2g}"
        return _edge_warning(words, self.best, self.rates[0], self.rates[-1])

    def spans(self) -> list[tuple[Regime, list[float]]]:
        """Neighbouring rates of the same regime, from the smallest rates to the largest."""
        pairs = zip(self.regimes, self.rates.tolist(), strict=True)
        return [
            (regime, [rate for _, rate in group])
            for regime, group in groupby(pairs, key=lambda pair: pair[0])
        ]

    def describe(self) -> list[str]:
        """Two lines: which rates are slow, stable and divergent, and which one is suggested."""
        regimes = ", ".join(
            f"{regime} " + " to ".join(f"{rate:.2g}" for rate in dict.fromkeys((own[0], own[-1])))
            for regime, own in self.spans()
        )
        stable = "none" if self.largest_stable is None else f"{self.largest_stable:.2g}"
        return [
            regimes,
            f"suggested {self.suggested:.2g}, by single seeds {min(self.by_seed):.2g} to "
            f"{max(self.by_seed):.2g}; best {self.best:.2g}, largest stable {stable}",
        ]

    def table(self) -> polars.DataFrame:
        """A row for each rate: its regime, and the losses of each seed."""
        by_seed = {
            f"{name}_seed_{k}": own
            for name in ("train_before", "train_after", "validation")
            for k, own in enumerate(getattr(self, name).T)
        }
        first = {"learning_rate": self.rates, "regime": self.regimes}
        mean = {"validation_loss": self.validation.mean(axis=1)}
        return polars.DataFrame(first | mean | by_seed)


def analyze_sweep(rates: Sequence[float], losses: Iterable[TrialLosses]) -> LRSweepResult:
    """Find the regimes of rates, and the best and the suggested one.

    Args:
        rates: `(R,)`, ascending.
        losses: of each of `R * S` trials, the seeds of a rate side by side.

    Raises:
        UserError: where every rate diverged.
    """
    grid = np.asarray(rates, dtype=np.float64)
    trials = zip(*losses, strict=True)
    before, after, flat = (np.array(each).reshape(len(grid), -1) for each in trials)
    curves = flat.reshape(*before.shape, -1)  # (R, S * E) -> (R, S, E)
    is_finite = np.isfinite(curves)
    after = np.where(is_finite.all(axis=2), after, np.nan)
    lowest = np.where(is_finite, curves, np.inf).min(axis=2)
    regimes = _classify(before, after)
    if set(regimes) == {"divergent"}:
        raise UserError(
            f"callbacks.lr_sweep: all {len(grid)} rates from {grid[0]:.2g} to {grid[-1]:.2g} "
            f"diverged; try smaller ones: callbacks.lr_sweep.min_lr={grid[0] / 1000:.2g}"
        )
    mean, start = lowest.mean(axis=1), float(before.mean())
    usable = _around_best(regimes, mean)
    score = np.where(usable, mean, np.inf)
    return LRSweepResult(
        grid,
        regimes,
        before,
        after,
        lowest,
        best=float(grid[score.argmin()]),
        suggested=_suggest(grid, score, start),
        largest_stable=_largest_stable(grid, regimes),
        by_seed=[_suggest(grid, np.where(usable, own, np.inf), start) for own in lowest.T],
    )


def _around_best(regimes: Sequence[Regime], score: Array) -> NDArray[np.bool_]:
    """The rates that may be suggested, `(R,)`: the best stable one and its stable neighbours.

    Where no rate is stable they are the slow ones.

    >>> regimes = ["slow", "stable", "stable", "divergent", "stable"]
    >>> _around_best(regimes, np.array([0.9, 0.3, 0.2, 0.1, 0.25])).tolist()
    [False, True, True, False, False]
    """
    wanted = "stable" if "stable" in regimes else "slow"
    is_wanted = np.array([regime == wanted for regime in regimes])
    best = int(np.where(is_wanted, score, np.inf).argmin())
    segment = np.cumsum(np.diff(is_wanted, prepend=is_wanted[:1]))
    usable: NDArray[np.bool_] = segment == segment[best]
    return usable


def _largest_stable(rates: Array, regimes: Sequence[Regime]) -> float | None:
    """The largest stable rate below the first divergent one; None where there is none.

    A rate above a divergent one that looks stable was lucky.
    """
    n_below = regimes.index("divergent") if "divergent" in regimes else len(regimes)
    stable = [rates[i] for i in range(n_below) if regimes[i] == "stable"]
    return float(max(stable)) if stable else None


def _classify(before: Array, after: Array) -> list[Regime]:
    """The regime of each rate, by training losses `(R, S)` before and after.

    A rate is divergent if in any seed the loss is not finite, or ends above its initial value by
    more than `_DIVERGENT_ABOVE` of that. It is slow if its mean falls by less than `_SLOW_BELOW` of
    the largest fall, or not at all. All others are stable.

    >>> _classify(np.ones((4, 1)), np.array([[0.9], [0.2], [0.3], [1.2]]))
    ['slow', 'stable', 'stable', 'divergent']
    """
    with np.errstate(invalid="ignore"):
        bound = before + _DIVERGENT_ABOVE * np.abs(before)
        diverged = np.logical_not((after <= bound).all(axis=1))
    gains = np.where(diverged, -np.inf, (before - after).mean(axis=1))
    slow = (gains < _SLOW_BELOW * gains.max()) | (gains <= 0)
    regimes: list[Regime] = np.select([diverged, slow], ["divergent", "slow"], "stable").tolist()
    return regimes


def _suggest(rates: Array, score: Array, start: float) -> float:
    """The geometric mean of the rates, weighted by how near their losses are to the best.

    The lowest loss is often one of several that are nearly equal, and which of them it is differs
    from seed to seed; their middle does not.

    Args:
        rates: `(R,)`.
        score: losses, `(R,)`; infinite where a rate may not be suggested.
        start: the loss before the training.
    """
    best = score.min()
    scale = max(abs(best), _MIN_SCALE * (start - best), 1e-12)
    weights = np.exp(-(score - best) / (_NEARLY_BEST * scale))
    mean = float(np.exp((weights * np.log(rates)).sum() / weights.sum()))
    return float(np.clip(_two_digits(mean), rates.min(), rates.max()))  # rounding may leave them


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
        return min(_two_digits(_BEYOND_STEEPEST * self.steepest), self.max_lr)

    def warning(self) -> str | None:
        """What to try if the loss falls fastest on the edge of the rates that were tried."""
        words = f"the loss falls fastest on the edge of what was tried, {self.steepest:.2g}"
        return _edge_warning(words, self.steepest, self.rates[0], self.max_lr, _HALF_WINDOW)

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


LearningRateResult = LRSweepResult | RangeTestResult


def _edge_warning(
    words: str, rate: float, smallest: float, largest: float, margin: float = 1.0
) -> str | None:
    """`words`, and the bound to try where a rate is within a factor of an end of the grid.

    >>> _edge_warning("on the edge", 10.0, 1e-6, 10.0)
    'on the edge: try callbacks.lr_sweep.max_lr=1e+03'
    """
    if rate <= smallest * margin:
        return f"{words}: try callbacks.lr_sweep.min_lr={smallest / 100:.2g}"
    if rate >= largest / margin:
        return f"{words}: try callbacks.lr_sweep.max_lr={largest * 100:.2g}"
    return None


def _two_digits(value: float) -> float:
    """A number that is easily typed.

    >>> _two_digits(0.0031415)
    0.0031
    """
    return float(f"{value:.1e}")
