"""What each learning rate did to the loss, and which one to take."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isfinite
from typing import Literal

import numpy as np
import polars
from numpy.typing import NDArray

from multilayer.core.errors import UserError
from multilayer.lr_sweep.trials import Losses

Regime = Literal["slow", "stable", "divergent"]
Array = NDArray[np.float64]

DIVERGENT_ABOVE = 0.1
"""A training loss that ends above what it was before the first step, by more than this share of
that, has diverged."""

SLOW_BELOW = 0.5
"""A rate that takes less than this share of the best gain from the training loss is slow."""

NEARLY_BEST = 0.03
"""A rate whose validation loss is higher than the best by this share counts 1/e of the best."""

LEAST_LOSS = 0.1
"""Shares are of the best loss, or of this share of what it fell by, where that is more: a loss may
fall to nothing, and then no other is nearly as good."""


@dataclass(frozen=True)
class Judgement:
    """What is said of R rates, each tried with S seeds.

    rates: `(R,)`, ascending.
    regimes: of each rate.
    train_before, train_after, validation: losses `(R, S)`; the last is the lowest after an epoch.
    best: the stable rate with the lowest mean validation loss.
    suggested: the one to take, with two digits.
    largest_stable: below the first divergent rate; None where no rate is.
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
        """What is to be told: that nothing is learnt, or that the best rate lies on the edge."""
        if "stable" not in self.regimes:
            return "no rate is stable: the loss hardly falls in the short trainings"
        first, last = self.rates[0], self.rates[-1]
        words = f"the best rate lies on the edge of what was tried, {self.best:.2g}"
        if self.best == first:
            return f"{words}: try callbacks.lr_sweep.min_lr={first / 100:.2g}"
        if self.best == last:
            return f"{words}: try callbacks.lr_sweep.max_lr={last * 100:.2g}"
        return None

    def spans(self) -> list[tuple[Regime, list[float]]]:
        """Neighbouring rates of one regime, from the smallest rates to the largest."""
        pairs = zip(self.regimes, self.rates.tolist(), strict=True)
        return [
            (regime, [rate for _, rate in group])
            for regime, group in groupby(pairs, key=lambda pair: pair[0])
        ]

    def in_words(self) -> list[str]:
        """Which rates are slow, stable and divergent, and which one to take."""
        parts = []
        for regime, own in self.spans():
            span = f"{own[0]:.2g}" if len(own) == 1 else f"{own[0]:.2g} to {own[-1]:.2g}"
            parts.append(f"{regime} {span}")
        stable = "none" if self.largest_stable is None else f"{self.largest_stable:.2g}"
        return [
            ", ".join(parts),
            f"suggested {self.suggested:.2g}, by single seeds {min(self.by_seed):.2g} to "
            f"{max(self.by_seed):.2g}; best {self.best:.2g}, largest stable {stable}",
        ]

    def table(self) -> polars.DataFrame:
        """A row for each rate: its regime, and the losses of each seed."""
        columns = {
            "learning_rate": self.rates,
            "regime": self.regimes,
            "validation_loss": self.validation.mean(axis=1),
        }
        for name in ("train_before", "train_after", "validation"):
            by_seed = getattr(self, name).T
            columns |= {f"{name}_seed_{k}": own for k, own in enumerate(by_seed)}
        return polars.DataFrame(columns)


def judge(rates: Sequence[float], losses: Losses) -> Judgement:
    """Judge rates by the losses of short trainings, `(R * S,)`, the seeds of a rate side by side.

    Raises `UserError` where every rate diverged.
    """
    grid = np.asarray(rates, dtype=np.float64)
    shape = (len(grid), -1)
    before = losses.train_before.double().numpy().reshape(shape)
    after = losses.train_after.double().numpy().reshape(shape)
    curves = losses.validation.double().numpy().reshape((*before.shape, -1))
    after = np.where(np.isfinite(curves).all(axis=2), after, np.nan)
    lowest = np.where(np.isfinite(curves), curves, np.inf).min(axis=2)
    regimes = classify(before, after)
    if set(regimes) == {"divergent"}:
        raise UserError(
            f"callbacks.lr_sweep: all {len(grid)} rates from {grid[0]:.2g} to {grid[-1]:.2g} "
            f"diverged; try smaller ones: callbacks.lr_sweep.min_lr={grid[0] / 1000:.2g}"
        )
    start = float(before.mean())
    usable = around_best(regimes, lowest.mean(axis=1))
    score = np.where(usable, lowest.mean(axis=1), np.inf)
    return Judgement(
        grid,
        regimes,
        before,
        after,
        lowest,
        best=float(grid[score.argmin()]),
        suggested=suggest(grid, score, start),
        largest_stable=largest_stable(grid, regimes),
        by_seed=[suggest(grid, np.where(usable, own, np.inf), start) for own in lowest.T],
    )


def around_best(regimes: Sequence[Regime], score: Array) -> NDArray[np.bool_]:
    """The rates that may be taken, `(R,)`: the stable ones on both sides of the best stable one.

    Where no rate is stable they are the slow ones.

    >>> regimes = ["slow", "stable", "stable", "divergent", "stable"]
    >>> around_best(regimes, np.array([0.9, 0.3, 0.2, 0.1, 0.25])).tolist()
    [False, True, True, False, False]
    """
    wanted = "stable" if "stable" in regimes else "slow"
    is_wanted = np.array([regime == wanted for regime in regimes])
    best = int(np.where(is_wanted, score, np.inf).argmin())
    others = np.flatnonzero(~is_wanted)
    first = others[others < best].max(initial=-1) + 1
    end = others[others > best].min(initial=len(regimes))
    usable = np.zeros(len(regimes), dtype=np.bool_)
    usable[first:end] = True
    return usable


def largest_stable(rates: Array, regimes: Sequence[Regime]) -> float | None:
    """The largest stable rate below the first divergent one; None where there is none.

    Beyond, a rate that looks stable was lucky.
    """
    below = list(zip(rates.tolist(), regimes, strict=True))
    if "divergent" in regimes:
        below = below[: regimes.index("divergent")]
    stable = [rate for rate, regime in below if regime == "stable"]
    return max(stable, default=None)


def classify(before: Array, after: Array) -> list[Regime]:
    """The regime of each rate, by training losses `(R, S)` before and after.

    divergent: in any seed the loss is not finite, or ends above what it was by more than
        `DIVERGENT_ABOVE` of that; slow: its mean falls by less than `SLOW_BELOW` of the best fall,
        or not at all; stable: the others.

    >>> classify(np.ones((4, 1)), np.array([[0.9], [0.2], [0.3], [1.2]]))
    ['slow', 'stable', 'stable', 'divergent']
    """
    with np.errstate(invalid="ignore"):
        bound = before + DIVERGENT_ABOVE * np.abs(before)
        diverged = np.logical_not((after <= bound).all(axis=1))
    gains = np.where(diverged, -np.inf, (before - after).mean(axis=1))
    slow = (gains < SLOW_BELOW * gains.max()) | (gains <= 0)
    return [
        "divergent" if is_divergent else "slow" if is_slow else "stable"
        for is_divergent, is_slow in zip(diverged.tolist(), slow.tolist(), strict=True)
    ]


def suggest(rates: Array, score: Array, start: float) -> float:
    """The geometric mean of the rates, weighted by how near their losses are to the best.

    The lowest loss by itself is often one of several nearly equal ones, and which of them differs
    from seed to seed; their middle does not.

    score: losses `(R,)`, infinite where a rate is out of the question.
    start: the loss before the training.
    """
    best = score.min()
    scale = max(abs(best), LEAST_LOSS * (start - best), 1e-12)
    weights = np.exp(-(score - best) / (NEARLY_BEST * scale))
    mean = float(np.exp((weights * np.log(rates)).sum() / weights.sum()))
    return float(np.clip(two_digits(mean), rates.min(), rates.max()))  # rounding may leave them


def two_digits(value: float) -> float:
    """A number that is easily typed.

    >>> two_digits(0.0031415)
    0.0031
    """
    assert isfinite(value)
    return float(f"{value:.1e}")
