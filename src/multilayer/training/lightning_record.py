"""A run that Lightning trains, as epoch callbacks see it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from math import isnan, nan
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.core.metric_names import NEEDED
from multilayer.data import DataModule
from multilayer.training.epoch import log_in_fit
from multilayer.training.epoch_callback import Callback, Record, Values
from multilayer.training.module import SupervisedModule, copy_weights


class LightningFit:
    """What all adapters of a trainer share during a fit.

    Args:
        trainer: Lightning's.
        callbacks: its callbacks, epoch callbacks without their adapters.
    """

    def __init__(self, trainer: pl.Trainer, callbacks: Sequence[Any]) -> None:
        self.trainer = trainer
        self.callbacks = callbacks
        self.started = perf_counter()
        self.is_resumed = False
        self.epoch: int | None = None
        self.rates: dict[str, float] = {}
        self.metrics_before: dict[str, Tensor] = {}
        self.stop_reason: str | None = None
        self.final_weights: dict[str, Tensor] = {}

    def begin_epoch(self, module: Any) -> None:
        """Note the learning rates and the metrics so far; the first adapter's call counts."""
        if self.epoch == self.trainer.current_epoch:
            return
        self.epoch = self.trainer.current_epoch
        self.rates = _current_rates(self.trainer)
        self.metrics_before = dict(self.trainer.callback_metrics)
        if module.validated is not None:
            module.validated = {}


class LightningRecord(Record):
    """A run that Lightning trains; K is 1.

    Attributes:
        trainer: Lightning's.
        module: the module that it trains.
    """

    def __init__(self, fit: LightningFit, module: pl.LightningModule, epoch: int) -> None:
        self.fit = fit
        self.trainer = fit.trainer
        self.module = module
        self.epoch = np.array([epoch])

    @cached_property
    def step(self) -> Values:  # type: ignore[override]
        """The optimizer steps so far."""
        return np.array([self.trainer.global_step])

    @cached_property
    def seconds(self) -> Values:  # type: ignore[override]
        """Since the training began."""
        return np.array([perf_counter() - self.fit.started])

    @property
    def metrics(self) -> dict[str, Values]:
        """Lightning's `callback_metrics`."""
        return {name: _single(value) for name, value in self.trainer.callback_metrics.items()}

    @property
    def measured(self) -> list[str]:
        """Those that are not the objects that they were when the epoch began."""
        before = self.fit.metrics_before
        return [
            name
            for name, value in self.trainer.callback_metrics.items()
            if before.get(name) is not value
            and not (NEEDED.keys() & name.split("/") and isnan(value))
        ]

    def __getitem__(self, name: str) -> Values:
        """The latest value of a metric."""
        metrics = self.trainer.callback_metrics
        return _single(metrics[name]) if name in metrics else super().__getitem__(name)

    @property
    def rates(self) -> dict[str, Values]:
        """As they were noted when the epoch began."""
        rates = self.fit.rates or _current_rates(self.trainer)
        return {name: np.array([rate]) for name, rate in rates.items()}

    @property
    def min_epochs(self) -> Values:
        """The trainer's."""
        return np.array([self.trainer.min_epochs or 0])

    @property
    def is_last(self) -> bool:
        """Whether the training ends with this epoch."""
        trainer, n_epochs = self.trainer, int(self.epoch[0])
        stops = trainer.should_stop and n_epochs >= (trainer.min_epochs or 0)
        enough_epochs = trainer.max_epochs not in (None, -1) and n_epochs >= trainer.max_epochs
        return stops or enough_epochs or 0 <= trainer.max_steps <= trainer.global_step

    @property
    def is_resumed(self) -> bool:
        """Whether `fit` was given a checkpoint."""
        return self.fit.is_resumed

    @property
    def n_processes(self) -> int:
        """The trainer's."""
        return self.trainer.world_size

    @property
    def log_every_n_steps(self) -> int:
        """The trainer's."""
        return self.trainer.log_every_n_steps  # type: ignore[attr-defined,no-any-return]

    @property
    def writes_files(self) -> bool:
        """Whether this is the first process."""
        return self.trainer.is_global_zero

    def agree(self, choice: bool) -> bool:
        """The first process's choice."""
        return bool(self.trainer.strategy.broadcast(choice))

    def find(self, kind: type[Callback]) -> Callback | None:
        """The callback of a class in this fit, if there is one."""
        return next((each for each in self.fit.callbacks if isinstance(each, kind)), None)

    @property
    def data(self) -> DataModule:
        """The trainer's.

        Raises:
            UserError: where it is not one of multilayer's.
        """
        return require_supervised(self.trainer, self.module)[1]

    def weights(self) -> dict[str, Tensor]:
        """A copy of those in place, unless some callback may have swapped others in or out."""
        validated = getattr(self.module, "validated", None)
        return {name: each[None] for name, each in (validated or copy_weights(self.module)).items()}

    @contextmanager
    def inspect(
        self, weights: Mapping[str, Tensor] | None = None, k: int = 0
    ) -> Iterator[SupervisedModule]:
        """The module, in evaluation mode."""
        module, _ = require_supervised(self.trainer, self.module)
        with unchanged(module), _holding(module, weights):
            yield module

    def log_scalars(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Log in every logger, and for whoever monitors."""
        scalars = {name: torch.as_tensor(value).reshape(()) for name, value in values.items()}
        log_in_fit(self.trainer, scalars, step)

    def log_image(self, name: str, figure: Any, *, step: int | None = None, k: int = 0) -> None:
        """Log a figure in TensorBoard."""
        writer = self.tensorboard()
        if writer is not None:
            writer.add_figure(name, figure, self.trainer.global_step - 1 if step is None else step)

    def tensorboard(self, k: int = 0) -> Any:
        """The writer of the TensorBoard logger; None where there is none, or in another process."""
        loggers = self.trainer.loggers if self.trainer.is_global_zero else []
        writers = (each.experiment for each in loggers if isinstance(each, TensorBoardLogger))
        return next(writers, None)

    def stop(self, reason: str, *, k: int | None = None, at_once: bool = False) -> None:
        """Stop the trainer."""
        self.fit.stop_reason = reason
        self.trainer.should_stop = True
        if at_once:
            self.trainer.fit_loop.min_epochs = 0

    def end_with(self, weights: Mapping[str, Tensor]) -> None:
        """Put them in place in the last hook of a fit."""
        self.fit.final_weights = {name: each[0] for name, each in weights.items()}

    def save_checkpoint(
        self, path: Path, weights: Mapping[str, Tensor] | None = None, k: int = 0
    ) -> None:
        """Save by the trainer."""
        with _holding(self.module, weights):
            self.trainer.save_checkpoint(path, weights_only=weights is not None)


def require_supervised(
    trainer: pl.Trainer, module: pl.LightningModule
) -> tuple[SupervisedModule, DataModule]:
    """The module and the data of a trainer.

    Raises:
        UserError: where they are not of multilayer's classes.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(module, SupervisedModule) or not isinstance(data, DataModule):
        raise UserError(
            "callbacks diagnostics, figures and lr_sweep need multilayer's SupervisedModule and "
            f"DataModule, got {type(module).__name__} and {type(data).__name__}"
        )
    return module, data


@contextmanager
def unchanged(module: pl.LightningModule) -> Iterator[None]:
    """Within it the module evaluates; afterwards each layer's mode and the random state are back.

    A compiled network runs eagerly within: other shapes and modes would compile it anew.
    """
    layers = list(module.modules())
    modes = [layer.training for layer in layers]
    devices = [module.device] if module.device.type == "cuda" else []
    module.eval()
    try:
        with torch.random.fork_rng(devices=devices), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = mode


@contextmanager
def _holding(module: pl.LightningModule, weights: Mapping[str, Tensor] | None) -> Iterator[None]:
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


def _current_rates(trainer: pl.Trainer) -> dict[str, float]:
    """The learning rate of each parameter group, by the names of Lightning's monitor."""
    rates: dict[str, float] = {}
    for optimizer in trainer.optimizers:
        name = f"lr-{type(optimizer).__name__}"
        n_before = sum(each.partition("/")[0].startswith(name) for each in rates)
        stem = f"{name}-{n_before}" if n_before else name
        groups = optimizer.param_groups
        for i, group in enumerate(groups):
            ending = f"/pg{i + 1}" if len(groups) > 1 else ""
            rates[stem + ending] = float(group.get("lr", nan))
    return rates


def _single(value: Any) -> Values:
    """A scalar as the value of one run, `(1,)`."""
    return np.array([float(value)])
