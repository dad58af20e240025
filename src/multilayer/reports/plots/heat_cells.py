"""What a cell of a heat map says: a mean, or why there is none."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from multilayer.plotting.style import MARK
from multilayer.reports.configs import Candidate

DIVERGED, NO_RESULT = "x", "-"


def sign_of(candidate: Candidate) -> str:
    """The sign for a config of which runs diverged, or none came to an end."""
    if candidate.count("diverged"):
        return DIVERGED
    return "" if candidate.score else NO_RESULT


def write_cell(
    axes: Axes,
    cell: tuple[int, int],
    candidate: Candidate,
    norm: Normalize,
    sign: int,
    written: bool,
) -> None:
    """The number in a cell, and its sign.

    White is what was tried and is nothing to choose: without a number, or with a diverged run,
    whose other seeds may look good.
    """
    text = sign_of(candidate)
    is_dark = False
    if not candidate.is_sound:
        place = cell[1] - 0.5, cell[0] - 0.5
        axes.add_patch(Rectangle(place, 1, 1, facecolor="white", edgecolor="none"))
    else:
        share = float(norm(candidate.mean))
        is_dark = share > 0.5 if sign > 0 else share < 0.5
    if written and candidate.score:
        text = f"{candidate.mean:.3g} {text}".strip()
    if text:
        colour = "white" if is_dark else MARK
        axes.text(cell[1], cell[0], text, ha="center", va="center", color=colour, fontsize=10)


def legend_of(candidates: Sequence[Candidate], n_cells: int) -> str:
    """What the signs in the cells mean, of those that are there."""
    signs = {sign_of(candidate) for candidate in candidates}
    words = ["framed: the best"] if candidates[0].is_sound else []
    words += [f"{DIVERGED}: diverged"] if DIVERGED in signs else []
    words += [f"{NO_RESULT}: no result"] if NO_RESULT in signs else []
    words += ["hatched: untried"] if len(candidates) < n_cells else []
    return "; ".join(words)
