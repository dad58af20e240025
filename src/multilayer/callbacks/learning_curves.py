"""Draws the learning curves of a run, with the turning point marked."""

from math import isfinite
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from multilayer.callbacks.best_epoch_marker import tensorboard_writer
from multilayer.callbacks.best_weights import find_best_weights
from multilayer.callbacks.epochs_only import EpochsOnly
from multilayer.plotting.style import (
    OVER_LINES,
    TRAIN,
    VALIDATION,
    mark_turning_point,
    new_figure,
    save_figure,
    styled,
)
from multilayer.training.epoch import is_fitting, monitored_value


class LearningCurves(EpochsOnly):
    """Training and validation loss over the epochs, as `learning_curves.png` and in TensorBoard.

    folder: where the file goes; it is made if it is missing.
    """

    STATE = (("curves", "curves"),)

    def __init__(self, *, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.reset()

    def reset(self) -> None:
        """Begin with empty curves."""
        self.curves: dict[str, list[float]] = {"epoch": [], "train": [], "validation": []}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the folders above now: if they are gone at the end, they were removed."""
        super().setup(trainer, pl_module, stage)
        self.folder.parent.mkdir(parents=True, exist_ok=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the losses."""
        if is_fitting(trainer):
            self.curves["epoch"].append(trainer.current_epoch + 1)
            for split in ("train", "validation"):
                self.curves[split].append(monitored_value(trainer, f"{split}/loss"))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw."""
        if not trainer.is_global_zero or not self.curves["epoch"]:
            return
        best = find_best_weights(trainer)
        figure = draw(self.curves, best_epoch=best.best_epoch if best else 0)
        save_figure(figure, self.folder / "learning_curves.png")
        writer = tensorboard_writer(trainer)
        if writer:
            writer.add_figure("learning_curves", figure, trainer.global_step)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the curves of the run that is resumed."""
        curves = (map(float, state_dict["curves"][name]) for name in self.curves)
        rows = list(zip(*curves, strict=True))
        self.curves = {name: [row[i] for row in rows] for i, name in enumerate(self.curves)}


@styled
def draw(curves: dict[str, list[float]], best_epoch: int) -> Figure:
    """The figure of the losses by epoch; `best_epoch` counts from 1, 0 for none."""
    figure = new_figure()
    plot(figure.add_subplot(), curves, best_epoch)
    return figure


def plot(axes: Axes, curves: dict[str, list[float]], best_epoch: int) -> None:
    """The curves and the mark of the best epoch, on axes that are there."""
    for split, colour in (("train", TRAIN), ("validation", VALIDATION)):
        axes.plot(curves["epoch"], curves[split], color=colour, label=split)
    if best_epoch in curves["epoch"]:  # not in that of a run which it goes on from
        best = curves["validation"][curves["epoch"].index(best_epoch)]
        mark_turning_point(axes, best_epoch, best, curves["validation"][-1])
    axes.set(xlabel="epoch", ylabel="loss")
    # From 0, so that a high loss looks high; a loss that explodes leaves the picture.
    highest = max(filter(isfinite, curves["train"] + curves["validation"]), default=1.0)
    axes.set_ylim(0, 1.05 * min(highest, 3 * curves["validation"][0]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(**OVER_LINES)
