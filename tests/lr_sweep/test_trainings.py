"""The short trainings against the real ones: the same network, rows and steps."""

from dataclasses import replace
from pathlib import Path

import polars
import pytest
import torch
from numpy.testing import assert_allclose

from multilayer.cli.compose import check_command_line
from multilayer.lockstep.train import train
from multilayer.lr_sweep.networks import derived_seeds, make_pupils, own_copy, seeded_modules
from multilayer.lr_sweep.run import train_one_by_one
from multilayer.lr_sweep.sequential import train_alone
from multilayer.lr_sweep.stacked import train_together
from multilayer.lr_sweep.trials import Lesson, Losses, make_lesson
from multilayer.training.factory import make_data
from multilayer.training.module import SupervisedModule
from multilayer.training.run import prepare

RATES = [0.01, 0.1]
QUICK = ["data=iris", "model.d_hidden=[8]", "trainer.max_epochs=3", "logger=csv"]
CPU = torch.device("cpu")


def lesson_of(folder: Path, *overrides: str) -> tuple[Lesson, SupervisedModule]:
    config = check_command_line("train", [*QUICK, *overrides])
    assert config is not None
    data = make_data(config)
    data.setup()
    training = prepare(config, folder, overrides, data, quiet=True)
    return make_lesson(training.trainer, data), training.module


def together(lesson: Lesson, module: SupervisedModule, seeds: list[int]) -> Losses:
    data = module_data(module)
    modules = seeded_modules(module, data, seeds, CPU)
    pupils = make_pupils(modules, seeds, RATES)
    return train_together(pupils, lesson, choice=False, threads=1, advance=lambda n: None)


def module_data(module: SupervisedModule):  # type: ignore[no-untyped-def]
    data = make_data(module.about["config"])
    data.setup()
    return data


@pytest.mark.parametrize(
    "more",
    [
        ["optimizer=sgd"],
        ["optimizer=adam", "trainer.gradient_clip_val=0.1"],
        ["optimizer=sgd", "trainer.limit_train_batches=1"],
        ["optimizer=sgd", "data.batch_size=full"],
        ["optimizer=sgd", "data=diabetes", "model.normalization=batch"],
        [
            "optimizer=sgd",
            "data.batch_size=13",
            "trainer.accumulate_grad_batches=2",
            "trainer.limit_train_batches=6",
        ],
    ],
    ids=["sgd", "clipped", "limited", "full", "batch_norm", "accumulated"],
)
def test_a_short_training_is_the_beginning_of_the_run(tmp_path: Path, more: list[str]) -> None:
    """Its validation losses after each epoch are those that the run logs with this rate."""
    lesson, module = lesson_of(tmp_path / "prepared", *more)
    found = together(lesson, module, [0])
    config = check_command_line("train", [*QUICK, *more, f"optimizer.lr={RATES[1]}"])
    assert config is not None
    train(config, tmp_path / "run", quiet=True)
    logged = polars.read_csv(tmp_path / "run" / "csv" / "metrics.csv")
    expected = logged["validation/loss"].drop_nulls().to_numpy()
    assert_allclose(found.validation[1].numpy(), expected, rtol=2e-5)


def test_one_by_one_is_the_same_as_together(tmp_path: Path) -> None:
    """Two rates and two seeds; without dropout both compute the same."""
    lesson, module = lesson_of(tmp_path, "optimizer=adam")
    seeds = derived_seeds(0, 2)
    modules = seeded_modules(module, module_data(module), seeds, CPU)
    alone = train_one_by_one(make_pupils(modules, seeds, RATES), lesson, lambda n: None)
    stacked = together(lesson, module, seeds)
    for mine, its in (
        (alone.train_before, stacked.train_before),
        (alone.train_after, stacked.train_after),
        (alone.validation, stacked.validation),
    ):
        assert_allclose(mine.numpy(), its.numpy(), rtol=2e-5)


def test_seeds_have_weights_of_their_own_and_the_first_those_of_the_run(tmp_path: Path) -> None:
    """Before the first step the first seed has the loss of the module itself."""
    lesson, module = lesson_of(tmp_path)
    before = together(lesson, module, derived_seeds(0, 3)).train_before.view(len(RATES), 3)
    own = module.evaluate([lesson.train])["loss"]
    assert float(before[0, 0]) == pytest.approx(own, rel=1e-5)
    assert len(set(before[0].tolist())) == 3
    assert torch.equal(before[0], before[1])


def test_a_loss_that_is_not_finite_is_nan_and_the_others_go_on(tmp_path: Path) -> None:
    """Together and one by one."""
    lesson, module = lesson_of(tmp_path, "data=diabetes", "optimizer=sgd", "loss=mse")
    data = module_data(module)
    modules = seeded_modules(module, data, [0], CPU)
    pupils = make_pupils(modules, [0], [0.01, 1e20])
    lesson = replace(lesson, n_steps=12)
    stacked = train_together(pupils, lesson, choice=False, threads=1, advance=lambda n: None)
    alone = [train_alone(own_copy(pupil), lesson) for pupil in pupils]
    assert stacked.train_after.isnan().tolist() == [False, True]
    assert [bool(own.train_after.isnan()) for own in alone] == [False, True]
    assert float(stacked.train_after[0]) == pytest.approx(float(alone[0].train_after), rel=2e-5)


@pytest.mark.parametrize(
    ("fraction", "most", "n_steps"), [(0.2, 1000, 20), (1.0, 1000, 50), (1.0, 30, 30), (0.01, 1, 1)]
)
def test_a_short_training_is_a_share_of_the_whole(
    tmp_path: Path, fraction: float, most: int, n_steps: int
) -> None:
    """Of 50 steps: a fifth would be 10, but 20 is the least; `max_steps` is above all."""
    lesson, _ = lesson_of(tmp_path, "trainer.max_epochs=25")
    assert lesson.n_steps == 50
    assert lesson.shortened(fraction, most).n_steps == n_steps


def test_rows_of_a_short_training_end_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """Three steps of two minibatches an epoch: 104 rows, then 64."""
    lesson, _ = lesson_of(tmp_path)
    sizes = [tuple(rows.shape) for rows in replace(lesson, n_steps=3).epochs([0, 7])]
    assert sizes == [(2, 104), (2, 64)]
