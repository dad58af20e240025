"""The confusion matrix: which class is taken for which."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import confusion_matrix

from multilayer.plotting.style import new_figure, shortened, styled

MOST_NUMBERS = 20
"""Classes; of more the cells are too small for numbers, and not each has a label."""


@styled
def draw_confusion_matrix(labels: Any, target: Any, classes: Sequence[str], title: str) -> Figure:
    """Counts of rows by true class, downwards, and predicted class; colours are shares of a row.

    labels, target: class indices `(N,)`.
    """
    n = len(classes)
    counts = confusion_matrix(target, labels, labels=range(n))
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    figure = new_figure(6.4, 5.4)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if n <= MOST_NUMBERS:
        write_counts(axes, counts, shares)
    shown = range(0, n, ceil(n / MOST_NUMBERS))
    names = [shortened(classes[i]) for i in shown]
    size = 12 if n <= 12 else 9
    slanted: Any = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    is_long = max(map(len, names)) > 3
    axes.set_xticks(shown, names, fontsize=size, **(slanted if is_long else {}))
    axes.set_yticks(shown, names, fontsize=size)
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, format=PercentFormatter(1), shrink=0.8)
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    return figure


def write_counts(axes: Axes, counts: Any, shares: Any) -> None:
    """The number of rows in each cell that has any."""
    size = 12 if len(counts) <= 12 else 8
    for i, j in np.argwhere(counts):
        colour = "white" if shares[i, j] > 0.5 else "black"
        number = axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", fontsize=size)
        number.set_color(colour)
        number.set_in_layout(False)  # it makes no room for itself, and measuring it takes long
