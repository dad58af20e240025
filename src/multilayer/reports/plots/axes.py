"""Axes of settings and of metrics: their scale, their ticks, their names with units."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
)
from numpy.typing import NDArray

from multilayer.plotting.style import shortened
from multilayer.reports.hyperparameters import Level, Setting, word

MOST_TICKS = 8
MOST_WORDS = 30
"""Of a setting that are all written at its axis."""

MOST_LETTERS = 24
MOST_LETTERS_OF_AXIS = 48
WIDE_RANGE = 10
"""The factor between highest and lowest value from which a metric is drawn on a log axis."""

UNITS = {
    "rmse": "in the target's units",
    "mae": "in the target's units",
    "accuracy": "share of rows",
    "calibration_error": "share",
}


def metric_label(metric: str) -> str:
    """How an axis of a metric is called.

    >>> metric_label("validation/accuracy"), metric_label("validation/loss")
    ('validation accuracy (share of rows)', 'validation loss')
    """
    split, _, name = metric.rpartition("/")
    unit = f" ({UNITS[name]})" if name in UNITS else ""
    return shortened(f"{split} {name.replace('_', ' ')}{unit}", MOST_LETTERS_OF_AXIS)


def label_of(setting: Setting) -> str:
    """How an axis of a setting is called."""
    return shortened(setting.label, MOST_LETTERS_OF_AXIS)


def scale_metric(axes: Axes, values: Any) -> None:
    """A log axis where the values span more than a factor of `WIDE_RANGE`, and room around them."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return
    low, high = float(finite.min()), float(finite.max())
    is_log = low > 0 and high / low > WIDE_RANGE
    if is_log:
        axes.set_yscale("log")
        if high / low < 300:  # or else the powers of ten are ticks enough
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        margin = (high / low) ** 0.06
        limits = (low / margin, high * margin)
    else:
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        limits = (low - margin, high + margin)
    axes.set_ylim(limits)


def scale_setting(axes: Axes, setting: Setting, which: str = "x") -> None:
    """The axis of a setting: a log one where it was swept so, its own levels as the ticks."""
    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}label")(label_of(setting))
    if setting.is_log:
        getattr(axes, f"set_{which}scale")("log")
    places, words = ticks(setting)
    if places is not None:
        axis.set_major_locator(FixedLocator(list(places)))
        axis.set_major_formatter(FixedFormatter(words))
        axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    if not setting.is_number:
        getattr(axes, f"set_{which}lim")(-0.5, len(setting.levels) - 0.5)
        crowded = sum(len(each) for each in words) > 45
        if which == "x" and crowded:
            axes.tick_params(axis="x", rotation=30)
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")


def ticks(setting: Setting) -> tuple[NDArray[np.float64] | None, list[str]]:
    """The places and words of ticks at the levels; no places where there are too many numbers."""
    has_zero = setting.is_log and 0 in setting.levels  # which its axis does not show by itself
    if setting.is_number and len(setting.levels) > MOST_TICKS and not has_zero:
        return None, []
    words = [shortened(word(level), MOST_LETTERS) for level in setting.levels]
    places = np.array([setting.place(level) for level in setting.levels])
    if len(words) <= (MOST_TICKS if setting.is_number else MOST_WORDS):
        return places, words
    keep = spaced(len(words))
    return places[keep], [words[index] for index in keep]


def spaced(n: int, most: int = MOST_TICKS) -> list[int]:
    """At most `most` places among n, evenly spread, the ends with them."""
    return [int(place) for place in np.unique(np.linspace(0, n - 1, most).round())]


def tick_word(level: Level, most: int = MOST_LETTERS) -> str:
    """A level beside a cell or an axis: three digits are enough to find it."""
    return f"{level:.3g}" if isinstance(level, float) else shortened(word(level), most)
