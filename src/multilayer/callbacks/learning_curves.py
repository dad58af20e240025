"""Draws the learning curves of a run, with the best epoch marked."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path

from matplotlib.figure import Figure

from multilayer.callbacks.best_weights import BestWeights
from multilayer.core.errors import UserError
from multilayer.plotting import plot_learning_curves
from multilayer.plotting.style import new_figure, save_figure, styled
from multilayer.training.epoch_callback import EpochCallback, Record
from multilayer.training.history import History


class LearningCurves(EpochCallback):
    """Training and validation loss over the epochs, as `learning_curves.png` and in TensorBoard.

    They are drawn at the end, from the table of a `History` callback, which every run has.

    Args:
        folder: where the file goes; it is made if it is missing.

    Raises:
        UserError: in a trainer of the user's own without a `History`.

    >>> from multilayer.training import lightning_callbacks
    >>> curves = LearningCurves(folder="runs/mine/figures")
    >>> callbacks = lightning_callbacks(History(folder="runs/mine"), curves)
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
        figure = _draw(curves, best_epoch=int(best.best_epoch[0]) if best else 0)
        save_figure(figure, self.folder / "learning_curves.png")
        record.log_image("learning_curves", figure, step=int(record.step[0]))


@styled
def _draw(curves: Mapping[str, Sequence[float]], best_epoch: int) -> Figure:
    """The losses by epoch, from 0, so that a high loss looks high; one that explodes is cut off."""
    figure = new_figure()
    axes = figure.add_subplot()
    plot_learning_curves(axes, curves, best_epoch)
    highest = max(filter(isfinite, [*curves["train"], *curves["validation"]]), default=1.0)
    axes.set(
        xlabel="epoch", ylabel="loss", ylim=(0, 1.05 * min(highest, 3 * curves["validation"][0]))
    )
    return figure
