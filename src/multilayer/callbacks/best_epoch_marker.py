"""Marks in TensorBoard where validation turns."""

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from multilayer.callbacks.best_weights import BestWeights, find_best_weights
from multilayer.callbacks.epochs_only import EpochsOnly


class TurningPoint(EpochsOnly):
    """Marks the best epoch as a point of its own among the curves of training and validation.

    The point is `turning_point/loss` (or the metric that `BestWeights` follows). The tab "Custom
    Scalars" shows it in one chart with both curves. Needs a `BestWeights` callback and the
    TensorBoard logger beside it, and does nothing without.
    """

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark the best epoch."""
        best = find_best_weights(trainer)
        writer = tensorboard_writer(trainer)
        if best and best.best_epoch and writer:
            step = best.best_step - 1  # Lightning counts the steps of its curves from 0
            writer.add_scalar(f"turning_point/{metric_of(best)}", best.best_value, step)


def tensorboard_writer(trainer: pl.Trainer) -> SummaryWriter | None:
    """The writer of the TensorBoard logger; None where there is none, or in another process."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            writer: SummaryWriter = logger.experiment
            return writer
    return None


def metric_of(best: BestWeights) -> str:
    """The metric's name without its split: `loss` for `validation/loss`."""
    return best.monitor.rpartition("/")[2]
