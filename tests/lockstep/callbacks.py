"""Callbacks of a user's own, some of which go wrong."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn


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


class Changes(pl.Callback):
    """Changes in the second epoch what a step is."""

    def __init__(self, what: str) -> None:
        self.what = what

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The weights, how often they change, or a number of the optimizer's."""
        if trainer.current_epoch != 1:
            return
        network: Any = pl_module.network
        group = trainer.optimizers[0].param_groups[0]
        match self.what:
            case "frozen":
                next(pl_module.parameters()).requires_grad_(False)
            case "attribute":
                network.temperature = 2.0
            case "dropout":
                next(each for each in network.modules() if isinstance(each, nn.Dropout)).p = 0.9
            case "label_smoothing":
                pl_module.loss.label_smoothing = 0.5  # type: ignore[union-attr]
            case "state":
                trainer.optimizers[0].state.clear()
            case "max_epochs":
                trainer.fit_loop.max_epochs = 9
            case "accumulate_grad_batches" | "gradient_clip_val":
                setattr(trainer, self.what, 2)
            case _:
                group[self.what] = 0.5 if self.what != "maximize" else True


class Freezes(pl.Callback):
    """Freezes the first layer before the training begins."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Its weights and biases."""
        for parameter in list(pl_module.parameters())[:2]:
            parameter.requires_grad_(False)
