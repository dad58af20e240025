"""Logs the learning rate."""

from typing import Literal

from pytorch_lightning.callbacks import LearningRateMonitor

from multilayer.callbacks.epochs_only import epochs_only


class LearningRate(LearningRateMonitor):
    """Lightning's callback, without a hook in each step where it logs each epoch."""

    def __init__(self, *, logging_interval: Literal["epoch", "step"] = "epoch") -> None:
        super().__init__(logging_interval=logging_interval)
        if logging_interval == "epoch":
            epochs_only(self)
