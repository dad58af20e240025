"""Stops a training that no longer improves, or whose loss is no longer finite."""

from math import isfinite
from typing import Any

import pytorch_lightning as pl

from multilayer.callbacks.best_weights import Mode, is_better, worst
from multilayer.callbacks.epochs_only import EpochsOnly
from multilayer.training.epoch import is_fitting, monitored_value


class EarlyStopping(EpochsOnly):
    """Stop when a metric has not improved for `patience` validations.

    monitor: a logged metric.
    mode: "min" where less is better, "max" where more is.
    patience: validations without improvement. They count from `Trainer(min_epochs=...)` on, while
        the best is tracked from the start.
    min_delta: what an improvement must exceed.

    Afterwards `reason` says in words why it stopped, None where it did not, and `diverged` is true
    where a loss was no longer finite.
    """

    STATE = tuple((name, name) for name in ("best_value", "best_epoch", "n_without_improvement"))

    waits_for_validation = True

    def __init__(
        self,
        *,
        monitor: str = "validation/loss",
        mode: Mode = "min",
        patience: int = 10,
        min_delta: float = 0.0,
    ) -> None:
        if patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        self.monitor = monitor
        self.mode = mode
        self.patience = patience
        self.min_delta = min_delta
        self.reset()

    def reset(self) -> None:
        """Begin to count."""
        self.best_value = worst(self.mode)
        self.best_epoch = 0
        self.n_without_improvement = 0
        self.reason: str | None = None
        self.diverged = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the metric, and stop where it is time."""
        if not is_fitting(trainer):
            return
        epoch = trainer.current_epoch + 1
        self.stop_if_diverged(trainer, epoch)
        value = monitored_value(trainer, self.monitor)
        if is_better(value, self.best_value, self.mode, self.min_delta):
            self.best_value, self.best_epoch = value, epoch
            self.n_without_improvement = 0
        elif epoch > (trainer.min_epochs or 0):
            self.n_without_improvement += 1
        if self.n_without_improvement >= self.patience and self.reason is None:
            so_far = (
                f"has not improved on {self.best_value:.4g} of epoch {self.best_epoch}"
                if self.best_epoch
                else "was not a finite number"
            )
            n_epochs = epoch - self.best_epoch
            self.reason = f"early stopping: {self.monitor} {so_far} for {n_epochs} epochs"
        trainer.should_stop = trainer.should_stop or self.reason is not None

    def stop_if_diverged(self, trainer: pl.Trainer, epoch: int) -> None:
        """Note it where any loss is no longer a finite number."""
        for name, value in trainer.callback_metrics.items():
            if name.endswith("/loss") and not isfinite(value):
                self.diverged = True
                trainer.fit_loop.min_epochs = 0  # or Lightning would train on until then
                self.reason = f"diverged: {name} is {float(value)} in epoch {epoch}"

    def manifest_entries(self) -> dict[str, Any]:
        """What the manifest says, where it has stopped the training."""
        if self.reason is None:
            return {}
        return {"stop_reason": self.reason, "status": "diverged" if self.diverged else "done"}
