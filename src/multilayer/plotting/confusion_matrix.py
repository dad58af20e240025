"""The confusion matrix: which class is taken for which."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import confusion_matrix

from multilayer.plotting.style import new_figure, shortened, styled

_MAX_NUMBERS = 20
"""Classes; with more, the cells are too small for numbers, and not each has a label."""


@styled
def draw_confusion_matrix(labels: Any, target: Any, classes: Sequence[str], title: str) -> Figure:
    """Counts of rows by true class, downwards, and predicted class; colours are shares of a row.

    Args:
        labels: Predicted class indices, `(N,)`.
        target: True class indices, `(N,)`.
        classes: Their names.
        title: Of the figure.

    >>> predicted, true = np.array([0, 1, 1]), np.array([0, 1, 0])
    >>> figure = draw_confusion_matrix(predicted, true, ["no", "yes"], "validation rows")
    """
    n = len(classes)
    counts = confusion_matrix(target, labels, labels=range(n))
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    figure = new_figure(6.4, 5.4)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.argwhere(counts) if n <= _MAX_NUMBERS else ():
        colour = "white" if shares[i, j] > 0.5 else "black"
        number = axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=colour)
        number.set_fontsize(12 if n <= 12 else 8)
        number.set_in_layout(False)  # it makes no room for itself, and measuring it takes long
    shown = range(0, n, ceil(n / _MAX_NUMBERS))
    names = [shortened(classes[i]) for i in shown]
    slanted: Any = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    size = 12 if n <= 12 else 9
    axes.set_xticks(shown, names, fontsize=size, **(slanted if max(map(len, names)) > 3 else {}))
    axes.set_yticks(shown, names, fontsize=size)
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, format=PercentFormatter(1), shrink=0.8)
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    return figure
