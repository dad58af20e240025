"""Writes the best and the last weights into the run folder."""

import os
from pathlib import Path
from time import monotonic

import pytorch_lightning as pl

from multilayer.callbacks.best_weights import copy_of, find_best_weights


class Checkpoint(pl.callbacks.Checkpoint):
    """Writes `best.ckpt` and `last.ckpt`, both plain data.

    folder: where they go; it is made if it is missing.
    every_seconds: how often they are written while the training lasts. They are written at its
        end too, also where that is an error or Ctrl-C.

    `best.ckpt` needs a `BestWeights` callback beside this one. Small networks improve many times
    a second: the best is kept in memory, so that the disk does not set the pace.
    """

    def __init__(self, *, folder: str | Path, every_seconds: float = 30.0) -> None:
        self.folder = Path(folder)
        self.every_seconds = every_seconds
        self.written = monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write, if it is time again."""
        if trainer.strategy.broadcast(monotonic() - self.written >= self.every_seconds):
            self.write(trainer, pl_module)
            self.written = monotonic()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write at the end."""
        self.write(trainer, pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Write what there is, so that nothing is lost."""
        if trainer.global_step and trainer.world_size == 1:  # other processes may hang
            self.write(trainer, pl_module)

    def write(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write both files; each appears whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        save(trainer, self.folder / "last.ckpt", weights_only=False)
        best = find_best_weights(trainer)
        if best and best.weights:
            current = copy_of(pl_module)
            pl_module.load_state_dict(best.weights)
            save(trainer, self.folder / "best.ckpt", weights_only=True)
            pl_module.load_state_dict(current)


def save(trainer: pl.Trainer, path: Path, *, weights_only: bool) -> None:
    """Write beside the file, then rename."""
    partial = path.with_suffix(".partial")
    trainer.save_checkpoint(partial, weights_only=weights_only)
    if trainer.is_global_zero:
        os.replace(partial, path)
