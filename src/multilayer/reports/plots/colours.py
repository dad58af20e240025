"""One colour for each value of one setting, the same in all figures of a report."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib
from matplotlib.colors import to_hex

from multilayer.plotting.style import COLOUR_MAP, GREY, PALETTE, TRAIN, VALIDATION, shortened
from multilayer.reports.hyperparameters import Level, Setting, word
from multilayer.reports.plots.axes import MOST_LETTERS, spaced

MOST_COLOURS = 6
"""That a reader tells apart; black is for what is marked. More numbers are shades of a scale."""

OF_SPLITS = (TRAIN, VALIDATION)
CHOICES = (*(each for each in PALETTE if each not in OF_SPLITS), *OF_SPLITS)
"""Blue and orange come last: in the curves they are training and validation."""


@dataclass(frozen=True)
class Colours:
    """Which setting the colours are for, and the colour of each of its levels.

    setting: None where no setting can have colours; everything is grey then.
    """

    setting: Setting | None = None
    of_level: dict[Level, str] = field(default_factory=dict)

    def of(self, choice: dict[str, Level]) -> str:
        """The colour of a config."""
        return GREY if self.setting is None else self.of_level[choice[self.setting.key]]

    @property
    def are_few(self) -> bool:
        """Whether each level has a colour that one tells apart."""
        return len(self.of_level) <= MOST_COLOURS

    @property
    def legend(self) -> dict[str, str]:
        """The colour by the word of a level; of many levels some."""
        levels = list(self.of_level)
        shown = levels if self.are_few else [levels[i] for i in spaced(len(levels), MOST_COLOURS)]
        return {shortened(word(level), MOST_LETTERS): self.of_level[level] for level in shown}


def choose_colours(settings: Sequence[Setting]) -> Colours:
    """Colours for the choice with the fewest levels, or such a number, or else any number."""
    able = [it for it in settings if it.is_number or len(it.levels) <= MOST_COLOURS]
    if not able:
        return Colours()
    setting = min(
        able, key=lambda it: (len(it.levels) > MOST_COLOURS, it.is_number, len(it.levels))
    )
    n = len(setting.levels)
    if setting.is_number:
        # To 0.85 of the map: its yellow end is too light for a line on white.
        scale = matplotlib.colormaps[COLOUR_MAP]
        colours = [to_hex(scale(0.85 * place / (n - 1))) for place in range(n)]
    else:
        colours = list(CHOICES[:n])
    return Colours(setting, dict(zip(setting.levels, colours, strict=True)))
