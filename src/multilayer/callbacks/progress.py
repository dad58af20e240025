"""What a training shows on the terminal: a progress bar, and the network at the start."""

from collections.abc import Mapping
from datetime import timedelta
from time import monotonic
from typing import Any

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
from rich.table import Column, Table
from torch import Tensor, nn

from multilayer.nn.metrics import HEADLINE
from multilayer.training.lightning_adapter import NoStepHooks, hide_hooks_of_a_step, is_streamed
from multilayer.training.runtime import count_parameters

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_MOVES = 0.1


class TrainingProgress(NoStepHooks, pl.callbacks.ProgressBar):
    """A bar that counts epochs, with the losses and the time left.

    Where rows are streamed, an epoch may take hours: a second bar counts its minibatches. Where the
    output is no terminal, it is a line every ten seconds instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(stderr=True, markup=False)
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.minibatches: TaskID | None = None
        self.last_line = monotonic()
        self.last_move = monotonic()
        self.n_before = 0
        self.shown = True

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Have a hook in a step only where rows are streamed."""
        super().setup(trainer, pl_module, stage)
        if not is_streamed(trainer):
            hide_hooks_of_a_step(self, TrainingProgress)

    def disable(self) -> None:
        """Called by Lightning in all but one of several processes."""
        self.shown = False

    def enable(self) -> None:
        """Show the bar again."""
        self.shown = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        self.n_before = n_minibatches(trainer)  # more than none in a run that is resumed
        self.last_move = monotonic()
        if not (self.shown and self.console.is_terminal):
            return
        self.bar = bar_of("{task.description}", self.console)
        n_epochs = trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None
        self.task = self.bar.add_task(
            "epoch", total=n_epochs, completed=trainer.current_epoch, words=""
        )
        self.minibatches = None
        if is_streamed(trainer):
            self.minibatches = self.bar.add_task(
                "minibatch", total=trainer.num_training_batches, completed=self.n_before, words=""
            )
        self.bar.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count minibatches from 0 again."""
        self.n_before, self.last_move = 0, monotonic()
        if self.bar is not None and self.minibatches is not None:
            self.bar.reset(self.minibatches)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move on by some minibatches within an epoch."""
        now, n_done = monotonic(), batch_idx + 1
        if self.bar is not None and self.minibatches is not None:
            if now - self.last_move > SECONDS_BETWEEN_MOVES or trainer.is_last_batch:
                speed = self.bar.tasks[self.minibatches].speed
                words = f"{speed:,.0f} a second" if speed else ""
                self.bar.update(self.minibatches, completed=n_done, words=words)
                self.last_move = now
        elif self.shown and now - self.last_move > SECONDS_BETWEEN_LINES:
            n_a_second = (n_done - self.n_before) / (now - self.last_move)
            words = pace(n_done, int(trainer.num_training_batches), n_a_second)
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self.console.print(f"{epoch}  {words}", soft_wrap=True)
            self.last_move, self.n_before = now, n_done

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


class NetworkSummary(NoStepHooks, pl.callbacks.ModelSummary):
    """Prints a row for each layer of the network, with its number of trained parameters.

    Lightning's own table rounds the counts, and lists loss and preprocessing as layers.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the table; results alone go to the standard output."""
        if trainer.is_global_zero:
            network = getattr(pl_module, "network", pl_module)
            Console(stderr=True).print(_table_of(network))


def _table_of(network: nn.Module) -> Table:
    """The layers of a network, and their parameters."""
    table = Table("layer", "parameters", header_style="bold")
    for name, layer in network.named_children():
        table.add_row(f"{name} {describe(layer)}", f"{count_parameters(layer):,}")
    total = f"{count_parameters(network):,}"
    table.add_row(type(network).__name__, total, style="bold")
    return table


def describe(layer: nn.Module) -> str:
    """The layer in one line: its own words if it has them, or else those of what it holds.

    >>> describe(nn.Sequential(nn.Linear(4, 2), nn.Identity(), nn.ReLU()))
    'Linear(in_features=4, out_features=2, bias=True), ReLU()'
    """
    parts = [part for part in layer.children() if _changes_something(part)]
    return ", ".join(map(str, parts)) if parts else str(layer).partition("\n")[0]


def _changes_something(part: nn.Module) -> bool:
    """Whether a part of a layer does more than pass its input on."""
    return not isinstance(part, nn.Identity) and getattr(part, "p", 1) != 0


def n_minibatches(trainer: pl.Trainer) -> int:
    """How many minibatches of the current epoch were trained on."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.completed


def pace(n_done: int, n_all: int, n_a_second: float) -> str:
    """How far an epoch is, in a few words.

    >>> pace(300, 5000, 40.0)
    'minibatch 300/5000  40 a second  0:01:58 left'
    """
    left = timedelta(seconds=round((n_all - n_done) / n_a_second))
    return f"minibatch {n_done}/{n_all}  {n_a_second:,.0f} a second  {left} left"


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
