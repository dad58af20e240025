"""How figures look: colours that everybody tells apart, text that is read at half size."""

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from multilayer.core.files import whole_file

# Okabe and Ito 2008, which stay apart for colour-blind readers.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, BLACK, GREY = "#56B4E9", "#E69F00", "#000000", "#8C8C8C"

TRAIN, VALIDATION, MARK = BLUE, ORANGE, BLACK
"""The colours of the splits, and of what is marked, in every figure."""

PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, BLACK)
"""Colours of choices that have no order."""

COLOUR_MAP = "viridis"
"""The colour map of numbers; its order is seen by colour-blind readers too, and in grey."""

_STYLE: Any = {  # a dict, whose keys matplotlib lists one by one in its types
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.labelsize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 2,
}

TURN = 0.05
"""The rise of a metric from its best epoch to the end that figures call a turning point."""

OVER_LINES: Any = {"frameon": True, "framealpha": 0.9, "edgecolor": "none"}
"""The look of a legend within the axes: no line goes through its words."""

styled = rc_context(_STYLE)
"""Decorates a function that draws: within it, matplotlib has this style."""


def new_figure(width: float = 6.4, height: float = 4.0) -> Figure:
    """An empty figure whose parts make room for each other; width and height in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def shortened(name: str, most: int = 12) -> str:
    r"""A name short enough for an axis; its end is kept, for that is where names differ.

    It is one line, and its dollars are escaped: matplotlib takes what is between two for a formula.

    >>> shortened("versicolor"), shortened("species number 12"), shortened("$5 to $9")
    ('versicolor', 'species…r 12', '\\$5 to \\$9')
    """
    name = " ".join(name.split())
    name = name if len(name) <= most else f"{name[: most - 5]}…{name[-4:]}"
    return name.replace("$", r"\$")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG.

    Raises:
        UserError: It cannot be written.
    """
    with whole_file(path) as file:
        figure.savefig(file, dpi=120, format="png")
