"""In words: which config is best, and whether it can be told from the second."""

from collections.abc import Sequence

from multilayer.reports.configs import Candidate, command_of
from multilayer.reports.findings.finding import number
from multilayer.reports.more_seeds import more_seeds
from multilayer.reports.seed_stats import Fold
from multilayer.reports.significance import LEAST_SEEDS, MOST_SEEDS, Comparison, seeds_needed
from multilayer.reports.sweep import Sweep


def in_words(fold: Fold | None) -> str:
    """A mean, its standard deviation and its interval, as far as there are.

    >>> from multilayer.reports.seed_stats import fold
    >>> in_words(fold([1.0, 1.0, 1.0])), in_words(fold([2.0])), in_words(None)
    ('1 ± 0 [1, 1]', '2', '-')
    >>> in_words(fold([1.0, 3.0]))
    '2 ± 1.4 [n too small]'
    """
    if fold is None or fold.std is None:
        return number(fold.mean) if fold else "-"
    known = fold.low is not None and fold.high is not None
    interval = f"{number(fold.low)}, {number(fold.high)}" if known else "n too small"
    return f"{number(fold.mean)} ± {fold.std:.2g} [{interval}]"


def verdict(
    sweep: Sweep, candidates: Sequence[Candidate], comparisons: Sequence[Comparison]
) -> str:
    """Whether the best config is distinguishable from the second, and what would tell more."""
    sound = [candidate for candidate in candidates if candidate.is_sound]
    if not sound:
        return "No config has a finished run that did not diverge: there is no best one."
    if not comparisons:
        return "There is no second config to compare it with."
    second = comparisons[0]
    if second.n >= LEAST_SEEDS:
        return tested(sweep, second, comparisons)
    s = "" if second.n == 1 else "s"
    have = f"{second.n} {sweep.repeat}{s}" if second.n else f"no {sweep.repeat}"
    override = more_seeds(sweep, 5)
    return (
        f"Whether it is better than the second ({second.other.words()}) cannot be told: the best "
        f"two share {have}, and a test needs {LEAST_SEEDS}."
        + (f" Add {override} to the sweep." if override else "")
    )


def tested(sweep: Sweep, second: Comparison, comparisons: Sequence[Comparison]) -> str:
    """The words for a test that could be made."""
    other = f"the second ({second.other.words()})"
    if second.p is None or second.adjusted is None:
        return (
            f"T{other[1:]} is worse by {number(second.worse_by)} for each of {second.n} "
            f"{sweep.repeat}s alike, so that no spread is known: more {sweep.repeat}s would tell."
        )
    head = "distinguishable" if second.is_clear else "not distinguishable"
    m = len(comparisons)
    words = (
        f"It is {head} from {other}: the second is worse by {number(second.worse_by)} "
        f"(uncorrected 95 % interval {number(second.low)} to {number(second.high)}) over "
        f"{second.n} shared {sweep.repeat}s, paired t-test p = {second.adjusted:.2g} after Holm's "
        f"correction for {m} comparison{'s' if m > 1 else ''}."
    )
    if second.is_clear:
        return words
    unclear = [each for each in comparisons if not each.is_clear]
    count = f" {len(unclear)} of {m} other configs cannot be told from the best"
    always = sum(each.is_always_worse for each in unclear)
    if always:
        which = "each" if always == len(unclear) else f"{always} of them"
        count += f", though {which} did worse with every {sweep.repeat}"
    return f"{words}{count}.{advice(sweep, second, m)}"


def advice(sweep: Sweep, second: Comparison, n_comparisons: int) -> str:
    """How many seeds would tell the best two apart."""
    if not second.worse_by or not second.std:
        return ""
    needed = seeds_needed(second, n_comparisons)
    if needed is None:
        return f" Take either: it would take more than {MOST_SEEDS} {sweep.repeat}s to tell."
    override = more_seeds(sweep, needed)
    if override is None and sweep.repeat == "fold":
        return f" About {needed} folds would tell, more than the data are split into."
    if override is None:
        return f" About {needed} {sweep.repeat}s would tell."
    return f" About {needed} {sweep.repeat}s would tell: {override}."


def best_command(candidates: Sequence[Candidate], sweep: Sweep) -> str | None:
    """The command that trains the best config; None where there is none."""
    return command_of(candidates[0], sweep) if candidates[0].is_sound else None
