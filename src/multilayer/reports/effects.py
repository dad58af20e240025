"""Which hyperparameters matter, with the others at their best, and what chance does.

That no difference was seen proves nothing: a test of equivalence needs a narrow interval of it.
Of learning rates: which one is best for each choice, as of the optimizer, and what that is worth.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from multilayer.reports.configs import ConfigResult, Configs, SeedStats, format_number, tied_best
from multilayer.reports.hyperparameters import Hyperparameter, format_value
from multilayer.reports.significance import MIN_SEEDS, Comparison, paired_test, with_adjusted
from multilayer.reports.sweep import Sweep

EQUIVALENT = 1.0
"""Residual standard deviations of a single run: values of a hyperparameter are as good as equal if
the 95 % intervals of their differences stay within. Who trains one run gains or loses as much by
chance. With fewer than about ten seeds hardly an interval is so narrow, and nothing is claimed."""

_MAX_VALUES = 8
"""Values of a choice whose best rates are listed."""

_MAX_PAIRS = 3
"""Choices, and rates for each of them, that are looked at."""


class Finding(NamedTuple):
    """One thing that a sweep teaches besides its winner: a title of a few words, and a sentence."""

    title: str
    text: str


def effect_findings(sweep: Sweep, configs: Configs, is_clear: bool) -> list[Finding]:
    """What the hyperparameters and chance do.

    Args:
        sweep: The sweep.
        configs: Its configs, best first.
        is_clear: Whether the best is distinguishable from the second.
    """
    by_chance = _order_is_chance(configs, is_clear)
    return [
        *([by_chance] if by_chance else []),
        *_without_effect(_effects(sweep, configs), _residual_std(configs)),
        *_best_lr_by_choice(sweep, configs),
    ]


@dataclass(frozen=True)
class _Effect:
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
    def changes_nothing(self) -> bool:
        """Whether the best at each value is as good as the best of all with every seed."""
        return all(each.worse_by == 0 and not each.std for each in self.known)

    @property
    def difference(self) -> float:
        """The difference between the best value and the worst."""
        return max(each.worse_by or 0.0 for each in self.known)

    @property
    def reach(self) -> float | None:
        """How far from 0 the intervals reach; None where one is unknown."""
        ends = [end for each in self.known for end in (each.low, each.high)]
        known = [abs(end) for end in ends if end is not None]
        return max(known) if known and len(known) == len(ends) else None

    @property
    def is_seen(self) -> bool:
        """Whether some value is worse than the best beyond its interval."""
        return any(each.low is not None and each.low > 0 for each in self.known)


def _effects(sweep: Sweep, configs: Configs) -> list[_Effect]:
    """The effect of each hyperparameter; configs come best first.

    The playbook's way: nuisance hyperparameters are tuned at each value of the one in question. It
    holds for grids, and for searches that draw values, which are put into ranges.
    """
    valid = [config for config in configs if config.is_valid]
    found = []
    for each in sweep.hyperparameters:
        comparisons: dict[str, Comparison | None] = {}
        for name, values in each.bins().items():
            best = next((config for config in valid if config.values[each.key] in values), None)
            comparisons[name] = paired_test(valid[0], best, sweep.sign) if best else None
        found.append(_Effect(each.key, comparisons))
    return found


def _without_effect(found: Sequence[_Effect], residual: float | None) -> Iterator[Finding]:
    """The hyperparameters that are shown not to matter, and those for which nobody can tell.

    Args:
        found: The effects.
        residual: What chance does to a single run, as a standard deviation.
    """
    known = [effect for effect in found if effect.known]
    n = min((each.n for effect in known for each in effect.known), default=0)
    best = "with the other hyperparameters at their best"
    same = [effect for effect in known if effect.changes_nothing]
    if same:
        keys = ", ".join(effect.key for effect in same)
        yield Finding(
            "changes nothing", f"{keys}: {best}, all values give the same to the last digit"
        )
    known = [effect for effect in known if effect not in same]
    if not known or residual == 0:  # runs are equal to the digit: there is no bound
        return
    if residual is None or n < MIN_SEEDS:
        yield Finding(
            f"what matters cannot be told from {'one seed' if n == 1 else f'{n} seeds'}",
            f"{best}, the values differ by {_listed(known)}; how much of that is chance nobody "
            "knows without more seeds",
        )
        return
    bound = EQUIVALENT * residual
    unseen = [effect for effect in known if not effect.is_seen]
    idle = [effect for effect in unseen if effect.reach is not None and effect.reach <= bound]
    if idle:
        yield Finding(
            "does not matter here",
            f"{_listed(idle)}: {best}, the intervals of the differences between its values are "
            f"within ±{format_number(bound)}, which is what chance does to a single run",
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
            f"{_listed(untold)}: {best}, no interval shows a value to be worse, and not all are as "
            f"good to within ±{format_number(bound)}; more seeds would tell{yet}",
        )


def _listed(found: Sequence[_Effect]) -> str:
    """The hyperparameters, each with the difference between its values."""
    return ", ".join(f"{each.key} ({format_number(each.difference)})" for each in found)


def _residual_std(configs: Configs) -> float | None:
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
        return _pooled_std([config.score for config in half if config.score])
    scores = np.array([[config.scores[seed] for seed in shared] for config in half])  # (C, S)
    rows, columns = scores.mean(axis=1, keepdims=True), scores.mean(axis=0, keepdims=True)
    residuals = scores - rows - columns + scores.mean()
    freedom = (len(half) - 1) * (len(shared) - 1)
    return float(np.sqrt((residuals**2).sum() / freedom))


def _pooled_std(stats: Sequence[SeedStats]) -> float | None:
    """The standard deviation over seeds, pooled over configs; None where no config has two seeds.

    >>> _pooled_std([SeedStats.of([0.0, 2.0]), SeedStats.of([0.0, 0.0]), SeedStats.of([1.0])])
    1.0
    """
    weights = [each.n - 1 for each in stats if each.std is not None]
    variances = [each.std**2 for each in stats if each.std is not None]
    return float(np.sqrt(np.average(variances, weights=weights))) if weights else None


def _better_half(configs: Configs) -> list[ConfigResult]:
    """The valid configs from the best to the median, at least two; they come best first."""
    valid = [config for config in configs if config.is_valid]
    return valid[: max(2, (len(valid) + 1) // 2)]


def _order_is_chance(configs: Configs, is_clear: bool) -> Finding | None:
    """Whether the means are known no more precisely than they differ; configs come best first.

    Where the best is distinguishable from the second (`is_clear`), there is nothing to say.
    """
    half, residual = _better_half(configs), _residual_std(configs)
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


def _best_lr_by_choice(sweep: Sweep, configs: Configs) -> Iterator[Finding]:
    """The best learning rate at each value of each choice; configs come best first."""
    swept = sweep.hyperparameters
    rates = [each for each in swept if each.is_number and each.key.endswith("lr")][:_MAX_PAIRS]
    choices = [each for each in swept if not each.is_number and len(each.values) <= _MAX_VALUES]
    for choice in choices[:_MAX_PAIRS]:
        of_choice: dict[str, list[ConfigResult]] = {}
        for config in configs:
            if config.is_valid:
                of_choice.setdefault(format_value(config.values[choice.key]), []).append(config)
        best = {name: own[0] for name, own in of_choice.items()}
        if len(best) < 2:
            continue
        for rate in rates:
            pairs = ", ".join(_pair(name, tied_best(own), rate) for name, own in of_choice.items())
            worth = _worth_of_own_rates(sweep, configs, rate, choice.key, best)
            yield Finding(
                f"{rate.label} and {choice.label}", "; ".join([f"best is {pairs}", *worth])
            )
        if not rates and "optimizer.lr" in configs[0].derived:
            found = ", ".join(
                f"{name} with optimizer.lr={config.derived['optimizer.lr']} "
                f"({format_number(config.mean)})"
                for name, config in best.items()
            )
            text = f"the rates were not swept; they were: {found}"
            yield Finding(f"learning rate and {choice.label}", text)


def _pair(name: str, tied: Configs, rate: Hyperparameter) -> str:
    """A choice with its best rate, or with those that tie."""
    values = list(dict.fromkeys(config.values[rate.key] for config in tied))
    edge = ", at the edge" if all(map(rate.edge_side, values)) else ""
    shown = " or ".join(map(format_value, values))
    return f"{name} with {rate.key}={shown} ({format_number(tied[0].mean)}{edge})"


def _worth_of_own_rates(
    sweep: Sweep, configs: Configs, rate: Hyperparameter, choice: str, best: dict[str, ConfigResult]
) -> list[str]:
    """Whether some choice is clearly worse at the best rate of another, and what was not tried.

    Rates that a search has drawn count as the same if they are in the same range.
    """
    tests: dict[str, Comparison] = {}
    untried, diverging, n_unknown = [], [], 0
    for name, own in best.items():
        for value in [other.values[rate.key] for other in best.values()]:
            near = next(values for values in rate.bins().values() if value in values)
            if own.values[rate.key] in near:
                continue
            here = [
                config
                for config in configs
                if format_value(config.values[choice]) == name and config.values[rate.key] in near
            ]
            valid = [config for config in here if config.is_valid]
            where = f"{name} at {format_value(value)}"
            if valid:
                tests[where] = paired_test(own, valid[0], sweep.sign)
            elif not here:
                untried.append(where)
            elif any(config.n_diverged and len(config.runs) >= MIN_SEEDS for config in here):
                diverging.append(where)
            else:
                n_unknown += 1
    missing = [f"untried: {', '.join(dict.fromkeys(untried))}"] if untried else []
    return [*_conclusion(tests, diverging, rate.label, bool(untried or n_unknown)), *missing]


def _conclusion(
    tests: Mapping[str, Comparison], diverging: Sequence[str], label: str, is_partial: bool
) -> list[str]:
    """The evidence as clauses; none where there are too few seeds for any.

    Args:
        tests: Of each choice at the best rate of another, against its own best.
        diverging: Choices with the best rates of others, at which they diverge.
        label: What the rate is called.
        is_partial: Whether some pairs were not tried, or have no score.
    """
    if not tests and not diverging:
        return [] if is_partial else [f"the same {label} is best for each"]
    found = [_clause(list(dict.fromkeys(diverging)), "diverges", "diverge")] if diverging else []
    if all(each.n >= MIN_SEEDS for each in tests.values()):
        adjusted = zip(tests, with_adjusted(list(tests.values())), strict=True)
        clear = [name for name, each in adjusted if each.is_clear]
        if clear:
            one = f"is clearly worse than at its best {label}"
            several = f"are clearly worse than at their best {label}s"
            found.append(f"{_clause(clear, one, several)}, as a paired test tells")
        elif not diverging:
            return ["that the rates differ is no more than chance can do"]
    return [*found, f"compare each at its own {label}"] if found else []


def _clause(names: Sequence[str], one: str, several: str) -> str:
    """Names and what is said of them.

    >>> _clause(["sgd at 1"], "diverges", "diverge"), _clause(["a", "b", "c"], "is", "are")
    ('sgd at 1 diverges', 'a, b and c are')
    """
    *others, last = names
    return f"{', '.join(others)} and {last} {several}" if others else f"{last} {one}"
