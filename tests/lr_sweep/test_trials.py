"""The short trainings against the real ones: the same network, rows and steps."""

from dataclasses import replace
from pathlib import Path

import polars
import pytest
import torch
from numpy.testing import assert_allclose

from multilayer.cli.main import train
from multilayer.lr_sweep.sequential import run_sequential
from multilayer.lr_sweep.stacked import run_stacked
from multilayer.lr_sweep.trials import (
    TrialLosses,
    TrialSpec,
    derived_seeds,
    make_spec,
    make_trials,
    seeded_modules,
)
from multilayer.training.factory import make_data
from multilayer.training.module import SupervisedModule
from multilayer.training.run import prepare

from ..trained import config_of

RATES = [0.01, 0.1]
QUICK = ["data=iris", "model.d_hidden=[8]", "trainer.max_epochs=3", "logger=csv"]
CPU = torch.device("cpu")


def spec_of(folder: Path, *overrides: str) -> tuple[TrialSpec, SupervisedModule]:
    config = config_of(*QUICK, *overrides)
    data = make_data(config)
    data.setup()
    training = prepare(config, folder, overrides, data, quiet=True)
    spec = replace(make_spec(training.trainer, data), compile=False, num_threads=1)
    return spec, training.module


def stacked_losses(spec: TrialSpec, module: SupervisedModule, seeds: list[int]) -> TrialLosses:
    modules = seeded_modules(module, module_data(module), seeds, CPU)
    return run_stacked(make_trials(modules, seeds, RATES), spec, lambda n: None)


def module_data(module: SupervisedModule):  # type: ignore[no-untyped-def]
    data = make_data(module.metadata["config"])
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
    spec, module = spec_of(tmp_path / "prepared", *more)
    found = stacked_losses(spec, module, [0])
    config = config_of(*QUICK, *more, f"optimizer.lr={RATES[1]}")
    train(config, tmp_path / "run", quiet=True)
    logged = polars.read_csv(tmp_path / "run" / "csv" / "metrics.csv")
    expected = logged["validation/loss"].drop_nulls().to_numpy()
    assert_allclose(found.validation[1].numpy(), expected, rtol=2e-5)


def test_trials_one_after_the_other_have_the_losses_of_a_stack(tmp_path: Path) -> None:
    """Two rates and two seeds; without dropout both compute the same."""
    spec, module = spec_of(tmp_path, "optimizer=adam")
    seeds = derived_seeds(0, 2)
    modules = seeded_modules(module, module_data(module), seeds, CPU)
    alone = run_sequential(make_trials(modules, seeds, RATES), spec, lambda n: None)
    stacked = stacked_losses(spec, module, seeds)
    for mine, its in (
        (alone.train_before, stacked.train_before),
        (alone.train_after, stacked.train_after),
        (alone.validation, stacked.validation),
    ):
        assert_allclose(mine.numpy(), its.numpy(), rtol=2e-5)


def test_seeds_have_weights_of_their_own_and_the_first_those_of_the_run(tmp_path: Path) -> None:
    """Before the first step the first seed has the loss of the module itself."""
    spec, module = spec_of(tmp_path)
    before = stacked_losses(spec, module, derived_seeds(0, 3)).train_before.view(len(RATES), 3)
    own = module.evaluate([spec.train])["loss"]
    assert float(before[0, 0]) == pytest.approx(own, rel=1e-5)
    assert len(set(before[0].tolist())) == 3
    assert torch.equal(before[0], before[1])


def test_a_loss_that_is_not_finite_is_nan_and_the_others_go_on(tmp_path: Path) -> None:
    """Stacked and one after the other."""
    spec, module = spec_of(tmp_path, "data=diabetes", "optimizer=sgd", "loss=mse")
    data = module_data(module)
    modules = seeded_modules(module, data, [0], CPU)
    trials = make_trials(modules, [0], [0.01, 1e20])
    spec = replace(spec, n_steps=12)
    stacked, alone = (run(trials, spec, lambda n: None) for run in (run_stacked, run_sequential))
    for losses in (stacked, alone):
        assert losses.train_after.isnan().tolist() == [False, True]
    assert float(stacked.train_after[0]) == pytest.approx(float(alone.train_after[0]), rel=2e-5)


@pytest.mark.parametrize(
    ("fraction", "most", "n_steps"), [(0.2, 1000, 20), (1.0, 1000, 50), (1.0, 30, 30), (0.01, 1, 1)]
)
def test_a_trial_has_a_fraction_of_the_steps_of_the_whole_training(
    tmp_path: Path, fraction: float, most: int, n_steps: int
) -> None:
    """Of 50 steps: a fifth would be 10, but 20 is the least; `max_steps` is above all."""
    spec, _ = spec_of(tmp_path, "trainer.max_epochs=25")
    assert spec.n_steps == 50
    assert spec.shortened(fraction, most).n_steps == n_steps


def test_rows_of_a_short_training_end_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """Three steps of two minibatches an epoch: 104 rows, then 64."""
    spec, _ = spec_of(tmp_path)
    sizes = [tuple(rows.shape) for rows in replace(spec, n_steps=3).epochs([0, 7])]
    assert sizes == [(2, 104), (2, 64)]
