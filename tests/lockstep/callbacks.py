"""Callbacks of a user's own, some of which go wrong."""

import os
import signal
from pathlib import Path
from time import sleep

import pytorch_lightning as pl
import torch

from multilayer.training import EpochCallback, Record


class Raises(EpochCallback):
    """Raises in one of its hooks, from an epoch on; never where that is -1."""

    def __init__(self, hook: str, epoch: int = 0) -> None:
        def run(record: Record, *args: object) -> None:
            if 0 <= epoch <= record.epoch[0]:
                raise RuntimeError(f"no {hook} today")

        setattr(self, hook, run)


class GoesWrongUntilMended(EpochCallback):
    """Goes wrong at the start of an epoch until there is a file named mended.

    It raises, waits, is interrupted, or kills its process as a fault of memory does.

    It never does so if it is whole.
    """

    def __init__(self, how: str = "raises", epoch: int = 1, *, whole: bool = False) -> None:
        self.how = how
        self.epoch = epoch
        self.whole = whole

    def on_epoch_start(self, record: Record) -> None:
        """From that epoch on."""
        while not (self.whole or record.epoch[0] < self.epoch or Path("mended").exists()):
            if self.how == "raises":
                raise RuntimeError("not mended yet")
            if self.how == "interrupts":
                raise KeyboardInterrupt
            if self.how == "kills":
                os.kill(os.getpid(), signal.SIGSEGV)
            sleep(0.05)


class Looks(EpochCallback):
    """Logs what it finds in the record and the network, in every hook that may log."""

    def on_epoch_start(self, record: Record) -> None:
        """The data."""
        rows = {split: float(len(record.rows(split).target)) for split in ("train", "validation")}
        record.log_scalars({f"look/{split}_rows": n for split, n in rows.items()}, record.step)

    def on_validation_end(self, record: Record) -> None:
        """The weights, as they are kept and in the network."""
        kept = [each.float().square().sum() for each in record.weights().values()]
        record.log_scalars({"look/weights": torch.stack(kept).sum().sqrt()})
        with record.inspect() as task_model:
            own = [each.detach().square().sum() for each in task_model.network.parameters()]
            rows = record.rows("validation")
            loss = task_model.loss_of(task_model.output(rows.features), rows.target).detach()
        record.log_scalars({"look/network": torch.stack(own).sum().sqrt(), "look/inspected": loss})

    def on_epoch_end(self, record: Record) -> None:
        """The counts and the metrics."""
        record.log_scalars(
            {
                "look/epoch": record.epoch,
                "look/step": record.step,
                "look/lr": record.lr,
                "look/min_epochs": record.min_epochs,
                "look/loss": record["validation/loss"],
                "look/measured": float(sum("_step" not in name for name in record.measured)),
                "look/last": record.is_last,
                "look/outputs": float(record.data.columns.n_outputs),
            }
        )


class Prunes(EpochCallback):
    """Ends a run after an epoch as not worth going on; never where that is 0."""

    def __init__(self, after: int, status: str = "pruned") -> None:
        self.after, self.status = after, status

    def on_epoch_end(self, record: Record) -> None:
        """After that many."""
        if record.epoch[0] == self.after:
            record.stop("hopeless")

    def manifest_entries(self, k: int = 0) -> dict[str, str]:
        """The status of the run."""
        return {"status": self.status} if self.after else {}


class OfLightning(pl.Callback):
    """Sees the end of an epoch."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch."""
        pl_module.log("seen", float(trainer.current_epoch))
