"""What a sweep teaches about its settings (tuning playbook: Godbole et al. 2023).

Each finding is a function of plain data that returns a sentence or nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, log

import numpy as np

from multilayer.sweeps.bounds import EDGE, N_BINS, SHARES
from multilayer.sweeps.candidates import Candidate
from multilayer.sweeps.finding import Finding, number
from multilayer.sweeps.folding import pooled_std
from multilayer.sweeps.settings import Level, Setting, word

# The edge of the grid ---------------------------------------------------------------------------


def edges_of_grid(best: Candidate, settings: Sequence[Setting]) -> Iterator[Finding]:
    """The numbers of the best config that lie at the end of what was swept, with what to try."""
    for setting in settings:
        level = best.choice[setting.key]
        side = side_of(setting, level)
        beyond = values_beyond(setting, side) if side else []
        if beyond:
            end = {-1: "smallest", 1: "largest"}[side]
            near = "the" if level in (setting.levels[0], setting.levels[-1]) else "near the"
            tries = ",".join(word(value) for value in beyond)
            yield Finding(
                "edge of the grid",
                f"the best {setting.key}={word(level)} is {near} {end} that was tried; "
                f"try {setting.key}={tries} too",
            )


def side_of(setting: Setting, level: Level) -> int:
    """-1 at the lower edge, 1 at the upper one, 0 between, or where there is no between."""
    if not setting.is_number or len(setting.levels) < 2:
        return 0
    low, high, here = (
        log(value) if setting.is_log else value
        for value in map(setting.place, (setting.levels[0], setting.levels[-1], level))
    )
    share = (here - low) / (high - low)
    return -1 if share <= EDGE else 1 if share >= 1 - EDGE else 0


def values_beyond(setting: Setting, side: int) -> list[float | int]:
    """Two values beyond the edge, spaced like the grid, or fewer where the setting ends.

    >>> from multilayer.sweeps.settings import make_setting
    >>> values_beyond(make_setting("optimizer.lr", [1e-3, 1e-2, 1e-1]), 1)
    [1.0, 10.0]
    >>> values_beyond(make_setting("model.dropout", [0.0, 0.2, 0.4]), -1)
    []
    """
    levels = [float(level) for level in setting.levels]  # type: ignore[arg-type]
    if side < 0:
        levels.reverse()
    end, step = levels[-1], max(1, len(levels) // 10)
    before = levels[-1 - min(step, len(levels) - 1)]
    if end == 0:
        return []
    if setting.is_log and before:
        values = [end * (end / before) ** power for power in (1, 2)]
    else:
        values = [end + times * (end - before) for times in (1, 2)]
    if min(levels) >= 0:
        values = [value for value in values if value > 1e-9 * abs(end)]
    if setting.key.rpartition(".")[2] in SHARES:
        values = [value for value in values if value < 1]
    if all(isinstance(level, int) for level in setting.levels):
        return list(dict.fromkeys(round(value) for value in values if round(value) not in levels))
    return [float(f"{value:.3g}") for value in values]


# Noise and settings -----------------------------------------------------------------------------


def noise(candidates: Sequence[Candidate]) -> float | None:
    """The standard deviation over seeds that the better half of the sound configs share.

    Hopeless configs vary more, and nobody chooses between them. None without two seeds.
    """
    scores = [each.score for each in better_half(candidates) if each.score]
    return pooled_std(scores)


def better_half(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The sound configs from the best to the median, two at least; they come best first."""
    sound = [candidate for candidate in candidates if candidate.is_sound]
    return sound[: max(2, (len(sound) + 1) // 2)]


def seeds_as_large(candidates: Sequence[Candidate]) -> Finding | None:
    """Whether seeds change the metric as much as the settings do."""
    half, seeds = better_half(candidates), noise(candidates)
    if seeds is None or len(half) < 2:
        return None
    configs = float(np.std([candidate.mean for candidate in half], ddof=1))
    if seeds < configs:
        return None
    return Finding(
        "seeds matter as much as settings",
        f"among the better half of the configs ({len(half)}), the means differ by a standard "
        f"deviation of {number(configs)}, and the seeds of one config by {number(seeds)}: "
        "their order is largely chance",
    )


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


def ranges(setting: Setting) -> dict[str, list[Level]]:
    """The levels by name; many numbers in `N_BINS` ranges."""
    levels = setting.levels
    if not setting.is_number or len(levels) <= 3 * N_BINS:
        return {word(level): [level] for level in levels}
    parts = [list(part) for part in np.array_split(np.array(levels, dtype=object), N_BINS)]
    return {f"{word(part[0])} to {word(part[-1])}": part for part in parts}


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
