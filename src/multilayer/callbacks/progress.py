"""One progress bar for the whole training."""

from collections.abc import Mapping
from time import monotonic

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from torch import Tensor

from multilayer.callbacks.epochs_only import EpochsOnly
from multilayer.metrics import HEADLINE

SECONDS_BETWEEN_LINES = 10.0


class TrainingProgress(EpochsOnly, pl.callbacks.ProgressBar):
    """A bar that counts epochs, with the losses and the time left.

    Where the output is no terminal, it is a line every ten seconds instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(stderr=True, markup=False)
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.last_line = monotonic()
        self.shown = True

    def disable(self) -> None:
        """Called by Lightning in all but one of several processes."""
        self.shown = False

    def enable(self) -> None:
        """Show the bar again."""
        self.shown = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        if not (self.shown and self.console.is_terminal):
            return
        self.bar = bar_of("epoch", self.console)
        n_epochs = trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None
        self.task = self.bar.add_task(
            "training", total=n_epochs, completed=trainer.current_epoch, words=""
        )
        self.bar.start()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move on by an epoch."""
        epoch = trainer.current_epoch + 1
        headline = HEADLINE.get(getattr(pl_module, "task", "binary"), "accuracy")
        if self.bar is not None:
            line = summary_line(trainer.callback_metrics, headline)
            self.bar.update(self.task, completed=epoch, words=line)
        elif self.shown and monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            line = summary_line(trainer.callback_metrics, headline)
            self.console.print(f"epoch {epoch}/{trainer.max_epochs}  {line}", soft_wrap=True)
            self.last_line = monotonic()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the bar as it ended."""
        self.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self.close()

    def close(self) -> None:
        """Stop drawing."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def bar_of(counted: str, console: Console) -> Progress:
    """A bar that counts something, with the time left and a few `words`.

    An epoch of a small network takes milliseconds: rich draws ten times a second at most.
    """
    whole = Column(no_wrap=True)  # where it is narrow, the words are cut and not the bar
    return Progress(
        TextColumn(counted, table_column=whole),
        MofNCompleteColumn(table_column=whole),
        BarColumn(bar_width=10, table_column=Column(min_width=10)),
        TimeRemainingColumn(table_column=whole),
        TextColumn("left", table_column=whole),
        TextColumn("{task.fields[words]}", table_column=Column(no_wrap=True)),
        console=console,
    )


def summary_line(metrics: Mapping[str, Tensor], headline: str) -> str:
    """The losses of both splits and the headline metric of the validation, in a few words.

    >>> import torch
    >>> summary_line({"train/loss": torch.tensor(0.5)}, "accuracy")
    'train 0.500'
    """
    shown = {
        "train": "train/loss",
        "validation": "validation/loss",
        headline: f"validation/{headline}",
    }
    return "  ".join(
        f"{word} {float(metrics[name]):#.3g}" for word, name in shown.items() if name in metrics
    )
