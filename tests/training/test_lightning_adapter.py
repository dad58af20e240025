"""Callbacks without hooks in a step, and those that look at the network and change nothing."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from multilayer import MLP, BinaryModule, PassClassData
from multilayer.cli.check import check_command_line
from multilayer.core.errors import UserError
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import RunFolder
from multilayer.training.epoch import HOOKS_OF_A_STEP, NoStepHooks
from multilayer.training.factory import make_trainer
from multilayer.training.lightning_adapter import _unchanged, require_supervised

from ..lockstep.conftest import MakeJobs, train_stacked
from ..lockstep.conftest import jobs as jobs  # a fixture
from ..trained import train_in


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
    assert all(getattr(counts[0], hook) is None for hook in HOOKS_OF_A_STEP)
    assert [hook for hook in HOOKS_OF_A_STEP if getattr(counts[1], hook)] == ["on_train_batch_end"]


def test_a_subclass_calls_the_hooks_of_ours() -> None:
    """Each of them, as it would those of Lightning's callbacks."""
    called = set()

    def overriding(hook: str) -> object:
        def run(self: pl.Callback, *args: object) -> None:
            getattr(super(own, self), hook)(*args)
            called.add(hook)

        return run

    own = type("Own", (NoStepHooks,), {hook: overriding(hook) for hook in HOOKS_OF_A_STEP})
    fit_with([own()])
    assert called == set(HOOKS_OF_A_STEP)


def test_no_callback_of_a_default_training_has_a_hook_in_a_step(tmp_path: Path) -> None:
    """It pays for none."""
    config = check_command_line("train", ["trainer.max_epochs=1"])
    assert config is not None
    trainer = make_trainer(config, RunFolder(tmp_path))
    trainer.fit(BinaryModule(MLP(2, 1), optimizer=torch.optim.SGD), PassClassData())
    assert len(trainer.callbacks) == 8
    for callback in trainer.callbacks:
        assert all(getattr(callback, hook) is None for hook in HOOKS_OF_A_STEP), callback


# Whatever a look might leave behind: a state of dropout, of batch normalisation, of an optimizer.
WORDS = [
    "data=iris", "trainer.max_epochs=2", "model.dropout=0.3", "model.normalization=batch",
    "data.batch_size=16", "model.d_hidden=[8,8]",
]  # fmt: skip
LOOKING = "callbacks=[default,diagnostics,figures]"


def trained(folder: Path) -> dict[str, Any]:
    """The weights, buffers, optimizer and random numbers at a run's end."""
    last = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    found: dict[str, Any] = {
        **last["state_dict"],
        "random numbers": last["callbacks"]["Checkpoint"]["cpu"],
    }
    for number, state in last["optimizer_states"][0]["state"].items():
        found.update({f"optimizer {number} {name}": each for name, each in state.items()})
    return found


def check_same(ours: Path, theirs: Path) -> None:
    """To the last bit."""
    first, second = trained(ours), trained(theirs)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(second[name])), name


def test_a_run_that_is_looked_at_is_the_run_that_is_not(tmp_path: Path) -> None:
    """Bit for bit, in its weights, its optimizer and its metrics."""
    looked_at = train_in(tmp_path / "ours", *WORDS, LOOKING)
    not_looked_at = train_in(tmp_path / "theirs", *WORDS)
    assert looked_at.metrics == not_looked_at.metrics
    check_same(tmp_path / "ours", tmp_path / "theirs")


def test_runs_that_are_looked_at_stack(jobs: MakeJobs) -> None:
    """And are the stack of the runs that are not; each has its own curves and figures."""
    own = [["seed=1"], ["seed=2"]]
    ours = jobs([*WORDS, LOOKING], own, "ours")
    theirs = jobs(WORDS, own, "theirs")
    for first, second in zip(train_stacked(ours), train_stacked(theirs), strict=True):
        assert first.manifest["members"] == 2
        assert first.metrics == second.metrics
    for job, other in zip(ours, theirs, strict=True):
        check_same(job.folder, other.folder)
        assert (job.folder / "figures" / "confusion_matrix.png").is_file()


def test_a_look_leaves_modes_and_random_numbers_as_they_were() -> None:
    """Also those of a layer that a user has put into evaluation."""
    module = BinaryModule(nn.Sequential(nn.BatchNorm1d(2), MLP(2, 1, dropout=0.5)))
    module.network[0].eval()
    modes = [layer.training for layer in module.modules()]
    state = torch.get_rng_state()
    with _unchanged(module):
        assert not any(layer.training for layer in module.modules())
        torch.rand(3)
    assert [layer.training for layer in module.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_a_module_of_another_kind_is_refused_in_words() -> None:
    """It has no loss and no task to look at."""
    with pytest.raises(UserError, match="need multilayer's SupervisedModule and DataModule"):
        require_supervised(
            pl.Trainer(logger=False, enable_checkpointing=False), pl.LightningModule()
        )
