"""ROC curves: how many rows of a class are found, at the cost of how many others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import roc_curve

from multilayer.nn.metrics import auroc
from multilayer.plotting.style import GREY, OVER_LINES, PALETTE, new_figure, shortened, styled


@styled
def draw_roc(probabilities: Any, target: Any, classes: Sequence[str], title: str) -> Figure | None:
    """A curve for each class against the others; of many classes, those with the least area.

    Of two classes only the second has one: that of the first is its mirror image. Where all curves
    lie in the upper left corner, it alone is drawn.

    Args:
        probabilities: `(N, n_classes)`, float32.
        target: Class indices, `(N,)`.
        classes: Their names.
        title: Of the figure.

    Returns:
        The figure; None if for no class there are both its own rows and others.

    >>> probabilities = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    >>> figure = draw_roc(probabilities, np.array([0, 1]), ["no", "yes"], "validation rows")
    """
    n = len(classes)
    positive = np.asarray(target)[:, None] == np.arange(n)  # (N,) -> (N, n_classes)
    areas = auroc(torch.as_tensor(probabilities).mT, torch.as_tensor(positive).mT).tolist()
    known = [k for k in range(n) if positive[:, k].any() and not positive[:, k].all()]
    shown = known[1:] if n == 2 else sorted(known, key=areas.__getitem__)[: len(PALETTE)]
    if not shown:
        return None
    figure = new_figure(6.4, 5.4)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    for k, colour in zip(sorted(shown), PALETTE, strict=False):
        others, found, _ = roc_curve(positive[:, k], probabilities[:, k])
        axes.plot(others, found, color=colour, label=f"{shortened(classes[k])}  {areas[k]:.3f}")
    size = _corner(min(areas[k] for k in shown))
    margin = 0.02 * size
    axes.set(
        xlabel="false positive rate: share of the other rows that are taken for it",
        ylabel="true positive rate: share of the class that is found",
        title=title if size == 1 else f"{title} (the upper left corner)",
        xlim=(-margin, size + margin),
        ylim=(1 - size - margin, 1 + margin),
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    head = "class, area below"
    if len(shown) < len(known) and n > 2:
        head = f"{head}\n(the lowest {len(shown)} of {len(known)})"
    axes.legend(title=head, loc="lower right", **OVER_LINES)
    return figure


def _corner(least_area: float) -> float:
    """The side of the corner that is drawn: ten times the share that the worst curve leaves out.

    >>> _corner(0.8), _corner(0.985), _corner(1.0)
    (1.0, 0.2, 0.05)
    """
    return next((size for size in (0.05, 0.1, 0.2, 0.5) if size >= 10 * (1 - least_area)), 1.0)
