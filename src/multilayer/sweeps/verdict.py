"""In words: which config is best, and whether it can be told from the second."""

from collections.abc import Sequence

from multilayer.sweeps.candidates import Candidate, command_of
from multilayer.sweeps.comparison import LEAST_SEEDS, Comparison, seeds_needed
from multilayer.sweeps.findings.finding import number
from multilayer.sweeps.folding import Fold
from multilayer.sweeps.sweep import Sweep

MOST_SEEDS = 50
"""Beyond them nobody trains more to tell two configs apart: they are as good as equal."""


def in_words(fold: Fold | None) -> str:
    """A mean, its standard deviation and its interval, as far as there are.

    >>> from multilayer.sweeps.folding import fold
    >>> in_words(fold([1.0, 1.0])), in_words(fold([2.0])), in_words(None)
    ('1 ± 0 [1, 1]', '2', '-')
    """
    if fold is None or fold.std is None or fold.low is None or fold.high is None:
        return number(fold.mean) if fold else "-"
    return f"{number(fold.mean)} ± {fold.std:.2g} [{number(fold.low)}, {number(fold.high)}]"


def verdict(candidates: Sequence[Candidate], comparisons: Sequence[Comparison]) -> str:
    """Whether the best config is distinguishable from the second, and what would tell more."""
    sound = [candidate for candidate in candidates if candidate.is_sound]
    if not sound:
        return "No config has a finished run that did not diverge: there is no best one."
    if not comparisons:
        return "There is no second config to compare it with."
    second = comparisons[0]
    if second.n < LEAST_SEEDS:
        have = (
            f"the best two share {second.n} seed{'s' if second.n > 1 else ''}"
            if second.n
            else "the best two share no seed"
        )
        return (
            f"Whether it is better than the second ({second.other.words()}) cannot be told: "
            f"{have}, and a test needs {LEAST_SEEDS}. Add {more_seeds(5)} to the sweep."
        )
    return tested(second, comparisons)


def tested(second: Comparison, comparisons: Sequence[Comparison]) -> str:
    """The words for a test that could be made."""
    if second.p is None or second.adjusted is None:
        return (
            f"The second ({second.other.words()}) is worse by {number(second.worse_by)} for "
            f"each of {second.n} seeds alike, so that no spread is known: more seeds would tell."
        )
    head = "distinguishable" if second.is_clear else "not distinguishable"
    test = (
        f"worse by {number(second.worse_by)} [{number(second.low)}, {number(second.high)}] over "
        f"{second.n} shared seeds, paired t-test p = {second.adjusted:.2g} after Holm's correction "
        f"for {len(comparisons)} comparison{'s' if len(comparisons) > 1 else ''}"
    )
    words = f"It is {head} from the second ({second.other.words()}): {test}."
    unclear = sum(not each.is_clear for each in comparisons)
    if not second.is_clear:
        words += f" {unclear} of {len(comparisons)} other configs cannot be told from the best."
        words += advice(second)
    return words


def advice(second: Comparison) -> str:
    """How many seeds would tell the best two apart."""
    needed = seeds_needed(second)
    if needed is None:
        return ""
    if needed > MOST_SEEDS:
        return f" Take either: it would take more than {MOST_SEEDS} seeds to tell."
    return f" About {max(needed, second.n + 1)} seeds would tell: {more_seeds(needed)}."


def more_seeds(n: int) -> str:
    """The override for the first n seeds."""
    return "seed=" + (",".join(map(str, range(n))) if n <= 5 else f"'range({n})'")


def best_command(candidates: Sequence[Candidate], sweep: Sweep) -> str | None:
    """The command that trains the best config; None where there is none."""
    return command_of(candidates[0], sweep) if candidates[0].is_sound else None
