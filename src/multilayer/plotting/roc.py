"""ROC curves: how many rows of a class are found, at the cost of how many others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import roc_curve

from multilayer.nn.metrics import auroc
from multilayer.plotting.style import GREY, PALETTE, new_figure, shortened, styled


@styled
def draw_roc(probabilities: Any, target: Any, classes: Sequence[str], title: str) -> Figure | None:
    """A curve for each class against the others; of many classes, those with the least area.

    Of two classes only the second has one: that of the first is its mirror image.

    Args:
        probabilities: `(N, n_classes)`, float32.
        target: Class indices, `(N,)`.
        classes: Their names.
        title: Of the figure.

    Returns:
        The figure; None if for no class there are both its own rows and others.
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
    limits = (-0.02, 1.02)
    axes.set(xlabel="share of the other rows taken for it", ylabel="share of the class found")
    axes.set(title=title, xlim=limits, ylim=limits)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    head = "class, area below"
    if len(shown) < len(known) and n > 2:
        head = f"{head}\n(the lowest {len(shown)} of {len(known)})"
    axes.legend(title=head, loc="lower right")
    return figure
