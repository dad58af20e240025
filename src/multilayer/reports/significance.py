"""Whether the best config can be told from the others: a paired test over seeds, corrected.

Runs with one seed share initial weights, order of the rows and, where it depends on the seed, the
split. What the seed does to both cancels in their difference, which makes the paired test sharper.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from scipy.special import stdtr, stdtrit

from multilayer.core.text import counted
from multilayer.reports.configs import (
    CONFIDENCE,
    ConfigResult,
    Configs,
    format_number,
    tied_best,
)
from multilayer.reports.hyperparameters import format_value
from multilayer.reports.sweep import Sweep

MIN_SEEDS = 3
"""Seeds for a verdict. The spread of two differences is unknown: their p is often below 0.05."""

_POWER = 0.8
"""How often a test with the advised number of seeds would see a difference as large as was seen."""

_MAX_SEEDS = 50
"""Nobody trains more seeds than this to tell two configs apart: they are as good as equal."""


_MAX_TIES = 3
"""Configs that are as good as the best and are named."""


@dataclass(frozen=True)
class Comparison:
    """The best config against another one.

    Attributes:
        other: The other config.
        n: The seeds that both have done.
        worse_by: The mean over these of how much worse the other is; None where n is 0.
        std: The standard deviation of the differences.
        low: The lower end of the 95 % interval of `worse_by`, by Student's t.
        high: The upper end.
        p: Of the paired t-test, two-sided.
        adjusted: p after Holm's correction for all comparisons.
        n_worse: The seeds with which the other is worse.
    """

    other: ConfigResult
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
        """Whether the other is worse with every seed, by much or by little.

        This says what a t-test cannot where a config explodes: its standard deviation is then as
        large as its mean.
        """
        return self.n >= MIN_SEEDS and self.n_worse == self.n


def compare(configs: Configs, sign: int) -> list[Comparison]:
    """The first valid config against each other one; configs come best first."""
    valid = [config for config in configs if config.is_valid]
    return with_adjusted([paired_test(valid[0], other, sign) for other in valid[1:]])


def paired_test(best: ConfigResult, other: ConfigResult, sign: int) -> Comparison:
    """The paired t-test over the seeds that both have done.

    p is None with fewer than `MIN_SEEDS`, and where all differences are the same number: their
    spread is then unknown rather than zero.

    The numbers are those of `scipy.stats.ttest_rel`, to which the tests hold them; to import
    `scipy.stats` would make a small report a quarter slower.
    """
    shared = [seed for seed in best.scores if seed in other.scores]
    if not shared:
        return Comparison(other, 0)
    differences = np.array([sign * (other.scores[seed] - best.scores[seed]) for seed in shared])
    n, mean, n_worse = len(shared), float(differences.mean()), int((differences > 0).sum())
    if n < MIN_SEEDS:
        return Comparison(other, n, mean, n_worse=n_worse)
    if not differences.any():
        return Comparison(other, n, 0.0, 0.0, 0.0, 0.0, 1.0)
    std = float(differences.std(ddof=1))
    error = std / sqrt(n)
    if error <= 1e-9 * abs(mean):
        return Comparison(other, n, mean, std, n_worse=n_worse)
    p = float(2 * stdtr(n - 1, -abs(mean) / error))
    margin = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    return Comparison(other, n, mean, std, mean - margin, mean + margin, p, n_worse=n_worse)


def with_adjusted(pairs: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with their p-values adjusted together."""
    adjusted = iter(_holm([pair.p for pair in pairs if pair.p is not None]))
    return [
        replace(pair, adjusted=next(adjusted)) if pair.p is not None else pair for pair in pairs
    ]


def _holm(p_values: Sequence[float]) -> list[float]:
    """p-values for which the chance of any false claim among all is bounded (Holm 1979).

    >>> _holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    raised = np.arange(len(order), 0, -1) * np.array(p_values)[order]
    adjusted: list[float] = np.maximum.accumulate(np.minimum(1, raised))[np.argsort(order)].tolist()
    return adjusted


def verdict(sweep: Sweep, configs: Configs, comparisons: Sequence[Comparison]) -> str:
    """Whether the best config is distinguishable from the second, and what would tell more."""
    if not any(config.is_valid for config in configs):
        return "No config has a finished run that did not diverge: there is no best one."
    if not comparisons:
        return "There is no second config to compare it with."
    second = comparisons[0]
    ties = [config.describe() for config in tied_best(configs)[1:]]
    if ties:
        return f"It is as good to the last digit as {_some(ties)}.{_unclear(sweep, comparisons)}"
    if second.n >= MIN_SEEDS:
        return _test_result(sweep, second, comparisons)
    have = counted(second.n, sweep.seed_word) if second.n else f"no {sweep.seed_word}"
    override = _more_seeds(sweep, 5)
    return (
        f"Whether it is better than the second ({second.other.describe()}) cannot be told: the "
        f"best two share {have}, and a test needs {MIN_SEEDS}."
        + (f" Add {override} to the sweep." if override else "")
    )


def _test_result(sweep: Sweep, second: Comparison, comparisons: Sequence[Comparison]) -> str:
    """The verdict where there are seeds enough for a test."""
    other, seed = f"the second ({second.other.describe()})", sweep.seed_word
    if second.p is None or second.adjusted is None:
        return (
            f"T{other[1:]} is worse by {format_number(second.worse_by)} for each of {second.n} "
            f"{seed}s alike, so that no spread is known: more {seed}s would tell."
        )
    head = "distinguishable" if second.is_clear else "not distinguishable"
    m = len(comparisons)
    text = (
        f"It is {head} from {other}: the second is worse by {format_number(second.worse_by)} "
        f"(uncorrected 95 % interval {format_number(second.low)} to {format_number(second.high)}) "
        f"over {second.n} shared {seed}s, paired t-test p = {second.adjusted:.2g} after Holm's "
        f"correction for {counted(m, 'comparison')}."
    )
    if second.is_clear:
        return text
    return f"{text}{_unclear(sweep, comparisons)}{_advice(sweep, second, m)}"


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are.

    >>> _some(["a=1"]), _some(["a=1", "a=2"]), _some(["a=1", "a=2", "a=3", "a=4", "a=5"])
    ('a=1: take either', 'a=1 and a=2: take any', 'a=1, a=2, a=3 and 2 more: take any')
    """
    if len(names) == 1:
        return f"{names[0]}: take either"
    shown, n_more = list(names[:_MAX_TIES]), len(names) - _MAX_TIES
    last = f"{n_more} more" if n_more > 0 else shown.pop()
    return f"{', '.join(shown)} and {last}: take any"


def _unclear(sweep: Sweep, comparisons: Sequence[Comparison]) -> str:
    """How many configs cannot be told from the best; empty where there were no tests."""
    unclear = [each for each in comparisons if not each.is_clear]
    if not any(each.n >= MIN_SEEDS for each in comparisons):
        return ""
    others = counted(len(comparisons), "other config")
    text = f" {len(unclear)} of {others} cannot be told from the best"
    always = sum(each.is_always_worse for each in unclear)
    if always:
        which = "each" if always == len(unclear) else f"{always} of them"
        text += f", though {which} did worse with every {sweep.seed_word}"
    return f"{text}."


def _advice(sweep: Sweep, second: Comparison, n_comparisons: int) -> str:
    """How many seeds would tell the best two apart."""
    if not second.worse_by or not second.std:
        return ""
    needed = _seeds_needed(second, n_comparisons)
    if needed is None:
        return f" Take either: it would take more than {_MAX_SEEDS} {sweep.seed_word}s to tell."
    override = _more_seeds(sweep, needed)
    if override is None and sweep.seed_word == "fold":
        return f" About {needed} folds would tell, more than the data are split into."
    return f" About {needed} {sweep.seed_word}s would tell{f': {override}' if override else ''}."


def _seeds_needed(comparison: Comparison, n_comparisons: int) -> int | None:
    """How many seeds would tell the two apart, if they differ by as much as was seen.

    The test is held to the strictest of Holm's levels, 0.05 over the number of comparisons. None
    where it would take more than `_MAX_SEEDS`, or the spread is unknown.
    """
    if not comparison.worse_by or not comparison.std:
        return None
    effect = abs(comparison.worse_by) / comparison.std
    level = 1 - (1 - CONFIDENCE) / n_comparisons / 2
    n = np.arange(comparison.n + 1, _MAX_SEEDS + 1)
    enough = n[effect * np.sqrt(n) >= stdtrit(n - 1, level) + stdtrit(n - 1, _POWER)]
    return int(enough[0]) if len(enough) else None


def _more_seeds(sweep: Sweep, n: int) -> str | None:
    """The override for n seeds, those that the sweep has first.

    It names the key by which the sweep repeated its configs: the seed, or the fold. None where
    there are no more folds, where seeds are not whole numbers, or where the runs were resumed from
    another, whose seed they keep.
    """
    keys, first = sweep.seed_keys, sweep.runs[0]
    key = "seed" if "seed" in keys or not keys else keys[0]
    found = [run.value(key) for run in sweep.runs] if keys else [first.config.get("seed", 0)]
    used = sorted({value for value in found if isinstance(value, int)})
    if first.config.get("resume") or not all(isinstance(value, int) for value in found):
        return None
    unused = [number for number in range(n + len(used)) if number not in used]
    values = [*used, *unused][: max(n, len(used))]
    n_folds = first.config_value("data.folds") if key == "data.fold" else None
    if isinstance(n_folds, int) and max(values) >= n_folds:
        return None
    if values == list(range(n)) and n > 5:
        return f"{key}='range({n})'"
    return f"{key}={','.join(map(format_value, values))}"
