"""Draws the learning curves of a run, with the turning point marked."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from multilayer.callbacks.best_weights import find_best_weights
from multilayer.callbacks.turning_point import tensorboard_writer

# Blue, orange and black of Okabe and Ito 2008, which stay apart for colour-blind readers.
TRAIN, VALIDATION, MARK = "#0072B2", "#D55E00", "#000000"


class LearningCurves(pl.Callback):
    """Training and validation loss over the epochs, as `learning_curves.png` and in TensorBoard.

    folder: where the file goes; it is made if it is missing.
    """

    def __init__(self, *, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.losses: dict[str, list[float]] = {"train": [], "validation": []}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the losses; the module has logged both by now."""
        for split, values in self.losses.items():
            values.append(float(trainer.callback_metrics.get(f"{split}/loss", float("nan"))))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw."""
        if not trainer.is_global_zero or not self.losses["train"]:
            return
        best = find_best_weights(trainer)
        figure = draw(self.losses, best_epoch=best.best_epoch if best else 0)
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / "learning_curves.png", dpi=120)
        writer = tensorboard_writer(trainer)
        if writer:
            writer.add_figure("learning_curves", figure, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Plain data, for a run that is resumed."""
        return {"losses": self.losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the curves of the run that is resumed."""
        self.losses = state_dict["losses"]


def draw(losses: dict[str, list[float]], best_epoch: int) -> Figure:
    """The figure; `best_epoch` counts from 1, 0 for none."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    epochs = range(1, len(losses["train"]) + 1)
    for split, colour in (("train", TRAIN), ("validation", VALIDATION)):
        axes.plot(epochs, losses[split], color=colour, linewidth=2, label=split)
    if best_epoch:
        best = losses["validation"][best_epoch - 1]
        axes.axvline(best_epoch, color=MARK, linewidth=1, linestyle=":")
        axes.plot(best_epoch, best, "o", color=MARK, label=f"turning point: epoch {best_epoch}")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
