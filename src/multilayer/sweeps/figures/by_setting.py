"""Figures of the metric against what was swept."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from multilayer.drawing import MARK, new_figure, styled
from multilayer.sweeps.candidates import Candidate
from multilayer.sweeps.figures.axes import (
    metric_label,
    scale_metric,
    scale_setting,
)
from multilayer.sweeps.figures.colours import Colours
from multilayer.sweeps.settings import Level, Setting, word

LINE = "#404040"
"""Of a line that is for all configs together."""

MOST_LEVELS = 30
"""Of a setting that is drawn as a grid; more are those of a search, and are shown as dots."""


@styled
def draw_setting(
    setting: Setting, candidates: Sequence[Candidate], colours: Colours, metric: str, sign: int
) -> Figure:
    """The metric against one setting: each seed a dot, the best config at each level a line.

    candidates: best first.
    """
    figure = new_figure()
    axes = figure.add_subplot()
    draw_dots(axes, setting, candidates, colours)
    shown = []
    if colours.setting is None or (setting == colours.setting and setting.is_number):
        shown += draw_best_at_levels(axes, setting, candidates, LINE)
    else:
        for level, colour in colours.of_level.items():
            here = [c for c in candidates if c.choice[colours.setting.key] == level]
            shown += draw_best_at_levels(axes, setting, here, colour)
            if setting != colours.setting:
                axes.plot([], [], "o", color=colour, ls="none", label=word(level))
    mark_best_and_diverged(axes, setting, candidates)
    scale_setting(axes, setting)
    limit(axes, candidates, shown, sign)
    axes.set_ylabel(metric_label(metric))
    other = colours.setting if colours.setting != setting else None
    add_legend(axes, other.label if other else None)
    return figure


def limit(axes: Axes, candidates: Sequence[Candidate], shown: Sequence[float], sign: int) -> None:
    """Show what the lines reach and three of four runs; say how many are beyond."""
    scores = sign * np.sort([sign * score for c in candidates for score in c.scores.values()])
    if not len(scores):
        return
    worst = max([*(sign * each for each in shown), sign * scores[3 * len(scores) // 4]])
    within = scores[sign * scores <= worst]
    scale_metric(axes, [*within, *shown])
    beyond = f" ({len(scores) - len(within)} beyond the axis)" if len(within) < len(scores) else ""
    bars = "; with bars: best config there" if shown else ""
    axes.set_title(f"dots: runs{beyond}{bars}", loc="left", fontsize=11)


def draw_dots(
    axes: Axes, setting: Setting, candidates: Sequence[Candidate], colours: Colours
) -> None:
    """Each run that is done, faintly, in the colour of its config."""
    points = [
        (setting.place(c.choice[setting.key]), score, colours.of(c.choice))
        for c in candidates
        for score in c.scores.values()
    ]
    if points:
        x, y, colour = zip(*points, strict=True)
        axes.scatter(x, y, c=colour, s=20, alpha=0.5, linewidths=0, zorder=3, rasterized=True)


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


def mark_best_and_diverged(axes: Axes, setting: Setting, candidates: Sequence[Candidate]) -> None:
    """A ring around the best config, and a cross at the top for each level where runs diverged."""
    best = candidates[0]
    if best.is_sound:
        place = setting.place(best.choice[setting.key])
        axes.plot(
            place, best.mean, "o", ms=13, mfc="none", mec=MARK, mew=2, ls="none", label="best"
        )
    diverged = {c.choice[setting.key] for c in candidates if c.count("diverged")}
    if diverged:
        places = sorted(setting.place(level) for level in diverged)
        axes.plot(
            places,
            [0.98] * len(places),
            "x",
            transform=axes.get_xaxis_transform(),
            color=MARK,
            clip_on=False,
            label="diverged",
        )


def add_legend(axes: Axes, title: str | None) -> None:
    """Beside the axes, where it covers nothing."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(title=title, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=11)
