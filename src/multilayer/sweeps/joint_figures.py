"""Figures of the metric over several settings at once; its colour is the metric."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from multilayer.drawing import COLOUR_MAP, GREY, MARK, new_figure, styled
from multilayer.sweeps.axes import (
    MOST_TICKS,
    WIDE_RANGE,
    metric_label,
    scale_setting,
    shortened,
    spaced,
)
from multilayer.sweeps.candidates import Candidate
from multilayer.sweeps.setting_figures import MOST_LEVELS
from multilayer.sweeps.settings import Level, Setting, word

MOST_CELLS = 60
"""Of a heat map in which each cell is written out."""

MOST_AXES = 8
"""Of parallel coordinates."""


def colour_scale(values: Sequence[float], sign: int) -> tuple[Normalize, Any, str]:
    """From metric to colour, the best the brightest; the map, and where the scale was cut.

    It ends three times as far from the best as the median: one hopeless config would otherwise
    leave one colour for all the others.
    """
    worse = sign * np.sort(sign * np.array(values, dtype=float))  # best first
    best, median, worst = worse[0], worse[len(worse) // 2], worse[-1]
    end = best + 3 * (median - best)
    is_cut = sign * worst > sign * end and end != best
    low, high = sorted((best, end if is_cut else worst))
    name = COLOUR_MAP + ("_r" if sign > 0 else "")
    extend = ("max" if sign > 0 else "min") if is_cut else "neither"
    if low > 0 and high / low > WIDE_RANGE:
        return LogNorm(low, high), name, extend
    return Normalize(low, high if high > low else low + 1e-9), name, extend


def add_colour_bar(
    figure: Figure, axes: Axes, scale: tuple[Normalize, Any, str], metric: str
) -> None:
    """The scale of the metric, with its name."""
    norm, colour_map, extend = scale
    bar = figure.colorbar(ScalarMappable(norm, colour_map), ax=axes, extend=extend)
    bar.set_label(metric_label(metric))


@styled
def draw_heat_map(
    across: Setting, up: Setting, candidates: Sequence[Candidate], metric: str, sign: int
) -> Figure:
    """The mean of the metric over two settings; where nothing was tried it is hatched."""
    if max(len(across.levels), len(up.levels)) > MOST_LEVELS:
        return draw_plane(across, up, candidates, metric, sign)
    n, m = len(across.levels), len(up.levels)
    figure = new_figure(max(5.5, min(10.0, 2.4 + 0.75 * n)), max(3.2, min(7.0, 1.4 + 0.5 * m)))
    axes = figure.add_subplot()
    scale = colour_scale([c.mean for c in candidates if c.score], sign)
    means = np.full((m, n), np.nan)
    for c in candidates:
        cell = up.levels.index(c.choice[up.key]), across.levels.index(c.choice[across.key])
        means[cell] = c.mean
        write_cell(axes, cell, c, scale[0], sign, written=n * m <= MOST_CELLS)
    axes.patch.set(hatch="///", edgecolor=GREY, facecolor="white")
    axes.imshow(means, norm=scale[0], cmap=scale[1], aspect="auto", origin="lower")
    if candidates[0].is_sound:
        best = candidates[0].choice
        x, y = across.levels.index(best[across.key]), up.levels.index(best[up.key])
        frame = Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec=MARK, lw=3, clip_on=False)
        axes.add_patch(frame)
        axes.set_title("framed: the best; x: diverged", fontsize=11, loc="left")
    tick_cells(axes, across, up)
    add_colour_bar(figure, axes, scale, metric)
    return figure


def write_cell(
    axes: Axes,
    cell: tuple[int, int],
    candidate: Candidate,
    norm: Normalize,
    sign: int,
    written: bool,
) -> None:
    """The number in a cell, and a cross where runs diverged."""
    text = "x" if candidate.count("diverged") else ""
    if written and candidate.score:
        text = f"{candidate.mean:.3g} {text}".strip()
    if text:
        share = float(norm(candidate.mean)) if candidate.score else 0.0
        is_dark = candidate.score is not None and (share > 0.5 if sign > 0 else share < 0.5)
        colour = "white" if is_dark else MARK
        axes.text(cell[1], cell[0], text, ha="center", va="center", color=colour, fontsize=10)


def tick_cells(axes: Axes, across: Setting, up: Setting) -> None:
    """The levels beside rows and columns of cells."""
    for setting, axis in ((across, axes.xaxis), (up, axes.yaxis)):
        n = len(setting.levels)
        places = list(range(n)) if n <= 12 else spaced(n)
        axis.set_ticks(places, [tick_word(setting.levels[place]) for place in places])
        axis.set_label_text(setting.label)
    labels = axes.get_xticklabels()
    if sum(len(label.get_text()) for label in labels) > 40:
        for label in labels:
            label.set(rotation=40, ha="right", rotation_mode="anchor")


def tick_word(level: Level) -> str:
    """A level beside a cell or an axis: three digits are enough to find it."""
    return f"{level:.3g}" if isinstance(level, float) else shortened(word(level))


def draw_plane(
    across: Setting, up: Setting, candidates: Sequence[Candidate], metric: str, sign: int
) -> Figure:
    """Two settings whose values a search drew: a dot for each config, coloured by the metric."""
    figure = new_figure()
    axes = figure.add_subplot()
    known = [c for c in candidates if c.score][::-1]  # the best on top
    scale = colour_scale([c.mean for c in known], sign)
    axes.scatter(
        [across.place(c.choice[across.key]) for c in known],
        [up.place(c.choice[up.key]) for c in known],
        c=[c.mean for c in known],
        norm=scale[0],
        cmap=scale[1],
        s=40,
        edgecolors="white",
        linewidths=0.5,
        rasterized=True,
    )
    if candidates[0].is_sound:
        x, y = (s.place(candidates[0].choice[s.key]) for s in (across, up))
        axes.plot(x, y, "o", ms=13, mfc="none", mec=MARK, mew=2, ls="none", label="best")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1))
    scale_setting(axes, across, "x")
    scale_setting(axes, up, "y")
    add_colour_bar(figure, axes, scale, metric)
    return figure


# More settings ----------------------------------------------------------------------------------


@styled
def draw_parallel(
    settings: Sequence[Setting], candidates: Sequence[Candidate], metric: str, sign: int
) -> Figure:
    """A line for each config through its levels, coloured by the metric, the best on top."""
    shown = list(settings)[:MOST_AXES]
    figure = new_figure(max(6.4, 1.7 * len(shown) + 2), 4.4)
    axes = figure.add_subplot()
    known = [c for c in candidates if c.score][::-1]
    scale = colour_scale([c.mean for c in known], sign)
    norm = scale[0]
    heights = np.array(
        [[*(height(s, c.choice[s.key]) for s in shown), np.clip(norm(c.mean), 0, 1)] for c in known]
    )  # (C, S + 1): the settings, and the metric at the end
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
    axes.axvline(places[-1], color=GREY, linewidth=1, zorder=0)
    names = [*(setting.label for setting in shown), metric_label(metric)]
    axes.set_xticks(places, [name.replace(" (", "\n(").replace(" ", "\n", 1) for name in names])
    axes.set(xlim=(-0.1, places[-1] + 0.05), ylim=(-0.06, 1.06), yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    add_colour_bar(figure, axes, scale, metric)
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
        axes.annotate(
            shortened(tick_word(level), 14),
            (place, height(setting, level)),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=10,
            va="center",
            bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 0.8},
            zorder=5,
        )
