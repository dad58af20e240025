"""Lightning's Trainer around a stack: its loop, its device, its precision."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from multilayer.core.errors import interrupt_behind
from multilayer.data import Minibatches
from multilayer.data.dataset import EVALUATION_BATCH_SIZE
from multilayer.lockstep.member import Member
from multilayer.lockstep.progress import SweepProgress
from multilayer.lockstep.stack import Stack
from multilayer.training.runtime import ready_memory

Leave = Callable[[list[Member]], None]


class _StackModule(pl.LightningModule):
    """A stack as Lightning sees it: one training step is many minibatches of every member.

    leave: called with the members that leave at an epoch's begin or end, if any.
    progress: told of every epoch.
    """

    def __init__(self, stack: Stack, leave: Leave, progress: SweepProgress) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.stack = stack
        self.leave = leave
        self.progress = progress

    def configure_optimizers(self) -> None:
        """The stack has its own."""

    def train_dataloader(self) -> "_Calls":
        """The minibatches that are trained in one call each."""
        return _Calls(self.stack.epoch_chunks())

    def val_dataloader(self) -> Minibatches:
        """The validation rows, on the device."""
        features, target = self.stack.validation_rows
        return Minibatches(features, target, batch_size=EVALUATION_BATCH_SIZE)

    def on_train_epoch_start(self) -> None:
        """Draw the order of the rows."""
        self.leave(self.stack.begin_epoch())

    def training_step(self, batch: tuple[int, int], index: int) -> None:
        """Train all members on several minibatches."""
        self.stack.train(*batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Run all members over validation rows."""
        self.stack.validate(*batch)

    def on_validation_epoch_end(self) -> None:
        """Work out the metrics, and let the members' callbacks see them."""
        self.stack.end_validation()

    def on_train_epoch_end(self) -> None:
        """Let members leave; the stack ends with its last one."""
        leaving = self.stack.end_epoch()
        self.leave(leaving)
        self.progress.end_epoch(self.stack, leaving)
        self.trainer.should_stop = not self.stack.alive()


class _Calls:
    """What Lightning takes for the minibatches of an epoch: it would take a list apart."""

    def __init__(self, calls: list[tuple[int, int]]) -> None:
        self.calls = calls

    def __len__(self) -> int:
        return len(self.calls)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.calls)


def fit_stack(stack: Stack, config: dict[str, Any], leave: Leave, progress: SweepProgress) -> None:
    """Train a stack until its last member has left.

    config: the `trainer` node of one of the members.
    leave: called with the members that end with an epoch.
    """
    trainer = pl.Trainer(
        accelerator=config["accelerator"],
        devices=1,
        precision=config["precision"],
        max_epochs=stack.max_epochs,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with ready_memory(), warnings.catch_warnings():
        # The stack has optimizers of its own.
        warnings.filterwarnings("ignore", message=".*configure_optimizers.* returned .None.")
        try:
            trainer.fit(_StackModule(stack, leave, progress))
        except BaseException as error:
            stack.count_within_epoch()
            stack.share_time()
            if isinstance(error, SystemExit):
                raise interrupt_behind(error) from None
            raise
