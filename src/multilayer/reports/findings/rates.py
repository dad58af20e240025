"""Which number goes with which choice: the learning rate with the optimizer, above all."""

from collections.abc import Iterator, Mapping, Sequence

from multilayer.reports.configs import Candidate
from multilayer.reports.findings.edges import side_of
from multilayer.reports.findings.finding import Finding, number
from multilayer.reports.findings.ranges import ranges
from multilayer.reports.hyperparameters import Setting, word
from multilayer.reports.significance import LEAST_SEEDS, Comparison, paired_test, with_adjusted

MOST_LEVELS = 8
"""Of a choice whose best rates are listed."""

Best = dict[str, Candidate]
"""By the level of a choice, the best config there."""


def rates_of_choices(
    candidates: Sequence[Candidate], settings: Sequence[Setting], sign: int, limit: int = 3
) -> Iterator[Finding]:
    """The best rate at each level of each choice; candidates come best first."""
    rates = [it for it in settings if it.is_number and it.key.endswith("lr")]
    choices = [it for it in settings if not it.is_number and len(it.levels) <= MOST_LEVELS]
    for choice in choices[:limit]:
        best: Best = {}
        for candidate in candidates:
            if candidate.is_sound:
                best.setdefault(word(candidate.choice[choice.key]), candidate)
        if len(best) < 2:
            continue
        for rate in rates[:limit]:
            each = [pair(name, it, rate) for name, it in best.items()]
            worth = worth_of_own_rates(candidates, rate, choice, best, sign)
            title = f"{rate.label} and {choice.label}"
            yield Finding(title, "; ".join([f"best is {', '.join(each)}", *worth]))
        if not rates and "optimizer.lr" in candidates[0].reported:
            rate_words = (
                f"{name} with optimizer.lr={it.reported['optimizer.lr']} ({number(it.mean)})"
                for name, it in best.items()
            )
            title = f"learning rate and {choice.label}"
            yield Finding(title, f"the rates were not swept; they were: {', '.join(rate_words)}")


def pair(name: str, best: Candidate, rate: Setting) -> str:
    """A choice with its best rate."""
    level = best.choice[rate.key]
    edge = ", at the edge" if side_of(rate, level) else ""
    return f"{name} with {rate.key}={word(level)} ({number(best.mean)}{edge})"


def worth_of_own_rates(
    candidates: Sequence[Candidate], rate: Setting, choice: Setting, best: Best, sign: int
) -> list[str]:
    """Whether some choice is clearly worse at the best rate of another, which is what was untried.

    Rates that a search has drawn count as the same where they are in the same range.
    """
    tests: dict[str, Comparison] = {}
    untried, diverging, n_unknown = [], [], 0
    for name, own in best.items():
        for other in best.values():
            level = other.choice[rate.key]
            near = next(part for part in ranges(rate).values() if level in part)
            if own.choice[rate.key] in near:
                continue
            here = [
                it
                for it in candidates
                if word(it.choice[choice.key]) == name and it.choice[rate.key] in near
            ]
            sound = [it for it in here if it.is_sound]
            if sound:
                tests[f"{name} at {word(level)}"] = paired_test(own, sound[0], sign)
            elif not here:
                untried.append(f"{name} at {word(level)}")
            elif any(it.count("diverged") and len(it.runs) >= LEAST_SEEDS for it in here):
                diverging.append(f"{name} at {word(level)}")
            else:
                n_unknown += 1
    missing = [f"untried: {', '.join(dict.fromkeys(untried))}"] if untried else []
    return [*conclusion(tests, diverging, rate.label, bool(untried or n_unknown)), *missing]


def conclusion(
    tests: Mapping[str, Comparison], diverging: Sequence[str], label: str, is_partial: bool
) -> list[str]:
    """The evidence in words; nothing where there are too few seeds for any.

    tests: of each choice at the best rate of another, against its own best.
    """
    if not tests and not diverging:
        return [] if is_partial else [f"the same {label} is best for each"]
    found = [clause(list(dict.fromkeys(diverging)), "diverges", "diverge")] if diverging else []
    if all(each.n >= LEAST_SEEDS for each in tests.values()):
        adjusted = zip(tests, with_adjusted(list(tests.values())), strict=True)
        clear = [name for name, each in adjusted if each.is_clear]
        if clear:
            one = f"is clearly worse than at its best {label}"
            several = f"are clearly worse than at their best {label}s"
            found.append(f"{clause(clear, one, several)}, as a paired test tells")
        elif not diverging:
            return ["that the rates differ is no more than chance can do"]
    return [*found, f"compare each at its own {label}"] if found else []


def clause(names: Sequence[str], one: str, several: str) -> str:
    """Names and what is said of them.

    >>> clause(["sgd at 1"], "diverges", "diverge"), clause(["a", "b", "c"], "is", "are")
    ('sgd at 1 diverges', 'a, b and c are')
    """
    *others, last = names
    return f"{', '.join(others)} and {last} {several}" if others else f"{last} {one}"
