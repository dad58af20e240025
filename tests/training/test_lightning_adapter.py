"""Callbacks without hooks in a step."""

from pathlib import Path

import pytorch_lightning as pl
import torch

from multilayer import MLP, BinaryModule, PassClassData
from multilayer.cli.check import check_command_line
from multilayer.runs.folder import RunFolder
from multilayer.training.lightning_adapter import _HOOKS_OF_A_STEP, NoStepHooks
from multilayer.training.run import _make_trainer


class CountsEpochs(NoStepHooks):
    """Has a hook in an epoch, and none in a step."""

    n_epochs = 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.n_epochs += 1


class CountsSteps(CountsEpochs):
    """A user's own, on one of those."""

    n_steps = 0

    def on_train_batch_end(self, *args: object) -> None:
        self.n_steps += 1


def fit_with(callbacks: list[pl.Callback]) -> pl.Trainer:
    """Train for two epochs."""
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=callbacks,
    )
    trainer.fit(BinaryModule(MLP(2, 1), optimizer=torch.optim.SGD), PassClassData())
    return trainer


def test_lightning_passes_over_the_hooks_of_a_step() -> None:
    """And calls the others, and those that a subclass has again."""
    counts = [CountsEpochs(), CountsSteps()]
    trainer = fit_with([*counts])
    assert [each.n_epochs for each in counts] == [2, 2]
    assert counts[1].n_steps == trainer.global_step
    assert all(getattr(counts[0], hook) is None for hook in _HOOKS_OF_A_STEP)
    assert [hook for hook in _HOOKS_OF_A_STEP if getattr(counts[1], hook)] == ["on_train_batch_end"]


def test_a_subclass_calls_the_hooks_of_ours() -> None:
    """Each of them, as it would those of Lightning's callbacks."""
    called = set()

    def overriding(hook: str) -> object:
        def run(self: pl.Callback, *args: object) -> None:
            getattr(super(own, self), hook)(*args)
            called.add(hook)

        return run

    own = type("Own", (NoStepHooks,), {hook: overriding(hook) for hook in _HOOKS_OF_A_STEP})
    fit_with([own()])
    assert called == set(_HOOKS_OF_A_STEP)


def test_no_callback_of_a_default_training_has_a_hook_in_a_step(tmp_path: Path) -> None:
    """It pays for none."""
    config = check_command_line("train", ["trainer.max_epochs=1"])
    assert config is not None
    trainer = _make_trainer(config, RunFolder(tmp_path))
    trainer.fit(BinaryModule(MLP(2, 1), optimizer=torch.optim.SGD), PassClassData())
    assert len(trainer.callbacks) == 8
    for callback in trainer.callbacks:
        assert all(getattr(callback, hook) is None for hook in _HOOKS_OF_A_STEP), callback
