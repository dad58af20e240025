"""Which jobs stack, and which do not and why."""

import pytest
import torch

from multilayer.cli.check import check_command_line
from multilayer.composing.job_configs import Job
from multilayer.lockstep.plan import _members_that_fit, make_plan, why_not_stackable
from multilayer.runs.folder import Result
from multilayer.training.components import make_data

from .conftest import MakeJobs, train_plan


@pytest.mark.parametrize(
    "own",
    [
        ["seed=0", "seed=1"],
        ["optimizer.lr=0.1", "optimizer.lr=0.2"],
        ["optimizer.betas=[0.9,0.99]", "optimizer.betas=[0.5,0.9]"],
        ["optimizer.weight_decay=0", "optimizer.weight_decay=0.1"],
        ["model.dropout=0", "model.dropout=0.5"],
        ["loss.label_smoothing=0", "loss.label_smoothing=0.1"],
        ["callbacks.early_stopping.patience=1", "callbacks.early_stopping.patience=5"],
        ["callbacks=none", "callbacks=default"],
        ["scheduler=exponential scheduler.scheduler.gamma=0.9", "scheduler=step"],
        ["trainer.max_epochs=3", "trainer.max_epochs=4"],
        ["logger=none", "logger=csv"],
    ],
)
def test_jobs_that_differ_elementwise_stack(own: list[str], jobs: MakeJobs) -> None:
    """One stack of two."""
    plan = make_plan(jobs(["data=iris"], [words.split() for words in own]))
    assert [len(stack.jobs) for stack in plan.stacks] == [2]
    assert not plan.sequential
    assert not plan.invalid


@pytest.mark.parametrize(
    "own",
    [
        ["model.d_hidden=[8]", "model.d_hidden=[16]"],
        ["model.activation=relu", "model.activation=tanh"],
        ["optimizer=adam", "optimizer=sgd"],
        ["data.batch_size=16", "data.batch_size=32"],
        ["data=iris", "data=wine"],
        ["data.split_seed=0", "data.split_seed=1"],
        ["optimizer.amsgrad=true", "optimizer.amsgrad=false"],
        ["scheduler=cosine", "scheduler=step"],
        ["trainer.gradient_clip_val=1.0", "trainer.gradient_clip_val=null"],
    ],
)
def test_jobs_of_other_shapes_are_stacks_of_their_own(own: list[str], jobs: MakeJobs) -> None:
    """Two stacks, each of its own kind, and both train: equal jobs end the same."""
    quick = ["data=iris", "trainer.max_epochs=1", "callbacks=none", "logger=none"]
    plan = make_plan(jobs(quick, [words.split() for words in own * 2]))
    assert [[job.number for job in stack.jobs] for stack in plan.stacks] == [[0, 2], [1, 3]]
    for stack in plan.stacks:
        one, other = train_plan(stack)
        assert isinstance(one, Result)
        assert isinstance(other, Result)
        for split, metrics in one.metrics.items():  # up to rounding, which depends on their places
            assert metrics == pytest.approx(other.metrics[split], rel=1e-5)
        assert one.manifest["status"] == "done"
        assert one.manifest["members"] == 2
        assert one.manifest["steps"] > 0


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["trainer.max_steps=10"], "trainer.max_steps=10"),
        (["trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches=2"),
        (["trainer.precision=16-mixed"], "trainer.precision=16-mixed"),
        (["+trainer.val_check_interval=0.5"], "trainer.val_check_interval=0.5"),
        (["trainer.max_time=00:00:01:00"], "trainer.max_time=00:00:01:00"),
        (["debug=detect_anomaly"], "trainer.detect_anomaly=True"),
        (["optimizer._target_=torch.optim.NAdam"], "optimizer torch.optim.NAdam"),
        (
            ["+callbacks.timer._target_=pytorch_lightning.callbacks.Timer"],
            "callbacks.timer is a callback of Lightning's (pytorch_lightning.callbacks.Timer)",
        ),
        (
            [
                "+callbacks.own._target_=pytorch_lightning.callbacks.GradientAccumulationScheduler",
                "+callbacks.own.scheduling={0:4}",
            ],
            "callbacks.own is a callback of Lightning's",
        ),
        (
            ["callbacks.learning_rate.logging_interval=step"],
            "callbacks.learning_rate logs every step",
        ),
    ],
)
def test_what_cannot_stack_is_alone_and_says_why(overrides: list[str], reason: str) -> None:
    """The first thing that stands in the way."""
    config = check_command_line("train", ["data=iris", *overrides])
    assert config is not None
    found = why_not_stackable(config)
    assert found is not None
    assert found.startswith(reason)


def test_a_job_that_goes_on_is_alone() -> None:
    """A stack begins with its first epoch. Nothing is imported that a stranger's run names."""
    config = check_command_line("train", ["data=iris"])
    assert config is not None
    found = why_not_stackable(config | {"resume": "runs/x", "optimizer": {"_target_": "no.One"}})
    assert found == "it goes on from a checkpoint (resume)"


def test_a_stack_is_bounded(jobs: MakeJobs) -> None:
    """Ten jobs are one stack, of which four train at a time."""
    made = jobs(["data=iris"], [[f"seed={seed}"] for seed in range(10)])
    plan = make_plan(made, max_members=4)
    assert [(len(stack.jobs), stack.n_slots) for stack in plan.stacks] == [(10, 4)]
    assert plan.describe() == "lockstep: 1 stack of 10 runs, 4 at a time"


def test_the_bound_follows_the_memory(jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the memory holds half as many members."""
    (job,) = jobs(["data=iris"], [[]])
    plan = make_plan([job])
    (stack,) = plan.stacks
    found = []
    for free in (2**30, 2**29):
        monkeypatch.setattr("multilayer.lockstep.plan.free_memory", lambda _, free=free: free)
        found.append(_members_that_fit(job.config, stack.data))
    assert found[0] == pytest.approx(2 * found[1], abs=1)


def test_data_is_read_once(jobs: MakeJobs) -> None:
    """Stacks that differ in something else share it."""
    own = [f"model.d_hidden=[{width}] data.shuffle_seed={width}" for width in (4, 8, 16)]
    plan = make_plan(jobs(["data=iris"], [words.split() for words in own]))
    assert len({id(stack.data) for stack in plan.stacks}) == 1


@pytest.mark.parametrize(
    "own",
    [
        ["data.split_seed=0", "data.split_seed=1"],
        ["data.folds=4 data.fold=0", "data.folds=4 data.fold=1"],
        ["data.max_train_rows=20", "data.max_train_rows=40"],
        ["data.validation_fraction=0.1", "data.validation_fraction=0.2"],
    ],
)
def test_each_trains_on_its_own_rows(own: list[str], jobs: MakeJobs) -> None:
    """Data is shared by jobs of one split alone: the rows are those of the job by itself."""
    made = jobs(["data=iris"], [words.split() for words in own])
    plan = make_plan(made)
    assert [len(stack.jobs) for stack in plan.stacks] == [1, 1]
    rows = []
    for job, stack in zip(made, plan.stacks, strict=True):
        data = make_data(job.config)
        data.setup()
        for split, expected in data.rows.items():
            assert torch.equal(stack.data.rows[split], expected), split
        rows.append(data.rows["train"].tolist())
    assert rows[0] != rows[1]


@pytest.mark.parametrize(
    "own",
    [
        ["loss.class_weights=[1,2,3]", "loss.class_weights=[3,2,1]"],
        ["loss.class_weights=null", "loss.class_weights=balanced"],
        ["+optimizer.maximize=true", "+optimizer.maximize=false"],
        ["optimizer=sgd optimizer.nesterov=true optimizer.momentum=0.9", "optimizer=sgd"],
        ["trainer.precision=64-true", "trainer.precision=32-true"],
        ["trainer.limit_train_batches=2", "trainer.limit_train_batches=3"],
        ["trainer.log_every_n_steps=2", "trainer.log_every_n_steps=3"],
        ["model.normalization=batch", "model.normalization=null"],
        ["loss=cross_entropy", "loss=auto"],
    ],
)
def test_what_shapes_a_step_is_the_same_in_a_stack(own: list[str], jobs: MakeJobs) -> None:
    """Each makes another stack."""
    quick = ["data=iris", "trainer.max_epochs=1", "logger=none", "callbacks=none"]
    quick += [] if own[0].startswith("loss=") else ["loss=cross_entropy"]
    made = jobs(quick, [words.split() for words in own])
    plan = make_plan(made)
    assert [len(stack.jobs) for stack in plan.stacks] == [1, 1]


def test_a_broken_job_breaks_no_other(jobs: MakeJobs) -> None:
    """Data that cannot be read is the trouble of the jobs that want it."""
    broken = ["data=table", "data.path=nowhere.csv", "data.target=y"]
    plan = make_plan([*jobs([], [["data=iris"], broken])])
    assert [len(stack.jobs) for stack in plan.stacks] == [1]
    ((job, error),) = plan.invalid
    assert isinstance(job, Job)
    assert "nowhere.csv" in str(error)
