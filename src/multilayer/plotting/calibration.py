"""The reliability diagram: whether what is predicted to be likely happens as often."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.calibration import calibration_curve

from multilayer.nn.metrics import N_BINS
from multilayer.plotting.style import GREY, VALIDATION, new_figure, styled


@styled
def draw_calibration(
    chance: Any, happened: Any, *, predicted: str, observed: str, title: str
) -> Figure:
    """How often something happened, by its predicted chance, and for how many rows.

    The 15 bins are those of the metric `calibration_error`. A larger dot stands for more rows.

    Args:
        chance: `(N,)`, from 0 to 1.
        happened: `(N,)`, 0 or 1.
        predicted: The label of the axis of the chance.
        observed: The label of the other axis.
        title: Of the figure.

    >>> figure = draw_calibration(
    ...     np.array([0.1, 0.9]), np.array([0, 1]), predicted="chance", observed="share", title="y"
    ... )
    """
    share, mean = calibration_curve(happened, chance, n_bins=N_BINS, pos_label=1)
    edges = np.linspace(0, 1, N_BINS + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], chance), minlength=N_BINS)
    figure = new_figure(6.4, 5.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
    filled = counts[counts > 0]
    upper.plot(mean, share, color=VALIDATION, linewidth=1, alpha=0.4)
    upper.scatter(mean, share, s=20 + 180 * filled / filled.max(), color=VALIDATION, zorder=3)
    upper.set(ylabel=observed, title=title, ylim=(-0.05, 1.05))
    upper.legend(loc="lower right")
    lower.bar(edges[:-1], counts, 1 / N_BINS, align="edge", color=VALIDATION, edgecolor="white")
    lower.set(xlabel=predicted, ylabel="rows", xlim=(0, 1))
    for axis in (upper.yaxis, lower.xaxis):
        axis.set_major_formatter(PercentFormatter(1))
    return figure
