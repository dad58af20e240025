"""The best learning rate of each choice, as of the optimizer, and what its own rate is worth."""

from collections.abc import Iterator, Mapping, Sequence

from multilayer.reports.configs import ConfigResult, Configs
from multilayer.reports.findings.grid_edge import edge_side
from multilayer.reports.findings.thresholds import Finding
from multilayer.reports.hyperparameters import Hyperparameter, format_value
from multilayer.reports.seed_stats import format_number
from multilayer.reports.significance import MIN_SEEDS, Comparison, paired_test, with_adjusted

_MAX_VALUES = 8
"""Values of a choice whose best rates are listed."""

_MAX_PAIRS = 3
"""Choices, and rates for each of them, that are looked at."""

_Best = dict[str, ConfigResult]
"""By the value of a choice, the best config there."""


def best_lr_by_choice(
    configs: Configs, hyperparameters: Sequence[Hyperparameter], sign: int
) -> Iterator[Finding]:
    """The best rate at each value of each choice; configs come best first."""
    rates = [each for each in hyperparameters if each.is_number and each.key.endswith("lr")]
    choices = [each for each in hyperparameters if not each.is_number]
    for choice in [each for each in choices if len(each.values) <= _MAX_VALUES][:_MAX_PAIRS]:
        best: _Best = {}
        for config in configs:
            if config.is_valid:
                best.setdefault(format_value(config.values[choice.key]), config)
        if len(best) < 2:
            continue
        for rate in rates[:_MAX_PAIRS]:
            pairs = ", ".join(_pair(name, config, rate) for name, config in best.items())
            worth = _worth_of_own_rates(configs, rate, choice, best, sign)
            title = f"{rate.label} and {choice.label}"
            yield Finding(title, "; ".join([f"best is {pairs}", *worth]))
        if not rates and "optimizer.lr" in configs[0].derived:
            found = ", ".join(
                f"{name} with optimizer.lr={config.derived['optimizer.lr']} "
                f"({format_number(config.mean)})"
                for name, config in best.items()
            )
            title = f"learning rate and {choice.label}"
            yield Finding(title, f"the rates were not swept; they were: {found}")


def _pair(name: str, best: ConfigResult, rate: Hyperparameter) -> str:
    """A choice with its best rate."""
    value = best.values[rate.key]
    edge = ", at the edge" if edge_side(rate, value) else ""
    return f"{name} with {rate.key}={format_value(value)} ({format_number(best.mean)}{edge})"


def _worth_of_own_rates(
    configs: Configs,
    rate: Hyperparameter,
    choice: Hyperparameter,
    best: _Best,
    sign: int,
) -> list[str]:
    """Whether some choice is clearly worse at the best rate of another, and what was not tried.

    Rates that a search has drawn count as the same if they are in the same range.
    """
    tests: dict[str, Comparison] = {}
    untried, diverging, n_unknown = [], [], 0
    for name, own in best.items():
        for other in best.values():
            value = other.values[rate.key]
            near = next(values for values in rate.bins().values() if value in values)
            if own.values[rate.key] in near:
                continue
            here = [
                config
                for config in configs
                if format_value(config.values[choice.key]) == name
                and config.values[rate.key] in near
            ]
            valid = [config for config in here if config.is_valid]
            where = f"{name} at {format_value(value)}"
            if valid:
                tests[where] = paired_test(own, valid[0], sign)
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
