"""The outputs of an epoch, kept for its metrics, and how these are logged."""

from collections.abc import Mapping
from math import isnan

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed
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


def monitored_value(trainer: pl.Trainer, monitor: str) -> float:
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
