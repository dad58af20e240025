"""Task models: what the LightningModules do, with torch alone."""

import random
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from multilayer import MLP
from multilayer.core.errors import UserError
from multilayer.data import Dataset, Minibatches
from multilayer.training.components import check_components, make_task_model
from multilayer.training.epoch_outputs import EpochOutputs
from multilayer.training.module import SupervisedModule
from multilayer.training.run import _make_module
from multilayer.training.runtime import seed_everything
from multilayer.training.task_model import TaskModel

from ..trained import config_of

SETS = {
    "binary": ["data=breast_cancer"],
    "multiclass": ["data=iris", "loss=cross_entropy", "loss.class_weights=balanced"],
    "regression": ["data=diabetes", "loss=huber", "trainer.precision=64-true"],
}


def draws() -> list[Any]:
    """The next random numbers of each kind."""
    return [random.random(), np.random.rand(), torch.rand(1).item()]


def pair(*overrides: str) -> tuple[TaskModel, SupervisedModule, Dataset, dict[str, Any]]:
    """Both forms of one config, whose later random numbers are alike too."""
    config = config_of("model.d_hidden=[6]", "model.dropout=0.5", "seed=3", *overrides)
    data = check_components(config)
    data.setup()
    task_model = make_task_model(config, data)
    drawn = draws()
    module = _make_module(config, data, n_steps=10)
    assert drawn == draws()
    return task_model, module, data, config


@pytest.mark.parametrize("task", SETS)
def test_a_task_model_is_the_module_without_lightning(task: str) -> None:
    """To the last bit: weights, predictions, metrics and what a checkpoint holds."""
    task_model, module, data, config = pair(*SETS[task])
    assert not isinstance(task_model, pl.LightningModule)
    assert isinstance(module, TaskModel)
    assert (task_model.task, task_model.dtype, task_model.device) == (
        task,
        module.dtype,
        module.device,
    )
    states = task_model.state_dict(), module.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert type(task_model.loss) is type(module.loss)
    rows = data.minibatches("validation")
    assert task_model.evaluate(rows) == module.evaluate(rows)
    task_model.eval(), module.eval()
    columns = data.load().features
    assert torch.equal(task_model(columns), module(columns))
    checkpoint: dict[str, Any] = {"state_dict": {}}
    module.on_save_checkpoint(checkpoint)
    del checkpoint["state_dict"]
    assert checkpoint == task_model.checkpoint_entries()
    assert task_model.metadata["config"]["optimizer"] == config["optimizer"]
    assert checkpoint["task"] == task


def test_the_seed_decides_all_random_numbers_as_lightnings_does() -> None:
    """Torch's, numpy's and Python's."""
    seed_everything(7)
    ours = draws()
    pl.seed_everything(7, verbose=False)
    assert ours == draws()
    seed_everything(8)
    assert ours != draws()


def test_the_device_and_dtype_are_those_of_the_network() -> None:
    """Or the usual ones where it has no weights."""
    task_model = TaskModel(MLP(3, 1), "binary")
    assert (task_model.device, task_model.dtype) == (torch.device("cpu"), torch.float32)
    assert task_model.double().dtype == torch.float64
    assert task_model.to("meta").device == torch.device("meta")
    empty = TaskModel(nn.Identity(), "binary", loss=nn.functional.mse_loss)
    assert (empty.device, empty.dtype) == (torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    ("task", "output"),
    [("binary", torch.randn(5)), ("multiclass", torch.randn(5, 3)), ("regression", torch.randn(5))],
)
def test_predictions_are_for_the_task(task: Any, output: Tensor) -> None:
    """Probabilities of class 1, probabilities of each class, and values."""
    expected = {"binary": output.sigmoid(), "multiclass": output.softmax(-1), "regression": output}
    task_model = TaskModel(MLP(2, 1), task)
    torch.testing.assert_close(task_model.predictions(output), expected[task])
    target = torch.arange(5.0)
    assert torch.equal(task_model.targets(target), target)


def test_raw_and_preprocessed_minibatches_give_the_same() -> None:
    """Targets in their own units are scaled as the data's are; the preprocessing is taken over."""
    config = config_of("data=diabetes", "data.batch_size=20", "model.d_hidden=[4]")
    data = check_components(config)
    data.setup()
    task_model = TaskModel(MLP(10, 1), "regression")
    assert isinstance(task_model.preprocessing, nn.Identity)
    found = task_model.evaluate(data.minibatches("test"))
    table, rows = data.load(), data.rows["test"]
    raw = task_model.evaluate([(table.features[rows], table.target[rows])])
    assert raw == pytest.approx(found, rel=1e-4)
    target = table.target[rows]
    assert found["rmse"] == pytest.approx(
        (task_model.eval()(table.features[rows]) - target).square().mean().sqrt().item(), rel=1e-4
    )


def test_evaluating_leaves_the_mode_and_another_preprocessing_is_refused() -> None:
    """A network in training has dropout, which evaluation has not."""
    task_model, _, data, _ = pair("data=iris")
    assert task_model.training
    rows = data.minibatches("test")
    assert task_model.evaluate(rows) == task_model.evaluate(rows)
    assert task_model.training
    other = check_components(config_of("data=iris", "data.numeric_scaling=quantile"))
    other.setup()
    with pytest.raises(UserError, match="preprocessing: the module has another one than the data"):
        task_model.evaluate(other.minibatches("test"))


def test_weights_bring_their_preprocessing() -> None:
    """Into a task model without one; one that has learnt from raw columns takes none."""
    task_model, _, data, _ = pair("data=iris", "model.dropout=0")
    fresh = TaskModel(MLP(4, 3, d_hidden=[6]), "multiclass")
    fresh.load_state_dict(task_model.state_dict())
    columns = data.load().features
    assert torch.equal(fresh.eval()(columns), task_model.eval()(columns))
    raw = TaskModel(MLP(4, 3, d_hidden=[6]), "multiclass")
    raw.load_state_dict(TaskModel(MLP(4, 3, d_hidden=[6]), "multiclass").state_dict())
    with pytest.raises(UserError, match="learnt from raw columns"):
        raw.evaluate(data.minibatches("test"))


def test_a_step_keeps_outputs_for_the_metrics() -> None:
    """The loss has a gradient, and what is kept has none."""
    task_model = TaskModel(MLP(2, 1, d_hidden=[3]), "binary")
    epoch = EpochOutputs()
    batches = Minibatches(torch.randn(7, 2), torch.tensor([0, 1] * 3 + [0]), batch_size=4)
    losses = [task_model.step(batch, epoch) for batch in batches]
    assert all(loss.requires_grad for loss in losses)
    assert [len(each) for each in epoch.outputs] == [4, 3]
    assert not any(each.requires_grad for each in (*epoch.outputs, *epoch.losses))
    found = task_model.summarize(epoch)["loss"].item()
    assert found == pytest.approx((4 * losses[0].item() + 3 * losses[1].item()) / 7)
