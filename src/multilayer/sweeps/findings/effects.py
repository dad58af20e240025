"""What each setting is worth, with the other settings at their best."""

from collections.abc import Sequence
from dataclasses import dataclass

from multilayer.sweeps.candidates import Candidate
from multilayer.sweeps.findings.finding import Finding, number
from multilayer.sweeps.findings.ranges import ranges
from multilayer.sweeps.settings import Setting


@dataclass(frozen=True)
class Effect:
    """What a setting is worth when the others are tuned.

    best_at: the best mean at each level (or range of levels) over all the other settings; None
        where every config diverged or has no score.
    """

    setting: Setting
    best_at: dict[str, float | None]

    @property
    def difference(self) -> float | None:
        """Between the best and the worst level; None where some level has no mean."""
        values = [value for value in self.best_at.values() if value is not None]
        if len(values) < len(self.best_at) or not values:
            return None
        return max(values) - min(values)


def effects(candidates: Sequence[Candidate], settings: Sequence[Setting]) -> list[Effect]:
    """The worth of each setting; candidates come best first.

    The playbook's way: settings that nobody asks about are tuned at each level of the one asked
    about. It holds for grids, and for searches that draw values, which are put into ranges.
    """
    found = []
    for setting in settings:
        best_at: dict[str, float | None] = {}
        for name, levels in ranges(setting).items():
            here = [c for c in candidates if c.is_sound and c.choice[setting.key] in levels]
            best_at[name] = here[0].mean if here else None
        found.append(Effect(setting, best_at))
    return found


def settings_that_do_not_matter(found: Sequence[Effect], seeds: float | None) -> Finding | None:
    """The settings whose levels, each with the others tuned, differ by less than seeds do."""
    if seeds is None:
        return unknown_worth(found)
    idle = [it for it in found if it.difference is not None and it.difference <= seeds]
    if not idle:
        return None
    return Finding(
        "does not matter here",
        f"{differences(idle)}: with the other settings at their best, its values differ by no more "
        f"than the seeds of one config do ({number(seeds)})",
    )


def unknown_worth(found: Sequence[Effect]) -> Finding | None:
    """What one seed cannot tell."""
    known = [it for it in found if it.difference is not None]
    if not known:
        return None
    return Finding(
        "what matters cannot be told from one seed",
        f"with the other settings at their best, the values differ by {differences(known)}; how "
        "much of that is chance nobody knows without more seeds",
    )


def differences(found: Sequence[Effect]) -> str:
    """The settings, each with what its values differ by."""
    return ", ".join(f"{it.setting.key} ({number(it.difference)})" for it in found)
