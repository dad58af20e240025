"""Keeps the weights of the best epoch in memory and restores them at the end."""

from math import inf, isfinite
from typing import Any, Literal

import pytorch_lightning as pl
from torch import Tensor

from multilayer.callbacks.epochs_only import EpochsOnly
from multilayer.training.epoch import is_fitting, monitored_value
from multilayer.training.lightning_adapter import check_averaging
from multilayer.training.module import copy_weights

Mode = Literal["min", "max"]


class BestWeights(EpochsOnly):
    """The network ends with the weights of its best epoch, not of its last.

    monitor: a logged metric.
    mode: "min" where less is better, "max" where more is.

    Afterwards `best_epoch` is the epoch, counted from 1, 0 where there was none, `best_step` the
    optimizer steps until then, and `best_value` the metric there. Two copies of the weights are in
    memory, on their device.

    The weights of an epoch are those that its validation ran with, `validated`: other callbacks may
    swap in averaged ones for it, and swap them out before it is known how good they are.

    Raises `UserError` beside a callback whose weights would be thrown away.
    """

    STATE = (
        *((name, f"best_{name}") for name in ("epoch", "step", "value")),
        ("weights", "weights"),
    )

    waits_for_validation = True

    def __init__(self, *, monitor: str = "validation/loss", mode: Mode = "min") -> None:
        self.monitor = monitor
        self.mode = mode
        self.reset()

    def reset(self) -> None:
        """Begin without a best epoch."""
        self.best_epoch = 0
        self.best_step = 0
        self.best_value = worst(self.mode)
        self.weights: dict[str, Tensor] = {}
        self.validated: dict[str, Tensor] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Look at the other callbacks, and have our modules copy what they validate with."""
        super().setup(trainer, pl_module, stage)
        check_averaging(trainer.callbacks)  # type: ignore[attr-defined]
        module: Any = pl_module
        module.validated = {} if stage == "fit" else None

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a copy of the weights that are validated.

        Our modules make it themselves: other callbacks may swap in this hook, and before this one.
        """
        if is_fitting(trainer) and batch_idx == dataloader_idx == 0:
            module: Any = pl_module
            self.validated = module.validated or copy_weights(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights where the metric is the best so far."""
        if not is_fitting(trainer):
            return
        value = monitored_value(trainer, self.monitor)
        if is_better(value, self.best_value, self.mode):
            self.best_epoch = trainer.current_epoch + 1
            self.best_step = trainer.global_step
            self.best_value = value
            # Lockstep has no minibatches here, and copies where a callback may change weights.
            self.weights = self.validated or copy_weights(pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the best weights, if there were any, after whatever other callbacks leave."""
        module: Any = pl_module
        module.validated = None
        if stage == "fit" and self.weights:
            pl_module.load_state_dict(self.weights)

    def manifest_entries(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {"best_epoch": self.best_epoch}


def find_best_weights(trainer: pl.Trainer) -> BestWeights | None:
    """The `BestWeights` among the trainer's callbacks."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return next((item for item in callbacks if isinstance(item, BestWeights)), None)


def worst(mode: Mode) -> float:
    """What every number is better than."""
    return inf if mode == "min" else -inf


def is_better(value: float, best: float, mode: Mode, min_delta: float = 0.0) -> bool:
    """Whether a finite value is better than the best so far by more than `min_delta`.

    >>> is_better(0.5, 0.6, "min"), is_better(float("nan"), 0.6, "min")
    (True, False)
    """
    gain = best - value if mode == "min" else value - best
    return isfinite(value) and gain > min_delta
