"""What the short trainings learn, on what, and what they leave: their losses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from multilayer.data import DataModule
from multilayer.data.batches import EpochShuffle, Minibatch
from multilayer.data.split import Split
from multilayer.training.factory import limited_batches, planned_steps
from multilayer.training.module import SupervisedModule

MOST_ROWS = 8192
"""Rows whose loss is looked at."""

LARGEST_SAMPLE = 2**18
"""Rows to learn from, of data that does not lie on the device."""

FEWEST_STEPS = 20
"""Of a short training, unless the whole training has fewer."""


@dataclass(frozen=True)
class Lesson:
    """What networks learn from for a while, and what they are judged by.

    features, target: `(N, D)` and `(N,)`, on the networks' device.
    rows: the numbers of the training rows among them, `(n_rows,)` int64.
    batch_size: rows a minibatch.
    n_rows: rows an epoch.
    n_steps: how long.
    train, validation: features and target of rows whose loss is looked at.
    clip: the largest norm of a gradient; None for any.
    """

    features: Tensor
    target: Tensor
    rows: Tensor
    batch_size: int
    n_rows: int
    n_steps: int
    train: Minibatch
    validation: Minibatch
    clip: float | None = None

    def epochs(self, seeds: Sequence[int]) -> Iterator[Tensor]:
        """For each epoch the rows of its steps, one after the other, `(n_seeds, n_rows)`."""
        samplers = {seed: EpochShuffle(len(self.rows), seed) for seed in seeds}
        for start in range(0, self.n_steps, ceil(self.n_rows / self.batch_size)):
            n_rows = min(self.n_rows, (self.n_steps - start) * self.batch_size)
            orders = {seed: sampler.order() for seed, sampler in samplers.items()}
            yield torch.stack([self.rows[orders[seed][:n_rows]] for seed in seeds])
            for sampler in samplers.values():
                sampler.set_epoch(sampler.epoch + 1)

    def shortened(self, fraction: float, max_steps: int) -> "Lesson":
        """A fraction of its steps: at most `max_steps`, at least `FEWEST_STEPS` if it has them."""
        n_steps = min(self.n_steps, max_steps, max(FEWEST_STEPS, round(fraction * self.n_steps)))
        return replace(self, n_steps=n_steps)


@dataclass(frozen=True)
class Pupil:
    """A network in its short training, with an optimizer, and the seed of what is random in it."""

    module: SupervisedModule
    optimizer: Optimizer
    seed: int


@dataclass(frozen=True)
class Losses:
    """What became of K pupils; NaN where a loss was not finite.

    train_before, train_after: `(K,)`, of the training rows before the first and after the last
        step.
    validation: `(K, n_epochs)`, after each epoch, the last of which may be cut short.
    """

    train_before: Tensor
    train_after: Tensor
    validation: Tensor


def joined(parts: Sequence[Losses], n: int) -> Losses:
    """The losses of several groups of pupils, the first `n` of them all."""
    return Losses(
        torch.cat([part.train_before for part in parts])[:n],
        torch.cat([part.train_after for part in parts])[:n],
        torch.cat([part.validation for part in parts])[:n],
    )


def make_lesson(trainer: pl.Trainer, data: DataModule) -> Lesson:
    """The lesson of a whole training that is about to begin.

    What several processes or accumulated gradients put together is one larger minibatch. Of data
    that is streamed, or too large for the device, it is taught on a sample.
    """
    device = trainer.strategy.root_device
    features, target = data.placed(device)
    rows = data.rows["train"]
    if data.late_preprocessing is not None or features.device.type != device.type:
        features, target = data.rows_of("train", LARGEST_SAMPLE)
        rows = torch.arange(len(target))
    batch_size = len(rows) if data.batch_size == "full" else min(data.batch_size, len(rows))
    batch_size *= trainer.world_size
    n_minibatches = ceil(len(rows) / batch_size)
    trainer_node = {
        "limit_train_batches": trainer.limit_train_batches,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
    }
    n_limited = limited_batches(trainer_node, n_minibatches)
    return Lesson(
        features.to(device),
        target.to(device),
        rows,
        batch_size * trainer.accumulate_grad_batches,
        min(len(rows), n_limited * batch_size),
        planned_steps(trainer_node, n_minibatches),
        rows_on(device, data, "train"),
        rows_on(device, data, "validation"),
        clip=trainer.gradient_clip_val,
    )


def rows_on(device: torch.device, data: DataModule, split: Split) -> Minibatch:
    """Rows of a split whose loss is looked at, on a device."""
    features, target = data.rows_of(split, MOST_ROWS)
    return Minibatch(features.to(device), target.to(device))
