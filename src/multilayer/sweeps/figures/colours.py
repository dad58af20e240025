"""One colour for each value of one setting, the same in all figures of a report."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib
from matplotlib.colors import to_hex

from multilayer.drawing import COLOUR_MAP, GREY, PALETTE
from multilayer.sweeps.settings import Level, Setting

MOST_COLOURS = 6
"""That a reader tells apart; black is for what is marked."""


@dataclass(frozen=True)
class Colours:
    """Which setting the colours are for, and the colour of each of its levels.

    setting: None where no setting has few enough levels; everything is grey then.
    """

    setting: Setting | None = None
    of_level: dict[Level, str] = field(default_factory=dict)

    def of(self, choice: dict[str, Level]) -> str:
        """The colour of a config."""
        return GREY if self.setting is None else self.of_level[choice[self.setting.key]]


def choose_colours(settings: Sequence[Setting]) -> Colours:
    """Colours for the choice with the fewest levels, else for such a number."""
    few = [setting for setting in settings if len(setting.levels) <= MOST_COLOURS]
    if not few or len(settings) < 2:
        return Colours()
    setting = min(few, key=lambda each: (each.is_number, len(each.levels)))
    n = len(setting.levels)
    if setting.is_number:
        # To 0.85 of the map: its yellow end is too light for a line on white.
        scale = matplotlib.colormaps[COLOUR_MAP]
        colours = [to_hex(scale(0.85 * place / (n - 1))) for place in range(n)]
    else:
        colours = list(PALETTE[:n])
    return Colours(setting, dict(zip(setting.levels, colours, strict=True)))
