"""Axes of hyperparameters and of metrics: their scale, their ticks, their names with units."""

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

from multilayer.plotting.style import MARK, shortened
from multilayer.reports.hyperparameters import Hyperparameter, Value, format_value

MAX_TICKS = 8

MAX_LETTERS = 24
"""Letters of a value at an axis, or of a run's name."""

WIDE_RANGE = 10
"""The factor between highest and lowest value from which a metric is drawn on a log axis."""

_MAX_TEXTS = 30
"""Values of a hyperparameter that is no number, up to which all are written at its axis."""

_MAX_LABEL = 48
"""Letters of an axis label."""

_UNITS = {
    "rmse": "in the target's units",
    "mae": "in the target's units",
    "accuracy": "share of rows",
    "calibration_error": "share",
}


BEST: Any = {
    "marker": "o",
    "ms": 13,
    "mfc": "none",
    "mec": MARK,
    "mew": 2,
    "ls": "none",
    "label": "best",
}
"""A ring around the best config."""


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


def scale_metric(axes: Axes, values: Any) -> None:
    """A log axis where the values span more than a factor of `WIDE_RANGE`, and some margin."""
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


def scale_hyperparameter(axes: Axes, swept: Hyperparameter, which: str = "x") -> None:
    """The x or y axis of a hyperparameter: log where it was swept so, its own values as ticks."""
    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}label")(label_of(swept))
    if swept.is_log:
        getattr(axes, f"set_{which}scale")("log")
    positions, texts = _ticks(swept)
    if positions is not None:
        axis.set_major_locator(FixedLocator(list(positions)))
        axis.set_major_formatter(FixedFormatter(texts))
        axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    if not swept.is_number:
        getattr(axes, f"set_{which}lim")(-0.5, len(swept.values) - 0.5)
        if which == "x" and sum(map(len, texts)) > 45:
            axes.tick_params(axis="x", rotation=30)
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")


def _ticks(swept: Hyperparameter) -> tuple[NDArray[np.float64] | None, list[str]]:
    """Positions and texts of ticks at the values; no positions where there are too many numbers."""
    values, is_number = swept.values, swept.is_number
    has_zero = swept.is_log and 0 in values  # which a log axis does not show by itself
    if is_number and len(values) > MAX_TICKS and not has_zero:
        return None, []
    texts = [shortened(format_value(value), MAX_LETTERS) for value in values]
    positions = np.array(list(map(swept.axis_position, values)))
    if len(texts) <= (MAX_TICKS if is_number else _MAX_TEXTS):
        return positions, texts
    keep = spaced(len(texts))
    return positions[keep], [texts[index] for index in keep]


def add_legend(axes: Axes, *handles_and_names: Any, title: str | None = None) -> None:
    """A legend to the right of the axes, where it covers nothing."""
    corner: Any = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
    axes.legend(*handles_and_names, title=title, fontsize=11, **corner)


def spaced(n: int, most: int = MAX_TICKS) -> list[int]:
    """At most `most` indices of n, evenly spread, the first and the last among them."""
    return [int(index) for index in np.unique(np.linspace(0, n - 1, min(n, most)).round())]


def tick_text(value: Value, most: int = MAX_LETTERS) -> str:
    """A value at a cell or an axis: three digits are enough to find it."""
    return f"{value:.3g}" if isinstance(value, float) else shortened(format_value(value), most)
