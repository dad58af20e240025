"""The metric over three hyperparameters or more: each config is a line through its values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from multilayer.plotting.style import GREY, MARK, new_figure, styled
from multilayer.reports.axes import (
    MetricScale,
    label_of,
    metric_label,
    name_of_best,
    spaced,
    tick_text,
)
from multilayer.reports.configs import Configs, tied_best
from multilayer.reports.sweep import Sweep

_MAX_AXES = 8

_SPREAD = 0.05
"""Share of the height over which lines through one value are spread, in the order of their metric;
paths that differ in one hyperparameter alone would hide each other."""


@styled
def draw_parallel(sweep: Sweep, configs: Configs) -> Figure:
    """A line for each config through its values, in the metric's colour, the best on top.

    Configs with a diverged run have none.
    """
    shown = sweep.hyperparameters[:_MAX_AXES]
    figure = new_figure(max(6.4, 1.7 * len(shown) + 2), 4.4)
    axes = figure.add_subplot()
    scale = MetricScale.of(configs, sweep.sign)
    means = np.array([config.mean for config in scale.configs])
    heights = np.array(
        [[each.scaled(config.values[each.key]) for each in shown] for config in scale.configs]
    )  # (C, H)
    ends = np.clip([float(scale.norm(mean)) for mean in means], 0, 1)[:, None]  # (C, 1)
    heights = np.hstack([heights + _SPREAD * (ends - 0.5), ends])
    places = np.arange(len(shown) + 1)
    paths = np.stack(np.broadcast_arrays(places, heights), axis=2)  # (C, H + 1, 2)
    lines = LineCollection(
        list(paths), cmap=scale.cmap, norm=scale.norm, linewidths=1.2, alpha=0.7, rasterized=True
    )
    lines.set_array(means)
    axes.add_collection(lines)
    n_best = len(tied_best(configs))
    if n_best:  # then they are the last of those that are known
        look: Any = {"color": MARK, "linewidth": 3, "marker": "o"}
        axes.plot(places, heights[-n_best:].T, **look)
        axes.lines[-1].set_label(name_of_best(n_best))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02))
    for place, each in enumerate(shown):
        ticks = [(each.scaled(value), tick_text(value, 14)) for value in spaced(each.values)]
        _draw_axis(axes, place, ticks)
    ticks = [(float(scale.norm(value)), text) for value, text in scale.ticks()]
    _draw_axis(axes, places[-1], ticks)  # its ticks say what the colours are
    names = [*map(label_of, shown), metric_label(sweep.metric)]
    axes.set_xticks(places, [name.replace(" (", "\n(").replace(" ", "\n", 1) for name in names])
    axes.set(xlim=(-0.1, places[-1] + 0.4), ylim=(-0.06, 1.06), yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    return figure


def _draw_axis(axes: Axes, place: int, ticks: Sequence[tuple[float, str]]) -> None:
    """A vertical line with texts at heights to its right, readable over lines."""
    axes.axvline(place, color=GREY, linewidth=1, zorder=0)
    for height, text in ticks:
        axes.annotate(
            text,
            (place, height),
            xytext=(5, 0),
            textcoords="offset points",
            fontsize=10,
            va="center",
            bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 0.8},
            zorder=5,
        )
