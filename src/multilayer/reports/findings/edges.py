"""Whether the best config lies at the edge of what was swept, and what to try beyond."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import log

from multilayer.reports.configs import Candidate
from multilayer.reports.findings.bounds import EDGE, MOST_FACTOR, SHARES
from multilayer.reports.findings.finding import Finding
from multilayer.reports.hyperparameters import Level, Setting, is_usually_by_factors, word


def edges_of_grid(best: Candidate, settings: Sequence[Setting]) -> Iterator[Finding]:
    """The numbers of the best config that lie at the end of what was swept, with what to try."""
    for setting in settings:
        level = best.choice[setting.key]
        side = side_of(setting, level)
        if side and level != 0:  # where a setting ends by itself
            end = {-1: "smallest", 1: "largest"}[side]
            near = "the" if level in (setting.levels[0], setting.levels[-1]) else "near the"
            tries = ",".join(word(value) for value in values_beyond(setting, side))
            more = f"; try {setting.key}={tries} too" if tries else ", and nothing lies beyond"
            yield Finding(
                "edge of the grid",
                f"the best {setting.key}={word(level)} is {near} {end} that was tried{more}",
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

    >>> from multilayer.reports.hyperparameters import make_setting
    >>> values_beyond(make_setting("optimizer.lr", [1e-3, 1e-2, 1e-1]), 1)
    [1.0, 10.0]
    >>> values_beyond(make_setting("optimizer.weight_decay", [0.0, 1e-3]), 1)
    [0.003, 0.01]
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
        factor = min(max(end / before, 1 / MOST_FACTOR), MOST_FACTOR)
        values = [end * factor**power for power in (1, 2)]
    elif (
        before == 0 and isinstance(setting.levels[-1], float) and is_usually_by_factors(setting.key)
    ):
        values = [end * 3.0, end * 10.0]
    else:
        values = [end + times * (end - before) for times in (1, 2)]
    if min(levels) >= 0:
        values = [value for value in values if value > 1e-9 * abs(end)] or [end / 2, end / 4]
    if setting.key.rpartition(".")[2] in SHARES:
        values = [value for value in values if value < 1 - 1e-9]  # 0.95 + 0.05 is below 1
    if all(isinstance(level, int) for level in setting.levels):
        least = 1 if min(levels) > 0 else min(values, default=0)
        whole = [round(value) for value in values if round(value) >= least]
        return list(dict.fromkeys(value for value in whole if value not in levels))
    return [float(f"{value:.{digits_of(levels, setting.is_log)}g}") for value in values]


def digits_of(levels: Sequence[float], is_log: bool) -> int:
    """How many digits a value beyond has: one where factors are about 3, for 0.03 after 0.01.

    >>> digits_of([0.001, 0.003, 0.01], True), digits_of([0.1, 0.2, 0.4], True)
    (1, 3)
    """
    ordered = sorted(levels)
    is_wide = is_log and all(b > 2.5 * a for a, b in pairwise(ordered))
    return 1 if is_wide and all(level == float(f"{level:.1g}") for level in levels) else 3
