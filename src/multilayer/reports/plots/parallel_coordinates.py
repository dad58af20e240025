"""The metric over three settings or more: each config is a line through its levels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from multilayer.plotting.style import GREY, MARK, new_figure, styled
from multilayer.reports.configs import Candidate
from multilayer.reports.hyperparameters import Level, Setting
from multilayer.reports.plots.axes import MOST_TICKS, label_of, metric_label, spaced, tick_word
from multilayer.reports.plots.metric_colours import colour_scale, coloured, scale_ticks

MOST_AXES = 8

SPREAD = 0.05
"""Of the height, over which lines through one level are spread, the better ones below or above as
on the axis of the metric; paths that are equal but for one setting would hide each other."""


@styled
def draw_parallel(
    settings: Sequence[Setting], candidates: Sequence[Candidate], metric: str, sign: int
) -> Figure:
    """A line for each config through its levels, coloured by the metric, the best on top.

    Configs of which a run diverged have none.
    """
    shown = list(settings)[:MOST_AXES]
    figure = new_figure(max(6.4, 1.7 * len(shown) + 2), 4.4)
    axes = figure.add_subplot()
    known = coloured(candidates)
    scale = colour_scale([c.mean for c in known], sign)
    norm = scale[0]
    heights = np.array(
        [[*(height(s, c.choice[s.key]) for s in shown), np.clip(norm(c.mean), 0, 1)] for c in known]
    )  # (C, S + 1): the settings, and the metric at the end
    heights[:, :-1] += SPREAD * (heights[:, -1:] - 0.5)
    places = np.arange(len(shown) + 1)
    paths = np.stack(np.broadcast_arrays(places, heights), axis=2)  # (C, S + 1, 2)
    lines = LineCollection(
        list(paths), cmap=scale[1], norm=norm, linewidths=1.2, alpha=0.7, rasterized=True
    )
    lines.set_array([c.mean for c in known])
    axes.add_collection(lines)
    if candidates[0].is_sound:  # then it is the last of those that are known
        axes.plot(places, heights[-1], color=MARK, linewidth=3, marker="o", label="best")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02))
    for place, setting in enumerate(shown):
        draw_parallel_axis(axes, place, setting)
    draw_metric_axis(axes, places[-1], scale)
    names = [*map(label_of, shown), metric_label(metric)]
    axes.set_xticks(places, [name.replace(" (", "\n(").replace(" ", "\n", 1) for name in names])
    axes.set(xlim=(-0.1, places[-1] + 0.4), ylim=(-0.06, 1.06), yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    return figure


def height(setting: Setting, level: Level) -> float:
    """Where a level is between the lowest, 0, and the highest, 1."""
    first, last, here = (
        np.log(place) if setting.is_log else place
        for place in map(setting.place, (setting.levels[0], setting.levels[-1], level))
    )
    return float((here - first) / (last - first)) if last > first else 0.5


def draw_parallel_axis(axes: Axes, place: int, setting: Setting) -> None:
    """A vertical line with its levels written beside it."""
    axes.axvline(place, color=GREY, linewidth=1, zorder=0)
    n = len(setting.levels)
    for level in [setting.levels[index] for index in (range(n) if n <= MOST_TICKS else spaced(n))]:
        write_tick(axes, place, height(setting, level), tick_word(level, 14))


def draw_metric_axis(axes: Axes, place: int, scale: tuple[Normalize, Any, str]) -> None:
    """The axis of the metric, at the end: its ticks say what the colours are."""
    axes.axvline(place, color=GREY, linewidth=1, zorder=0)
    for value, text in scale_ticks(scale):
        write_tick(axes, place, float(scale[0](value)), text)


def write_tick(axes: Axes, place: int, height: float, text: str) -> None:
    """A word to the right of an axis, readable over lines."""
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
