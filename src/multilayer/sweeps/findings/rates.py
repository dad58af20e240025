"""Which number goes with which choice: the learning rate with the optimizer, above all."""

from collections.abc import Iterator, Sequence
from math import inf

from multilayer.sweeps.candidates import Candidate
from multilayer.sweeps.findings.edges import side_of
from multilayer.sweeps.findings.finding import Finding, number
from multilayer.sweeps.findings.noise import noise
from multilayer.sweeps.findings.ranges import ranges
from multilayer.sweeps.settings import Setting, word


def numbers_by_choice(
    candidates: Sequence[Candidate], settings: Sequence[Setting], limit: int = 3
) -> Iterator[Finding]:
    """Which number goes with which choice: the learning rate with the optimizer, above all."""
    rates = [s for s in settings if s.is_number and s.key.endswith("lr")]
    choices = [s for s in settings if not s.is_number and len(s.levels) <= 8]
    for rate in rates[:limit]:
        for choice in choices[:limit]:
            found = goes_together(candidates, rate, choice)
            if found:
                yield found


def goes_together(
    candidates: Sequence[Candidate], rate: Setting, choice: Setting
) -> Finding | None:
    """The best number at each level of a choice; candidates come best first."""
    best: dict[str, Candidate] = {}
    for candidate in candidates:
        if candidate.is_sound:
            best.setdefault(word(candidate.choice[choice.key]), candidate)
    if len(best) < 2:
        return None
    each = [
        f"{name} with {rate.key}={word(it.choice[rate.key])} ({number(it.mean)}"
        + (", at the edge)" if side_of(rate, it.choice[rate.key]) else ")")
        for name, it in best.items()
    ]
    lost, seeds = lost_by_sharing(candidates, rate, choice, list(best.values())), noise(candidates)
    if lost == 0:
        same = f"the same {rate.label} is best for each"
    elif seeds is not None and lost <= seeds:
        same = f"that they differ matters less than the seeds do ({number(seeds)})"
    else:
        same = f"each needs a {rate.label} of its own: compare them at those, never at one for all"
    return Finding(f"{rate.label} and {choice.label}", f"best is {', '.join(each)}; {same}")


def lost_by_sharing(
    candidates: Sequence[Candidate], rate: Setting, choice: Setting, best: Sequence[Candidate]
) -> float:
    """The most that a choice loses at the best rate of another one; infinite where it diverges.

    Rates that a search has drawn count as the same where they are in the same range.
    """
    lost = 0.0
    for own in best:
        for other in best:
            near = next(part for part in ranges(rate).values() if other.choice[rate.key] in part)
            here = (
                each
                for each in candidates
                if each.is_sound
                and each.choice[choice.key] == own.choice[choice.key]
                and each.choice[rate.key] in near
            )
            found = next(here, None)
            lost = max(lost, abs(found.mean - own.mean) if found else inf)
    return lost
