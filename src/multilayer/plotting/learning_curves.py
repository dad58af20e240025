"""Learning curves: a metric of both splits by epoch, with the best epoch marked."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from multilayer.plotting.style import MARK, OVER_LINES, TRAIN, TURN, VALIDATION


def plot_learning_curves(
    axes: Axes, curves: Mapping[str, Any], best_epoch: int, *, sign: int = 1
) -> None:
    """Plot both curves, and mark the best epoch: as a turning point if the end is worse.

    Args:
        axes: where to draw.
        curves: "epoch", "train" and "validation", of one length.
        best_epoch: 0 for none; nor is one marked that is not among the epochs.
        sign: -1 for a metric of which more is better.

    >>> from multilayer.plotting.style import new_figure
    >>> axes = new_figure().add_subplot()
    >>> curves = {"epoch": [1, 2], "train": [0.9, 0.5], "validation": [1.0, 0.7]}
    >>> plot_learning_curves(axes, curves, best_epoch=2)
    """
    epochs = list(curves["epoch"])
    marker = "o" if len(epochs) == 1 else ""  # which would be no line
    for split, colour in (("train", TRAIN), ("validation", VALIDATION)):
        axes.plot(epochs, curves[split], marker=marker, color=colour, label=split)
    if best_epoch in epochs:
        validation = np.asarray(curves["validation"])
        best = validation[epochs.index(best_epoch)]
        last = [best, *validation[np.isfinite(validation)]][-1]
        name = "turning point" if sign * (last - best) > TURN * abs(best) else "best"
        axes.axvline(best_epoch, color=MARK, linewidth=1, linestyle=":")
        axes.plot(best_epoch, best, "o", color=MARK, label=f"{name}: epoch {best_epoch}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=11, **OVER_LINES)
