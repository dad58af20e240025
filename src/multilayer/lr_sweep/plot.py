"""Draws what the rates did: the loss against the rate, with the regimes and the suggestion."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from multilayer.lr_sweep.analysis import Judgement
from multilayer.lr_sweep.range_test import RangeTest
from multilayer.plotting.style import (
    BLUE,
    GREEN,
    GREY,
    MARK,
    ORANGE,
    TRAIN,
    new_figure,
    styled,
)

REGIME = {"slow": BLUE, "stable": GREEN, "divergent": ORANGE}


@styled
def draw_sweep(judgement: Judgement) -> Figure:
    """The validation loss of each rate and seed, over bands for the regimes."""
    figure = new_figure()
    axes = figure.add_subplot()
    rates, losses = judgement.rates, judgement.validation
    mark_regimes(axes, judgement)
    axes.plot(rates, losses, ".", color=GREY, markersize=5)[0].set_label("single seeds")
    shown = [regime != "divergent" for regime in judgement.regimes]
    mean = np.where(shown, losses.mean(axis=1), np.nan)
    axes.plot(rates, mean, color=MARK, label=f"mean of {losses.shape[1]}")
    best = mean[list(rates).index(judgement.best)]
    axes.plot(judgement.best, best, "o", color=MARK, label=f"best {judgement.best:.2g}")
    mark_suggested(axes, judgement.suggested)
    axes.set(xscale="log", xlabel="learning rate", ylabel="lowest validation loss")
    set_limits(axes, np.nanmin(mean), max(judgement.train_before.max(), np.nanmax(mean)))
    mark_beyond(axes, rates[~(losses <= axes.get_ylim()[1]).all(axis=1)])
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=11)
    return figure


def mark_regimes(axes: Axes, judgement: Judgement) -> None:
    """A band with its name for each run of rates of one regime."""
    half_step = (judgement.rates[-1] / judgement.rates[0]) ** (0.5 / (len(judgement.rates) - 1))
    for regime, own in judgement.spans():
        start, end = own[0] / half_step, own[-1] * half_step
        axes.axvspan(start, end, color=REGIME[regime], alpha=0.15, linewidth=0)
        middle = float(np.sqrt(start * end))
        axes.text(
            middle,
            0.96,
            regime,
            color=REGIME[regime],
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="top",
            rotation=0 if len(own) > 3 else 90,
        )
    axes.set_xlim(judgement.rates[0] / half_step, judgement.rates[-1] * half_step)


def mark_beyond(axes: Axes, rates: NDArray[np.float64]) -> None:
    """A triangle at the top for each rate with a seed that is not in the picture, or not finite."""
    if len(rates):
        axes.plot(
            rates,
            np.ones(len(rates)),
            "^",
            transform=axes.get_xaxis_transform(),
            color=GREY,
            clip_on=False,
            markersize=5,
            label="beyond the axis",
        )


def set_limits(axes: Axes, lowest: float, highest: float) -> None:
    """Losses from the lowest to the highest, with room for what stands above and below."""
    height = max(highest - lowest, 1e-3 * abs(highest), 1e-9)
    axes.set_ylim(lowest - 0.15 * height, highest + 0.3 * height)


def mark_suggested(axes: Axes, rate: float) -> None:
    """A line at the rate to take, up to the names of the regimes."""
    label = f"suggested {rate:.2g}"
    axes.axvline(rate, ymax=0.8, color=MARK, linestyle="--", linewidth=1.5, label=label)


@styled
def draw_range(test: RangeTest) -> Figure:
    """The losses of range tests against the rate of the step, and their moving average."""
    figure = new_figure()
    axes = figure.add_subplot()
    axes.plot(test.rates, test.losses.T, ".", color=GREY, markersize=3)
    label = f"moving average,\n{len(test.losses)} seeds"
    axes.plot(test.rates, test.smoothed, color=TRAIN, label=label)
    mark_suggested(axes, test.suggested)
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss of a minibatch")
    set_limits(axes, test.smoothed.min(), test.smoothed[0])
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=11)
    return figure
