"""The decision boundary of a network with two features, over the raw columns."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from multilayer.plotting.style import (
    BLACK,
    BLUE,
    COLOUR_MAP,
    GREY,
    ORANGE,
    PALETTE,
    new_figure,
    shortened,
    styled,
)

N_POINTS = 150
"""Of the grid, along each axis."""

MARKERS = "o^sDvP*"

Rows = tuple[Any, Any]


@styled
def draw_boundary(
    predict: Callable[[Any], Any],
    rows: Mapping[str, Rows],
    names: Sequence[str],
    classes: Sequence[str],
    *,
    target: str,
    title: str,
) -> Figure:
    """What is predicted at every point of the plane, with the rows of the splits on it.

    predict: from raw columns `(B, 2)` to probabilities, `(B, n_classes)`.
    rows: of `train` and `validation`: raw columns `(N, 2)` and class indices `(N,)`.
    names, target: of the two columns, and of the one that is predicted.
    """
    points = np.concatenate([columns for columns, _ in rows.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.where(high > low, 0.04 * (high - low), 1.0)
    axis_values = np.linspace(low - margin, high + margin, N_POINTS)  # (N_POINTS, 2)
    x, y = np.meshgrid(axis_values[:, 0], axis_values[:, 1])
    probabilities = predict(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32))
    figure = new_figure(7.2, 5.4)
    axes = figure.add_subplot()
    colours = colours_of(len(classes))
    if len(classes) == 2:
        words = f"predicted probability of {shortened(target)} = {shortened(classes[1])}"
        fill_by_probability(axes, x, y, probabilities[:, 1].reshape(x.shape), words)
    else:
        fill_by_class(axes, x, y, probabilities.argmax(axis=1).reshape(x.shape), colours)
    for split, (columns, target) in rows.items():
        scatter(axes, columns, target, colours, is_held_out=split != "train")
    axes.set(xlabel=shortened(names[0], 30), ylabel=shortened(names[1], 30), title=title)
    figure.legend(handles=legend(classes, colours), loc="outside lower center", ncols=4)
    return figure


def colours_of(n: int) -> list[Any]:
    """A colour for each class."""
    if n == 2:
        return [BLUE, ORANGE]
    if n <= len(PALETTE):
        return list(PALETTE[:n])
    return list(matplotlib.colormaps[COLOUR_MAP](np.linspace(0, 1, n)))


def fill_by_probability(axes: Axes, x: Any, y: Any, probability: Any, words: str) -> None:
    """Colours by the probability of the second of two classes; a line where it is one half."""
    colours = LinearSegmentedColormap.from_list("classes", [BLUE, "white", ORANGE])
    filled = axes.contourf(x, y, probability, np.linspace(0, 1, 11), cmap=colours, alpha=0.6)
    if probability.min() < 0.5 < probability.max():
        axes.contour(x, y, probability, [0.5], colors=BLACK, linewidths=2)
    bar = axes.figure.colorbar(filled, ax=axes, format=PercentFormatter(1))
    bar.set_label(words)


def fill_by_class(axes: Axes, x: Any, y: Any, labels: Any, colours: Sequence[Any]) -> None:
    """Colours by the likeliest class, with lines between."""
    n = len(colours)
    axes.pcolormesh(x, y, labels, cmap=ListedColormap(colours), vmin=-0.5, vmax=n - 0.5, alpha=0.3)
    for k in range(n):
        if 0 < (labels == k).mean() < 1:
            axes.contour(x, y, labels == k, [0.5], colors=BLACK, linewidths=1)


def scatter(
    axes: Axes, columns: Any, target: Any, colours: Sequence[Any], *, is_held_out: bool
) -> None:
    """The rows of a split, by class; those that are not trained on have a black edge."""
    for k, colour in enumerate(colours):
        own = columns[target == k]
        edge, size = (BLACK, 40) if is_held_out else ("white", 24)
        marker = MARKERS[k % len(MARKERS)]
        x, y = own.T
        axes.scatter(x, y, s=size, color=colour, marker=marker, edgecolors=edge, linewidths=0.8)


def legend(classes: Sequence[str], colours: Sequence[Any]) -> list[Line2D]:
    """The classes, unless they are many, and what a black edge means."""
    names = [*map(shortened, classes)] if len(classes) <= len(PALETTE) else []
    handles = [
        point(name, colour, MARKERS[k % len(MARKERS)], edge=colour)
        for k, (name, colour) in enumerate(zip(names, colours, strict=False))
    ]
    return [*handles, point("black edge: validation", GREY, "o", edge=BLACK)]


def point(name: str, colour: Any, marker: str, edge: Any) -> Line2D:
    """A point for the legend."""
    return Line2D(
        [], [], linestyle="", marker=marker, markersize=8, color=colour, mec=edge, label=name
    )
