"""Which hyperparameters do not matter, with the others at their best, and what chance does.

That no difference was seen proves nothing: a test of equivalence needs a narrow interval of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from multilayer.reports.configs import ConfigResult, Configs
from multilayer.reports.findings.thresholds import EQUIVALENT, Finding
from multilayer.reports.hyperparameters import Hyperparameter, Value
from multilayer.reports.seed_stats import format_number, pooled_std
from multilayer.reports.significance import MIN_SEEDS, Comparison, paired_test


@dataclass(frozen=True)
class Effect:
    """What a hyperparameter is worth when the others are tuned.

    Attributes:
        key: The hyperparameter.
        comparisons: By value (or range of values), the best config there against the best of all;
            None where every config diverged or has no score.
    """

    key: str
    comparisons: dict[str, Comparison | None]

    @property
    def known(self) -> list[Comparison]:
        """The comparisons, where each value has one; else none."""
        found = [each for each in self.comparisons.values() if each is not None and each.n]
        return found if len(found) == len(self.comparisons) else []

    @property
    def difference(self) -> float:
        """The difference between the best value and the worst."""
        return max(each.worse_by or 0.0 for each in self.known)

    @property
    def reach(self) -> float | None:
        """How far from 0 the intervals reach; None where one is unknown."""
        ends = [(each.low, each.high) for each in self.known]
        if not ends or any(low is None for low, _ in ends):
            return None
        return max(max(-(low or 0.0), high or 0.0) for low, high in ends)

    @property
    def is_seen(self) -> bool:
        """Whether some value is worse than the best beyond its interval."""
        return any(each.low is not None and each.low > 0 for each in self.known)


def effects(configs: Configs, hyperparameters: Sequence[Hyperparameter], sign: int) -> list[Effect]:
    """The effect of each hyperparameter; configs come best first.

    The playbook's way: nuisance hyperparameters are tuned at each value of the one in question. It
    holds for grids, and for searches that draw values, which are put into ranges.
    """
    valid = [config for config in configs if config.is_valid]
    found = []
    for each in hyperparameters:
        best: dict[Value, int] = {}
        for rank, config in enumerate(valid):
            best.setdefault(config.values[each.key], rank)
        comparisons: dict[str, Comparison | None] = {}
        for name, values in each.bins().items():
            ranks = [best[value] for value in values if value in best]
            comparisons[name] = paired_test(valid[0], valid[min(ranks)], sign) if ranks else None
        found.append(Effect(each.key, comparisons))
    return found


def without_effect(found: Sequence[Effect], residual: float | None) -> Iterator[Finding]:
    """The hyperparameters that are shown not to matter, and those for which nobody can tell.

    Args:
        found: The effects.
        residual: What chance does to a single run, as a standard deviation.
    """
    known = [effect for effect in found if effect.known]
    n = min((each.n for effect in known for each in effect.known), default=0)
    if not known or residual == 0:  # all runs are equal to the digit: there is no bound
        return
    if residual is None or n < MIN_SEEDS:
        yield Finding(
            f"what matters cannot be told from {'one seed' if n == 1 else f'{n} seeds'}",
            f"with the other settings at their best, the values differ by {_listed(known)}; how "
            "much of that is chance nobody knows without more seeds",
        )
        return
    bound = EQUIVALENT * residual
    unseen = [effect for effect in known if not effect.is_seen]
    idle = [effect for effect in unseen if effect.reach is not None and effect.reach <= bound]
    if idle:
        yield Finding(
            "does not matter here",
            f"{_listed(idle)}: with the other settings at their best, the intervals of the "
            f"differences between its values are within ±{format_number(bound)}, which is what "
            "chance does to a single run",
        )
    untold = [effect for effect in unseen if effect not in idle]
    if untold:
        always_worse = [
            f"{effect.key}={name}"
            for effect in untold
            for name, each in effect.comparisons.items()
            if each and each.is_always_worse
        ]
        yet = f". Yet worse with every seed: {', '.join(always_worse)}" if always_worse else ""
        yield Finding(
            "whether it matters cannot be told",
            f"{_listed(untold)}: with the other settings at their best, no interval shows a value "
            f"to be worse, and not all are as good to within ±{format_number(bound)}; more seeds "
            f"would tell{yet}",
        )


def _listed(found: Sequence[Effect]) -> str:
    """The hyperparameters, each with the difference between its values."""
    return ", ".join(f"{each.key} ({format_number(each.difference)})" for each in found)


def residual_std(configs: Configs) -> float | None:
    """What chance does to a run: its standard deviation around the mean of its config.

    Measured as the paired test does. A seed that is hard for one config is hard for the others too;
    that part decides between no two configs, and is taken out: of a table of configs by seeds, what
    remains around the means of rows and columns. Only the better half of the configs counts:
    hopeless ones vary more, and nobody chooses between them. Where they do not share two seeds, the
    deviations over seeds are pooled; None where no config has two.
    """
    half = _better_half(configs)
    shared = [seed for seed in half[0].scores if all(seed in config.scores for config in half)]
    if len(half) < 2 or len(shared) < 2:
        return pooled_std([config.score for config in half if config.score])
    scores = np.array([[config.scores[seed] for seed in shared] for config in half])  # (C, S)
    rows, columns = scores.mean(axis=1, keepdims=True), scores.mean(axis=0, keepdims=True)
    residuals = scores - rows - columns + scores.mean()
    freedom = (len(half) - 1) * (len(shared) - 1)
    return float(np.sqrt((residuals**2).sum() / freedom))


def _better_half(configs: Configs) -> list[ConfigResult]:
    """The valid configs from the best to the median, at least two; they come best first."""
    valid = [config for config in configs if config.is_valid]
    return valid[: max(2, (len(valid) + 1) // 2)]


def order_is_chance(configs: Configs, is_clear: bool) -> Finding | None:
    """Whether the means are known no more precisely than they differ.

    Args:
        configs: Best first.
        is_clear: Whether the best is distinguishable from the second; then there is nothing to say.
    """
    half, residual = _better_half(configs), residual_std(configs)
    if is_clear or residual is None or len(half) < 2:
        return None
    spread = float(np.std([config.mean for config in half], ddof=1))
    n = min(len(config.scores) for config in half)
    error = residual / n**0.5
    if error < spread or error == 0:
        return None
    return Finding(
        "trial variance is as large as the differences",
        f"among the better half of the configs ({len(half)}), the means have a standard deviation "
        f"of {format_number(spread)}, and chance alone one of {format_number(error)} for n = {n}: "
        "their order is largely chance",
    )
