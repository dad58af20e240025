"""The levels of a setting by name; many numbers in a few ranges."""

import numpy as np

from multilayer.reports.findings.bounds import N_BINS
from multilayer.reports.hyperparameters import Level, Setting, word


def ranges(setting: Setting) -> dict[str, list[Level]]:
    """The levels by name; many numbers in `N_BINS` ranges."""
    levels = setting.levels
    if not setting.is_number or len(levels) <= 3 * N_BINS:
        return {word(level): [level] for level in levels}
    parts = [list(part) for part in np.array_split(np.array(levels, dtype=object), N_BINS)]
    return {f"{word(part[0])} to {word(part[-1])}": part for part in parts}
