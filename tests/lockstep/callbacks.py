"""Callbacks of a user's own, some of which go wrong."""

from typing import Any

import pytorch_lightning as pl
import torch


class Raises(pl.Callback):
    """Raises in one of its hooks, from an epoch on; never where that is -1."""

    def __init__(self, hook: str, epoch: int = 0) -> None:
        def run(trainer: pl.Trainer, *args: Any, **arguments: Any) -> None:
            if 0 <= epoch <= trainer.current_epoch:
                raise RuntimeError(f"no {hook} today")

        setattr(self, hook, run)


class Looks(pl.Callback):
    """Logs what it finds in the trainer and the network, in every hook that may log."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The data."""
        loaders: Any = (trainer.train_dataloader, trainer.val_dataloaders)
        for name, loader in zip(("train", "validation"), loaders, strict=True):
            pl_module.log(f"look/{name}_batches", float(len(loader)))
            pl_module.log(f"look/{name}_rows", float(loader.n_rows))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The weights."""
        weights = [each.detach().square().sum() for each in pl_module.parameters()]
        pl_module.log("look/weights", torch.stack(weights).sum().sqrt())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The counts and the metrics."""
        n_batches: Any = trainer.num_training_batches
        pl_module.log("look/n_batches", float(n_batches + sum(trainer.num_val_batches)))
        pl_module.log("look/n_steps", float(trainer.estimated_stepping_batches))
        pl_module.log("look/loss", trainer.callback_metrics["validation/loss"])
        pl_module.log("look/logged", trainer.logged_metrics["train/loss"])
        pl_module.log("look/task", float(trainer.datamodule.columns.n_outputs))  # type: ignore[attr-defined]


class Freezes(pl.Callback):
    """Freezes a layer in the second epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """All weights but those of the last layer."""
        if trainer.current_epoch == 1:
            next(pl_module.parameters()).requires_grad_(False)
