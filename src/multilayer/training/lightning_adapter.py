"""Epoch callbacks in a Lightning Trainer, and Lightning callbacks that cost nothing in a step."""

from collections.abc import Sequence
from time import perf_counter
from typing import Any, Self

import pytorch_lightning as pl
from pytorch_lightning.callbacks import StochasticWeightAveraging

from multilayer.core.errors import UserError
from multilayer.runs.checkpoint import CheckpointFiles
from multilayer.training.epoch import is_fitting
from multilayer.training.epoch_callback import EpochCallback
from multilayer.training.lightning_record import LightningFit, LightningRecord
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
        self.fit: LightningFit | None = None

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
        reason = self.fit.stop_reason if self.fit is not None else None
        stopped = {} if reason is None else {"stop_reason": reason}
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
        self.fit = adapters[0].fit
        if adapters[0] is self:
            callbacks = [unwrapped(item) for item in trainer.callbacks]  # type: ignore[attr-defined]
            self.fit = LightningFit(trainer, callbacks)
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

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note that the fit goes on from a checkpoint; Lightning calls this before it starts."""
        if self.fit is not None:
            self.fit.is_resumed = True

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put the weights in place that the fit ends with."""
        module: Any = pl_module
        module.validated = None
        if stage == "fit" and self.fit is not None and self.fit.final_weights:
            pl_module.load_state_dict(self.fit.final_weights)

    def _record(
        self, trainer: pl.Trainer, module: pl.LightningModule, epoch: int | None = None
    ) -> "LightningRecord":
        """What is known now; of the current epoch, unless its number is given."""
        assert self.fit is not None, "setup comes before"
        return LightningRecord(
            self.fit, module, trainer.current_epoch + 1 if epoch is None else epoch
        )


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


def _may_swap_weights(trainer: pl.Trainer, module: pl.LightningModule) -> bool:
    """Whether code of others runs between a validation and the hooks of our callbacks."""
    others = [item for item in trainer.callbacks if not isinstance(item, LightningAdapter)]  # type: ignore[attr-defined]
    return any(not type(each).__module__.startswith("multilayer.") for each in (module, *others))


def _shallow_copy(callback: EpochCallback) -> EpochCallback:
    """Another callback with the same attributes."""
    copied = object.__new__(type(callback))
    vars(copied).update(vars(callback))
    return copied
