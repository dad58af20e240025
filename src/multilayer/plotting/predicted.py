"""Predicted against true values, in the units of the target."""

from typing import Any

from matplotlib.figure import Figure

from multilayer.plotting.style import BLACK, VALIDATION, new_figure, shortened, styled

_FEW = 500
"""Points that can still be told apart; of more each is fainter."""


@styled
def draw_predicted(predictions: Any, target: Any, name: str, title: str) -> Figure:
    """A point for each row; those on the dotted line are predicted exactly.

    Args:
        predictions: `(N,)`.
        target: True values, `(N,)`.
        name: Of the target.
        title: Of the figure.

    >>> import numpy as np
    >>> figure = draw_predicted(np.array([1.0, 2.5]), np.array([1.0, 2.0]), "price", "test rows")
    """
    figure = new_figure(6.4, 5.4)
    axes = figure.add_subplot()
    low, high = min(target.min(), predictions.min()), max(target.max(), predictions.max())
    margin = 0.03 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color=BLACK, linestyle=":", zorder=3)
    alpha = min(0.7, max(0.1, 0.7 * _FEW / len(target)))
    axes.scatter(target, predictions, s=20, color=VALIDATION, alpha=alpha, linewidths=0)
    name = shortened(name, 30)
    axes.set(xlabel=f"{name}, true", ylabel=f"{name}, predicted", title=title)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    return figure
