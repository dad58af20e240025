"""Figures of a sweep or a range test: the loss against the learning rate."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from multilayer.core.text import counted
from multilayer.lr_sweep.analysis import LearningRateResult, LRSweepResult, RangeTestResult
from multilayer.plotting.style import BLUE, GREEN, GREY, MARK, ORANGE, TRAIN, new_figure, styled

_COLORS = {"slow": BLUE, "stable": GREEN, "divergent": ORANGE}


@styled
def draw(result: LearningRateResult) -> Figure:
    """The loss against the learning rate, with the suggested rate."""
    figure = new_figure()
    axes = figure.add_subplot()
    if isinstance(result, LRSweepResult):
        _draw_sweep(axes, result)
    else:
        _draw_range_test(axes, result)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=11)
    return figure


def _draw_sweep(axes: Axes, result: LRSweepResult) -> None:
    """The validation loss of each rate and seed, over bands for the regimes."""
    rates, losses = result.rates, result.validation
    _mark_regimes(axes, result)
    axes.plot(rates, losses, ".", color=GREY, markersize=5)[0].set_label("single seeds")
    shown = [regime != "divergent" for regime in result.regimes]
    mean = np.where(shown, losses.mean(axis=1), np.nan)
    axes.plot(rates, mean, color=MARK, label=f"mean of {losses.shape[1]}")
    best = mean[list(rates).index(result.best)]
    axes.plot(result.best, best, "o", color=MARK, label=f"best {result.best:.2g}")
    highest = max(result.train_before.max(), np.nanmax(mean))
    _finish(axes, "lowest validation loss", np.nanmin(mean), highest, result.suggested)
    beyond = rates[~(losses <= axes.get_ylim()[1]).all(axis=1)]
    if len(beyond):  # with a seed above the figure, or not finite
        top: Any = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        heights = [1.0] * len(beyond)
        axes.plot(beyond, heights, "^", color=GREY, markersize=5, label="beyond the axis", **top)


def _draw_range_test(axes: Axes, result: RangeTestResult) -> None:
    """The losses of range tests against the learning rate of the step, and their moving average."""
    axes.plot(result.rates, result.losses.T, ".", color=GREY, markersize=3)
    label = f"moving average,\n{counted(len(result.losses), 'seed')}"
    axes.plot(result.rates, result.smoothed, color=TRAIN, label=label)
    lowest, highest = result.smoothed.min(), result.smoothed[0]
    _finish(axes, "training loss of a minibatch", lowest, highest, result.suggested)


def _mark_regimes(axes: Axes, result: LRSweepResult) -> None:
    """A band for neighbouring rates of the same regime; its name is above the axes."""
    half_step = (result.rates[-1] / result.rates[0]) ** (0.5 / (len(result.rates) - 1))
    for regime, own in result.spans():
        start, end = own[0] / half_step, own[-1] * half_step
        axes.axvspan(start, end, color=_COLORS[regime], alpha=0.15, linewidth=0)
        name = axes.text(float(np.sqrt(start * end)), 1.03, regime, color=_COLORS[regime])
        name.set(transform=axes.get_xaxis_transform(), ha="center", va="bottom")
        name.set_rotation(0 if len(own) > 3 else 90)
    axes.set_xlim(result.rates[0] / half_step, result.rates[-1] * half_step)


def _finish(axes: Axes, ylabel: str, lowest: float, highest: float, suggested: float) -> None:
    """Label the axes, limit them to the losses with some room, and mark the suggested rate."""
    label = f"suggested {suggested:.2g}"
    axes.axvline(suggested, color=MARK, linestyle="--", linewidth=1.5, label=label)
    axes.set(xscale="log", xlabel="learning rate", ylabel=ylabel)
    height = max(highest - lowest, 1e-3 * abs(highest), 1e-9)
    axes.set_ylim(lowest - 0.15 * height, highest + 0.3 * height)
