"""The ROC curves: how many of a class are found, at the cost of how many others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import roc_curve

from multilayer.nn.metrics import auroc
from multilayer.plotting.style import GREY, PALETTE, new_figure, shortened, styled

MOST_CURVES = len(PALETTE)


@styled
def draw_roc(probabilities: Any, target: Any, classes: Sequence[str], title: str) -> Figure | None:
    """A curve for each class against the others; of many classes, those with the least area.

    probabilities: `(N, n_classes)` float32. target: `(N,)` class indices. Of two classes the curve
    of the second says it all.

    None where no class has both rows of it and rows of others.
    """
    n = len(classes)
    positive = np.asarray(target)[:, None] == np.arange(n)  # (N,) -> (N, n_classes)
    areas = auroc(torch.as_tensor(probabilities).mT, torch.as_tensor(positive).mT).tolist()
    known = [k for k in range(n) if positive[:, k].any() and not positive[:, k].all()]
    shown = known[1:] if n == 2 else sorted(known, key=areas.__getitem__)[:MOST_CURVES]
    if not shown:
        return None
    figure = new_figure(6.4, 5.4)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    for k, colour in zip(sorted(shown), PALETTE, strict=False):
        others, found, _ = roc_curve(positive[:, k], probabilities[:, k])
        axes.plot(others, found, color=colour, label=f"{shortened(classes[k])}  {areas[k]:.3f}")
    axes.set(
        xlabel="share of the other rows taken for it",
        ylabel="share of the class found",
        title=title,
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    head = "class, area below"
    if len(shown) < len(known) and n > 2:
        head = f"{head}\n(the lowest {len(shown)} of {len(known)})"
    axes.legend(title=head, loc="lower right")
    return figure
