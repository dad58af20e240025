"""What is done once an epoch instead of in each step: outputs are kept, and metrics are logged."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isnan
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed, nn
from torchmetrics.utilities.distributed import gather_all_tensors

from multilayer.core.errors import UserError
from multilayer.core.metric_names import NEEDED

KEPT_BYTES = 2**25
"""Bytes of outputs and targets that are kept of an epoch which may not fit into memory."""

_MINIBATCHES_A_PACK, _BYTES_A_PACK = 4096, 2**21
"""When minibatches are concatenated: each takes 2 kB besides its values, and many small tensors
that stay fragment the memory."""


class EpochOutputs:
    """The network's outputs for the minibatches of an epoch, kept on their device until its end.

    Args:
        kept_bytes: about how many bytes of outputs and targets are kept, those of the last rows;
            None keeps all. The losses of all rows are kept.
    """

    def __init__(self, kept_bytes: int | None = None) -> None:
        self.kept_bytes = kept_bytes
        self.losses: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.has_news = False
        self.n_packs = 0
        self.n_bytes_loose = 0

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def add(
        self, loss: Tensor, output: Tensor, target: Tensor, weight: Tensor | None = None
    ) -> None:
        """Keep a minibatch; no value is read, so that a GPU need not wait.

        Args:
            loss: the mean loss, a scalar.
            output: the network's output, one row for each row of the minibatch.
            target: the targets.
            weight: the divisor of the mean loss, a scalar; see `losses.total_weight`. None for the
                number of rows.
        """
        self.has_news = True
        self.losses.append(loss.detach())
        if weight is None:
            weight = torch.tensor(len(target), device=loss.device)
        self.weights.append(weight)
        self.outputs.append(output.detach())
        self.targets.append(target)
        self.n_bytes_loose += output.nbytes + target.nbytes
        if self.n_bytes_loose > _BYTES_A_PACK or len(self.losses) >= _MINIBATCHES_A_PACK:
            self.pack()

    def pack(self) -> None:
        """Concatenate the minibatches since the last pack, and drop the first rows if too many."""
        self.losses, self.weights = [self.mean_loss()], [torch.stack(self.weights).sum()]
        for values in (self.outputs, self.targets):
            values[self.n_packs :] = [torch.cat(values[self.n_packs :])]
        self.n_packs, self.n_bytes_loose = self.n_packs + 1, 0
        sizes = [a.nbytes + b.nbytes for a, b in zip(self.outputs, self.targets, strict=True)]
        while self.kept_bytes is not None and sum(sizes[1:]) >= self.kept_bytes:
            del sizes[0], self.outputs[0], self.targets[0]
            self.n_packs -= 1

    def mean_loss(self) -> Tensor:
        """The mean loss over the rows, a scalar."""
        return weighted_mean(torch.stack(self.losses), torch.stack(self.weights))

    def of_all_processes(self) -> "EpochOutputs":
        """The outputs of all processes that train together, as one minibatch from each."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return self
        together = EpochOutputs()
        together.losses = gather_all_tensors(self.mean_loss())
        together.outputs = gather_all_tensors(torch.cat(self.outputs))
        together.targets = gather_all_tensors(torch.cat(self.targets))
        together.weights = gather_all_tensors(torch.stack(self.weights).sum())
        return together


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """The mean of losses over minibatches, `(n, ...)` to `(...)`; a weight of 0 excludes a loss."""
    return (losses.where(weights != 0, 0) * (weights / weights.sum(dim=0))).sum(dim=0)


class EpochModule(pl.LightningModule):
    """The part of a module that acts on whole epochs: it logs metrics, and moves a schedule by one.

    Args:
        kept_bytes: of a training epoch; see `EpochOutputs`.

    Attributes:
        monitor: the metric that `ReduceLROnPlateau` follows.
        epochs: the outputs of the current epochs by split, one for each loader.
    """

    monitor: str

    def __init__(self, kept_bytes: int | None) -> None:
        super().__init__()
        self.epochs = {"train": [EpochOutputs(kept_bytes)]}

    @abstractmethod
    def summarize(self, epoch: EpochOutputs) -> dict[str, Tensor]:
        """The loss and every metric over an epoch, as scalars on the device."""

    def on_train_epoch_start(self) -> None:
        """Discard the outputs of the previous epoch, which an error may have ended."""
        self.epochs["train"] = [EpochOutputs(self.epochs["train"][0].kept_bytes)]

    def on_validation_epoch_start(self) -> None:
        """Keep the outputs of each loader separately."""
        self.epochs["validation"] = [EpochOutputs() for _ in self.trainer.num_val_batches]

    def on_test_epoch_start(self) -> None:
        """Keep the outputs of each loader separately."""
        self.epochs["test"] = [EpochOutputs() for _ in self.trainer.num_test_batches]

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


def prefix_names(split: str, values: dict[str, Tensor], ending: str = "") -> dict[str, Tensor]:
    """The values with the split before each name.

    >>> prefix_names("train", {"loss": torch.tensor(1.0)})
    {'train/loss': tensor(1.)}
    """
    return {f"{split}/{name}{ending}": value for name, value in values.items()}


def copy_weights(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and buffers, on their device."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@contextmanager
def holding(module: nn.Module, weights: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Within it the module has other weights, `(1, ...)` each, if there are any."""
    if not weights:
        yield
        return
    current = copy_weights(module)
    module.load_state_dict({name: each[0] for name, each in weights.items()})
    try:
        yield
    finally:
        module.load_state_dict(current)


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


def drop_undefined(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The values as numbers, without metrics that are not defined for the rows."""
    numbers = {name: float(value) for name, value in values.items()}
    return {
        name: value
        for name, value in numbers.items()
        if not (isnan(value) and NEEDED.keys() & name.split("/"))
    }


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
