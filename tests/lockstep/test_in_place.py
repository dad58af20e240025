"""Jobs of a stack that was killed go on in their own folders, and end as the undisturbed ones."""

import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from multilayer.cli.tasks import train
from multilayer.composing.job_configs import Job
from multilayer.core.errors import UserError
from multilayer.lockstep.plan import make_plan
from multilayer.lockstep.stack import Stack
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.runs.folder import RunFolder, find_state
from multilayer.stacking.runner import StepRunner
from multilayer.training.module import MulticlassModule

from ..trained import weights_of
from .conftest import MakeJobs, train_one_by_one, train_plan, train_stacked

SHARED = [
    "data=iris", "data.batch_size=16", "model.d_hidden=[8]", "model.normalization=batch",
    "trainer.max_epochs=5", "callbacks.checkpoint.every_seconds=0", "optimizer.lr=0.05",
]  # fmt: skip
DROPS = ["optimizer=adamw", "model.dropout=0.3"]
STOPS = ["callbacks.early_stopping.patience=2", "callbacks.early_stopping.min_delta=1"]
OWN = [
    ["seed=1"],
    ["seed=2", "optimizer.lr=0.02"],
    ["seed=3", *STOPS],
    ["seed=4", "optimizer.weight_decay=0.2", "data.shuffle_seed=9"],
]
SCHEDULES = {
    "cosine": ["scheduler=cosine"],
    "step": ["scheduler=step", "scheduler.scheduler.step_size=2"],
    "plateau": ["scheduler=plateau", "scheduler.scheduler.patience=0"],
}


@pytest.fixture(autouse=True)
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has the folders in "stack" copied after each epoch: what a stack leaves that is killed then.

    The copies are called "1" and so on.
    """
    end_epoch, n = Stack.end_epoch, 0

    def copy(self: Stack) -> None:
        nonlocal n
        end_epoch(self)
        self.writer.finish()
        if (tmp_path / "stack").exists() and not (tmp_path / "done").exists():
            n += 1
            shutil.copytree(tmp_path / "stack", tmp_path / str(n))

    monkeypatch.setattr(Stack, "end_epoch", copy)
    yield
    (tmp_path / "done").touch(exist_ok=True)


def in_place(job: Job, folder: Path) -> Job:
    """A job that goes on in a folder."""
    return replace(job, folder=folder, config=job.config | {"resume": str(folder)})


def left(jobs: list[Job], killed: Path) -> list[Job]:
    """The jobs that are not finished there, to go on."""
    folders = {job.number: killed / str(job.number) for job in jobs}
    states = {number: find_state(folder) for number, folder in folders.items()}
    assert set(states.values()) <= {"resumable", "finished"}
    return [in_place(job, folders[job.number]) for job in jobs if states[job.number] == "resumable"]


def check_same_run(
    folder: Path, whole: Path, *, attempts: int = 2, same_start: bool = True
) -> None:
    """Raise unless a run ended as another one, to rounding."""
    rtol, atol = 1e-5, 1e-6
    for name in ("best.ckpt", "last.ckpt"):
        found, expected = (weights_of(each, name) for each in (folder, whole))
        torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)
    tables = [pl.read_csv(each / "history.csv").drop("seconds") for each in (folder, whole)]
    assert_frame_equal(*tables, rel_tol=rtol, abs_tol=atol)
    metrics = [json.loads((each / "metrics.json").read_text()) for each in (folder, whole)]
    for split, values in metrics[1].items():
        assert metrics[0][split] == pytest.approx(values, rel=rtol, abs=atol)
    assert (folder / "config.yaml").read_text() == (whole / "config.yaml").read_text()
    manifest, noted = (RunFolder(each).read_manifest() for each in (folder, whole))
    assert manifest.get("attempts", 1) == attempts
    keys = ("started",) if same_start else ()
    for key in (*keys, "steps", "best_epoch", "status", "stop_reason", "overrides"):
        assert manifest[key] == noted[key], key


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_stack_ends_as_the_undisturbed_one(schedule: str, jobs: MakeJobs, tmp_path: Path) -> None:
    """Killed after any epoch; dropout, order, optimizer, schedule and callbacks go on."""
    made = jobs([*SHARED, *DROPS, *SCHEDULES[schedule]], OWN)
    train_stacked(made)
    assert RunFolder(made[2].folder).read_manifest()["stop_reason"].startswith("early")
    (tmp_path / "done").touch()
    for epoch in range(1, 6):
        rest = left(made, tmp_path / str(epoch))
        assert len(rest) == (4 if epoch < 4 else 3)
        train_stacked(rest)
        for job in rest:
            check_same_run(job.folder, made[job.number].folder)


def test_each_goes_on_from_its_own_epoch_and_takes_free_slots(
    jobs: MakeJobs, tmp_path: Path
) -> None:
    """Jobs that begin, and that go on from different epochs, two at a time."""
    made = jobs([*SHARED, *DROPS, *SCHEDULES["cosine"]], OWN)
    train_stacked(made)
    (tmp_path / "done").touch()
    epochs = {0: 4, 1: 0, 2: 1, 3: 5}
    mixed = [
        in_place(job, tmp_path / str(epochs[job.number]) / str(job.number))
        if epochs[job.number]
        else replace(job, folder=tmp_path / "fresh")
        for job in made
    ]
    # The first two have one schedule, and are at different places of it.
    (plan,) = make_plan([mixed[k] for k in (0, 2, 1, 3)], max_members=2).stacks
    train_plan(plan)
    for job, before in zip(mixed, made, strict=True):
        attempts = 2 if epochs[job.number] else 1
        if attempts == 2:
            check_same_run(job.folder, before.folder, attempts=attempts)
    fresh = weights_of(tmp_path / "fresh", "last.ckpt")
    torch.testing.assert_close(fresh, weights_of(made[1].folder, "last.ckpt"))
    assert RunFolder(mixed[1].folder).read_manifest()["stack"] == "4/0"


@pytest.mark.parametrize(
    "optimizer",
    [
        ["optimizer=sgd", "optimizer.momentum=0.9", "optimizer.nesterov=true"],
        ["optimizer=sgd"],
        ["optimizer=adam", "optimizer.amsgrad=true", "optimizer.eps=1e-3"],
        ["optimizer=rmsprop", "optimizer.momentum=0.5", "optimizer.centered=true"],
        ["optimizer=adagrad", "optimizer.lr_decay=0.1", "optimizer.eps=1e-3"],
        ["optimizer=adadelta", "optimizer.lr=1"],
    ],
)
@pytest.mark.parametrize("engine", ["stack", "alone"])
def test_every_optimizer_goes_on_from_either_engine(
    optimizer: list[str], engine: str, jobs: MakeJobs, tmp_path: Path
) -> None:
    """From the checkpoint of a stack or of a Trainer, as the run that was alone to its end."""
    # A bias before a batch normalization has gradients of rounding alone.
    shared = [*SHARED, *optimizer, "scheduler=cosine", "model.normalization=null"]
    made = jobs(shared, [["seed=1"], ["seed=2"]])
    train_one_by_one(made)
    if engine == "stack":
        train_stacked(made)
    alone = [tmp_path / "alone" / str(job.number) for job in made]
    interrupted = jobs([*shared, "trainer.max_epochs=5"], [["seed=1"], ["seed=2"]], "on")
    for job in interrupted:
        if engine == "stack":
            shutil.copytree(tmp_path / "2" / str(job.number), job.folder)
        else:
            stop_after(job, 2)
    (tmp_path / "done").touch()
    rest = [in_place(job, job.folder) for job in interrupted]
    train_stacked(rest)
    for job, whole in zip(rest, alone, strict=True):
        for name in ("best.ckpt", "last.ckpt"):
            found, expected = (weights_of(each, name) for each in (job.folder, whole))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def stop_after(job: Job, n_epochs: int) -> None:
    """Train a job alone, and leave what its folder holds after some epochs."""
    from multilayer.callbacks.checkpoint import Checkpoint
    from multilayer.training.epoch_callback import Record

    usual, taken = Checkpoint.on_epoch_end, job.folder.parent / f"taken {job.number}"

    def on_epoch_end(self: Checkpoint, record: Record) -> None:
        usual(self, record)
        if record.epoch[0] == n_epochs:
            shutil.copytree(job.folder, taken)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_end", on_epoch_end)
        train(job.config, job.folder, job.overrides, quiet=True)
    shutil.rmtree(job.folder)
    taken.rename(job.folder)


def test_one_that_cannot_go_on_is_told_alone(jobs: MakeJobs, tmp_path: Path) -> None:
    """A damaged checkpoint, another network, one that came to its end; nothing is written there."""
    made = jobs(SHARED, [["seed=1"], ["seed=2"], ["seed=3"], ["seed=4"]])
    train_stacked(made)
    (tmp_path / "done").touch()
    folders = {job.number: tmp_path / "2" / str(job.number) for job in made}
    damaged = folders[0] / "checkpoints" / "last.ckpt"
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    shutil.copy(folders[3] / "checkpoints" / "last.ckpt", folders[1] / "checkpoints")
    shutil.copytree(made[2].folder, folders[2], dirs_exist_ok=True)
    before = [(folders[k] / "manifest.json").read_bytes() for k in range(3)]
    (plan,) = make_plan([in_place(job, folders[job.number]) for job in made]).stacks
    ended = train_plan(plan)
    for k, message in enumerate(("damaged", "seed=2: it was 4", "came to its end")):
        assert isinstance(ended[k], UserError)
        assert message in str(ended[k])
        assert (folders[k] / "manifest.json").read_bytes() == before[k]
    check_same_run(folders[3], made[3].folder)


def test_crafted_states_are_refused(jobs: MakeJobs, tmp_path: Path) -> None:
    """Before anything is written or taken up."""
    (job,) = jobs([*SHARED, *DROPS], [["seed=1"]])
    train_stacked([job])
    (tmp_path / "done").touch()
    state = ("optimizer_states", 0)
    for where, value, message in [
        ((*state, "state", 0, "exp_avg"), torch.zeros(3), "exp_avg has the shape"),
        ((*state, "state", 0), {"step": torch.tensor(7.0)}, "exp_avg is missing"),
        ((*state, "state", 99), {"step": torch.tensor(7.0)}, "99 is of no weight"),
        ((*state, "state"), {}, "hold no exp_avg"),
        ((*state, "param_groups", 0, "lr"), "x", "lr is no float"),
        ((*state, "param_groups", 0, "params"), [0], "params"),
        (("callbacks", "BestWeights", "epoch"), "x", "epoch is no int"),
        (("lr_schedulers", 0, "step"), 1, "take the place of a function"),
        (("state_dict", "network.0.linear.weight"), torch.zeros(3), "has the shape"),
        (("multilayer", "data_fingerprint"), "x", "trained on other data"),
        (("unfinished_epoch",), {"losses": torch.ones(3)}, "no training that can go on"),
    ]:
        folder = tmp_path / "crafted"
        shutil.copytree(tmp_path / "2" / "0", folder)
        path = folder / "checkpoints" / "last.ckpt"
        content: Any = read_checkpoint(path)
        parent = content
        for key in where[:-1]:
            parent = parent[key]
        parent[where[-1]] = value
        torch.save(content, path)
        (plan,) = make_plan([in_place(job, folder)]).stacks
        (outcome,) = train_plan(plan)
        assert isinstance(outcome, UserError)
        assert message in str(outcome), where
        shutil.rmtree(folder)


def test_a_run_that_diverged_ends_so(jobs: MakeJobs, tmp_path: Path) -> None:
    """Killed when nothing but the end was left; early stopping or not."""
    shared = [*SHARED, "model.normalization=null", "optimizer=sgd"]
    own = [["optimizer.lr=1e25"], ["optimizer.lr=1e25", "callbacks=checkpoint"], ["seed=3"]]
    own[1] += ["callbacks.checkpoint.every_seconds=0"]
    made = jobs(shared, own)
    train_stacked(made)
    (tmp_path / "done").touch()
    rest = [in_place(job, tmp_path / "1" / str(job.number)) for job in made]
    results = train_stacked(rest)
    for job, result in zip(made, results, strict=True):
        noted = RunFolder(job.folder).read_manifest()
        for key in ("status", "stop_reason", "steps"):
            assert result.manifest[key] == noted[key]
    assert [each.manifest["status"] for each in results] == ["diverged", "diverged", "done"]


def test_a_single_run_of_the_stacks_engine_goes_on(jobs: MakeJobs, tmp_path: Path) -> None:
    """With its own engine."""
    (job,) = jobs([*SHARED, *DROPS, "engine=lockstep"], [["seed=1"]])
    train(job.config, job.folder, job.overrides, quiet=True)
    (tmp_path / "done").touch()
    on = in_place(job, tmp_path / "3" / "0")
    train(on.config, on.folder, on.overrides, quiet=True)
    check_same_run(on.folder, job.folder)


def test_who_resumes_another_run_trains_alone(jobs: MakeJobs, tmp_path: Path) -> None:
    """In a new folder, as before; one that goes on in its own is in the stack."""
    made = jobs(SHARED, [["seed=1"], ["seed=2"]])
    train_stacked(made)
    (tmp_path / "done").touch()
    other = replace(in_place(made[0], tmp_path / "1" / "0"), folder=tmp_path / "new")
    plan = make_plan([other, in_place(made[1], tmp_path / "1" / "1")])
    assert plan.sequential == [(other, "it goes on from a checkpoint (resume)")]
    assert [job.number for job in plan.stacks[0].jobs] == [1]


@pytest.mark.parametrize("n_calls", [1, 2, 4])
def test_a_stack_goes_on_within_an_epoch(
    n_calls: int, jobs: MakeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C between two calls; jobs that begin wait for a stack of their own."""
    monkeypatch.setattr("multilayer.stacking.chunks._MINIBATCHES_A_CALL", 3)
    shared = [*SHARED, *DROPS, "scheduler=cosine", "trainer.log_every_n_steps=2"]
    made = jobs(shared, OWN)
    train_stacked(made)
    (tmp_path / "done").touch()
    interrupted = [replace(job, folder=tmp_path / "on" / str(job.number)) for job in made]
    train, n = Stack._train, 0

    def interrupt(self: Stack, first: int, end: int) -> None:
        nonlocal n
        train(self, first, end)
        n += 1
        if n == n_calls:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Stack, "_train", interrupt)
    (plan,) = make_plan(interrupted[:3]).stacks
    with pytest.raises(KeyboardInterrupt):
        train_plan(plan)
    rest = [in_place(job, job.folder) for job in interrupted[:3]] + interrupted[3:]
    train_stacked(rest)
    for job, whole in zip(rest, made, strict=True):
        attempts = 2 if job.number < 3 else 1
        check_same_run(job.folder, whole.folder, attempts=attempts, same_start=False)
        found, expected = (steps_in(each.folder) for each in (job, whole))
        assert found == pytest.approx(expected, rel=1e-5)
    names = [RunFolder(job.folder).read_manifest()["stack"] for job in rest]
    assert names == ["on/0"] * 3 + ["on/3"]


def steps_in(folder: Path) -> dict[int, float]:
    """The losses of single steps in TensorBoard."""
    curves = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {event.step: event.value for event in curves.Scalars("train/loss_step")}


def test_outputs_that_are_lost_are_left_out(
    jobs: MakeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of minibatches before an error within a call; weights and all later epochs are the same."""
    (job,) = jobs([*SHARED, *DROPS, "scheduler=cosine", "trainer.log_every_n_steps=2"], [[]])
    train_stacked([job])
    (tmp_path / "done").touch()
    one, n = StepRunner.one, 0

    def fail(self: StepRunner, *arguments: Any) -> Any:
        nonlocal n
        n += 1
        if n == 12:
            raise KeyboardInterrupt
        return one(self, *arguments)

    folder = tmp_path / "on"
    (plan,) = make_plan([replace(job, folder=folder)]).stacks
    with monkeypatch.context() as patch:
        patch.setattr(StepRunner, "one", fail)
        with pytest.raises(KeyboardInterrupt):
            train_plan(plan)
    (rest,) = train_stacked([in_place(job, folder)])
    noted = RunFolder(job.folder).read_manifest()
    assert rest.manifest["steps"] == noted["steps"]
    tables = [pl.read_csv(each / "history.csv").drop("seconds") for each in (folder, job.folder)]
    lost = ["train/loss", "train/accuracy"]
    assert all(tables[0][name][1] != tables[1][name][1] for name in lost)
    columns = [name for name in tables[0].columns if not name.startswith("train/")]
    assert_frame_equal(*(table.select(columns) for table in tables), rel_tol=1e-5)
    assert_frame_equal(*(table[2:] for table in tables), rel_tol=1e-5)


@pytest.mark.parametrize("into", ["stack", "alone"])
def test_either_engine_goes_on_within_an_epoch_of_the_other(
    into: str, jobs: MakeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the outputs of the epoch's other rows."""
    monkeypatch.setattr("multilayer.stacking.chunks._MINIBATCHES_A_CALL", 3)
    shared = [*SHARED, "optimizer=sgd", "scheduler=cosine", "trainer.max_epochs=2"]
    (job,) = jobs(shared, [["seed=1"]])
    train(job.config, job.folder, job.overrides)
    folder, n = tmp_path / "on", 0
    steps = (Stack, "_train", 1) if into == "alone" else (MulticlassModule, "training_step", 4)

    def interrupt(self: Any, *arguments: Any) -> Any:
        nonlocal n
        result = step(self, *arguments)
        n += 1
        if n == steps[2]:
            signal.raise_signal(signal.SIGINT)
        return result

    step = getattr(*steps[:2])
    engines = ["lightning", "lockstep"]
    first, second = engines[::-1] if into == "alone" else engines
    with monkeypatch.context() as patch:
        patch.setattr(*steps[:2], interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(job.config | {"engine": first}, folder, job.overrides)
    train(in_place(job, folder).config | {"engine": second}, folder, job.overrides)
    tables = [pl.read_csv(each / "history.csv").drop("seconds") for each in (folder, job.folder)]
    assert_frame_equal(*tables, rel_tol=1e-4, check_column_order=False)
