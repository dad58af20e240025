"""Callbacks without hooks in a step."""

from pathlib import Path

import pytorch_lightning as pl
import torch

from multilayer import MLP, BinaryModule, PassClassData
from multilayer.build import make_trainer
from multilayer.callbacks.epochs_only import HOOKS_OF_A_STEP, epochs_only
from multilayer.config import check_command_line
from multilayer.runs.folder import RunFolder


@epochs_only
class CountsEpochs(pl.Callback):
    """Has a hook in an epoch, and none in a step."""

    n_epochs = 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.n_epochs += 1


class CountsSteps(CountsEpochs):
    """A user's own, on one of those."""

    n_steps = 0

    def on_train_batch_end(self, *args: object) -> None:
        self.n_steps += 1


def test_lightning_passes_over_the_hooks_of_a_step(tmp_path: Path) -> None:
    """And calls the others, and those that a subclass has again."""
    counts = [CountsEpochs(), CountsSteps()]
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=counts,
    )
    trainer.fit(BinaryModule(MLP(2, 1), optimizer=torch.optim.SGD), PassClassData())
    assert [each.n_epochs for each in counts] == [2, 2]
    assert counts[1].n_steps == trainer.global_step


def test_no_callback_of_a_default_training_has_a_hook_in_a_step(tmp_path: Path) -> None:
    """It pays for none."""
    config = check_command_line("train", [])
    assert config is not None
    trainer = make_trainer(config, RunFolder(tmp_path))
    assert len(trainer.callbacks) == 7
    for callback in trainer.callbacks:
        assert all(getattr(callback, hook) is None for hook in HOOKS_OF_A_STEP), callback
