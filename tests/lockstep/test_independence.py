"""What happens to one member changes nothing for the others."""

import json
from typing import Any

import pytest
import torch

from multilayer.cli.tasks import train
from multilayer.composing.job_configs import Job
from multilayer.lockstep.stack import Stack
from multilayer.stacking.runner import StepRunner

from .conftest import MakeJobs, train_stacked

SHARED = ["data=iris", "optimizer=sgd", "trainer.max_epochs=12", "data.batch_size=16"]
SHARED += ["scheduler=constant"]
CHANNELS = ["model=sequential", "~model._args_", "+model.dropout=0.2"]
CHANNELS += ["+model.n_features=n_features", "+model.n_outputs=n_outputs"]
CHANNELS += ["model._target_=tests.lockstep.networks.Channels"]
NETWORKS = {"plain": ["model.dropout=0"], "dropout": ["model.dropout=0.2"], "channels": CHANNELS}
QUIET = [[f"seed={seed}", "optimizer.lr=0.05"] for seed in range(6)]


def weights(job: Job) -> dict[str, torch.Tensor]:
    """The last weights of a run."""
    last = torch.load(job.folder / "checkpoints" / "last.ckpt", weights_only=True)
    return dict(last["state_dict"])


def without_and_with_trouble(jobs: MakeJobs, *shared: str) -> tuple[list[Job], list[Job]]:
    """Two stacks of one size: in the second, members 1, 3 and 4 leave for different reasons."""
    own = [list(words) for words in QUIET]
    own[1] += ["optimizer.lr=1e6"]
    own[3] += ["optimizer.lr=1e38"]
    own[4] += ["callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=10"]
    quiet = jobs([*SHARED, *shared], QUIET, "quiet")
    trouble = jobs([*SHARED, *shared], own, "trouble")
    train_stacked(quiet)
    results = train_stacked(trouble)
    assert [result.manifest["status"] for result in results] == [
        "done",
        "diverged",
        "done",
        "diverged",
        "done",
        "done",
    ]
    assert results[4].manifest["steps"] < results[5].manifest["steps"]
    return quiet, trouble


@pytest.mark.parametrize("network", NETWORKS)
def test_the_others_are_equal_to_the_last_bit(
    network: str, jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With compaction held off, whatever the rest of the stack does."""
    monkeypatch.setattr(Stack, "compact", lambda self: None)
    quiet, trouble = without_and_with_trouble(jobs, *NETWORKS[network])
    for number in (0, 2, 5):
        expected = weights(quiet[number])
        for name, value in weights(trouble[number]).items():
            assert torch.equal(value, expected[name]), (number, name)


@pytest.mark.parametrize("network", NETWORKS)
def test_with_compaction_the_others_are_equal_to_rounding(
    network: str, jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members move to other places and blocks, and keep their masks of dropout."""
    monkeypatch.setattr("multilayer.stacking.step._BLOCK_SIZE", 2)
    quiet, trouble = without_and_with_trouble(jobs, *NETWORKS[network])
    for number in (0, 2, 5):
        expected = weights(quiet[number])
        for name, value in weights(trouble[number]).items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)


def test_those_in_trouble_end_with_weights_of_their_own(jobs: MakeJobs) -> None:
    """Each has the last finite weights of its job trained alone for as many steps."""
    _, trouble = without_and_with_trouble(jobs)
    for number in (1, 3, 4):
        n_steps = json.loads((trouble[number].folder / "manifest.json").read_text())["steps"]
        assert n_steps > 0
        words = [*trouble[number].overrides, f"trainer.max_steps={n_steps}"]
        (alone,) = jobs(words, [[]], f"alone{number}")
        train(alone.config, alone.folder, quiet=True)
        found, expected = weights(trouble[number]), weights(alone)
        for name, value in found.items():
            assert value.isfinite().all(), (number, name)
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-6)
    largest = max(value.abs().max() for value in weights(trouble[3]).values() if value.numel())
    assert largest > 1e30  # of the one with a rate of 1e38


def test_a_member_that_diverges_keeps_its_last_finite_weights(jobs: MakeJobs) -> None:
    """The manifest says at which step it left."""
    stack = jobs([*SHARED, "callbacks=checkpoint"], [["optimizer.lr=0.1"], ["optimizer.lr=1e6"]])
    results = train_stacked(stack)
    assert results[1].manifest["status"] == "diverged"
    assert results[1].manifest["stop_reason"].startswith("diverged")
    assert results[1].manifest["steps"] < results[0].manifest["steps"]
    assert all(value.isfinite().all() for value in weights(stack[1]).values())


def test_a_block_that_is_left_has_the_threads_that_it_had(
    jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of threads is in a member's last digits, and those of others may have left."""
    monkeypatch.setattr(Stack, "compact", lambda self: None)
    one, seen = StepRunner.one, []

    def noting(runner: StepRunner, *arguments: Any) -> Any:
        seen.append(torch.get_num_threads())
        return one(runner, *arguments)

    monkeypatch.setattr(StepRunner, "one", noting)
    monkeypatch.setattr("multilayer.training.runtime._SMALL_STEP", 0)
    monkeypatch.setattr("multilayer.training.runtime._WORK_PER_THREAD", 1)  # as many as may be
    rates = ["0.05"] * 8 + ["1e38"] * 8
    own = [[f"seed={k}", f"optimizer.lr={rate}"] for k, rate in enumerate(rates)]
    results = train_stacked(jobs([*SHARED, "num_threads=2"], own))
    status = [result.manifest["status"] for result in results]
    assert status == ["done"] * 8 + ["diverged"] * 8
    assert {*seen} == {1}
