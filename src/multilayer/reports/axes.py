"""What the figures share: the axes of hyperparameters and of metrics, and their colours.

An axis has a scale, ticks and a name with its unit. A colour stands for a value of one
hyperparameter, the same in all figures, or for the metric.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm, Normalize, to_hex
from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, MaxNLocator

from multilayer.plotting.style import COLOUR_MAP, GREY, MARK, PALETTE, TRAIN, VALIDATION, shortened
from multilayer.reports.configs import ConfigResult, Configs
from multilayer.reports.hyperparameters import Hyperparameter, Value, format_value

MAX_TICKS = 8

MAX_LETTERS = 24
"""Letters of a value at an axis, or of a run's name."""

MAX_VALUES = 30
"""Values of a hyperparameter that is drawn as a grid; more are those of a search, shown as dots."""

_WIDE_RANGE = 10
"""The factor between highest and lowest value from which a metric is drawn on a log axis."""

_MAX_TEXTS = 30
"""Values of a hyperparameter that is no number, up to which all are written at its axis."""

_APART = 0.07
"""Share of an axis by which two texts at it are apart."""

_MAX_LABEL = 48
"""Letters of an axis label."""

_UNITS = {
    "rmse": "in the target's units",
    "mae": "in the target's units",
    "pinball_loss": "in the target's units",
    "accuracy": "share of rows",
    "calibration_error": "share",
}

_MAX_COLOURS = 6
"""Colours that a reader tells apart; black marks the best. More numbers are shades of a scale."""

_OF_SPLITS = (TRAIN, VALIDATION)
_CHOICES = (*(each for each in PALETTE if each not in _OF_SPLITS), *_OF_SPLITS)
"""Blue and orange come last: in the curves they are training and validation."""


def metric_label(metric: str) -> str:
    """The axis label of a metric.

    >>> metric_label("validation/accuracy"), metric_label("validation/loss")
    ('validation accuracy (share of rows)', 'validation loss')
    """
    split, _, name = metric.rpartition("/")
    unit = f" ({_UNITS[name]})" if name in _UNITS else ""
    return shortened(f"{split} {name.replace('_', ' ')}{unit}", _MAX_LABEL)


def label_of(swept: Hyperparameter) -> str:
    """The axis label of a hyperparameter."""
    return shortened(swept.label, _MAX_LABEL)


def scale_metric(axes: Axes, values: Any, wide: float = _WIDE_RANGE) -> None:
    """A log axis where finite values span more than a factor of `wide`; some margin."""
    low, high = float(np.min(values)), float(np.max(values))
    if low > 0 and high / low > wide:
        axes.set_yscale("log")
        if high / low < 300:  # or else the powers of ten are ticks enough
            few = high / low < 30
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7) if few else (1, 2, 5)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter("")
        margin = (high / low) ** 0.06
        limits = (low / margin, high * margin)
    else:
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        limits = (low - margin, high + margin)
    axes.set_ylim(limits)


def scale_hyperparameter(axes: Axes, swept: Hyperparameter, which: str = "x") -> None:
    """The x or y axis of a hyperparameter: log where it was swept so, its own values as ticks."""
    axis, n = getattr(axes, f"{which}axis"), len(swept.values)
    axis.set_label_text(label_of(swept))
    if swept.is_log:
        getattr(axes, f"set_{which}scale")("log")
    axis.set_minor_formatter("")
    has_zero = swept.is_log and 0 in swept.values  # which a log axis does not show by itself
    if swept.is_number and n > MAX_TICKS and not has_zero:
        return
    shown = spaced(swept.values, MAX_TICKS if swept.is_number or n > _MAX_TEXTS else n)
    texts = [shortened(format_value(value), MAX_LETTERS) for value in shown]
    axis.set_major_locator(FixedLocator(list(map(swept.axis_position, shown))))
    axis.set_major_formatter(FixedFormatter(texts))
    axis.minorticks_off()
    if not swept.is_number:
        getattr(axes, f"set_{which}lim")(-0.5, n - 0.5)
        if which == "x" and sum(map(len, texts)) > 45:
            for label in axes.get_xticklabels():
                label.set(rotation=30, ha="right")


def add_legend(axes: Axes, *handles_and_names: Any) -> None:
    """A legend to the right of the axes, where it covers nothing."""
    corner: Any = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
    axes.legend(*handles_and_names, fontsize=11, **corner)


def spaced(values: Sequence[Value], most: int = MAX_TICKS) -> list[Value]:
    """At most `most` of the values, evenly spread, the first and the last among them."""
    n = len(values)
    return [values[int(i)] for i in np.unique(np.linspace(0, n - 1, min(n, most)).round())]


def mark_best(axes: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """A ring around the best config, and around each that ties with it."""
    if x:
        look: Any = {"ms": 13, "mfc": "none", "mec": MARK, "mew": 2}
        axes.plot(x, y, "o", label=name_of_best(len(x)), **look)


def name_of_best(n: int) -> str:
    """What marks the best config in a figure, where `n` are as good to the last digit.

    >>> name_of_best(1), name_of_best(3)
    ('best', 'best (3 tie)')
    """
    return "best" if n == 1 else f"best ({n:,} tie)"


def tick_text(value: Value, most: int = MAX_LETTERS) -> str:
    """A value at a cell or an axis: three digits are enough to find it."""
    return f"{value:.3g}" if isinstance(value, float) else shortened(format_value(value), most)


@dataclass(frozen=True)
class Colours:
    """The colour of each value of one hyperparameter.

    Attributes:
        hyperparameter: None where none can have colours; everything is grey then.
        of_value: The colour of each of its values.
    """

    hyperparameter: Hyperparameter | None = None
    of_value: dict[Value, str] = field(default_factory=dict)

    @classmethod
    def choose(cls, hyperparameters: Sequence[Hyperparameter]) -> "Colours":
        """Colours for the choice with the fewest values, or such a number, or else any number."""
        able = [
            each for each in hyperparameters if each.is_number or len(each.values) <= _MAX_COLOURS
        ]
        if not able:
            return cls()
        chosen = min(
            able,
            key=lambda each: (len(each.values) > _MAX_COLOURS, each.is_number, len(each.values)),
        )
        n = len(chosen.values)
        if chosen.is_number:
            # To 0.85 of the map: its yellow end is too light for a line on white.
            scale = matplotlib.colormaps[COLOUR_MAP]
            colours = [to_hex(scale(0.85 * place / (n - 1))) for place in range(n)]
        else:
            colours = list(_CHOICES[:n])
        return cls(chosen, dict(zip(chosen.values, colours, strict=True)))

    def of(self, config: ConfigResult) -> str:
        """The colour of a config."""
        swept = self.hyperparameter
        return self.of_value[config.values[swept.key]] if swept else GREY

    @property
    def are_few(self) -> bool:
        """Whether each value has a colour that one tells apart."""
        return len(self.of_value) <= _MAX_COLOURS

    def add_bar(self, axes: Axes) -> None:
        """Draw the colours of a number next to the axes, with some of its values."""
        swept = self.hyperparameter
        assert swept is not None, "there are colours"
        edges = np.arange(len(self.of_value) + 1) - 0.5
        colours = ListedColormap(list(self.of_value.values()))
        shown = ScalarMappable(BoundaryNorm(edges, colours.N), colours)
        bar = axes.figure.colorbar(shown, ax=axes, spacing="uniform")
        values = list(self.of_value)
        ticks = spaced(values)
        bar.set_ticks([values.index(value) for value in ticks])
        bar.set_ticklabels([tick_text(value) for value in ticks])
        bar.ax.minorticks_off()
        bar.set_label(label_of(swept))

    @property
    def legend(self) -> dict[str, str]:
        """Colours by the text of their values; of many values some."""
        return {
            shortened(format_value(value), MAX_LETTERS): self.of_value[value]
            for value in spaced(list(self.of_value), _MAX_COLOURS)
        }


@dataclass(frozen=True)
class MetricScale:
    """The metric as a colour: yellow to blue, the best the brightest.

    Attributes:
        configs: Those that have a colour, the best last, on top.
        norm: From the metric to 0 to 1.
        cmap: The name of the colour map.
        extend: At which end the scale was cut, `min` or `max`, or `neither`.
    """

    configs: Configs
    norm: Normalize
    cmap: str
    extend: str

    @classmethod
    def of(cls, configs: Configs, sign: int) -> "MetricScale":
        """The scale for the means of configs, which come best first.

        It ends three times as far from the best as the median: one hopeless config would otherwise
        leave one colour for all the others.
        """
        known = _coloured(configs)
        worse = sign * np.sort(sign * np.array([config.mean for config in known]))  # best first
        best, median, worst = worse[0], worse[len(worse) // 2], worse[-1]
        end = best + 3 * (median - best)
        is_cut = sign * worst > sign * end and end != best
        low, high = sorted((best, end if is_cut else worst))
        cmap = COLOUR_MAP + ("_r" if sign > 0 else "")
        extend = ("max" if sign > 0 else "min") if is_cut else "neither"
        if low > 0 and high / low > _WIDE_RANGE:
            return cls(known, LogNorm(low, high), cmap, extend)
        return cls(known, Normalize(low, high if high > low else low + 1e-9), cmap, extend)

    def add_bar(self, axes: Axes, metric: str) -> None:
        """Draw the scale next to the axes, with the name of the metric."""
        colours = ScalarMappable(self.norm, self.cmap)
        axes.figure.colorbar(colours, ax=axes, extend=self.extend).set_label(metric_label(metric))

    def ticks(self) -> list[tuple[float, str]]:
        """Some values of the scale and their texts; an end at which it was cut says so."""
        low, high = float(self.norm.vmin or 0.0), float(self.norm.vmax or 0.0)
        locator = LogLocator(subs=(1, 2, 5)) if isinstance(self.norm, LogNorm) else MaxNLocator(5)
        values = [float(value) for value in locator.tick_values(low, high) if low < value < high]
        ends = {"max": [(high, f"≥ {high:.3g}")], "min": [(low, f"≤ {low:.3g}")]}
        end = ends.get(self.extend, [])
        for place in (float(self.norm(value)) for value, _ in end):  # no text lies over another
            values = [each for each in values if abs(float(self.norm(each)) - place) > _APART]
        return [(value, f"{value:.3g}") for value in values] + end


def _coloured(configs: Configs) -> list[ConfigResult]:
    """The configs that the metric gives a colour, the best last, on top.

    Those with a diverged run have none, however good their other seeds look, unless there are no
    others.
    """
    valid = [config for config in configs if config.is_valid]
    return (valid or [config for config in configs if config.score])[::-1]
