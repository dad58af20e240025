"""Figures of the metric over two settings at once; its colour is the metric."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from multilayer.plotting.style import GREY, MARK, new_figure, styled
from multilayer.reports.configs import Candidate
from multilayer.reports.hyperparameters import Setting
from multilayer.reports.plots.axes import label_of, scale_setting, spaced, tick_word
from multilayer.reports.plots.by_setting import MOST_LEVELS
from multilayer.reports.plots.heat_cells import legend_of, write_cell
from multilayer.reports.plots.metric_colours import add_colour_bar, colour_scale, coloured

MOST_CELLS = 60
"""Of a heat map in which each cell is written out."""


@styled
def draw_heat_map(
    across: Setting, up: Setting, candidates: Sequence[Candidate], metric: str, sign: int
) -> Figure:
    """The mean of the metric over two settings; cells that were not tried are hatched."""
    if max(len(across.levels), len(up.levels)) > MOST_LEVELS:
        return draw_plane(across, up, candidates, metric, sign)
    n, m = len(across.levels), len(up.levels)
    figure = new_figure(max(5.5, min(10.0, 2.4 + 0.75 * n)), max(3.2, min(7.0, 1.4 + 0.5 * m)))
    axes = figure.add_subplot()
    scale = colour_scale([c.mean for c in coloured(candidates)], sign)
    means = np.full((m, n), np.nan)
    for c in candidates:
        cell = up.levels.index(c.choice[up.key]), across.levels.index(c.choice[across.key])
        means[cell] = c.mean if c.is_sound else np.nan
        write_cell(axes, cell, c, scale[0], sign, written=n * m <= MOST_CELLS)
    axes.set_title(legend_of(candidates, n * m), fontsize=11, loc="left")
    axes.patch.set(hatch="///", edgecolor=GREY, facecolor="white")
    axes.imshow(means, norm=scale[0], cmap=scale[1], aspect="auto", origin="lower")
    if candidates[0].is_sound:
        best = candidates[0].choice
        x, y = across.levels.index(best[across.key]), up.levels.index(best[up.key])
        frame = Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec=MARK, lw=3, clip_on=False)
        axes.add_patch(frame)
    tick_cells(axes, across, up)
    add_colour_bar(figure, axes, scale, metric)
    return figure


def tick_cells(axes: Axes, across: Setting, up: Setting) -> None:
    """The levels beside rows and columns of cells."""
    for setting, axis in ((across, axes.xaxis), (up, axes.yaxis)):
        n = len(setting.levels)
        places = list(range(n)) if n <= 12 else spaced(n)
        axis.set_ticks(places, [tick_word(setting.levels[place]) for place in places])
        axis.set_label_text(label_of(setting))
    labels = axes.get_xticklabels()
    if sum(len(label.get_text()) for label in labels) > 40:
        for label in labels:
            label.set(rotation=40, ha="right", rotation_mode="anchor")


def draw_plane(
    across: Setting, up: Setting, candidates: Sequence[Candidate], metric: str, sign: int
) -> Figure:
    """Two settings whose values a search drew: a dot for each config, coloured by the metric."""
    figure = new_figure()
    axes = figure.add_subplot()
    known = coloured(candidates)
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
    diverged = [c for c in candidates if c.count("diverged")]
    if diverged:
        places = [[s.place(c.choice[s.key]) for c in diverged] for s in (across, up)]
        axes.plot(*places, "x", color=MARK, ls="none", label="diverged")
    if candidates[0].is_sound:
        x, y = (s.place(candidates[0].choice[s.key]) for s in (across, up))
        axes.plot(x, y, "o", ms=13, mfc="none", mec=MARK, mew=2, ls="none", label="best")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    scale_setting(axes, across, "x")
    scale_setting(axes, up, "y")
    add_colour_bar(figure, axes, scale, metric)
    return figure
