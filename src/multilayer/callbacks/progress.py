"""What a training shows on the terminal: a progress bar, and the network at the start."""

from collections.abc import Mapping
from datetime import timedelta
from time import monotonic
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

from multilayer.runs.console import SECONDS_BETWEEN_LINES, progress_bar
from multilayer.training.fit_state import is_streamed
from multilayer.training.lightning_adapter import NoStepHooks
from multilayer.training.runtime import count_parameters

SECONDS_BETWEEN_MOVES = 0.1


class TrainingProgress(NoStepHooks, pl.callbacks.ProgressBar):
    """A bar that counts epochs, with the losses and the time left.

    Where rows are streamed, an epoch may take hours: a second bar counts its minibatches. Where the
    output is no terminal, it is a line every ten seconds instead.

    >>> trainer = pl.Trainer(callbacks=[TrainingProgress()], logger=False, accelerator="cpu")
    >>> type(trainer.progress_bar_callback).__name__
    'TrainingProgress'
    """

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(stderr=True, markup=False, emoji=False)
        self.bar = Progress(disable=True)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Have a hook in a step only where rows are streamed."""
        super().setup(trainer, pl_module, stage)
        if not is_streamed(trainer):
            self.hide_hooks_of_a_step(TrainingProgress)

    def disable(self) -> None:
        """Called by Lightning in all but one of several processes."""
        self.console.quiet = True

    def enable(self) -> None:
        """Called by Lightning after it has searched a learning rate or a batch size."""
        self.console.quiet = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        self.bar = progress_bar("{task.description}", self.console, shown=not self.console.quiet)
        n_epochs = trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None
        self.epochs = self.bar.add_task(
            "epoch", total=n_epochs, completed=trainer.current_epoch, words=""
        )
        n_minibatches, is_seen = trainer.num_training_batches, is_streamed(trainer)
        self.minibatches = self.bar.add_task(
            "minibatch", total=n_minibatches, visible=is_seen, words=""
        )
        self.last_move = monotonic()
        self.last_lines = dict.fromkeys(("epoch", "minibatch"), self.last_move)
        self.bar.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count minibatches from 0 again."""
        if is_streamed(trainer):
            self.bar.reset(self.minibatches)
            self.last_lines["minibatch"] = monotonic()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move on by some minibatches within an epoch."""
        if monotonic() - self.last_move > SECONDS_BETWEEN_MOVES or trainer.is_last_batch:
            self.last_move = monotonic()
            task = self.bar.tasks[self.minibatches]
            self.bar.update(task.id, completed=batch_idx + 1)
            line = f"minibatch {task.completed}/{task.total}"
            if task.speed:  # rich knows none after a single move
                pace = f"{task.speed:,.0f} a second"
                self.bar.update(task.id, words=pace)
                line += f"  {pace}  {timedelta(seconds=task.time_remaining or 0)} left"
            self._print("minibatch", trainer, line)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move on by an epoch."""
        headline = getattr(pl_module, "headline", "accuracy")
        words = _losses(trainer.callback_metrics, headline)
        self.bar.update(self.epochs, completed=trainer.current_epoch + 1, words=words)
        self._print("epoch", trainer, words)

    def _print(self, counted: str, trainer: pl.Trainer, words: str) -> None:
        """Print how far the training is, where there is no bar and it is time again."""
        now = monotonic()
        if self.bar.disable and now - self.last_lines[counted] > SECONDS_BETWEEN_LINES:
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self.console.print(f"{epoch}  {words}", soft_wrap=True)
            self.last_lines[counted] = now

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the bar as it ended."""
        if not self.bar.disable:
            self.bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self.on_train_end(trainer, pl_module)


class NetworkSummary(NoStepHooks, pl.callbacks.ModelSummary):
    """Prints a row for each layer of the network, with its number of trained parameters.

    Lightning's own table rounds the counts, and lists loss and preprocessing as layers.

    >>> trainer = pl.Trainer(
    ...     callbacks=[NetworkSummary()], logger=False, accelerator="cpu", enable_progress_bar=False
    ... )
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the table; results alone go to the standard output."""
        if not trainer.is_global_zero:
            return
        network = getattr(pl_module, "network", pl_module)
        table = Table("layer", "parameters", header_style="bold")
        for name, layer in network.named_children():
            table.add_row(f"{name} {_describe(layer)}", f"{count_parameters(layer):,}")
        total = f"{count_parameters(network):,}"
        table.add_row(type(network).__name__, total, style="bold")
        Console(stderr=True, markup=False, emoji=False).print(table)


def _describe(layer: nn.Module) -> str:
    """The layer in one line: its parts that change their input, or else its own words.

    >>> _describe(nn.Sequential(nn.Linear(4, 2), nn.Identity(), nn.ReLU()))
    'Linear(in_features=4, out_features=2, bias=True), ReLU()'
    """
    parts = [
        str(part)
        for part in layer.children()
        if not isinstance(part, nn.Identity) and getattr(part, "p", 1) != 0
    ]
    return ", ".join(parts) or str(layer).partition("\n")[0]


def _losses(metrics: Mapping[str, Tensor], headline: str) -> str:
    """The losses of both splits and the headline metric of the validation, in a few words.

    >>> import torch
    >>> _losses({"train/loss": torch.tensor(0.5)}, "accuracy")
    'train 0.500'
    """
    shown = {split: f"{split}/loss" for split in ("train", "validation")}
    shown[headline] = f"validation/{headline}"
    return "  ".join(
        f"{word} {float(metrics[name]):#.3g}" for word, name in shown.items() if name in metrics
    )
