"""Figures of the metric against what was swept."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from multilayer.plotting.style import MARK, new_figure, styled
from multilayer.reports.configs import Candidate
from multilayer.reports.hyperparameters import Level, Setting
from multilayer.reports.plots.axes import (
    label_of,
    metric_label,
    scale_metric,
    scale_setting,
)
from multilayer.reports.plots.colours import Colours

LINE = "#404040"
"""Of a line that is for all configs together."""

MOST_LEVELS = 30
"""Of a setting that is drawn as a grid; more are those of a search, and are shown as dots."""

CUT = 5
"""The axis is cut where all runs would need so many times the range of the better ones."""

WIDTH = 0.16
"""Of the way to the next level, over which the seeds of a config are spread beside each other."""


@styled
def draw_setting(
    setting: Setting, candidates: Sequence[Candidate], colours: Colours, metric: str, sign: int
) -> Figure:
    """The metric against one setting: each seed a dot, the best config at each level a line.

    candidates: best first.
    """
    figure = new_figure()
    axes = figure.add_subplot()
    other = colours.setting if colours.setting != setting else None
    shown: list[float] = []
    if colours.setting is None or not colours.are_few or (other is None and setting.is_number):
        shown += draw_best_at_levels(axes, setting, candidates, LINE)
    else:
        for level, colour in colours.of_level.items():
            here = [c for c in candidates if c.choice[colours.setting.key] == level]
            shown += draw_best_at_levels(axes, setting, here, colour)
    if other:
        for name, colour in colours.legend.items():
            axes.plot([], [], "o", color=colour, ls="none", label=name)
    scale_setting(axes, setting)
    draw_dots(axes, setting, candidates, colours, shown, sign)
    mark_best(axes, setting, candidates[0])
    mark_diverged(axes, setting, candidates, colours if other and colours.are_few else None)
    axes.set_ylabel(metric_label(metric))
    add_legend(axes, label_of(other) if other else None)
    return figure


def draw_dots(
    axes: Axes,
    setting: Setting,
    candidates: Sequence[Candidate],
    colours: Colours,
    lines: Sequence[float],
    sign: int,
) -> None:
    """Each run that is done, faintly, in the colour of its config; those beyond the axis at an end.

    lines: what the lines reach.
    """
    points = list(dots(setting, candidates))
    if not points:
        return
    x, y = np.array(points).T
    colour = np.array([colours.of(c.choice) for c in candidates for _ in c.scores])
    end = end_of_axis(y, lines, sign)
    within = sign * y <= sign * end
    axes.scatter(
        x[within], y[within], c=colour[within], s=20, alpha=0.5, lw=0, zorder=3, rasterized=True
    )
    scale_metric(axes, [*y[within], *(each for each in lines if sign * each <= sign * end)])
    if not within.all():
        axes.scatter(
            x[~within],
            np.full((~within).sum(), 1.0 if sign > 0 else 0.0),
            c=colour[~within],
            marker="^" if sign > 0 else "v",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            s=30,
            label="beyond the axis",
        )
    bars = "; with bars: best config there" if lines else ""
    axes.set_title(f"dots: runs{bars}", loc="left", fontsize=11, pad=18)  # above crosses


def end_of_axis(scores: NDArray[np.float64], lines: Sequence[float], sign: int) -> float:
    """The worst value that is shown: of all runs, unless some are far beyond the better ones.

    The lines are shown whole, but where they explode: the rest would be one flat line.
    """
    ordered = np.sort(sign * scores)  # best first
    usual = ordered[3 * len(ordered) // 4]
    far = ordered[0] + CUT * (usual - ordered[0])
    most = max([usual, *(sign * each for each in lines if sign * each <= far)])
    is_cut = ordered[-1] - ordered[0] > CUT * (most - ordered[0])
    return float(sign * (most if is_cut else ordered[-1]))


def dots(setting: Setting, candidates: Sequence[Candidate]) -> Iterator[tuple[float, float]]:
    """The places of the runs, those of a config a little beside each other."""
    places = np.array([setting.place(level) for level in setting.levels])
    ruler = np.log(places) if setting.is_log else places
    step = WIDTH * float(np.diff(np.sort(ruler)).min()) if len(ruler) > 1 else 0.0
    if len(places) > MOST_LEVELS:
        step = 0.0
    for candidate in candidates:
        x = setting.place(candidate.choice[setting.key])
        n = len(candidate.scores)
        shifts = step * np.linspace(-0.5, 0.5, n) if n > 1 else np.zeros(n)
        for shift, score in zip(shifts, candidate.scores.values(), strict=True):
            yield float(x * np.exp(shift) if setting.is_log else x + shift), score


def draw_best_at_levels(
    axes: Axes, setting: Setting, candidates: Sequence[Candidate], colour: str
) -> list[float]:
    """The mean of the best sound config at each level, with its interval; words are not joined.

    Returns what is drawn, for the limits of the axis.
    """
    if setting.is_number and len(setting.levels) > MOST_LEVELS:
        return []
    best: dict[Level, Candidate] = {}
    for candidate in candidates:
        if candidate.is_sound:
            best.setdefault(candidate.choice[setting.key], candidate)
    levels = [level for level in setting.levels if level in best]
    folds = [fold for level in levels if (fold := best[level].score)]
    if not folds:
        return []
    x = [setting.place(level) for level in levels]
    y = np.array([fold.mean for fold in folds])
    low = [fold.mean if fold.low is None else fold.low for fold in folds]
    high = [fold.mean if fold.high is None else fold.high for fold in folds]
    axes.errorbar(
        x,
        y,
        yerr=np.abs([y - low, high - y]),
        color=colour,
        fmt="o-" if setting.is_number else "D",
        markersize=5,
        capsize=3,
        elinewidth=1.5,
    )
    return [*y, *low, *high]


def mark_best(axes: Axes, setting: Setting, best: Candidate) -> None:
    """A ring around the best config."""
    if best.is_sound:
        place = setting.place(best.choice[setting.key])
        axes.plot(
            place, best.mean, "o", ms=13, mfc="none", mec=MARK, mew=2, ls="none", label="best"
        )


def mark_diverged(
    axes: Axes, setting: Setting, candidates: Sequence[Candidate], colours: Colours | None
) -> None:
    """Above each level a cross for the configs of which runs diverged, in their colours.

    colours: None where the colour says nothing beside the level, or nobody tells them apart.
    """
    crosses: dict[float, dict[str, None]] = defaultdict(dict)
    for each in candidates:
        if each.count("diverged"):
            colour = colours.of(each.choice) if colours else MARK
            crosses[setting.place(each.choice[setting.key])][colour] = None
    for place, own in crosses.items():
        for index, colour in enumerate(own):
            inches = min(0.12, 0.4 / len(own)) * (index - (len(own) - 1) / 2)
            beside = ScaledTranslation(inches, 0, axes.figure.dpi_scale_trans)
            axes.plot(
                place,
                1.04,  # above the runs that are beyond the axis
                "x",
                transform=axes.get_xaxis_transform() + beside,
                color=colour,
                mew=2,
                clip_on=False,
            )
    if crosses:
        axes.update_datalim([(place, 0.0) for place in crosses], updatey=False)  # not by a shift
        axes.autoscale_view(scaley=False)
        axes.plot([], [], "x", color=MARK, mew=2, ls="none", label="diverged")


def add_legend(axes: Axes, title: str | None) -> None:
    """Beside the axes, where it covers nothing."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(title=title, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=11)
