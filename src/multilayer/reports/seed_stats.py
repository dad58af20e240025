"""Folding seeds: mean, standard deviation and a bootstrap interval of what they repeat."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Fold:
    """A metric over seeds. `std` is that of a sample and needs two; `low` and `high` need three."""

    mean: float
    std: float | None
    n: int
    low: float | None
    high: float | None


def fold(values: Sequence[float]) -> Fold | None:
    """Mean, standard deviation, and 95 % bootstrap interval of the mean; None without values.

    Two seeds have no interval: its ends would be the two values.

    The interval is the percentile bootstrap (Efron 1979). With few seeds it is too narrow: of
    normal values it holds the true mean in 75 % of cases for 3 seeds, 84 % for 5, 90 % for 10.

    >>> fold([1.0, 3.0]).mean, fold([5.0])
    (2.0, Fold(mean=5.0, std=None, n=1, low=None, high=None))
    """
    if not values:
        return None
    sample = np.array(values, dtype=float)
    n = len(sample)
    if n == 1:
        return Fold(float(sample[0]), None, 1, None, None)
    mean, std = float(sample.mean()), float(sample.std(ddof=1))
    if n == 2:
        return Fold(mean, std, 2, None, None)
    means = np.sort(sample[resamples(n)].mean(axis=1))
    n_outside = round(N_RESAMPLES * (1 - CONFIDENCE) / 2)  # at each end
    low, high = means[n_outside], means[-1 - n_outside]
    return Fold(mean, std, n, float(low), float(high))


@cache
def resamples(n: int) -> NDArray[np.int64]:
    """Which of n values are drawn, `(N_RESAMPLES, n)`: always the same, so that reports agree."""
    return np.random.default_rng(0).integers(n, size=(N_RESAMPLES, n))


def pooled_std(folds: Sequence[Fold]) -> float | None:
    """The standard deviation over seeds that several configs share; None where none has two seeds.

    >>> pooled_std([fold([0.0, 2.0]), fold([0.0, 0.0]), fold([1.0])])
    1.0
    """
    weights = [fold.n - 1 for fold in folds if fold.std is not None]
    variances = [fold.std**2 for fold in folds if fold.std is not None]
    return float(np.sqrt(np.average(variances, weights=weights))) if weights else None
