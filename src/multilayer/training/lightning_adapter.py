"""Epoch callbacks in a Lightning Trainer, and Lightning callbacks that cost nothing in a step."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from math import isnan
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import StochasticWeightAveraging
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.core.metric_names import NEEDED
from multilayer.data import DataModule
from multilayer.runs.checkpoint import CheckpointFiles
from multilayer.training.epoch import is_fitting, log_in_fit
from multilayer.training.epoch_callback import Callback, EpochCallback, Record, Values
from multilayer.training.module import SupervisedModule, copy_weights

HOOKS_OF_A_STEP = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def lightning_callbacks(*callbacks: Any) -> list[pl.Callback]:
    """Callbacks for a `pytorch_lightning.Trainer`, with epoch callbacks wrapped for it.

    >>> from multilayer.training.history import History
    >>> trainer = pl.Trainer(callbacks=lightning_callbacks(History(folder="runs/mine")))
    """
    return [_wrapped(each) if isinstance(each, EpochCallback) else each for each in callbacks]


def unwrapped(callback: pl.Callback) -> Any:
    """The epoch callback in an adapter; any other callback as it is."""
    return callback.callback if isinstance(callback, LightningAdapter) else callback


def check_averaging(callbacks: Sequence[pl.Callback]) -> None:
    """Refuse averaged weights that are never validated, where others are kept.

    Raises:
        UserError: which names the callback that has them validated.
    """
    keepers = [each for each in map(unwrapped, callbacks) if _keeps_weights(each)]
    if keepers and any(isinstance(item, StochasticWeightAveraging) for item in callbacks):
        raise UserError(
            "callbacks: StochasticWeightAveraging puts averaged weights in place after the last "
            "validation, so that others are validated and kept; use "
            "pytorch_lightning.callbacks.WeightAveraging, which has the averaged ones validated"
        )


def _keeps_weights(callback: Any) -> bool:
    """Whether a callback keeps weights that were validated, or writes checkpoints."""
    is_theirs = isinstance(callback, pl.callbacks.Checkpoint)
    return is_theirs or getattr(callback, "keeps_weights", hasattr(callback, "validated"))


class NoStepHooks(pl.Callback):
    """A Lightning callback whose hooks of a step take no time, except those a subclass writes.

    Lightning calls them though they are empty: six, for each callback and step, take 20 us, and a
    step of a small network takes 500.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Hide the empty hooks."""
        super().setup(trainer, pl_module, stage)
        hide_hooks_of_a_step(self, pl.Callback)


def hide_hooks_of_a_step(callback: pl.Callback, kind: type[pl.Callback]) -> None:
    """Have Lightning skip the hooks of a step that a callback has as they are in `kind`.

    Lightning skips what cannot be called. The class keeps them, for subclasses that call `super()`.
    """
    for hook in HOOKS_OF_A_STEP:
        vars(callback).pop(hook, None)
        if getattr(type(callback), hook) is getattr(kind, hook):
            setattr(callback, hook, None)


def is_streamed(trainer: pl.Trainer) -> bool:
    """Whether training rows are read while the network trains: then an epoch may take hours."""
    return getattr(trainer.datamodule, "stream", None) is not None  # type: ignore[attr-defined]


class LightningAdapter(NoStepHooks):
    """Runs an `EpochCallback` in a Lightning Trainer; its state has the key that it had alone."""

    def __init__(self, callback: EpochCallback) -> None:
        self.callback = callback
        self.fit: _Fit | None = None
        self.final_weights: dict[str, Tensor] = {}
        self.stop_reason: str | None = None

    def __copy__(self) -> Self:
        """A copy whose state can be loaded without changing this one's."""
        copied = object.__new__(type(self))
        vars(copied).update(vars(self), callback=_shallow_copy(self.callback))
        return copied

    @property
    def state_key(self) -> str:
        """As of the callback by itself."""
        return self.callback.state_key

    def state_dict(self) -> dict[str, Any]:
        """The callback's state."""
        return self.callback.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Have the callback take up its state."""
        self.callback.load_state_dict(state_dict)

    def manifest_entries(self) -> dict[str, Any]:
        """What the manifest says of the callback, and why it stopped the training, if it did."""
        stopped = {} if self.stop_reason is None else {"stop_reason": self.stop_reason}
        return stopped | self.callback.manifest_entries()

    # Hooks ----------------------------------------------------------------------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begin anew before a fit."""
        super().setup(trainer, pl_module, stage)
        module: Any = pl_module
        module.validated = None
        self.on_validation_batch_end = None  # type: ignore[assignment,method-assign]
        if stage != "fit":
            self.fit = None
            return
        check_averaging(trainer.callbacks)  # type: ignore[attr-defined]
        adapters = [item for item in trainer.callbacks if isinstance(item, LightningAdapter)]  # type: ignore[attr-defined]
        self.fit = _Fit(trainer) if adapters[0] is self else adapters[0].fit
        self.final_weights, self.stop_reason = {}, None
        when = self.callback.within_epochs
        if when == "never" or (when == "streamed" and not is_streamed(trainer)):
            self.on_train_batch_start = None  # type: ignore[assignment,method-assign]
        if _may_swap_weights(trainer, pl_module):
            module.validated = {}
            if adapters[0] is self and not isinstance(pl_module, SupervisedModule):
                del self.on_validation_batch_end
        self.callback.reset()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Call the callback."""
        self.callback.on_fit_start(self._record(trainer, pl_module, trainer.current_epoch))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the seconds from here."""
        assert self.fit is not None, "setup comes before"
        self.fit.started = perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the learning rates, and call the callback."""
        assert self.fit is not None, "setup comes before"
        self.fit.begin_epoch(pl_module)
        self.callback.on_epoch_start(self._record(trainer, pl_module))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Call the callback between two steps.

        The step before is then counted whole, its validation included. A checkpoint has no
        gradients: those that accumulate must have been used.
        """
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.callback.within_epoch(self._record(trainer, pl_module))

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Copy the weights that are validated.

        Our modules do it themselves: other callbacks may swap in this hook, and before this one.
        """
        if is_fitting(trainer) and batch_idx == dataloader_idx == 0:
            module: Any = pl_module
            module.validated = copy_weights(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Call the callback after a validation within a fit."""
        if is_fitting(trainer):
            self.callback.on_validation_end(self._record(trainer, pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Call the callback, with training metrics also of an epoch that was not validated."""
        if isinstance(pl_module, SupervisedModule):
            pl_module.log_values(pl_module.new_values("train"))
        self.callback.on_epoch_end(self._record(trainer, pl_module))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Call the callback."""
        self.callback.on_fit_end(self._record(trainer, pl_module, trainer.current_epoch))

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Call the callback, unless the fit had not begun."""
        if self.fit is not None:
            self.callback.on_failure(self._record(trainer, pl_module), exception)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put the weights in place that the fit ends with."""
        module: Any = pl_module
        module.validated = None
        if stage == "fit" and self.final_weights:
            pl_module.load_state_dict(self.final_weights)
        self.final_weights = {}

    def _record(
        self, trainer: pl.Trainer, module: pl.LightningModule, epoch: int | None = None
    ) -> "LightningRecord":
        """What is known now; of the current epoch, unless its number is given."""
        return LightningRecord(self, module, trainer.current_epoch + 1 if epoch is None else epoch)


class _CheckpointAdapter(LightningAdapter, pl.callbacks.Checkpoint):
    """The same for a callback that writes checkpoints; Lightning adds none of its own then."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Have checkpoints written and read as the run folder's other files are."""
        super().setup(trainer, pl_module, stage)
        if not isinstance(trainer.strategy.checkpoint_io, CheckpointFiles):  # as in `resume`
            trainer.strategy.checkpoint_io = CheckpointFiles()


def _wrapped(callback: EpochCallback) -> LightningAdapter:
    """An adapter of the kind that Lightning calls when it should."""
    return (_CheckpointAdapter if callback.writes_checkpoints else LightningAdapter)(callback)


class _Fit:
    """What all adapters of a trainer share during a fit."""

    def __init__(self, trainer: pl.Trainer) -> None:
        self.trainer = trainer
        self.started = perf_counter()
        self.rates: dict[str, float] = {}
        self.metrics_before: dict[str, Tensor] = {}
        self.epoch: int | None = None

    def begin_epoch(self, module: Any) -> None:
        """Note the learning rates and the metrics so far; the first adapter's call counts."""
        if self.epoch == self.trainer.current_epoch:
            return
        self.epoch = self.trainer.current_epoch
        self.rates = current_rates(self.trainer)
        self.metrics_before = dict(self.trainer.callback_metrics)
        if module.validated is not None:
            module.validated = {}


class LightningRecord(Record):
    """A run that Lightning trains; K is 1.

    Attributes:
        trainer: Lightning's.
        module: the module that it trains.
    """

    def __init__(self, adapter: LightningAdapter, module: pl.LightningModule, epoch: int) -> None:
        assert adapter.fit is not None, "records are of a fit"
        self.adapter = adapter
        self.fit = adapter.fit
        self.trainer = adapter.fit.trainer
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
        rates = self.fit.rates or current_rates(self.trainer)
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
        return self.trainer.ckpt_path is not None

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
        callbacks = map(unwrapped, self.trainer.callbacks)  # type: ignore[attr-defined]
        return next((each for each in callbacks if isinstance(each, kind)), None)

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
        self.adapter.stop_reason = reason
        self.trainer.should_stop = True
        if at_once:
            self.trainer.fit_loop.min_epochs = 0

    def end_with(self, weights: Mapping[str, Tensor]) -> None:
        """Put them in place in the last hook of a fit."""
        self.adapter.final_weights = {name: each[0] for name, each in weights.items()}

    def save_checkpoint(
        self, path: Path, weights: Mapping[str, Tensor] | None = None, k: int = 0
    ) -> None:
        """Save by the trainer."""
        with _holding(self.module, weights):
            self.trainer.save_checkpoint(path, weights_only=weights is not None)


def current_rates(trainer: pl.Trainer) -> dict[str, float]:
    """The learning rate of each parameter group, by the names of Lightning's monitor."""
    rates: dict[str, float] = {}
    for optimizer in trainer.optimizers:
        name = f"lr-{type(optimizer).__name__}"
        same = sum(type(each) is type(optimizer) for each in trainer.optimizers)
        groups = optimizer.param_groups
        n_before = sum(each.startswith(f"{name}") for each in rates)
        stem = f"{name}-{n_before}" if same > 1 and n_before else name
        for i, group in enumerate(groups):
            own = group.get("name", f"pg{i + 1}") if len(groups) > 1 or "name" in group else None
            rates[stem if own is None else f"{stem}/{own}"] = float(group.get("lr", float("nan")))
    return rates


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


def _may_swap_weights(trainer: pl.Trainer, module: pl.LightningModule) -> bool:
    """Whether code of others runs between a validation and the hooks of our callbacks."""
    others = [item for item in trainer.callbacks if not isinstance(item, LightningAdapter)]  # type: ignore[attr-defined]
    return any(not type(each).__module__.startswith("multilayer.") for each in (module, *others))


def _single(value: Any) -> Values:
    """A scalar as the value of one run, `(1,)`."""
    return np.array([float(value)])


def _shallow_copy(callback: EpochCallback) -> EpochCallback:
    """Another callback with the same attributes."""
    copied = object.__new__(type(callback))
    vars(copied).update(vars(callback))
    return copied
