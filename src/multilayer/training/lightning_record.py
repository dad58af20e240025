"""What epoch callbacks are told of a fit of Lightning's, and what they may do to it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from math import nan
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.optim import Optimizer

from multilayer.core.errors import UserError
from multilayer.core.metric_names import is_undefined
from multilayer.data import Dataset
from multilayer.training.components import with_lr
from multilayer.training.epoch_callback import Callback, Choice, Record, Values
from multilayer.training.fit_state import log_in_fit
from multilayer.training.module import SupervisedModule, copy_weights

_TRAINER_CONFIG = (
    "limit_train_batches",
    "accumulate_grad_batches",
    "max_epochs",
    "max_steps",
    "precision",
    "gradient_clip_val",
    "gradient_clip_algorithm",
)


class LightningRecord(Record):
    """A fit of Lightning's, as it is at the moment; K is 1.

    Args:
        trainer: Lightning's.
        module: the module that it trains.

    Attributes:
        stop_reason: why a callback has stopped it; None if none has.
        acting, stopped_by: the state key of the callback that is called, and of those that have
            stopped the fit.
        final_weights: those that it ends with, if a callback says so.
    """

    def __init__(self, trainer: pl.Trainer, module: Any) -> None:
        self.trainer, self.module = trainer, module
        self.epoch = np.array([trainer.current_epoch])
        self.is_resumed = False
        self.n_processes = trainer.world_size
        self.log_every_n_steps = trainer.log_every_n_steps  # type: ignore[attr-defined]
        self.writes_files = trainer.is_global_zero
        self.shows_progress = trainer.progress_bar_callback is not None
        self.device = trainer.strategy.root_device
        self.stop_reason: str | None = None
        self.acting = ""
        self.stopped_by: set[str] = set()
        self.final_weights: dict[str, Tensor] = {}
        self._started = 0.0
        self._rates: dict[str, float] = {}
        self._metrics_before: dict[str, Tensor] = {}

    def begin_epoch(self) -> None:
        """Note the learning rates and the metrics so far."""
        self._started = self._started or perf_counter()
        self._rates = _current_rates(self.trainer)
        self._metrics_before = dict(self.trainer.callback_metrics)
        if self.module.validated is not None:
            self.module.validated = {}

    @property
    def step(self) -> Values:  # type: ignore[override]
        """The optimizer steps so far."""
        return np.array([self.trainer.global_step])

    @property
    def seconds(self) -> Values:  # type: ignore[override]
        """Since the first epoch began."""
        now = perf_counter()
        return np.array([now - (self._started or now)])

    @property
    def metrics(self) -> dict[str, Values]:  # type: ignore[override]
        """Lightning's `callback_metrics`."""
        return {name: _single(value) for name, value in self.trainer.callback_metrics.items()}

    @property
    def measured(self) -> dict[str, Values]:  # type: ignore[override]
        """Those that are not the objects that they were when the epoch began."""
        return {
            name: np.array([True])
            for name, value in self.trainer.callback_metrics.items()
            if self._metrics_before.get(name) is not value and not is_undefined(name, value)
        }

    def __getitem__(self, name: str) -> Values:
        """The latest value of a metric."""
        metrics = self.trainer.callback_metrics
        return _single(metrics[name]) if name in metrics else super().__getitem__(name)

    @property
    def rates(self) -> dict[str, Values]:  # type: ignore[override]
        """As they were noted when the epoch began."""
        rates = self._rates or _current_rates(self.trainer)
        return {name: _single(rate) for name, rate in rates.items()}

    @property
    def min_epochs(self) -> Values:  # type: ignore[override]
        """The trainer's."""
        return np.array([self.trainer.min_epochs or 0])

    @property
    def is_last(self) -> Values:  # type: ignore[override]
        """Whether the training ends with this epoch."""
        trainer, n_epochs = self.trainer, int(self.epoch[0])
        is_stopped = trainer.should_stop or self.stop_reason is not None
        stops = is_stopped and n_epochs >= (trainer.min_epochs or 0)
        enough_epochs = trainer.max_epochs not in (None, -1) and n_epochs >= trainer.max_epochs
        enough_steps = 0 <= trainer.max_steps <= trainer.global_step
        return np.array([stops or enough_epochs or enough_steps])

    @property
    def data(self) -> Dataset:  # type: ignore[override]
        """The trainer's; `UserError` where it is not one of multilayer's."""
        return _require_supervised(self.trainer, self.module)[1]

    @property
    def trainer_config(self) -> dict[str, Any]:  # type: ignore[override]
        """As the trainer's attributes say."""
        return {name: getattr(self.trainer, name) for name in _TRAINER_CONFIG}

    def agree(self, choice: Choice) -> Choice:
        """The first process's choice."""
        return self.trainer.strategy.broadcast(choice)

    def find(self, kind: type[Callback]) -> Callback | None:
        """The callback of a class in this fit, if there is one."""
        # The adapters of epoch callbacks have them as `callback`.
        callbacks = [getattr(each, "callback", each) for each in self.trainer.callbacks]  # type: ignore[attr-defined]
        return next((each for each in callbacks if isinstance(each, kind)), None)

    def weights(self) -> dict[str, Tensor]:
        """A copy of those in place, unless some callback may have swapped others in or out."""
        validated = getattr(self.module, "validated", None)
        return {name: each[None] for name, each in (validated or copy_weights(self.module)).items()}

    @contextmanager
    def inspect(
        self, weights: Mapping[str, Tensor] | None = None, k: int = 0
    ) -> Iterator[SupervisedModule]:
        """The module, in evaluation mode."""
        module, _ = _require_supervised(self.trainer, self.module)
        with _unchanged(module), _holding(module, weights):
            yield module

    def optimizer(self, k: int = 0) -> Optimizer:
        """The trainer's first one."""
        return self.trainer.optimizers[0]

    def make_optimizer(
        self, parameters: Iterable[Tensor], *, k: int = 0, **arguments: Any
    ) -> Optimizer:
        """By the module's function for that."""
        optimizer: Optimizer = self.module.make_optimizer(parameters, **arguments)
        return optimizer

    def use_lr(self, lr: float, k: int = 0) -> None:
        """Have the trainer set up optimizer and schedule once more."""
        self.module.make_optimizer = partial(self.module.make_optimizer, lr=lr)
        self.trainer.strategy.setup_optimizers(self.trainer)
        metadata = self.module.metadata
        if "config" in metadata:
            metadata["config"] = with_lr(metadata["config"], lr)

    def log_scalars(self, values: Mapping[str, Any], step: Values | None = None) -> None:
        """Log in every logger, and for whoever monitors."""
        scalars = {name: torch.as_tensor(value).reshape(()) for name, value in values.items()}
        log_in_fit(self.trainer, scalars, None if step is None else int(step[0]))

    def tensorboard(self, k: int = 0) -> Any:
        """The writer of the TensorBoard logger; None where there is none, or in another process."""
        theirs = [item for item in self.trainer.loggers if isinstance(item, TensorBoardLogger)]
        return theirs[0].experiment if theirs and self.writes_files else None

    def stop(self, reason: str, *, k: int | None = None, at_once: bool = False) -> None:
        """Stop the trainer."""
        self.stop_reason = reason
        self.stopped_by.add(self.acting)
        self.trainer.should_stop = True
        if at_once:
            self.trainer.fit_loop.min_epochs = 0

    def end_with(self, weights: Mapping[str, Tensor], runs: Values | None = None) -> None:
        """Put them in place in the last hook of a fit."""
        if runs is None or runs[0]:
            self.final_weights = {name: each[0] for name, each in weights.items()}

    def save_checkpoint(
        self, path: Path, weights: Mapping[str, Tensor] | None = None, k: int = 0
    ) -> None:
        """Save by the trainer; a run that goes on from there has all of its curves."""
        if weights is None and (writer := self.tensorboard()) is not None:
            writer.flush()
        with _holding(self.module, weights):
            self.trainer.save_checkpoint(path, weights_only=weights is not None)


def _require_supervised(
    trainer: pl.Trainer, module: pl.LightningModule
) -> tuple[SupervisedModule, Dataset]:
    """The module and the data of a trainer.

    Raises:
        UserError: where they are not of multilayer's classes.
    """
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    data = getattr(datamodule, "dataset", None)
    if not isinstance(module, SupervisedModule) or not isinstance(data, Dataset):
        raise UserError(
            "callbacks diagnostics, figures and lr_sweep need multilayer's SupervisedModule and "
            f"DataModule, got {type(module).__name__} and {type(datamodule).__name__}"
        )
    return module, data


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


@contextmanager
def _unchanged(module: pl.LightningModule) -> Iterator[None]:
    """Within it the module evaluates; afterwards each layer's mode and the random state are back.

    A compiled network runs eagerly within: other shapes and modes would compile it anew.
    """
    modes = {layer: layer.training for layer in module.modules()}
    devices = [module.device] if module.device.type == "cuda" else []
    module.eval()
    try:
        with torch.random.fork_rng(devices=devices), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode


def _current_rates(trainer: pl.Trainer) -> dict[str, float]:
    """The learning rate of each parameter group, by the names of Lightning's monitor."""
    rates: dict[str, float] = {}
    for optimizer in trainer.optimizers:
        name = f"lr-{type(optimizer).__name__}"
        n_before = sum(each.partition("/")[0].startswith(name) for each in rates)
        stem = f"{name}-{n_before}" if n_before else name
        for i, group in enumerate(groups := optimizer.param_groups):
            ending = f"/pg{i + 1}" if len(groups) > 1 else ""
            rates[stem + ending] = float(group.get("lr", nan))
    return rates


def _single(value: Any) -> Values:
    """A scalar as the value of one run, `(1,)`."""
    return np.array([float(value)])
