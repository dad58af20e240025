"""Which settings do not matter, with the other settings at their best: a test of equivalence.

That no difference was seen proves nothing; the interval of the difference must be a narrow one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from multilayer.reports.configs import Candidate
from multilayer.reports.findings.bounds import EQUIVALENT
from multilayer.reports.findings.finding import Finding, number
from multilayer.reports.findings.ranges import ranges
from multilayer.reports.hyperparameters import Level, Setting
from multilayer.reports.significance import LEAST_SEEDS, Comparison, paired_test


@dataclass(frozen=True)
class Effect:
    """What a setting is worth when the others are tuned.

    against: by level (or range of levels), the best config there against the best of all; None
        where every config diverged or has no score.
    """

    setting: Setting
    against: dict[str, Comparison | None]

    @property
    def known(self) -> list[Comparison]:
        """The comparisons, where each level has one; else none."""
        found = [each for each in self.against.values() if each is not None and each.n]
        return found if len(found) == len(self.against) else []

    @property
    def difference(self) -> float:
        """Between the best level and the worst."""
        return max(each.worse_by or 0.0 for each in self.known)

    @property
    def reach(self) -> float | None:
        """How far from 0 the intervals reach; None where one is unknown."""
        ends = [(each.low, each.high) for each in self.known]
        if not ends or any(low is None for low, _ in ends):
            return None
        return max(max(-(low or 0.0), high or 0.0) for low, high in ends)

    @property
    def always_worse(self) -> list[str]:
        """The levels whose best config is worse than the best of all with every seed."""
        return [name for name, each in self.against.items() if each and each.is_always_worse]

    @property
    def is_seen(self) -> bool:
        """Whether some level is worse than the best beyond its interval."""
        return any(each.low is not None and each.low > 0 for each in self.known)


def effects(
    candidates: Sequence[Candidate], settings: Sequence[Setting], sign: int
) -> list[Effect]:
    """The worth of each setting; candidates come best first.

    The playbook's way: settings that nobody asks about are tuned at each level of the one asked
    about. It holds for grids, and for searches that draw values, which are put into ranges.
    """
    sound = [candidate for candidate in candidates if candidate.is_sound]
    found = []
    for setting in settings:
        best: dict[Level, int] = {}
        for rank, it in enumerate(sound):
            best.setdefault(it.choice[setting.key], rank)
        against: dict[str, Comparison | None] = {}
        for name, levels in ranges(setting).items():
            ranks = [best[level] for level in levels if level in best]
            against[name] = paired_test(sound[0], sound[min(ranks)], sign) if ranks else None
        found.append(Effect(setting, against))
    return found


def settings_that_do_not_matter(
    found: Sequence[Effect], residual: float | None
) -> Iterator[Finding]:
    """The settings that are shown not to matter, and those of which nobody can tell.

    residual: what chance does to a single run.
    """
    known = [it for it in found if it.known]
    n = min((each.n for it in known for each in it.known), default=0)
    if not known or residual == 0:  # all runs are equal to the digit: no bound is to be had
        return
    if residual is None or n < LEAST_SEEDS:
        yield too_few_seeds(known, n)
        return
    bound = EQUIVALENT * residual
    unseen = [it for it in known if not it.is_seen]
    idle = [it for it in unseen if it.reach is not None and it.reach <= bound]
    if idle:
        yield Finding(
            "does not matter here",
            f"{listed(idle)}: with the other settings at their best, the intervals of the "
            f"differences between its values are within ±{number(bound)}, which is what chance "
            "does to a single run",
        )
    untold = [it for it in unseen if it not in idle]
    if untold:
        yield Finding(
            "whether it matters cannot be told",
            f"{listed(untold)}: with the other settings at their best, no interval shows a value "
            f"to be worse, and not all are as good to within ±{number(bound)}; more seeds would "
            f"tell{worse_with_every_seed(untold)}",
        )


def worse_with_every_seed(found: Sequence[Effect]) -> str:
    """The levels that no interval shows to be worse, and that yet were so every time."""
    levels = [f"{it.setting.key}={name}" for it in found for name in it.always_worse]
    return f". Yet worse with every seed: {', '.join(levels)}" if levels else ""


def too_few_seeds(known: Sequence[Effect], n: int) -> Finding:
    """What one seed cannot tell, nor two."""
    return Finding(
        f"what matters cannot be told from {'one seed' if n == 1 else f'{n} seeds'}",
        f"with the other settings at their best, the values differ by {listed(known)}; how "
        "much of that is chance nobody knows without more seeds",
    )


def listed(found: Sequence[Effect]) -> str:
    """The settings, each with what its values differ by."""
    return ", ".join(f"{it.setting.key} ({number(it.difference)})" for it in found)
