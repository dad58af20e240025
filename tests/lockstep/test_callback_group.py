"""Callbacks that act for all members of a stack, as they join and leave."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from multilayer.callbacks import BestEpochMarker, BestWeights, Checkpoint, EarlyStopping
from multilayer.callbacks.learning_rate import LearningRate
from multilayer.lockstep.callback_group import CallbackGroup, merged
from multilayer.lockstep.plan import make_plan
from multilayer.training.epoch_callback import EpochCallback, Record
from multilayer.training.history import History

from ..training.test_epoch_callback import Runs
from .conftest import MakeJobs, train_one_by_one, train_plan, train_stacked
from .test_equivalence import scalars

SHARED = ["data=iris", "data.batch_size=16", "trainer.max_epochs=4", "optimizer.lr=0.01"]


def all_of(number: int) -> list[EpochCallback]:
    """Each callback of ours that acts for all runs, made for one."""
    return [
        BestWeights(),
        EarlyStopping(patience=3),
        BestEpochMarker(),
        LearningRate(),
        History(folder=f"runs/{number}"),
        Checkpoint(folder=f"runs/{number}/checkpoints"),
    ]


def member_with(number: int, callbacks: list[EpochCallback]) -> Any:
    """As far as a group looks at it."""
    return SimpleNamespace(number=number, callbacks=callbacks, failure=None, resumed=None)


class Losses(Runs):
    """A record of K runs in some epoch, with what our callbacks ask for."""

    def __init__(self, epoch: Any, losses: Any) -> None:
        super().__init__(0, losses)
        self.epoch = np.asarray(epoch)
        self.step = self.epoch * 7
        self.seconds = self.epoch * 0.5
        self.rates = {"lr-Adam": self.epoch * 0.1}
        self.measured = {"validation/loss": np.isfinite(self.metrics["validation/loss"])}
        self.writes_files = False

    def weights(self) -> dict[str, torch.Tensor]:
        losses = torch.tensor(self.metrics["validation/loss"])
        return {"weight": losses[:, None].expand(-1, 2), "shared": torch.ones(len(losses), 1)}


def states_of(group: CallbackGroup) -> list[dict[str, Any]]:
    """By member, what each callback would save; torch's random numbers are everyone's."""
    return [
        {
            each.state_key: each.state_dict(k)
            for each in group.callbacks
            if each.state_key != "Checkpoint"
        }
        for k in range(len(group.members))
    ]


def test_merged_they_hold_what_each_holds_alone() -> None:
    """Six runs of losses of their own, which join and leave in turns."""
    rng = np.random.default_rng(0)
    losses = rng.random((6, 12))
    losses[4, :3] = np.nan
    begins, ends = [0, 0, 0, 2, 2, 5], [3, 12, 8, 9, 12, 12]
    members = [member_with(i, all_of(i)) for i in range(6)]
    alone = [CallbackGroup(member_with(i, all_of(i))) for i in range(6)]
    joined: CallbackGroup | None = None
    epochs = dict.fromkeys(range(6), 0)

    def act(group: CallbackGroup, t: int, numbers: list[int]) -> None:
        record: Any = Losses([epochs[i] + 1 for i in numbers], [losses[i, t] for i in numbers])
        for callback in group.callbacks:
            assert isinstance(callback, EpochCallback)
            for hook in ("on_epoch_start", "on_validation_end", "on_epoch_end"):
                if not isinstance(callback, Checkpoint | LearningRate):
                    getattr(callback, hook)(record)

    for t in range(12):
        for i in [i for i in range(6) if begins[i] == t]:
            own = CallbackGroup(members[i])
            if joined is None or not joined.members:
                joined = own
            else:
                assert joined.takes(own)
                joined.append(own)
        assert joined is not None
        numbers = [member.number for member in joined.members]
        act(joined, t, numbers)
        for i in numbers:
            act(alone[i], t, [i])
            epochs[i] += 1
        for state, i in zip(states_of(joined), numbers, strict=True):
            (expected,) = states_of(alone[i])
            reason, other = (each["EarlyStopping"].pop("reason", "") for each in (state, expected))
            assert reason == other
            torch.testing.assert_close(state, expected, equal_nan=True)
        kept = [k for k, i in enumerate(numbers) if ends[i] > t + 1]
        left = joined.select([k for k in range(len(numbers)) if k not in kept])
        assert [member.number for member in left.members] == [
            i for i in numbers if ends[i] <= t + 1
        ]
        joined = joined.select(kept)
    best = next(each for each in left.callbacks if isinstance(each, BestWeights))
    assert best.weights["shared"].tolist() == [[1.0]] * 3


def test_those_with_other_arguments_are_groups_of_their_own() -> None:
    """Not those of other folders, nor what a clock or a run left in them."""

    def sizes_of(*callbacks: list[EpochCallback]) -> list[int]:
        groups = [CallbackGroup(member_with(i, each)) for i, each in enumerate(callbacks)]
        return [len(group.members) for group in merged(groups)]

    assert sizes_of(*map(all_of, range(3))) == [3]
    for other in (
        [BestWeights(monitor="train/loss"), *all_of(3)[1:]],
        [all_of(3)[0], EarlyStopping(patience=4), *all_of(3)[2:]],
        [*all_of(3)[:-1], Checkpoint(folder="x", every_seconds=1)],
        all_of(3)[:-1],
        [*all_of(3), _Mine()],
        all_of(3)[::-1],
    ):
        assert sizes_of(*map(all_of, range(3)), other) == [3, 1]
    own = [[*all_of(i), _Mine()] for i in range(2)]
    assert sizes_of(*own) == [1, 1]


class _Mine(EarlyStopping):
    """A user's own early stopping, which counts on one run."""

    def on_epoch_end(self, record: Record) -> None:
        (epoch,) = record.epoch
        if record.step[0] and epoch == int(record.data.shuffle_seed) + 1:
            record.stop(f"stopped in epoch {epoch}")


class _Sometimes(EpochCallback):
    """Logs a loss of its own in some epochs of some runs."""

    def __init__(self, first: int) -> None:
        self.first = first

    def on_epoch_end(self, record: Record) -> None:
        assert ("mine/loss" in record.metrics) == (0 < self.first < record.epoch[0])
        if 0 < self.first <= record.epoch[0]:
            record.log_scalars({"mine/loss": record.epoch * 1.0})


def test_a_subclass_of_ours_has_an_instance_for_each_run(jobs: MakeJobs) -> None:
    """Its hooks count on one; each run stops in the epoch that is its own."""
    mine = f"+callbacks.mine._target_={__name__}._Mine"
    made = jobs([*SHARED, mine], [[f"data.shuffle_seed={n}"] for n in (0, 2)])
    for results in (train_stacked(made), train_one_by_one(made)):
        assert [each.manifest["stop_reason"] for each in results] == [
            "stopped in epoch 1",
            "stopped in epoch 3",
        ]


def test_a_metric_that_some_runs_have_is_missing_in_the_others(jobs: MakeJobs) -> None:
    """It is no NaN of theirs: they are not stopped as diverged, nor have an empty column."""
    mine = f"+callbacks.mine={{_target_:{__name__}._Sometimes,first:%s}}"
    made = jobs(SHARED, [[mine % n, f"seed={n}"] for n in (1, 0, 3)])
    stacked, alone = train_stacked(made), train_one_by_one(made)
    for job, ours, theirs in zip(made, stacked, alone, strict=True):
        assert ours.manifest["stop_reason"] == theirs.manifest["stop_reason"]
        assert ours.manifest["status"] == "done"
        folders = (job.folder, job.folder.parent.parent / "alone" / str(job.number))
        tables = [pl.read_csv(folder / "history.csv") for folder in folders]
        assert tables[0].columns == tables[1].columns
        assert scalars(folders[0]).keys() == scalars(folders[1]).keys()


def test_a_wrong_metric_of_some_fails_these_alone(jobs: MakeJobs) -> None:
    """What they would monitor is nowhere; the others end as without them."""
    made = jobs(SHARED, [[], ["callbacks.early_stopping.monitor=nothing"], ["seed=1"]])
    (plan,) = make_plan(made).stacks
    results: list[Any] = train_plan(plan)
    assert "no metric 'nothing' to monitor" in str(results[1])
    assert [each.manifest["status"] for each in (results[0], results[2])] == ["done", "done"]
    manifest = json.loads((made[1].folder / "manifest.json").read_text())
    assert (manifest["status"], manifest["steps"]) == ("failed", 7)
    (alone,) = train_one_by_one(made[:1])
    assert results[0].metrics["test"]["loss"] == pytest.approx(alone.metrics["test"]["loss"], 1e-4)
