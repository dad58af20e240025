"""Figures of the metric against one hyperparameter."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from multilayer.plotting.style import MARK, new_figure, styled
from multilayer.reports.axes import (
    MAX_VALUES,
    Colours,
    add_legend,
    label_of,
    mark_best,
    metric_label,
    scale_hyperparameter,
    scale_metric,
)
from multilayer.reports.configs import Configs, SeedStats, tied_best
from multilayer.reports.hyperparameters import Hyperparameter
from multilayer.reports.sweep import Sweep

_LINE = "#404040"
"""Colour of a line that is for all configs together."""

_BEST_AT_VALUE, _INTERVAL = "best config at a value", ":\nmean, 95 % interval"

_CUT = 5
"""The axis is cut where all runs would need this many times the range of the better ones."""

_WIDTH = 0.16
"""Share of the way to the next value over which the seeds of a config are spread."""


@styled
def draw_hyperparameter(
    sweep: Sweep, swept: Hyperparameter, configs: Configs, colours: Colours
) -> Figure:
    """The metric against one hyperparameter: a dot for each seed, a line through the best configs.

    The colours are those of the values of this or another hyperparameter.
    """
    figure = new_figure(8.0)  # with room for the legend
    axes = figure.add_subplot()
    own = colours.hyperparameter
    other = own if own != swept else None
    groups = {_LINE: configs}
    if own and colours.are_few and (other or not swept.is_number):
        groups = {
            colour: [config for config in configs if config.values[own.key] == value]
            for value, colour in colours.of_value.items()
        }
    lines: list[float] = []
    axes.plot([], [], "o", color=_LINE, alpha=0.5, markersize=4, lw=0, label="one run")
    for colour, here in groups.items():
        lines += _draw_best_at_values(axes, swept, here, colour)
    if other:
        for name, colour in colours.legend.items():
            axes.plot([], [], "o", color=colour, label=f"{label_of(other)} {name}")
    scale_hyperparameter(axes, swept)
    if swept.is_number:  # values without any run that is done have their places too
        places = map(swept.axis_position, swept.values)
        axes.update_datalim([(place, 0.0) for place in places], updatey=False)
    points = np.array(list(_dots(swept, configs)))  # (N, 2)
    if len(points):
        shades = np.array([colours.of(config) for config in configs for _ in config.scores])
        _draw_dots(axes, points, shades, lines, sweep.sign)
    best = tied_best(configs)
    mark_best(axes, [each.position(swept) for each in best], [each.mean for each in best])
    _mark_diverged(axes, swept, configs, colours if other and colours.are_few else None)
    axes.set_ylabel(metric_label(sweep.metric))
    if axes.get_legend_handles_labels()[1]:
        add_legend(axes)
    return figure


def _draw_dots(
    axes: Axes, points: NDArray[np.float64], shades: NDArray[Any], lines: Sequence[float], sign: int
) -> None:
    """Each run that is done, faintly, in the colour of its config; beyond the axis, at its end.

    `lines` are the metrics that the lines reach.
    """
    x, y = points.T
    end = _end_of_axis(y, lines, sign)
    within = sign * y <= sign * end
    look: Any = {"s": 20, "alpha": 0.5, "lw": 0, "zorder": 3, "rasterized": True}
    axes.scatter(x[within], y[within], c=shades[within], **look)
    scale_metric(axes, [*y[within], *(each for each in lines if sign * each <= sign * end)])
    if not within.all():
        far, height = x[~within], 1.0 if sign > 0 else 0.0
        look = {"s": 30, "clip_on": False, "transform": axes.get_xaxis_transform()}
        look |= {"marker": "^" if sign > 0 else "v", "label": "beyond the axis"}
        axes.scatter(far, np.full(len(far), height), c=shades[~within], **look)


def _end_of_axis(scores: NDArray[np.float64], lines: Sequence[float], sign: int) -> float:
    """The worst value that is shown: of all runs, unless some are far beyond the better ones.

    The lines are shown whole unless they explode: the rest would be one flat line.
    """
    ordered = np.sort(sign * scores)  # best first
    usual = ordered[3 * len(ordered) // 4]
    far = ordered[0] + _CUT * (usual - ordered[0])
    most = max([usual, *(sign * each for each in lines if sign * each <= far)])
    # Where most runs are the same, there is no range that others are far beyond.
    is_cut = most > ordered[0] and ordered[-1] - ordered[0] > _CUT * (most - ordered[0])
    return float(sign * (most if is_cut else ordered[-1]))


def _dots(swept: Hyperparameter, configs: Configs) -> Iterator[tuple[float, float]]:
    """The positions of the runs, those of a config a little apart."""
    positions = np.array(list(map(swept.axis_position, swept.values)))
    ruler = np.sort(np.log(positions) if swept.is_log else positions)
    is_grid = 1 < len(positions) <= MAX_VALUES
    step = _WIDTH * float(np.diff(ruler).min()) if is_grid else 0.0
    for config in configs:
        x = config.position(swept)
        n = len(config.scores)
        shifts = step * np.linspace(-0.5, 0.5, n) if n > 1 else np.zeros(n)
        for shift, score in zip(shifts, config.scores.values(), strict=True):
            yield float(x * np.exp(shift) if swept.is_log else x + shift), score


def _draw_best_at_values(
    axes: Axes, swept: Hyperparameter, configs: Configs, colour: str
) -> list[float]:
    """The mean of the best valid config at each value, with its interval; joined for numbers.

    Returns:
        All metrics that are drawn, for the limits of the axis.
    """
    if swept.is_number and len(swept.values) > MAX_VALUES:
        return []
    best: dict[float, SeedStats] = {}
    for config in configs:
        if config.is_valid and config.score:
            best.setdefault(config.position(swept), config.score)
    if not best:
        return []
    x = sorted(best)
    stats = [best[place] for place in x]
    y = np.array([each.mean for each in stats])
    low = [each.mean if each.low is None else each.low for each in stats]
    high = [each.mean if each.high is None else each.high for each in stats]
    look: Any = {"markersize": 5, "capsize": 3, "elinewidth": 1.5}
    marks = "o-" if swept.is_number else "D"
    label = _BEST_AT_VALUE + _INTERVAL * has_intervals(configs)
    is_explained = any(each.startswith(label) for each in axes.get_legend_handles_labels()[1])
    look |= {"color": colour, "label": None if is_explained else label}
    axes.errorbar(x, y, yerr=np.abs([y - low, high - y]), fmt=marks, **look)
    return [*y, *low, *high]


def has_intervals(configs: Configs) -> bool:
    """Whether any valid config has the seeds that an interval of its mean takes."""
    return any(each.is_valid and each.score and each.score.low is not None for each in configs)


def _mark_diverged(
    axes: Axes, swept: Hyperparameter, configs: Configs, colours: Colours | None
) -> None:
    """Above each value a cross for the configs with diverged runs, in their colours.

    `colours` is None where the colour says nothing besides the value, or nobody tells them apart.
    """
    crosses: dict[float, dict[str, None]] = defaultdict(dict)
    for config in configs:
        if config.n_diverged:
            colour = colours.of(config) if colours else MARK
            crosses[config.position(swept)][colour] = None
    for x, own in crosses.items():
        for index, colour in enumerate(own):
            inches = min(0.12, 0.4 / len(own)) * (index - (len(own) - 1) / 2)
            beside = ScaledTranslation(inches, 0, axes.figure.dpi_scale_trans)
            look: Any = {"transform": axes.get_xaxis_transform() + beside, "clip_on": False}
            # Above the runs that are beyond the axis.
            axes.plot(x, 1.04, "x", color=colour, mew=2, **look)
    if crosses:
        axes.update_datalim([(x, 0.0) for x in crosses], updatey=False)  # not by a shift
        axes.autoscale_view(scaley=False)
        axes.plot([], [], "x", color=MARK, mew=2, label="diverged")
