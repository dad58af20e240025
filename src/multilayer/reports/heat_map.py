"""Figures of the metric over two hyperparameters at once; its colour is the metric."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from multilayer.plotting.style import GREY, MARK, new_figure, styled
from multilayer.reports.axes import (
    MAX_TICKS,
    MAX_VALUES,
    MetricScale,
    label_of,
    mark_best,
    name_of_best,
    scale_hyperparameter,
    spaced,
    tick_text,
)
from multilayer.reports.configs import ConfigResult, Configs, tied_best
from multilayer.reports.hyperparameters import Hyperparameter
from multilayer.reports.sweep import Sweep

_MAX_CELLS = 60
"""Cells of a heat map up to which each has its number."""

_DIVERGED, _NO_RESULT = "x", "-"


@styled
def draw_heat_map(
    sweep: Sweep, across: Hyperparameter, up: Hyperparameter, configs: Configs
) -> Figure:
    """The mean of the metric over two hyperparameters; cells that were not tried are hatched."""
    if max(len(across.values), len(up.values)) > MAX_VALUES:
        return _draw_plane(sweep, across, up, configs)
    n, m = len(across.values), len(up.values)
    figure = new_figure(max(5.5, min(10.0, 2.4 + 0.75 * n)), max(3.2, min(7.0, 1.4 + 0.5 * m)))
    axes = figure.add_subplot()
    scale = MetricScale.of(configs, sweep.sign)
    cells = [
        (up.values.index(config.values[up.key]), across.values.index(config.values[across.key]))
        for config in configs
    ]
    means = np.full((m, n), np.nan)
    for cell, config in zip(cells, configs, strict=True):
        means[cell] = config.mean if config.is_valid else np.nan
        _write_cell(axes, cell, config, scale, is_written=n * m <= _MAX_CELLS)
    axes.patch.set(hatch="///", edgecolor=GREY, facecolor="white")
    axes.imshow(means, norm=scale.norm, cmap=scale.cmap, aspect="auto", origin="lower")
    n_best = len(tied_best(configs))
    for y, x in cells[:n_best]:
        frame = Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec=MARK, lw=3, clip_on=False)
        axes.add_patch(frame)
    axes.set_title(_legend(configs, n * m, n_best), fontsize=11, loc="left")
    _tick_cells(axes, across, up)
    scale.add_bar(axes, sweep.metric)
    return figure


def _write_cell(
    axes: Axes, cell: tuple[int, int], config: ConfigResult, scale: MetricScale, is_written: bool
) -> None:
    """The number in a cell, and why it may not be chosen.

    White is what was tried and may not be chosen: without a number, or with a diverged run, whose
    other seeds may look good.
    """
    text, is_dark = _mark_of(config), False
    if config.is_valid:
        share = float(scale.norm(config.mean))
        is_dark = share > 0.5 if scale.cmap.endswith("_r") else share < 0.5
    else:
        corner = cell[1] - 0.5, cell[0] - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, facecolor="white", edgecolor="none"))
    if is_written and config.score:
        text = f"{config.mean:.3g} {text}".strip()
    if text:
        colour = "white" if is_dark else MARK
        axes.text(cell[1], cell[0], text, ha="center", va="center", color=colour, fontsize=10)


def _mark_of(config: ConfigResult) -> str:
    """The mark of a config with diverged runs, or without a run that is done."""
    if config.n_diverged:
        return _DIVERGED
    return "" if config.score else _NO_RESULT


def _legend(configs: Configs, n_cells: int, n_best: int) -> str:
    """What the marks in the cells mean, of those that are there."""
    marks = set(map(_mark_of, configs))
    words = {
        f"framed: the {name_of_best(n_best)}": n_best > 0,
        f"{_DIVERGED}: diverged": _DIVERGED in marks,
        f"{_NO_RESULT}: no result": _NO_RESULT in marks,
        "hatched: untried": len(configs) < n_cells,
    }
    return "; ".join(word for word, is_there in words.items() if is_there)


def _tick_cells(axes: Axes, across: Hyperparameter, up: Hyperparameter) -> None:
    """The values along rows and columns of cells."""
    for each, axis in ((across, axes.xaxis), (up, axes.yaxis)):
        n = len(each.values)
        shown = spaced(each.values, n if n <= 12 else MAX_TICKS)
        axis.set_ticks(list(map(each.values.index, shown)), list(map(tick_text, shown)))
        axis.set_label_text(label_of(each))
    labels = axes.get_xticklabels()
    if sum(len(label.get_text()) for label in labels) > 40:
        for label in labels:
            label.set(rotation=40, ha="right", rotation_mode="anchor")


def _draw_plane(
    sweep: Sweep, across: Hyperparameter, up: Hyperparameter, configs: Configs
) -> Figure:
    """Two hyperparameters whose values a search drew: a dot for each config."""

    def positions(shown: Configs) -> list[list[float]]:
        return [[config.position(each) for config in shown] for each in (across, up)]

    figure = new_figure()
    axes = figure.add_subplot()
    scale = MetricScale.of(configs, sweep.sign)
    means = [config.mean for config in scale.configs]
    look: Any = {"s": 40, "edgecolors": "white", "linewidths": 0.5, "rasterized": True}
    x, y = positions(scale.configs)
    axes.scatter(x, y, c=means, norm=scale.norm, cmap=scale.cmap, **look)
    diverged = [config for config in configs if config.n_diverged]
    if diverged:
        axes.plot(*positions(diverged), "x", color=MARK, label="diverged")
    mark_best(axes, *positions(tied_best(configs)))
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    scale_hyperparameter(axes, across, "x")
    scale_hyperparameter(axes, up, "y")
    scale.add_bar(axes, sweep.metric)
    return figure
