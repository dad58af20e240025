"""Callbacks that look at the network and change nothing."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from multilayer import MLP, BinaryModule
from multilayer.core.errors import UserError
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.training.lightning_record import _require_supervised, _unchanged

from ..lockstep.conftest import MakeJobs, train_stacked
from ..lockstep.conftest import jobs as jobs  # a fixture
from ..trained import train_in

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
        _require_supervised(
            pl.Trainer(logger=False, enable_checkpointing=False), pl.LightningModule()
        )
