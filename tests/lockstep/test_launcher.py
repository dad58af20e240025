"""`hydra/launcher=lockstep` on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Run

QUICK = ["-m", "hydra/launcher=lockstep", "hydra.sweep.dir=sweep", "data=iris"]
QUICK += ["trainer.max_epochs=2"]


def manifests(tmp_path: Path) -> list[dict[str, Any]]:
    """In the order of the jobs' numbers."""
    folders = sorted((tmp_path / "sweep").glob("[0-9]*"), key=lambda path: int(path.name))
    return [json.loads((folder / "manifest.json").read_text()) for folder in folders]


def test_a_sweep_leaves_the_folders_of_any_sweep(multilayer: Run, tmp_path: Path) -> None:
    """A folder and a row a job; each can be evaluated, and predicts."""
    outcome = multilayer("train", *QUICK, "optimizer.lr=1e-3,1e-1", "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert "lockstep: 1 stack of 4 runs" in outcome.out
    assert outcome.out.count(" *") == 1
    found = manifests(tmp_path)
    assert [each["status"] for each in found] == ["done"] * 4
    assert found[3]["overrides"] == [*QUICK[3:], "optimizer.lr=0.1", "seed=1"]
    assert found[3]["command"].endswith("optimizer.lr=0.1 seed=1")
    assert multilayer("evaluate", "run=sweep/2").code == 0
    outcome = multilayer("evaluate", "run=sweep/2", "split=validation")
    metrics = json.loads((tmp_path / "sweep" / "2" / "metrics.json").read_text())
    assert f"{metrics['validation']['loss']:.8f}"[:6] in outcome.out


def test_jobs_that_do_not_stack_run_in_the_same_sweep(multilayer: Run, tmp_path: Path) -> None:
    """Two shapes are two stacks, and one that cannot stack runs alone; all are in the table."""
    outcome = multilayer("train", *QUICK, "model.d_hidden=[4],[8]", "trainer.max_steps=-1,3")
    assert outcome.code == 0, outcome.err
    assert "lockstep: 2 stacks of 1, 1 runs" in outcome.out
    assert "lockstep: job 1, 3 alone: trainer.max_steps=3" in outcome.out
    assert [each["status"] for each in manifests(tmp_path)] == ["done"] * 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.dropout=0,1.5,0.1"], "job 1: model.dropout=1.5"),
        (["optimizer.lr=1e-3,-1,1e-2"], "job 1: optimizer.lr=-1"),
        (["loss=auto,mse,cross_entropy"], "job 1: loss: MSELoss is for regression"),
        (["model.d_hidden=[4],[0],[8]"], "job 1: model.d_hidden"),
    ],
)
def test_a_broken_job_does_not_stop_the_others(
    overrides: list[str], message: str, multilayer: Run, tmp_path: Path
) -> None:
    """It is named at once and again at the end; the exit code is 2."""
    outcome = multilayer("train", *QUICK, *overrides)
    assert outcome.code == 2
    assert message in outcome.err
    assert "failed        1 of 3: job 1" in outcome.out
    assert [each["status"] for each in manifests(tmp_path)] == ["done", "failed", "done"]


def test_a_stack_can_be_bounded_on_the_command_line(multilayer: Run) -> None:
    """`hydra.launcher.max_members`."""
    outcome = multilayer("train", *QUICK, "hydra.launcher.max_members=2", "seed=0,1,2")
    assert outcome.code == 0, outcome.err
    assert "lockstep: 2 stacks of 2, 1 runs" in outcome.out


def test_a_bound_below_one_is_refused(multilayer: Run, tmp_path: Path) -> None:
    """One message, and nothing is left behind."""
    outcome = multilayer("train", *QUICK, "hydra.launcher.max_members=0", "seed=0,1")
    assert outcome.code == 2
    assert "hydra.launcher.max_members=0: must be at least 1" in outcome.err
    assert "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_single_run_takes_the_engine_too(multilayer: Run, tmp_path: Path) -> None:
    """`engine=lockstep`, and why not where it cannot."""
    outcome = multilayer("train", "data=iris", "trainer.max_epochs=2", "engine=lockstep")
    assert outcome.code == 0, outcome.err
    assert len(list(tmp_path.glob("runs/*/*/metrics.json"))) == 1
    outcome = multilayer("train", "data=iris", "trainer.max_steps=2", "engine=lockstep")
    assert outcome.code == 2
    assert "engine=lockstep: trainer.max_steps=2; use engine=lightning" in outcome.err
    assert len(list(tmp_path.glob("runs/*/*"))) == 1


OWN = "model._target_=tests.lockstep.networks"


def test_a_network_of_the_users_own_stacks(multilayer: Run, tmp_path: Path) -> None:
    """With parameters of its own, frozen ones, and layers within layers."""
    network = [f"{OWN}.Residual", "model=sequential", "~model._args_"]
    network += ["+model.n_features=n_features", "+model.n_outputs=n_outputs"]
    outcome = multilayer("train", *QUICK, *network, "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert "lockstep: 1 stack of 2 runs" in outcome.out
    assert [each["members"] for each in manifests(tmp_path)] == [2, 2]


@pytest.mark.parametrize(
    ("name", "own", "reason"),
    [
        ("LooksAtData", ["seed=0,1"], "torch.func.vmap cannot run the network"),
        ("OwnDropout", ["+model.dropout=0.1,0.5"], "the networks differ in OwnDropout.rate"),
    ],
)
def test_a_network_that_does_not_stack_trains_alone(
    name: str, own: list[str], reason: str, multilayer: Run, tmp_path: Path
) -> None:
    """In the same sweep, and the reason is given; a single run is refused."""
    network = [f"{OWN}.{name}", "model=sequential", "~model._args_"]
    network += ["+model.n_features=n_features", "+model.n_outputs=n_outputs"]
    outcome = multilayer("train", *QUICK, *network, *own)
    assert outcome.code == 0, outcome.err
    assert f"lockstep: job 0 to 1 alone: {reason}" in outcome.out
    assert [each["status"] for each in manifests(tmp_path)] == ["done"] * 2
    assert all("members" not in each for each in manifests(tmp_path))
