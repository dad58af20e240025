"""Whether the best config can be told from the others: a paired test over seeds, corrected.

Runs with one seed share initial weights, order of the rows and, where it depends on the seed, the
split. What the seed does to both cancels in their difference, which makes the paired test sharper.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from scipy.special import stdtr, stdtrit

from multilayer.reports.configs import Candidate
from multilayer.reports.seed_stats import CONFIDENCE

LEAST_SEEDS = 3
"""For a verdict. From two differences nobody knows their spread: p is below 0.05 by chance of how
the digits fall."""

POWER = 0.8
"""How often a test with the seeds that are advised would see a difference as large as was seen."""

MOST_SEEDS = 50
"""Beyond them nobody trains more to tell two configs apart: they are as good as equal."""


@dataclass(frozen=True)
class Comparison:
    """The best config against another one.

    n: the seeds that both have done.
    worse_by: the mean over them of how much worse the other is; None where n is 0.
    low, high: the 95 % interval of that, by Student's t; std: of the differences.
    p: of the paired t-test, two-sided; adjusted: after Holm's correction for all comparisons.
    n_worse: the seeds with which the other is worse.
    """

    other: Candidate
    n: int
    worse_by: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    adjusted: float | None = None
    n_worse: int = 0

    @property
    def is_clear(self) -> bool:
        """Whether the two can be told apart."""
        return self.adjusted is not None and self.adjusted < 1 - CONFIDENCE

    @property
    def is_always_worse(self) -> bool:
        """Whether the other is worse with every seed, be it by much or by little.

        It says what a t-test cannot where a config explodes: that makes its mean as wide as high.
        """
        return self.n >= LEAST_SEEDS and self.n_worse == self.n


def compare(candidates: Sequence[Candidate], sign: int) -> list[Comparison]:
    """The first candidate against each other one that has a score and did not diverge."""
    sound = [candidate for candidate in candidates if candidate.is_sound]
    if not sound:
        return []
    pairs = [paired_test(sound[0], other, sign) for other in sound[1:]]
    return with_adjusted(pairs)


def paired_test(best: Candidate, other: Candidate, sign: int) -> Comparison:
    """The paired t-test over the seeds that both have done.

    p is None with fewer than `LEAST_SEEDS`, and where all differences are the same number: their
    spread is then unknown rather than zero.
    """
    shared = [seed for seed in best.scores if seed in other.scores]
    if not shared:
        return Comparison(other, 0)
    differences = np.array([sign * (other.scores[seed] - best.scores[seed]) for seed in shared])
    n, mean, n_worse = len(shared), float(differences.mean()), int((differences > 0).sum())
    if n < LEAST_SEEDS:
        return Comparison(other, n, mean, n_worse=n_worse)
    if not differences.any():
        return Comparison(other, n, 0.0, 0.0, 0.0, 0.0, 1.0)
    std = float(differences.std(ddof=1))
    error = std / sqrt(n)
    if error <= 1e-9 * abs(mean):
        return Comparison(other, n, mean, std, n_worse=n_worse)
    margin = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    p = float(2 * stdtr(n - 1, -abs(mean) / error))
    return Comparison(other, n, mean, std, mean - margin, mean + margin, p, n_worse=n_worse)


def with_adjusted(pairs: list[Comparison]) -> list[Comparison]:
    """The comparisons with their p-values adjusted together."""
    known = [pair for pair in pairs if pair.p is not None]
    adjusted = iter(holm([pair.p for pair in known if pair.p is not None]))
    return [
        replace(pair, adjusted=next(adjusted)) if pair.p is not None else pair for pair in pairs
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values for which the chance of any false claim among all is bounded (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    m = len(order)
    raised = [min(1.0, (m - rank) * p_values[index]) for rank, index in enumerate(order)]
    adjusted = np.empty(m)
    adjusted[order] = np.maximum.accumulate(raised) if m else []
    return [float(value) for value in adjusted]


def seeds_needed(comparison: Comparison, n_comparisons: int) -> int | None:
    """How many seeds would tell the two apart, if they differ by as much as was seen.

    The test is held to the strictest of Holm's levels, 0.05 over the number of comparisons. None
    where it would take more than `MOST_SEEDS`, or their spread is unknown.
    """
    if not comparison.worse_by or not comparison.std:
        return None
    effect = abs(comparison.worse_by) / comparison.std
    level = 1 - (1 - CONFIDENCE) / n_comparisons / 2
    for n in range(comparison.n + 1, MOST_SEEDS + 1):
        if effect * sqrt(n) >= stdtrit(n - 1, level) + stdtrit(n - 1, POWER):
            return n
    return None
