"""Colours: one for each value of one hyperparameter, the same in all figures; and of the metric."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, to_hex
from matplotlib.ticker import LogLocator, MaxNLocator

from multilayer.plotting.style import COLOUR_MAP, GREY, PALETTE, TRAIN, VALIDATION, shortened
from multilayer.reports.configs import ConfigResult, Configs
from multilayer.reports.hyperparameters import Hyperparameter, Value, format_value
from multilayer.reports.plots.axes import MAX_LETTERS, WIDE_RANGE, metric_label, spaced

_MAX_COLOURS = 6
"""Colours that a reader tells apart; black marks the best. More numbers are shades of a scale."""

_OF_SPLITS = (TRAIN, VALIDATION)
_CHOICES = (*(each for each in PALETTE if each not in _OF_SPLITS), *_OF_SPLITS)
"""Blue and orange come last: in the curves they are training and validation."""


@dataclass(frozen=True)
class Colours:
    """The colour of each value of one hyperparameter.

    Attributes:
        hyperparameter: None where none can have colours; everything is grey then.
        of_value: The colour of each of its values.
    """

    hyperparameter: Hyperparameter | None = None
    of_value: dict[Value, str] = field(default_factory=dict)

    def of(self, config: ConfigResult) -> str:
        """The colour of a config."""
        if self.hyperparameter is None:
            return GREY
        return self.of_value[config.values[self.hyperparameter.key]]

    @property
    def are_few(self) -> bool:
        """Whether each value has a colour that one tells apart."""
        return len(self.of_value) <= _MAX_COLOURS

    @property
    def legend(self) -> dict[str, str]:
        """Colours by the text of their values; of many values some."""
        values = list(self.of_value)
        shown = [values[i] for i in spaced(len(values), _MAX_COLOURS)]
        texts = [shortened(format_value(value), MAX_LETTERS) for value in shown]
        return {text: self.of_value[value] for text, value in zip(texts, shown, strict=True)}


def choose_colours(hyperparameters: Sequence[Hyperparameter]) -> Colours:
    """Colours for the choice with the fewest values, or such a number, or else any number."""
    able = [each for each in hyperparameters if each.is_number or len(each.values) <= _MAX_COLOURS]
    if not able:
        return Colours()
    chosen = min(
        able, key=lambda each: (len(each.values) > _MAX_COLOURS, each.is_number, len(each.values))
    )
    n = len(chosen.values)
    if chosen.is_number:
        # To 0.85 of the map: its yellow end is too light for a line on white.
        scale = matplotlib.colormaps[COLOUR_MAP]
        colours = [to_hex(scale(0.85 * place / (n - 1))) for place in range(n)]
    else:
        colours = list(_CHOICES[:n])
    return Colours(chosen, dict(zip(chosen.values, colours, strict=True)))


@dataclass(frozen=True)
class MetricScale:
    """The metric as a colour: yellow to blue, the best the brightest.

    Attributes:
        norm: From the metric to 0 to 1.
        cmap: The name of the colour map.
        extend: At which end the scale was cut, `min` or `max`, or `neither`.
    """

    norm: Normalize
    cmap: str
    extend: str

    @classmethod
    def of(cls, configs: Configs, sign: int) -> "MetricScale":
        """The scale for the means of some configs.

        It ends three times as far from the best as the median: one hopeless config would otherwise
        leave one colour for all the others.
        """
        worse = sign * np.sort(sign * np.array([config.mean for config in configs]))  # best first
        best, median, worst = worse[0], worse[len(worse) // 2], worse[-1]
        end = best + 3 * (median - best)
        is_cut = sign * worst > sign * end and end != best
        low, high = sorted((best, end if is_cut else worst))
        cmap = COLOUR_MAP + ("_r" if sign > 0 else "")
        extend = ("max" if sign > 0 else "min") if is_cut else "neither"
        if low > 0 and high / low > WIDE_RANGE:
            return cls(LogNorm(low, high), cmap, extend)
        return cls(Normalize(low, high if high > low else low + 1e-9), cmap, extend)

    def add_bar(self, axes: Axes, metric: str) -> None:
        """Draw the scale next to the axes, with the name of the metric."""
        colours = ScalarMappable(self.norm, self.cmap)
        axes.figure.colorbar(colours, ax=axes, extend=self.extend).set_label(metric_label(metric))

    def ticks(self) -> list[tuple[float, str]]:
        """Some values of the scale and their texts; an end at which it was cut says so."""
        low, high = float(self.norm.vmin or 0.0), float(self.norm.vmax or 0.0)
        is_log = isinstance(self.norm, LogNorm)
        locator = LogLocator(subs=(1, 2, 5)) if is_log else MaxNLocator(5)
        values = [float(value) for value in locator.tick_values(low, high) if low < value < high]
        ticks = [(value, f"{value:.3g}") for value in values]
        if self.extend == "max":
            ticks.append((high, f"≥ {high:.3g}"))
        if self.extend == "min":
            ticks.append((low, f"≤ {low:.3g}"))
        return ticks


def coloured(configs: Configs) -> list[ConfigResult]:
    """The configs that the metric gives a colour, the best last, on top.

    Those with a diverged run have none, however good their other seeds look, unless there are no
    others.
    """
    valid = [config for config in configs if config.is_valid]
    return (valid or [config for config in configs if config.score])[::-1]
