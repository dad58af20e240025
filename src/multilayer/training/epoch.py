"""What a module does once an epoch instead of in each step: it logs metrics."""

from abc import abstractmethod
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed
from torchmetrics.utilities.distributed import gather_all_tensors

from multilayer.core.errors import UserError
from multilayer.training.epoch_outputs import EpochOutputs, drop_undefined, prefix_names


class LightningOutputs(EpochOutputs):
    """The outputs of an epoch under Lightning: of several processes, of a module compiled whole."""

    add = torch.compiler.disable(EpochOutputs.add)  # type: ignore[no-untyped-call]

    def of_all_processes(self) -> EpochOutputs:
        """The outputs of all processes that train together, as one minibatch from each."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return self
        together = EpochOutputs()
        together.losses = gather_all_tensors(self.mean_loss())
        together.outputs = gather_all_tensors(torch.cat(self.outputs))
        together.targets = gather_all_tensors(torch.cat(self.targets))
        together.weights = gather_all_tensors(torch.stack(self.weights).sum())
        return together


class EpochModule(pl.LightningModule):
    """The part of a module that acts on whole epochs: it logs metrics, and moves a schedule by one.

    Attributes:
        monitor: the metric that `ReduceLROnPlateau` follows.
        epochs: the outputs of the current epochs by split, one for each loader.
    """

    monitor: str
    epochs: dict[str, list[LightningOutputs]]

    @abstractmethod
    def summarize(self, epoch: EpochOutputs) -> dict[str, Tensor]:
        """The loss and every metric over an epoch, as scalars on the device."""

    def on_train_epoch_start(self) -> None:
        """Discard the outputs of the previous epoch, which an error may have ended."""
        self.epochs["train"] = [LightningOutputs(self.epochs["train"][0].kept_bytes)]

    def on_validation_epoch_start(self) -> None:
        """Keep the outputs of each loader separately."""
        self.epochs["validation"] = [LightningOutputs() for _ in self.trainer.num_val_batches]

    def on_test_epoch_start(self) -> None:
        """Keep the outputs of each loader separately."""
        self.epochs["test"] = [LightningOutputs() for _ in self.trainer.num_test_batches]

    def on_train_epoch_end(self) -> None:
        """Log the training loss and metrics if no validation has done so."""
        self.log_new("train")
        if not self.trainer.enable_validation:
            self.move_plateau()

    def on_validation_epoch_end(self) -> None:
        """Log the loss and metrics of both, so that callbacks find them side by side."""
        splits = ("train", "validation") if is_fitting(self.trainer) else ("validation",)
        self.log_new(*splits)

    def on_validation_end(self) -> None:
        """Move the schedule that follows a metric."""
        if is_fitting(self.trainer):
            self.move_plateau()

    def on_test_epoch_end(self) -> None:
        """Log the loss and metrics."""
        self.log_new("test")

    def move_plateau(self) -> None:
        """Let `ReduceLROnPlateau` see a new value of the metric that it follows.

        Lightning would do so at the end of each epoch, with or without a validation in it, and
        after the checkpoint of the epoch is written.
        """
        for config in self.trainer.lr_scheduler_configs:
            if config.reduce_on_plateau:
                schedule: Any = config.scheduler
                schedule.step(_monitored_value(self.trainer, self.monitor))

    def log_new(self, *splits: str) -> None:
        """Log the loss and every metric of the epochs so far, the same in all processes.

        Those of training are measured while the weights change. There are none for a split that has
        no new outputs since the last call.
        """
        values: dict[str, Tensor] = {}
        for split in splits:
            epochs = self.epochs[split]
            for index, epoch in enumerate(epochs):
                if epoch.has_news:
                    epoch.has_news = False
                    found = self.summarize(epoch.of_all_processes())
                    ending = f"/dataloader_idx_{index}" * (len(epochs) > 1)
                    values |= prefix_names(split, found, ending)
        if self.trainer.state.fn == "fit":
            log_in_fit(self.trainer, values)
        else:  # Lightning returns and prints what was logged so
            self.log_dict(values, sync_dist=True, add_dataloader_idx=False)


def is_fitting(trainer: pl.Trainer) -> bool:
    """Whether a validation is part of a fit, rather than the sanity check before it."""
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def log_in_fit(trainer: pl.Trainer, values: dict[str, Tensor], step: int | None = None) -> None:
    """Do what Lightning's `log_dict` does in a fit, at an epoch's end.

    Lightning takes 0.3 ms for each value, which for ten of them is a tenth of an epoch of 1,257
    rows: it prepares to accumulate them over minibatches and processes.
    """
    if trainer.sanity_checking or not values:
        return
    trainer.callback_metrics.update(values)
    trainer.logged_metrics.update(values)
    scalars = drop_undefined(values)
    step = trainer.global_step - 1 if step is None else step
    for logger in trainer.loggers:
        logger.log_metrics({**scalars, "epoch": trainer.current_epoch}, step)
        logger.save()


def _monitored_value(trainer: pl.Trainer, monitor: str) -> float:
    """The current value of a logged metric.

    Raises:
        UserError: It is not logged; the message lists the metrics that are.
    """
    if monitor not in trainer.callback_metrics:
        raise UserError(
            f"no metric {monitor!r} to monitor; logged are "
            f"{', '.join(sorted(trainer.callback_metrics))}"
        )
    return float(trainer.callback_metrics[monitor])


def is_streamed(trainer: pl.Trainer) -> bool:
    """Whether training rows are read while the network trains: then an epoch may take hours."""
    return getattr(trainer.datamodule, "stream", None) is not None  # type: ignore[attr-defined]
