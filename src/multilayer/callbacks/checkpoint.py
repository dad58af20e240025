"""Writes the best and the last weights into the run folder."""

from pathlib import Path
from time import monotonic
from typing import Any

import pytorch_lightning as pl
import torch

from multilayer.callbacks.best_weights import find_best_weights
from multilayer.callbacks.epochs_only import EpochsOnly, hide_hooks_of_a_step, is_streamed
from multilayer.runs.checkpoint import CheckpointFiles
from multilayer.training.module import copy_weights


class Checkpoint(EpochsOnly, pl.callbacks.Checkpoint):
    """Writes `best.ckpt` and `last.ckpt`, both plain data.

    folder: where they go; it is made if it is missing.
    every_seconds: how often they are written while the training lasts: at the end of an epoch, and
        within one where rows are streamed, whose epochs may take hours. They are written at the
        end of the training too, also where that is an error or Ctrl-C.

    `best.ckpt` needs a `BestWeights` callback beside this one. Small networks improve many times
    a second: the best is kept in memory, so that the disk does not set the pace.
    """

    def __init__(self, *, folder: str | Path, every_seconds: float = 30.0) -> None:
        self.folder = Path(folder)
        self.every_seconds = every_seconds
        self.written = monotonic()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the folders above, and have a hook in a step only where rows are streamed."""
        super().setup(trainer, pl_module, stage)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(trainer.strategy.checkpoint_io, CheckpointFiles):  # as in `resume`
            trainer.strategy.checkpoint_io = CheckpointFiles()
        if not is_streamed(trainer):
            hide_hooks_of_a_step(self, Checkpoint)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Write within an epoch, if it is time again.

        Before a step: the one before it is then counted whole, its validation included. A
        checkpoint has no gradients, so it waits until those that accumulate have been used.
        """
        is_time = monotonic() - self.written >= self.every_seconds
        if is_time and batch_idx > 0 and batch_idx % trainer.accumulate_grad_batches == 0:
            self.write(trainer, pl_module)
            self.written = monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write, if it is time again or this is the last epoch.

        Not in `on_train_end`: Lightning cannot go on from a checkpoint that is made there.
        """
        is_time = monotonic() - self.written >= self.every_seconds
        if trainer.strategy.broadcast(is_time) or is_last_epoch(trainer):
            self.write(trainer, pl_module)
            self.written = monotonic()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Write what there is, so that nothing is lost."""
        if trainer.global_step and trainer.world_size == 1:  # other processes may hang
            self.write(trainer, pl_module)

    def write(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write both files; each appears whole or not at all."""
        trainer.save_checkpoint(self.folder / "last.ckpt", weights_only=False)
        best = find_best_weights(trainer)
        if best and best.weights:
            current = copy_weights(pl_module)
            pl_module.load_state_dict(best.weights)
            trainer.save_checkpoint(self.folder / "best.ckpt", weights_only=True)
            pl_module.load_state_dict(current)

    def state_dict(self) -> dict[str, Any]:
        """The state of the random numbers: a run that is resumed drops out as it would have."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the random numbers of the run that is resumed."""
        torch.set_rng_state(state_dict["cpu"].cpu())
        if state_dict["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state_dict["cuda"].cpu())


def is_last_epoch(trainer: pl.Trainer) -> bool:
    """Whether the training ends with the epoch that just ended."""
    n_epochs = trainer.current_epoch + 1
    stops = trainer.should_stop and n_epochs >= (trainer.min_epochs or 0)
    enough_epochs = trainer.max_epochs not in (None, -1) and n_epochs >= trainer.max_epochs
    return stops or enough_epochs or 0 <= trainer.max_steps <= trainer.global_step
