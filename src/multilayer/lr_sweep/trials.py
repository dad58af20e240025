"""The short trainings of a learning-rate sweep: their rows, networks and optimizers."""

import random
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.random import SeedSequence
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from multilayer.core.errors import UserError
from multilayer.data import Dataset
from multilayer.data.batches import EpochShuffle, Minibatch
from multilayer.data.split import Split
from multilayer.stacking.compat import freeze_unused_parameters
from multilayer.training.components import make_checked_network
from multilayer.training.epoch_callback import Record
from multilayer.training.steps import limited_batches, planned_steps
from multilayer.training.task_model import TaskModel

_MAX_ROWS_SCORED = 8192
"""Rows of a split whose loss is computed."""

_MAX_ROWS_SAMPLED = 2**18
"""Rows to train on, of data that is not on the device."""

_MIN_STEPS = 20
"""Steps of a short training, unless the whole training has fewer."""


@dataclass(frozen=True)
class Trial:
    """One short training: a network, its learning rate, and the seed of its random numbers."""

    task_model: TaskModel
    lr: float
    seed: int


@dataclass(frozen=True)
class TrialSpec:
    """What all trials of a sweep train on, and for how long.

    Attributes:
        features: `(N, D)`, on the networks' device.
        target: `(N,)`, on the same device.
        rows: positions of the training rows, `(n_rows,)` int64.
        batch_size: rows of a minibatch.
        n_rows: rows of an epoch.
        n_steps: optimizer steps of a trial.
        train: training rows whose loss is computed before and after.
        validation: validation rows whose loss is computed after each epoch.
        make_optimizer: called with parameters and `lr`.
        max_norm: gradients are clipped to this norm; None for no clipping.
        compile: "auto", or whether to compile the step of a stack.
        num_threads: "auto", or the number of CPU threads of a stack.
    """

    features: Tensor
    target: Tensor
    rows: Tensor
    batch_size: int
    n_rows: int
    n_steps: int
    train: Minibatch
    validation: Minibatch
    make_optimizer: Callable[..., Optimizer]
    max_norm: float | None = None
    compile: bool | str = "auto"
    num_threads: int | str = "auto"

    @classmethod
    def of(cls, record: Record, **options: Any) -> Self:
        """The spec of a whole training that is about to begin.

        Minibatches of several processes or accumulation steps are one larger minibatch. Data that
        is streamed, or too large for the device, is represented by a sample.

        Args:
            record: of its beginning.
            options: `compile` and `num_threads`.
        """
        data, device, limits = record.data, record.device, record.trainer_config
        features, target = data.on_device(device)
        rows = data.rows["train"]
        if data.batch_preprocessing is not None or features.device.type != device.type:
            features, target = data.split_tensors("train", _MAX_ROWS_SAMPLED)
            rows = torch.arange(len(target))
        batch_size = min(data.train_minibatches().batch_size, len(rows)) * record.n_processes
        n_minibatches = ceil(len(rows) / batch_size)
        splits: tuple[Split, Split] = ("train", "validation")
        scored = [data.split_tensors(split, _MAX_ROWS_SCORED) for split in splits]
        train, validation = (Minibatch(*(each.to(device) for each in rows)) for rows in scored)
        return cls(
            features.to(device),
            target.to(device),
            rows,
            batch_size * limits["accumulate_grad_batches"],
            min(len(rows), limited_batches(limits, n_minibatches) * batch_size),
            planned_steps(limits, n_minibatches),
            train,
            validation,
            record.make_optimizer,
            max_norm=limits["gradient_clip_val"] or None,  # 0 does not clip
            **options,
        )

    def epochs(self, seeds: Sequence[int]) -> Iterator[Tensor]:
        """For each epoch the rows of its steps, one after the other, `(n_seeds, n_rows)`."""
        samplers = {seed: EpochShuffle(len(self.rows), seed) for seed in seeds}
        for start in range(0, self.n_steps, ceil(self.n_rows / self.batch_size)):
            n_rows = min(self.n_rows, (self.n_steps - start) * self.batch_size)
            orders = {seed: sampler.order() for seed, sampler in samplers.items()}
            yield torch.stack([self.rows[orders[seed][:n_rows]] for seed in seeds])
            for sampler in samplers.values():
                sampler.set_epoch(sampler.epoch + 1)

    def shortened(self, fraction: float, max_steps: int) -> Self:
        """The spec for a fraction of the steps: from 20 (if there are that many) to `max_steps`."""
        n_steps = min(self.n_steps, max_steps, max(_MIN_STEPS, round(fraction * self.n_steps)))
        return replace(self, n_steps=n_steps)

    def optimizer_of(self, trial: Trial) -> Optimizer:
        """The optimizer of a trial, with its learning rate.

        Raises:
            UserError: where the optimizer takes none.
        """
        try:
            optimizer = self.make_optimizer(trial.task_model.network.parameters(), lr=trial.lr)
        except TypeError as error:
            raise UserError(f"callbacks.lr_sweep: the optimizer must take lr: {error}") from error
        if isinstance(optimizer, LBFGS):
            raise UserError("callbacks.lr_sweep: LBFGS searches for the length of each step itself")
        return optimizer


class TrialLosses(NamedTuple):
    """The losses of a trial; NaN where one was not finite.

    Attributes:
        train_before: of the training rows before the first step.
        train_after: of the same rows after the last step.
        validation: after each epoch, the last of which may be cut short.
    """

    train_before: float
    train_after: float
    validation: Sequence[float]


def make_trials(
    task_model: TaskModel,
    data: Dataset,
    rates: Sequence[float],
    n_seeds: int,
    device: torch.device,
) -> list[Trial]:
    """A trial for each learning rate and seed, the seeds of a rate side by side.

    The trials of a seed share a copy of the task model, with its weights for the first seed and new
    ones for the others. Only one that carries its config can be built again. All seeds of any other
    have the same weights, and differ in the order of the rows and in dropout.
    """
    seeds = _derived_seeds(data.shuffle_seed, n_seeds)
    copies = [deepcopy(task_model) for _ in seeds]
    if "config" in task_model.metadata:
        for copied, seed in zip(copies[1:], seeds[1:], strict=True):
            for seed_library in (torch.manual_seed, np.random.seed, random.seed):
                seed_library(seed)
            config = task_model.metadata["config"]
            copied.network = make_checked_network(config, data.columns, data.preprocessing)
    copies = [copied.to(device).train() for copied in copies]
    freeze_unused_parameters(copies, data)
    pairs = list(zip(copies, seeds, strict=True))
    return [Trial(copied, rate, seed) for rate in rates for copied, seed in pairs]


def _derived_seeds(seed: int, n: int) -> list[int]:
    """The run's own seed, and `n - 1` others that are unrelated to the seeds after it.

    >>> _derived_seeds(0, 3)
    [0, 2968811710, 3677149159]
    """
    return [seed, *map(int, SeedSequence(seed).generate_state(n - 1))] if n > 1 else [seed]
