"""Predicted against true values, in the units of the target."""

from typing import Any

from matplotlib.figure import Figure

from multilayer.plotting.style import BLACK, VALIDATION, new_figure, shortened, styled

FEW = 500
"""Points that are still told apart; of more each is fainter."""


@styled
def draw_predicted(predictions: Any, target: Any, name: str, title: str) -> Figure:
    """A point for each row; on the dotted line it would be predicted as it is.

    predictions, target: `(N,)`. name: of the target.
    """
    figure = new_figure(6.4, 5.4)
    axes = figure.add_subplot()
    low = min(target.min(), predictions.min())
    high = max(target.max(), predictions.max())
    margin = 0.03 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color=BLACK, linestyle=":", zorder=3)
    alpha = min(0.7, max(0.1, 0.7 * FEW / len(target)))
    axes.scatter(target, predictions, s=20, color=VALIDATION, alpha=alpha, linewidths=0)
    name = shortened(name, 30)
    axes.set(xlabel=f"{name}, true", ylabel=f"{name}, predicted", title=title)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    return figure
