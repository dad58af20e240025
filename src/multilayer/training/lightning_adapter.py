"""Epoch callbacks in a Lightning Trainer: their adapters, and what these spare it.

`lightning_record` has what the callbacks are told of the fit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from lightning_fabric.plugins.io import TorchCheckpointIO

from multilayer.runs.checkpoint import read_plain, write_checkpoint
from multilayer.runs.manifest import without_wrong_status
from multilayer.training.checks import check_averaging
from multilayer.training.epoch_callback import EpochCallback
from multilayer.training.fit_state import is_fitting, is_streamed
from multilayer.training.lightning_record import LightningRecord
from multilayer.training.module import SupervisedModule, copy_weights

_HOOKS_OF_A_STEP = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
"""The hooks that Lightning calls in each training step."""


def lightning_callbacks(*callbacks: Any) -> list[pl.Callback]:
    """Callbacks for a `pytorch_lightning.Trainer`, with epoch callbacks wrapped for it.

    >>> from multilayer.training.history import History
    >>> trainer = pl.Trainer(callbacks=lightning_callbacks(History(folder="runs/mine")))
    """
    kinds = {False: _LightningAdapter, True: _CheckpointAdapter}
    return [
        kinds[each.writes_checkpoints](each) if isinstance(each, EpochCallback) else each
        for each in callbacks
    ]


def unwrapped_callbacks(trainer: pl.Trainer) -> list[Any]:
    """The callbacks of a trainer, epoch callbacks without their adapters."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return [each.callback if isinstance(each, _LightningAdapter) else each for each in callbacks]


class NoStepHooks(pl.Callback):
    """A Lightning callback whose hooks of a step take no time, except those a subclass writes.

    Lightning calls them though they are empty: six, for each callback and step, take 20 us, and a
    step of a small network takes 500.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Hide the empty hooks."""
        super().setup(trainer, pl_module, stage)
        self.hide_hooks_of_a_step(pl.Callback)

    def hide_hooks_of_a_step(self, kind: type[pl.Callback]) -> None:
        """Have Lightning skip the hooks of a step that are as they are in `kind`.

        Lightning skips what cannot be called. The class keeps them, for subclasses that call
        `super()`.
        """
        for hook in _HOOKS_OF_A_STEP:
            vars(self).pop(hook, None)
            if getattr(type(self), hook) is getattr(kind, hook):
                setattr(self, hook, None)


class _LightningAdapter(NoStepHooks):
    """Runs an `EpochCallback` in a Lightning Trainer; its state has the key that it had alone.

    Attributes:
        record: of the fit; all adapters of a trainer share it. None before a fit.
        is_first: whether it is the first of them, which does what is done for all.
    """

    state_key = ""

    def __init__(self, callback: EpochCallback) -> None:
        self.callback = callback
        self.state_key = callback.state_key
        self.record: LightningRecord | None = None
        self.is_first = False

    def state_dict(self) -> dict[str, Any]:
        """The callback's state."""
        return self.callback.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Have the callback take up its state."""
        self.callback.load_state_dict(state_dict)

    def manifest_entries(self) -> dict[str, Any]:
        """What the manifest says of the callback, and why it stopped the training, if it did."""
        record, callback = self.record, self.callback
        reason = record and record.stop_reason
        entries = without_wrong_status(
            callback.manifest_entries(),
            type(callback).__name__,
            has_stopped=record is not None and callback.state_key in record.stopped_by,
        )
        return ({"stop_reason": reason} if reason else {}) | entries

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begin anew before a fit."""
        super().setup(trainer, pl_module, stage)
        module: Any = pl_module
        module.validated = self.record = None
        self.on_validation_batch_end = None  # type: ignore[assignment,method-assign]
        if stage != "fit":
            return
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        first = next(item for item in callbacks if isinstance(item, _LightningAdapter))
        self.is_first = first is self
        if self.is_first:
            check_averaging(unwrapped_callbacks(trainer))
        self.record = LightningRecord(trainer, module) if self.is_first else first.record
        when = self.callback.within_epochs
        if when == "never" or (when == "streamed" and not is_streamed(trainer)):
            self.on_train_batch_start = None  # type: ignore[assignment,method-assign]
        parts = (module, *callbacks)
        if not all(type(each).__module__.startswith("multilayer.") for each in parts):
            # Code of others, between a validation and our hooks, may put other weights in place.
            module.validated = {}
            if self.is_first and not isinstance(pl_module, SupervisedModule):
                del self.on_validation_batch_end
        self.callback.reset()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Call the callback."""
        with _stopping_later(trainer):
            self.callback.on_fit_start(self._record_at(trainer.current_epoch))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the learning rates, and call the callback."""
        record = self._record_at(trainer.current_epoch + 1)
        if self.is_first:
            record.begin_epoch()
        with _stopping_later(trainer):
            self.callback.on_epoch_start(record)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Call the callback between two steps.

        The step before is then counted whole, its validation included. A checkpoint has no
        gradients: those that accumulate must have been used.
        """
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.callback.within_epoch(self._record_at(trainer.current_epoch + 1))

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
            pl_module.validated = copy_weights(pl_module)  # type: ignore[assignment]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Call the callback after a validation within a fit."""
        if is_fitting(trainer):
            self.callback.on_validation_end(self._record_at(trainer.current_epoch + 1))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Call the callback, with training metrics also of an epoch that was not validated."""
        record = self._record_at(trainer.current_epoch + 1)
        if self.is_first:
            trainer.should_stop |= record.stop_reason is not None  # see `_stopping_later`
            if isinstance(pl_module, SupervisedModule):
                pl_module.log_new("train")
        self.callback.on_epoch_end(record)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Call the callback."""
        self.callback.on_fit_end(self._record_at(trainer.current_epoch))

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Call the callback, unless the fit had not begun."""
        if self.record is not None:
            self.callback.on_failure(self._record_at(trainer.current_epoch + 1), exception)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note that the fit goes on from a checkpoint; Lightning calls this before it starts."""
        if self.record is not None:
            self.record.is_resumed = True

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put the weights in place that the fit ends with."""
        pl_module.validated = None  # type: ignore[assignment]
        if stage == "fit" and self.record and self.record.final_weights:
            pl_module.load_state_dict(self.record.final_weights)

    def _record_at(self, epoch: int) -> LightningRecord:
        """The record, which is from now on of this epoch, and for this callback."""
        assert self.record is not None, "setup comes before"
        self.record.epoch = np.array([epoch])
        self.record.acting = self.callback.state_key
        return self.record


class _CheckpointAdapter(_LightningAdapter, pl.callbacks.Checkpoint):
    """The same for a callback that writes checkpoints; Lightning adds none of its own then."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Have checkpoints written and read as the run folder's other files are."""
        super().setup(trainer, pl_module, stage)
        if not isinstance(trainer.strategy.checkpoint_io, CheckpointFiles):  # as in `resume`
            trainer.strategy.checkpoint_io = CheckpointFiles()


class CheckpointFiles(TorchCheckpointIO):
    """Writes checkpoints whole, and reads plain data alone.

    Lightning's own way goes through `$TMPDIR`, does not wait for the disk, and trusts whatever is
    in the file.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            UserError: It cannot be written.
        """
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU.

        Raises:
            UserError: It is damaged, or holds more than plain data.
        """
        return read_plain(Path(path))


@contextmanager
def _stopping_later(trainer: pl.Trainer) -> Iterator[None]:
    """Within it a stop takes effect at the end of an epoch; Lightning would train it no step."""
    should_stop = trainer.should_stop
    yield
    trainer.should_stop = should_stop
