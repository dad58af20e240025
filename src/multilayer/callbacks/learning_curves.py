"""Draws the learning curves of a run, with the best epoch marked."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from multilayer.callbacks.best_weights import BestWeights
from multilayer.core.errors import UserError
from multilayer.plotting.style import (
    OVER_LINES,
    TRAIN,
    VALIDATION,
    mark_turning_point,
    new_figure,
    save_figure,
    styled,
)
from multilayer.training.epoch_callback import EpochCallback, Record
from multilayer.training.history import History

Curves = Mapping[str, Sequence[float]]


class LearningCurves(EpochCallback):
    """Training and validation loss over the epochs, as `learning_curves.png` and in TensorBoard.

    They are drawn at the end, from the table of a `History` callback, which every run has.

    Args:
        folder: where the file goes; it is made if it is missing.

    Raises:
        UserError: in a trainer of the user's own without a `History`.
    """

    def __init__(self, *, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_fit_start(self, record: Record) -> None:
        """Make the folders above now: if they are gone at the end, they were removed."""
        if record.find(History) is None:
            raise UserError(
                "callbacks: LearningCurves needs a History next to it, as in "
                "lightning_callbacks(History(folder=...), LearningCurves(folder=...))"
            )
        self.folder.parent.mkdir(parents=True, exist_ok=True)

    def on_fit_end(self, record: Record) -> None:
        """Draw the epochs that were validated."""
        history = record.find(History)
        curves = history.curves() if history is not None else {"epoch": []}
        if not record.writes_files or not curves["epoch"]:
            return
        best = record.find(BestWeights)
        figure = draw_learning_curves(curves, best_epoch=int(best.best_epoch[0]) if best else 0)
        save_figure(figure, self.folder / "learning_curves.png")
        record.log_image("learning_curves", figure, step=int(record.step[0]))


@styled
def draw_learning_curves(curves: Curves, best_epoch: int) -> Figure:
    """The figure of the losses by epoch.

    Args:
        curves: "epoch", "train" and "validation", of one length.
        best_epoch: from 1 on; 0 for none.
    """
    figure = new_figure()
    plot_learning_curves(figure.add_subplot(), curves, best_epoch)
    return figure


def plot_learning_curves(axes: Axes, curves: Curves, best_epoch: int) -> None:
    """Plot the losses and mark the best epoch, on axes that exist."""
    for split, colour in (("train", TRAIN), ("validation", VALIDATION)):
        axes.plot(curves["epoch"], curves[split], color=colour, label=split)
    if best_epoch in curves["epoch"]:  # not where it is of a run that this one goes on from
        best = curves["validation"][curves["epoch"].index(best_epoch)]
        mark_turning_point(axes, best_epoch, best, curves["validation"][-1])
    axes.set(xlabel="epoch", ylabel="loss")
    # From 0, so that a high loss looks high; a loss that explodes leaves the picture.
    highest = max(filter(isfinite, [*curves["train"], *curves["validation"]]), default=1.0)
    axes.set_ylim(0, 1.05 * min(highest, 3 * curves["validation"][0]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(**OVER_LINES)
