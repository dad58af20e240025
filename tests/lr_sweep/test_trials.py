"""The short trainings against the real ones: the same network, rows and steps."""

from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import polars
import pytest
import torch
from numpy.testing import assert_allclose

from multilayer.cli.tasks import train
from multilayer.data import as_datamodule
from multilayer.lr_sweep.run import _run_sequential, _run_stacked, run_ramp
from multilayer.lr_sweep.trials import Trial, TrialLosses, TrialSpec, make_trials
from multilayer.training.components import make_data
from multilayer.training.lightning_record import LightningRecord
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
    training.trainer.datamodule = as_datamodule(data)  # type: ignore[attr-defined]
    record = LightningRecord(training.trainer, training.module)
    spec = TrialSpec.of(record, compile=False, num_threads=1)
    return spec, training.module


def trials_of(module: SupervisedModule, n_seeds: int, *rates: float) -> list[Trial]:
    return make_trials(module, module_data(module), rates or RATES, n_seeds, CPU)


def stacked_losses(spec: TrialSpec, module: SupervisedModule, n_seeds: int) -> list[TrialLosses]:
    return list(_run_stacked(trials_of(module, n_seeds), spec))


def module_data(module: SupervisedModule):  # type: ignore[no-untyped-def]
    data = make_data(module.metadata["config"])
    data.setup()
    return data


@pytest.mark.parametrize(
    "more",
    [
        ["optimizer=sgd"],
        ["optimizer=adam", "trainer.gradient_clip_val=0.1"],
        ["optimizer=sgd", "trainer.gradient_clip_val=0"],
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
    ids=["sgd", "clipped", "clipped_to_nothing", "limited", "full", "batch_norm", "accumulated"],
)
def test_a_short_training_is_the_beginning_of_the_run(tmp_path: Path, more: list[str]) -> None:
    """Its validation losses after each epoch are those that the run logs with this rate."""
    spec, module = spec_of(tmp_path / "prepared", *more)
    found = stacked_losses(spec, module, 1)
    config = config_of(*QUICK, *more, "scheduler=constant", f"optimizer.lr={RATES[1]}")
    train(config, tmp_path / "run", quiet=True)
    logged = polars.read_csv(tmp_path / "run" / "csv" / "metrics.csv")
    expected = logged["validation/loss"].drop_nulls().to_numpy()
    assert_allclose(found[1].validation, expected, rtol=2e-5)


def test_trials_one_after_the_other_have_the_losses_of_a_stack(tmp_path: Path) -> None:
    """Two rates and two seeds; without dropout both compute the same."""
    spec, module = spec_of(tmp_path, "optimizer=adam")
    alone = list(_run_sequential(trials_of(module, 2), spec))
    stacked = stacked_losses(spec, module, 2)
    assert len(alone) == len(stacked) == 4
    for mine, its in zip(alone, stacked, strict=True):
        for own, other in zip(mine, its, strict=True):
            assert_allclose(own, other, rtol=2e-5)


def test_parameter_groups_keep_their_own_rates(tmp_path: Path) -> None:
    """An optimizer whose last layer learns at a tenth of the rate; a range test moves all."""

    class Noted(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            steps.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    def make(parameters: Any, lr: float) -> Noted:
        first, *others = parameters
        return Noted([{"params": [first]}, {"params": others, "lr": 0.1 * lr}], lr=lr)

    steps: list[list[float]] = []
    spec, module = spec_of(tmp_path)
    spec = replace(spec, n_steps=2, make_optimizer=make)
    (trial,) = trials_of(module, 1, 0.5)
    list(_run_sequential([trial], spec))
    assert steps == [[0.5, 0.05]] * 2
    steps.clear()
    run_ramp(trial, spec, [0.1, 0.2])
    assert steps == [[0.1, 0.1], [0.2, 0.2]]


def test_seeds_have_weights_of_their_own_and_the_first_those_of_the_run(tmp_path: Path) -> None:
    """Before the first step the first seed has the loss of the module itself."""
    spec, module = spec_of(tmp_path)
    before = [each.train_before for each in stacked_losses(spec, module, 3)]
    own = module.evaluate([spec.train])["loss"]
    assert before[0] == pytest.approx(own, rel=1e-5)
    assert len(set(before[:3])) == 3
    assert before[:3] == before[3:]


def test_seeds_have_masks_of_dropout_of_their_own(tmp_path: Path) -> None:
    """With the same weights, and one row all the time, seeds differ in their masks alone."""
    spec, module = spec_of(tmp_path, "model.dropout=0.5")
    spec = replace(spec, rows=torch.zeros_like(spec.rows))
    trials = [Trial(module, 0.1, seed) for seed in (1, 2, 1)]
    first, second, again = (each.validation for each in _run_stacked(trials, spec))
    assert first == again
    assert first != pytest.approx(second, rel=1e-3)


def test_a_loss_that_is_not_finite_is_nan_and_the_others_go_on(tmp_path: Path) -> None:
    """Stacked and one after the other."""
    spec, module = spec_of(tmp_path, "data=diabetes", "optimizer=sgd", "loss=mse")
    spec, trials = replace(spec, n_steps=12), trials_of(module, 1, 0.01, 1e20)
    stacked, alone = (list(run(trials, spec)) for run in (_run_stacked, _run_sequential))
    for losses in (stacked, alone):
        assert [isnan(each.train_after) for each in losses] == [False, True]
    assert stacked[0].train_after == pytest.approx(alone[0].train_after, rel=2e-5)


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
