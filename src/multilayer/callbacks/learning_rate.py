"""Logs the learning rate."""

from typing import Literal

from multilayer.training.epoch_callback import EpochCallback, Record


class LearningRate(EpochCallback):
    """Logs the learning rate of each parameter group, as `lr-Adam` for example.

    Args:
        logging_interval: "epoch" logs it at the start of each epoch, "step" within epochs, as often
            as `trainer.log_every_n_steps` says.

    >>> from multilayer.training import lightning_callbacks
    >>> callbacks = lightning_callbacks(LearningRate(logging_interval="step"))
    """

    PER_RUN = ()

    def __init__(self, *, logging_interval: Literal["epoch", "step"] = "epoch") -> None:
        self.logging_interval = logging_interval
        if logging_interval == "step":
            self.within_epochs = "always"

    def on_epoch_start(self, record: Record) -> None:
        """Log the rates that the epoch begins with."""
        if self.logging_interval == "epoch":
            record.log_scalars(record.rates, step=record.step)

    def within_epoch(self, record: Record) -> None:
        """Log the rates of a step."""
        is_time = (record.step[0] + 1) % record.log_every_n_steps == 0
        if self.logging_interval == "step" and is_time:
            record.log_scalars(record.rates, step=record.step)
