"""Writes the best and the last weights into the run folder."""

from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch

from multilayer.callbacks.best_weights import BestWeights
from multilayer.training.epoch_callback import EpochCallback, Record, Values


class Checkpoint(EpochCallback):
    """Writes `best.ckpt` and `last.ckpt`, both plain data.

    `best.ckpt` needs a `BestWeights` callback. Small networks improve many times a second: the best
    is kept in memory, so that the disk does not set the pace.

    Args:
        folder: where they go; it is made if it is missing.
        every_seconds: how often they are written while the training lasts: at the end of an epoch,
            and within one where rows are streamed, whose epochs may take hours. They are always
            written at the end of the training, also where that is an error or Ctrl-C.

    >>> import tempfile
    >>> import pytorch_lightning as pl
    >>> from torch.optim import Adam
    >>> from multilayer import MLP, BuiltinData, MulticlassModule
    >>> from multilayer.callbacks import BestWeights
    >>> from multilayer.training import lightning_callbacks
    >>> folder = tempfile.TemporaryDirectory()
    >>> trainer = pl.Trainer(
    ...     max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False,
    ...     enable_model_summary=False,
    ...     callbacks=lightning_callbacks(BestWeights(), Checkpoint(folder=folder.name)),
    ... )
    >>> trainer.fit(MulticlassModule(MLP(4, 3), optimizer=Adam), BuiltinData(name="iris"))
    >>> sorted(path.name for path in Path(folder.name).iterdir())
    ['best.ckpt', 'last.ckpt']
    >>> folder.cleanup()
    """

    PER_RUN = ("folders", "first_step", "is_ended")

    keeps_weights = True
    writes_checkpoints = True
    within_epochs = "streamed"

    def __init__(self, *, folder: str | Path, every_seconds: float = 30.0) -> None:
        self.folders = [Path(folder)]
        self.every_seconds = every_seconds
        self.first_step = np.zeros(1, int)
        self.is_ended = np.zeros(1, bool)
        self._written = monotonic()

    def on_fit_start(self, record: Record) -> None:
        """Make the folders above now: if they are gone at the end, they were removed."""
        for folder in self.folders:
            folder.parent.mkdir(parents=True, exist_ok=True)
        self.first_step = record.step
        self.is_ended = np.zeros_like(record.step, bool)

    def on_epoch_start(self, record: Record) -> None:
        """Note where the epoch begins."""
        self.first_step = record.step

    def within_epoch(self, record: Record) -> None:
        """Write, if it is time again and the epoch has had a step."""
        if self._is_time():
            self._write(record, record.step > self.first_step)

    def on_epoch_end(self, record: Record) -> None:
        """Write, if it is time again or this is the last epoch.

        Not in `on_fit_end`: Lightning cannot go on from a checkpoint that is made there.
        """
        self._write(record, record.is_last | record.agree(self._is_time()))
        self.is_ended = record.is_last.copy()

    def on_failure(self, record: Record, error: BaseException) -> None:
        """Write what there is, so that nothing is lost.

        Not after the last epoch, when all is written: Lightning has counted that one twice by now.
        """
        if record.n_processes == 1:  # other processes may hang
            self._write(record, (record.step > 0) & ~self.is_ended)

    def _is_time(self) -> bool:
        """Whether the files are as old as they may be."""
        return monotonic() - self._written >= self.every_seconds

    def _write(self, record: Record, runs: Values) -> None:
        """Write both files of some runs, `(K,)` bool; each appears whole or not at all.

        The last weights come last: a run that is killed in between goes on from the earlier ones,
        and writes the best again. After its last epoch it would have nothing left to do.
        """
        best = record.find(BestWeights)
        for k in map(int, np.flatnonzero(runs)):
            if best and best.best_epoch[k]:
                record.save_checkpoint(self.folders[k] / "best.ckpt", best.weights, k=k)
            record.save_checkpoint(self.folders[k] / "last.ckpt", k=k)
        if runs.all():
            self._written = monotonic()

    def state_dict(self, k: int = 0) -> dict[str, Any]:
        """The state of the random numbers: a run that is resumed drops out as it would have."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state: Mapping[str, Any], k: int = 0) -> None:
        """Go on with the random numbers of the run that is resumed."""
        torch.set_rng_state(state["cpu"].cpu())
        if state["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"].cpu())
