"""Jobs that take the places of those that end, against the same jobs trained alone."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from multilayer.cli.tasks import train
from multilayer.composing.job_configs import Job
from multilayer.lockstep.plan import make_plan
from multilayer.lockstep.stack import Stack
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import Result
from multilayer.training.evaluate import evaluate

from .conftest import MakeJobs, train_one_by_one, train_plan
from .test_equivalence import OWN, check_curves, check_files, check_results, check_same

SHARED = ["data=iris", "data.batch_size=16", "trainer.log_every_n_steps=5", "optimizer.lr=0.01"]
# Else Adam divides gradients of rounding alone by their own size.
SHARED += ["optimizer.eps=1e-3"]
STOPS = "callbacks.early_stopping.patience"


def train_two_at_a_time(jobs: list[Job]) -> list[Any]:
    """As one plan of two slots."""
    (plan,) = make_plan(jobs, max_members=2).stacks
    return train_plan(plan)


def alone(job: Job) -> Path:
    """The folder of the same job trained alone."""
    return job.folder.parent.parent / "alone" / str(job.number)


def test_jobs_that_take_places_are_those_trained_alone(jobs: MakeJobs) -> None:
    """Curves, files, checkpoints and metrics of runs of different lengths, two at a time."""
    own = [
        ["trainer.max_epochs=2"],
        ["trainer.max_epochs=5", "seed=1"],
        ["trainer.max_epochs=12", f"{STOPS}=1", "callbacks.early_stopping.min_delta=1", "seed=2"],
        ["trainer.max_epochs=3", "seed=3", "scheduler.scheduler.factor=0.1"],
        ["trainer.max_epochs=1", "seed=4", "callbacks=checkpoint"],
        ["trainer.max_epochs=4", "seed=5", "optimizer.weight_decay=0.1", "logger=csv"],
    ]
    shared = [*SHARED, "scheduler=plateau", "scheduler.scheduler.patience=0"]
    made = jobs([*shared, "optimizer.weight_decay=0.01"], own)
    stacked, trained = train_two_at_a_time(made), train_one_by_one(made)
    for job, ours, theirs in zip(made, stacked, trained, strict=True):
        check_results(ours, theirs)
        check_files(job.folder, alone(job))
        if job.number < 5:
            check_curves(job.folder, alone(job))
        for name in ("best.ckpt", "last.ckpt"):
            paths = [folder / "checkpoints" / name for folder in (job.folder, alone(job))]
            if paths[1].exists():
                check_same(*map(content, paths), f"{job.number} {name}")
        history = [pl.read_csv(folder / "history.csv") for folder in (job.folder, alone(job))]
        assert history[0].columns == history[1].columns
        assert history[0]["epoch"].to_list() == history[1]["epoch"].to_list()
        question = {"run": str(job.folder), "split": "test", "data": {"path": None}}
        found = evaluate(question | {"trusted_packages": [], "device": "cpu"})
        assert found.metrics == pytest.approx(ours.metrics["test"], rel=1e-4)
    manifests = [json.loads((job.folder / "manifest.json").read_text()) for job in made]
    assert {each["stack"] for each in manifests} == {"stack/0"}
    assert all(each["members"] == 2 for each in manifests)
    assert all(0 < each["fit_seconds"] <= each["stack_seconds"] for each in manifests)
    ends = max(each["stack_seconds"] for each in manifests)
    assert sum(each["fit_seconds"] for each in manifests) == pytest.approx(
        ends, rel=0.01, abs=0.004
    )  # rounded to ms
    (whole,) = jobs([*made[5].overrides, "trainer.max_epochs=6"], [[]], "whole")
    (resumed,) = jobs([*whole.overrides, f"resume={made[5].folder}"], [[]], "resumed")
    results = [train(job.config, job.folder, quiet=True) for job in (whole, resumed)]
    assert results[1].metrics["test"] == pytest.approx(results[0].metrics["test"], rel=1e-4)


def content(path: Path) -> dict[str, Any]:
    """A checkpoint, without what a clock says."""
    found = torch.load(path, weights_only=True)
    found.get("callbacks", {}).get("History", {"columns": {}})["columns"].pop("seconds", None)
    return dict(found)


def test_one_that_joins_and_never_improves_keeps_its_own_weights(jobs: MakeJobs) -> None:
    """It diverges in its first epoch; another one's best weights, or zeros, are not its own."""
    words = ["data=iris", "data.batch_size=16", "optimizer=sgd", "trainer.max_epochs=3"]
    made = jobs(words, [["seed=0"], ["seed=1"], ["optimizer.lr=1e30"], ["seed=3"]])
    results = train_two_at_a_time(made)
    assert [each.manifest["status"] for each in results] == ["done", "done", "diverged", "done"]
    last = read_checkpoint(made[2].folder / "checkpoints" / "last.ckpt")
    assert last["callbacks"]["BestWeights"]["weights"] == {}
    weights = torch.cat([each.flatten() for each in last["state_dict"].values()])
    assert weights.abs().max() > 1e6  # of the few steps that it took
    expected = results[2].metrics["test"]["loss"]
    question = {"run": str(made[2].folder / "checkpoints" / "last.ckpt"), "split": "test"}
    found = evaluate(question | {"data": {"path": None}, "trusted_packages": [], "device": "cpu"})
    assert found.metrics["loss"] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("own", "stacks"),
    [
        (["model.dropout=0.3", "model.dropout=0.2", "model.dropout=0"], 1),
        (["model.dropout=0", "model.dropout=0", "model.dropout=0.3"], 2),
        (["optimizer.weight_decay=0", "optimizer.weight_decay=0", "optimizer.weight_decay=1"], 2),
        (["optimizer.weight_decay=0.5", "optimizer.weight_decay=0", "optimizer.weight_decay=0"], 1),
    ],
)
def test_what_the_first_members_do_not_need_is_had_by_a_later_stack(
    own: list[str], stacks: int, jobs: MakeJobs
) -> None:
    """Dropout and weight decay; where they have it, one without it may join them."""
    made = jobs([*SHARED, "trainer.max_epochs=2"], [[words] for words in own])
    results, expected = train_two_at_a_time(made), train_one_by_one(made)
    assert len({each.manifest["stack"] for each in results}) == stacks
    for number in (number for number, words in enumerate(own) if "dropout=0." not in words):
        check_results(results[number], expected[number])


def test_a_job_that_cannot_be_built_ends_alone(jobs: MakeJobs) -> None:
    """In mid-training; networks that are not alike train in a later stack, whatever they lack."""
    network = [*OWN, "model._target_=tests.lockstep.networks.Grows", "trainer.max_epochs=2"]
    own = [[f"+model.dropout={rate}"] for rate in (0, 0, 0.5, 0.9, 0, 0.5)]
    made = jobs([*SHARED, *network], own)
    results = train_two_at_a_time(made)
    assert "no network today" in str(results[3])
    assert [isinstance(each, Result) for each in results] == [True] * 3 + [False] + [True] * 2
    del made[3], results[3]
    expected = train_one_by_one(made)
    for ours, theirs in zip(results, expected, strict=True):
        check_results(ours, theirs)
    assert len({each.manifest["stack"] for each in results}) == 2


def test_an_error_leaves_no_job_without_an_end(
    jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was about to join fails with the stack; those that still wait train."""
    join = Stack.join

    def refuse_once(stack: Stack, member: Any) -> None:
        monkeypatch.setattr(Stack, "join", join)
        raise RuntimeError("no room")

    monkeypatch.setattr(Stack, "join", refuse_once)
    own = [[f"trainer.max_epochs={n}"] for n in (1, 2, 2, 2, 2)]
    results = train_two_at_a_time(jobs(SHARED, own))
    assert [isinstance(each, Result) for each in results] == [True, False, False, True, True]
    assert "no room" in str(results[1])
    assert "no room" in str(results[2])
