"""A member of a stack against the same job trained alone."""

from math import isnan
from pathlib import Path
from typing import Any

import polars as pl
import polars.testing
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from multilayer.cli.tasks import train
from multilayer.runs.folder import Result
from multilayer.stacking.runner import StepRunner
from multilayer.training.evaluate import evaluate

from .conftest import MakeJobs, train_one_by_one, train_stacked

QUICK = ["trainer.max_epochs=3", "data.batch_size=16", "trainer.log_every_n_steps=5"]
TWO = [["seed=3", "optimizer.lr=0.01"], ["seed=4", "optimizer.lr=0.03"]]
OWN = ["data=iris", "model=sequential", "~model._args_"]
OWN += ["+model.n_features=n_features", "+model.n_outputs=n_outputs"]

CASES = {
    **{f"optimizer={name}": ["data=iris"] for name in ("sgd", "adam", "adamw", "adagrad")},
    "optimizer=adadelta": ["data=wine"],
    "optimizer=rmsprop": ["data=iris", "optimizer.eps=0.01"],
    **{
        f"model.activation={name}": ["data=wine", "optimizer=sgd"]
        for name in (
            "sigmoid",
            "tanh",
            "leaky_relu",
            "elu",
            "gelu",
            "silu",
            "selu",
            "softplus",
            "mish",
            "identity",
        )
    },
    "loss=binary_cross_entropy": ["data=breast_cancer", "loss.class_weights=[1,2]"],
    "loss=cross_entropy": ["data=iris", "loss.class_weights=[1,2,3]", "loss.label_smoothing=0.1"],
    "loss=mse": ["data=diabetes"],
    "loss=l1": ["data=diabetes"],
    "loss=huber": ["data=diabetes"],
    "loss=quantile": ["data=diabetes"],
    "loss.levels=[0.9]": ["data=diabetes", "loss=quantile"],
    "model.normalization=batch": ["data=wine", "optimizer=sgd"],
    # Biases before a normalisation have gradients of rounding alone, which Adam would divide by
    # their own size.
    "optimizer.eps=1e-3": ["data=wine", "model.normalization=batch"],
    "model.normalization=layer": ["data=iris"],
    "model=perceptron": ["data=pass_class"],
    "model=sequential": ["data=iris"],
    "model=mlp_plr": ["data=iris", "model.d_embedding=4", "optimizer.eps=1e-3"],
    "model._target_=tests.lockstep.networks.Entangled": OWN,
    "model._target_=tests.lockstep.networks.Channels": OWN,
    "model._target_=tests.lockstep.networks.Bounded": OWN,
    "model._target_=tests.lockstep.networks.Hooked": OWN,
    "+optimizer.decoupled_weight_decay=true": [
        "data=iris",
        "optimizer=adam",
        "optimizer.weight_decay=1",
    ],
    "data.batch_size=full": ["data=iris"],
    "scheduler=cosine": ["data=iris"],
    "scheduler=step": ["data=iris", "scheduler.scheduler.step_size=1"],
    "scheduler=one_cycle": ["data=iris", "optimizer=sgd", "optimizer.momentum=0.5"],
    "scheduler=plateau": ["data=iris", "scheduler.scheduler.patience=0", "monitor=train/loss"],
    "trainer.gradient_clip_val=0.1": ["data=iris", "optimizer=sgd", "optimizer.momentum=0.9"],
    "trainer.limit_train_batches=3": ["data=iris"],
}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """All curves of a run, by tag, as steps and values."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(each.step, each.value) for each in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def check_curves(stacked: Path, alone: Path, tolerance: float = 1e-4) -> None:
    """The same tags, at the same steps, with the same losses and learning rates."""
    ours, theirs = scalars(stacked), scalars(alone)
    assert ours.keys() == theirs.keys()
    for tag, points in theirs.items():
        assert [step for step, _ in ours[tag]] == [step for step, _ in points], tag
        if tag.endswith(("/loss", "/loss_step")) or tag.startswith("lr-"):
            values = [value for _, value in ours[tag]]
            expected = [value for _, value in points]
            assert values == pytest.approx(expected, rel=tolerance, nan_ok=True), tag


def check_results(ours: Result, theirs: Result, tolerance: float = 1e-4) -> None:
    """The same end, and the same final metrics."""
    for key in ("status", "stop_reason", "best_epoch", "steps", "config_hash", "data_fingerprint"):
        assert ours.manifest[key] == theirs.manifest[key], key
    for split, metrics in theirs.metrics.items():
        assert ours.metrics[split].keys() == metrics.keys()
        for name, value in metrics.items():
            # A count of rows changes by a whole one, where a row lies on the edge.
            slack = 0.02 if name in ("accuracy", "f1", "calibration_error") else 1e-6
            found = ours.metrics[split][name]
            assert found == pytest.approx(value, rel=tolerance, abs=slack), (split, name)


def check_files(stacked: Path, alone: Path) -> None:
    """The same files, event files aside whose names hold the time."""
    names = [
        {str(path.relative_to(folder)) for path in folder.rglob("*") if "tfevents" not in path.name}
        for folder in (stacked, alone)
    ]
    assert names[0] == names[1]


@pytest.mark.parametrize("case", CASES)
def test_a_member_is_the_job_trained_alone(case: str, jobs: MakeJobs) -> None:
    """Curves, best epoch, stop reason, final metrics and files, with other seeds and rates."""
    stack = jobs([*CASES[case], *QUICK, case], TWO)
    stacked, alone = train_stacked(stack), train_one_by_one(stack)
    for job, ours, theirs in zip(stack, stacked, alone, strict=True):
        other = job.folder.parent.parent / "alone" / str(job.number)
        check_curves(job.folder, other)
        check_results(ours, theirs)
        check_files(job.folder, other)


def test_bfloat16_agrees_to_its_own_precision(jobs: MakeJobs) -> None:
    """Its 8 bits are rounded elsewhere where products are summed in another order."""
    stack = jobs([*QUICK, "data=wine", "trainer.precision=bf16-mixed"], [["seed=5"], ["seed=6"]])
    train_stacked(stack)
    train_one_by_one(stack)
    for job in stack:
        check_curves(job.folder, job.folder.parent.parent / "alone" / str(job.number), 2**-8)


def test_float64_agrees_to_more_digits_than_float32_has(jobs: MakeJobs) -> None:
    """The networks stack; features are widened where they are tried and where they are trained."""
    words = ["data=diabetes", "optimizer=sgd", "model.normalization=batch"]
    stack = jobs([*QUICK, *words, "trainer.precision=64-true"], [["seed=5"], ["seed=6"]])
    pairs = zip(train_stacked(stack), train_one_by_one(stack), strict=True)
    for ours, theirs in pairs:
        for split, metrics in theirs.metrics.items():
            assert ours.metrics[split]["loss"] == pytest.approx(metrics["loss"], rel=1e-11)


def test_a_callback_of_a_users_own_sees_and_logs_the_same(jobs: MakeJobs) -> None:
    """Data, weights, counts and metrics, at the same steps."""
    look = "+callbacks.look._target_=tests.lockstep.callbacks.Looks"
    stack = jobs([*QUICK, "data=iris", look, "trainer.limit_train_batches=4"], TWO)
    train_stacked(stack)
    train_one_by_one(stack)
    for job in stack:
        alone = job.folder.parent.parent / "alone" / str(job.number)
        ours, theirs = scalars(job.folder), scalars(alone)
        assert len([tag for tag in theirs if tag.startswith("look/")]) == 13
        assert ours.keys() == theirs.keys()
        for tag, points in theirs.items():
            assert [step for step, _ in ours[tag]] == [step for step, _ in points], tag
            if tag.startswith("look/"):
                values = [value for _, value in points]
                assert [value for _, value in ours[tag]] == pytest.approx(values, rel=1e-4), tag


def test_members_stop_early_as_they_would_alone(jobs: MakeJobs) -> None:
    """Each in its own epoch, and the others go on."""
    early_stopping = "callbacks.early_stopping"
    own = [[f"seed={s}", f"{early_stopping}.min_delta={0.3 / 2**s}"] for s in range(4)]
    shared = ["data=wine", "optimizer=sgd", "trainer.max_epochs=60", f"{early_stopping}.patience=2"]
    stack = jobs(shared, own)
    stacked, alone = train_stacked(stack), train_one_by_one(stack)
    assert len({result.manifest["steps"] for result in stacked}) > 2
    for ours, theirs in zip(stacked, alone, strict=True):
        assert ours.manifest["stop_reason"].startswith("early stopping")
        assert ours.manifest["stop_reason"] == theirs.manifest["stop_reason"]
        assert ours.manifest["best_epoch"] == theirs.manifest["best_epoch"]


def test_the_plain_cross_entropy_stands_next_to_the_loss(jobs: MakeJobs) -> None:
    """In a stack of both kinds, whichever comes first; also in the history, and of each split."""
    own = [[f"loss.label_smoothing={each}"] for each in (0, 0.1, 0, 0.2)]
    stack = jobs(["data=iris", *QUICK], own)
    stacked, alone = train_stacked(stack), train_one_by_one(stack)
    for job, ours, theirs in zip(stack, stacked, alone, strict=True):
        check_results(ours, theirs)
        folders = job.folder, job.folder.parent.parent / "alone" / str(job.number)
        check_curves(*folders)
        columns = [pl.read_csv(each / "history.csv").columns for each in folders]
        assert {*columns[0]} == {*columns[1]}
        is_smoothed = bool(job.number % 2)
        assert "validation/cross_entropy" in columns[0]
        for split, metrics in ours.metrics.items():
            is_equal = metrics["cross_entropy"] == pytest.approx(metrics["loss"], rel=1e-5)
            assert is_equal == (split == "test" or not is_smoothed)


def test_a_divergent_member_ends_as_it_would_alone(jobs: MakeJobs) -> None:
    """In the same epoch, for the same reason; and its weights are still finite."""
    stack = jobs(
        ["data=iris", "optimizer=sgd", "trainer.max_epochs=5"],
        [["optimizer.lr=0.01"], ["optimizer.lr=1e30"]],
    )
    stacked, alone = train_stacked(stack), train_one_by_one(stack)
    for ours, theirs in zip(stacked, alone, strict=True):
        for key in ("status", "stop_reason", "best_epoch"):
            assert ours.manifest[key] == theirs.manifest[key]
    assert stacked[1].manifest["status"] == "diverged"
    assert 0 < stacked[1].manifest["steps"] < alone[1].manifest["steps"]
    last = torch.load(stack[1].folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == stacked[1].manifest["steps"]
    assert all(value.isfinite().all() for value in last["state_dict"].values())


@pytest.mark.parametrize(
    "shared",
    [
        ["data=iris", "scheduler=cosine"],
        ["data=iris", "scheduler=plateau"],
        # Which torch's optimizers do not even decay: they have no gradient.
        [*OWN, "model._target_=tests.lockstep.networks.Spare", "optimizer.weight_decay=1"],
    ],
    ids=["by step", "by metric", "spare weights"],
)
def test_a_checkpoint_is_that_of_a_run_trained_alone(shared: list[str], jobs: MakeJobs) -> None:
    """All its parts, counters included, but for the last digits of numbers."""
    stack = jobs([*shared, *QUICK], TWO)
    train_stacked(stack)
    train_one_by_one(stack)
    for job in stack:
        alone = job.folder.parent.parent / "alone" / str(job.number)
        for name in ("best.ckpt", "last.ckpt"):
            ours, theirs = (
                torch.load(folder / "checkpoints" / name, weights_only=True)
                for folder in (job.folder, alone)
            )
            for each in (ours, theirs):  # a clock's, which no two runs share
                each.get("callbacks", {}).get("History", {"columns": {}})["columns"].pop(
                    "seconds", None
                )
            check_same(ours, theirs, name)


def test_a_member_goes_on_as_if_it_had_never_stopped(jobs: MakeJobs) -> None:
    """`resume` of a member, against one training of as many epochs."""
    shared = [
        "data=iris",
        "data.batch_size=16",
        "scheduler=step",
        "scheduler.scheduler.step_size=2",
    ]
    stack = jobs([*shared, "trainer.max_epochs=3"], TWO)
    train_stacked(stack)
    words = [*shared, *TWO[0], "trainer.max_epochs=5"]
    (whole,) = jobs(words, [[]], "whole")
    (resumed,) = jobs(words, [[f"resume={stack[0].folder}"]], "resumed")
    train(whole.config, whole.folder)
    train(resumed.config, resumed.folder)
    ours, theirs = (scalars(job.folder)["train/loss"] for job in (resumed, whole))
    assert [value for _, value in ours] == pytest.approx(
        [value for _, value in theirs[3:]], rel=1e-4
    )


@pytest.mark.parametrize("n_steps", [14, 17, 20])
def test_a_member_goes_on_from_the_middle_of_an_epoch(
    n_steps: int, jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted before, within and after the first call of its third epoch; nothing is lost."""
    shared = ["data=iris", "data.batch_size=16", "trainer.max_epochs=5", "scheduler=cosine"]
    stack = jobs(shared, TWO)
    step, taken = StepRunner.one, []

    def take_some(runner: StepRunner, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if len(taken) == n_steps:
            raise KeyboardInterrupt
        taken.append(arguments[0])
        return step(runner, *arguments)

    monkeypatch.setattr(StepRunner, "one", take_some)
    with pytest.raises(KeyboardInterrupt):
        train_stacked(stack)
    (whole,) = jobs([*shared, *TWO[1]], [[]], "whole")
    (resumed,) = jobs([*shared, *TWO[1]], [[f"resume={stack[1].folder}"]], "resumed")
    train(whole.config, whole.folder)
    train(resumed.config, resumed.folder)
    ours, theirs = (scalars(job.folder)["validation/loss"] for job in (resumed, whole))
    assert [step for step, _ in ours] == [step for step, _ in theirs[2:]]
    assert [value for _, value in ours] == pytest.approx(
        [value for _, value in theirs[2:]], rel=1e-4
    )


def check_same(ours: Any, theirs: Any, where: str) -> None:
    """The same structure and whole numbers; nearly the same fractions."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in theirs.items():
            if key not in ("config", "cpu"):  # random numbers are drawn in another order
                check_same(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs), where
        for index, value in enumerate(theirs):
            check_same(ours[index], value, f"{where}[{index}]")
    elif isinstance(theirs, torch.Tensor):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
        assert ours.untyped_storage().nbytes() == theirs.untyped_storage().nbytes(), where
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=1e-4), where
    else:
        assert ours == theirs, where


def test_checkpoints_give_the_metrics_that_were_written(jobs: MakeJobs) -> None:
    """`evaluate` loads an ordinary network."""
    stack = jobs(["data=wine", *QUICK, "model.dropout=0.1"], TWO)
    for job, result in zip(stack, train_stacked(stack), strict=True):
        for split in ("train", "validation", "test"):
            question = {"run": str(job.folder), "split": split, "data": {"path": None}}
            found = evaluate(question | {"trusted_packages": [], "device": "cpu"})
            assert found.metrics == pytest.approx(result.metrics[split], rel=1e-4)


def test_losses_with_dropout_agree_in_their_mean(jobs: MakeJobs) -> None:
    """Over seeds they differ by less than three standard errors, and dropout is at work.

    That no two masks are alike is tested in tests/lockstep/test_stack.py: a mean cannot show it.
    """
    shared = ["data=wine", "trainer.max_epochs=6", "data.batch_size=16", "optimizer.lr=0.01"]
    stack = jobs(
        [*shared, "loss=cross_entropy"],
        [[f"seed={seed}", f"model.dropout={rate}"] for rate in (0.7, 0.0) for seed in range(8)],
    )
    stacked = train_stacked(stack)
    alone = train_one_by_one(stack[:8])

    def last_training_losses(folders: list[Path]) -> torch.Tensor:
        return torch.tensor([scalars(folder)["train/loss"][-1][1] for folder in folders])

    ours = last_training_losses([job.folder for job in stack[:8]])
    theirs = last_training_losses(
        [job.folder.parent.parent / "alone" / job.folder.name for job in stack[:8]]
    )
    without = last_training_losses([job.folder for job in stack[8:]])
    error = ((ours.var() + theirs.var()) / 8) ** 0.5
    assert abs(ours.mean() - theirs.mean()) < 3 * error
    assert ours.mean() - without.mean() > 3 * error
    assert not any(isnan(result.metrics["test"]["loss"]) for result in [*stacked, *alone])


def test_another_logger_gets_the_same_rows(jobs: MakeJobs) -> None:
    """CSV files, whose rows have the epoch too."""
    stack = jobs(["data=iris", *QUICK, "logger=csv"], TWO)
    train_stacked(stack)
    train_one_by_one(stack)
    for job in stack:
        folders = (job.folder, job.folder.parent.parent / "alone" / str(job.number))
        ours, theirs = (pl.read_csv(next(folder.rglob("metrics.csv"))) for folder in folders)
        polars.testing.assert_frame_equal(ours, theirs, check_column_order=False, rel_tol=1e-3)


def test_a_single_run_through_the_engine_is_the_same_run(jobs: MakeJobs) -> None:
    """`engine=lockstep` with one member."""
    (job,) = jobs(["data=iris", *QUICK], [["seed=5"]])
    (alone,) = train_one_by_one([job])
    ours = train(job.config | {"engine": "lockstep"}, job.folder, job.overrides)
    ours.manifest["config_hash"] = alone.manifest["config_hash"]
    check_results(ours, alone)
    check_curves(job.folder, job.folder.parent.parent / "alone" / "0")
