"""The decision boundary of a network with two features, over the raw columns."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from multilayer.plotting import style
from multilayer.plotting.style import BLACK, PALETTE, shortened

_N_POINTS = 150
"""Points of the grid along each axis."""

_MARKERS = "o^sDvP*"


@style.styled
def draw_boundary(
    predict: Callable[[Any], Any],
    rows: Mapping[str, tuple[Any, Any]],
    names: Sequence[str],
    classes: Sequence[str],
    *,
    target: str,
    title: str,
) -> Figure:
    """What is predicted at every point of the plane, with the rows of the splits on it.

    Args:
        predict: From raw columns `(B, 2)` to probabilities, `(B, n_classes)`.
        rows: Of `train` and `validation`: raw columns `(N, 2)` and class indices `(N,)`.
        names: Of the two columns.
        classes: Their names.
        target: The name of the column that is predicted.
        title: Of the figure.

    >>> columns, target = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([0, 1])
    >>> def predict(points):
    ...     return np.stack([1 - points[:, 0], points[:, 0]], axis=1)
    >>> rows = {"train": (columns, target), "validation": (columns, target)}
    >>> figure = draw_boundary(predict, rows, ["a", "b"], ["no", "yes"], target="y", title="a")
    """
    points = np.concatenate([columns for columns, _ in rows.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.where(high > low, 0.04 * (high - low), 1.0)
    grid = np.linspace(low - margin, high + margin, _N_POINTS)  # (_N_POINTS, 2)
    x, y = np.meshgrid(grid[:, 0], grid[:, 1])
    probabilities = predict(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32))
    figure = style.new_figure(7.2, 5.4)
    axes = figure.add_subplot()
    n, scale = len(classes), matplotlib.colormaps[style.COLOUR_MAP]
    colours = PALETTE[:n] if n <= len(PALETTE) else scale(np.linspace(0, 1, n))
    if n == 2:
        label = f"predicted probability of {shortened(target)} = {shortened(classes[1])}"
        _fill_by_probability(axes, x, y, probabilities[:, 1].reshape(x.shape), colours, label)
    else:
        _fill_by_class(axes, x, y, probabilities.argmax(axis=1).reshape(x.shape), colours)
    _scatter(axes, rows, classes, colours)
    axes.set(xlabel=shortened(names[0], 30), ylabel=shortened(names[1], 30), title=title)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _fill_by_probability(axes: Axes, x: Any, y: Any, chance: Any, ends: Any, label: str) -> None:
    """Colours by the probability of the second of two classes; a line where it is one half."""
    scale = LinearSegmentedColormap.from_list("classes", [ends[0], "white", ends[1]])
    filled = axes.contourf(x, y, chance, np.linspace(0, 1, 11), cmap=scale, alpha=0.6)
    if chance.min() < 0.5 < chance.max():
        axes.contour(x, y, chance, [0.5], colors=BLACK, linewidths=2)
    axes.figure.colorbar(filled, ax=axes, format=PercentFormatter(1)).set_label(label)


def _fill_by_class(axes: Axes, x: Any, y: Any, labels: Any, colours: Any) -> None:
    """Colours by the likeliest class, with lines between."""
    n = len(colours)
    axes.pcolormesh(x, y, labels, cmap=ListedColormap(colours), vmin=-0.5, vmax=n - 0.5, alpha=0.3)
    for k in range(n):
        if 0 < (labels == k).mean() < 1:
            axes.contour(x, y, labels == k, [0.5], colors=BLACK, linewidths=1)


def _scatter(
    axes: Axes, rows: Mapping[str, tuple[Any, Any]], classes: Sequence[str], colours: Any
) -> None:
    """The rows by class; those that are not trained on have a black edge.

    The legend names the classes, unless they are many.
    """
    for split, (columns, target) in rows.items():
        edge, size = ("white", 24) if split == "train" else (BLACK, 40)
        for k, colour in enumerate(colours):
            x, y = columns[target == k].T
            dots = axes.scatter(x, y, s=size, color=colour, marker=_MARKERS[k % len(_MARKERS)])
            dots.set(edgecolor=edge, linewidth=0.8)
    if len(classes) <= len(PALETTE):
        for k, (name, colour) in enumerate(zip(classes, colours, strict=True)):
            marker = _MARKERS[k % len(_MARKERS)]
            axes.plot([], [], marker, ms=8, color=colour, label=shortened(name))
    axes.plot([], [], "o", ms=8, color=style.GREY, mec=BLACK, label="black edge: validation")
