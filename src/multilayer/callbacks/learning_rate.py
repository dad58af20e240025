"""Logs the learning rate."""

from typing import Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import LearningRateMonitor

from multilayer.callbacks.epochs_only import EpochsOnly, hide_hooks_of_a_step


class LearningRate(EpochsOnly, LearningRateMonitor):
    """Lightning's callback, without a hook in each step where it logs each epoch."""

    def __init__(self, *, logging_interval: Literal["epoch", "step"] = "epoch") -> None:
        super().__init__(logging_interval=logging_interval)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Hide the hooks before the training."""
        super().setup(trainer, pl_module, stage)
        if self.logging_interval == "epoch":
            hide_hooks_of_a_step(self, LearningRateMonitor)
