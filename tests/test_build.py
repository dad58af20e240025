"""What is counted and checked before a training, against the training itself."""

from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from multilayer import BuiltinData
from multilayer.build import (
    check_batch_normalization,
    limited_batches,
    make_loss,
    make_network,
    planned_steps,
    with_balanced_weights,
)
from multilayer.data import Minibatches
from multilayer.errors import UserError


class Counts(pl.LightningModule):
    """Has one weight, and counts the minibatches that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.n_batches = 0

    def training_step(self, batch: Any, index: int) -> Tensor:
        self.n_batches += 1
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fitted(n_batches: int, **arguments: Any) -> tuple[pl.Trainer, Counts]:
    """Lightning's own training with so many minibatches an epoch."""
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )
    module = Counts()
    trainer.fit(module, range(n_batches))  # the minibatches do not matter
    return trainer, module


@pytest.mark.parametrize("n_batches", [7, 10])
@pytest.mark.parametrize("limit", [1.0, 1, 0.5, 0.29, 3, 8])
def test_limited_minibatches_are_those_that_lightning_gives(
    n_batches: int, limit: float | int
) -> None:
    """A whole number is that many minibatches, 1 too; a fraction is rounded down."""
    _, module = fitted(n_batches, max_epochs=1, limit_train_batches=limit)
    assert limited_batches({"limit_train_batches": limit}, n_batches) == module.n_batches


@pytest.mark.parametrize("limit", [0, 0.0, 0.1])
def test_a_limit_that_leaves_no_minibatch_is_refused(limit: float | int) -> None:
    """Nothing would be trained."""
    with pytest.raises(UserError, match=f"limit_train_batches={limit}: none of 9 minibatches"):
        limited_batches({"limit_train_batches": limit}, 9)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_epochs": 3},
        {"max_epochs": 3, "accumulate_grad_batches": 2},
        {"max_epochs": 3, "accumulate_grad_batches": 7},
        {"max_epochs": 3, "accumulate_grad_batches": 50},
        {"max_epochs": 2, "accumulate_grad_batches": 2, "limit_train_batches": 3},
        {"max_epochs": 3, "max_steps": 5},
        {"max_epochs": 1, "max_steps": 50},
        {"max_epochs": -1, "max_steps": 9},
        {"max_epochs": None, "max_steps": 9},
    ],
)
def test_planned_steps_are_those_that_lightning_takes(changes: dict[str, Any]) -> None:
    """So that a schedule over `n_steps` ends with the training, 7 minibatches an epoch."""
    arguments = {"max_steps": -1, "accumulate_grad_batches": 1, "limit_train_batches": 1.0}
    trainer, _ = fitted(7, **(arguments | changes))
    assert planned_steps(arguments | changes, 7) == trainer.global_step


@pytest.mark.parametrize("max_epochs", [-1, None])
def test_a_training_without_an_end_has_no_number_of_steps(max_epochs: int | None) -> None:
    """It says which two keys give it one."""
    trainer = {"max_epochs": max_epochs, "max_steps": -1, "accumulate_grad_batches": 1}
    with pytest.raises(UserError, match=r"max_epochs=-1: give trainer\.max_steps"):
        planned_steps(trainer | {"limit_train_batches": 1.0}, 7)


def test_no_epochs_are_planned_as_one_step() -> None:
    """A schedule needs at least one to be made."""
    trainer = {"max_epochs": 0, "max_steps": -1, "accumulate_grad_batches": 1}
    assert planned_steps(trainer | {"limit_train_batches": 1.0}, 7) == 1


def can_train(network: nn.Module, minibatches: Minibatches) -> bool:
    """Whether torch takes every minibatch of an epoch."""
    try:
        for features, _ in minibatches:
            network.train()(features)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 5, 9, 10, 20])
@pytest.mark.parametrize("network", [nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), nn.ReLU()])
def test_minibatches_that_batch_normalization_would_refuse_are_refused_before(
    network: nn.Module, batch_size: int
) -> None:
    """Torch refuses a minibatch of one row, which comes at the end of an epoch for some sizes."""
    minibatches = Minibatches(torch.randn(10, 3), torch.zeros(10), batch_size=batch_size)
    if can_train(network, minibatches):
        check_batch_normalization(network, minibatches)
    else:
        with pytest.raises(UserError, match=f"batch_size={batch_size}: of 10 rows"):
            check_batch_normalization(network, minibatches)


def test_all_features_are_numbers_unless_it_is_said_how_many() -> None:
    """For a network that embeds its numbers, and has categories after them."""
    node = {
        "_target_": "multilayer.embeddings.PLRMLP",
        "n_features": "n_features",
        "n_outputs": "n_outputs",
        "n_numbers": "n_numbers",
    }
    whole: Any = make_network(node, n_features=5, n_outputs=2)
    some: Any = make_network(node, n_features=5, n_outputs=2, n_numbers=3)
    assert [network[0].n_numbers for network in (whole, some)] == [5, 3]


@pytest.mark.parametrize("name", ["iris", "breast_cancer"])
def test_balanced_weights_count_the_training_rows_alone(name: str) -> None:
    """They are scikit-learn's n / (n_classes * count), of the training rows."""
    data = BuiltinData(name=name, train_rows=90)
    data.setup()
    target = data.targets[data.rows["train"]].numpy()
    expected = compute_class_weight("balanced", classes=np.unique(target), y=target)
    loss = {"_target_": "multilayer.losses.AutoLoss", "class_weights": "balanced"}
    config = with_balanced_weights({"loss": loss, "other": 1}, data)
    assert config["loss"]["class_weights"] == pytest.approx(expected.tolist())
    assert config["other"] == 1
    task = data.columns.task
    assert make_loss(config, task, len(expected)).weight.tolist() == pytest.approx(expected)


def test_weights_that_are_given_stay_and_regression_has_none() -> None:
    """Only the word `balanced` is replaced."""
    data = BuiltinData(name="diabetes")
    data.setup()
    given = {"loss": {"class_weights": [1.0, 2.0]}}
    assert with_balanced_weights(given, data) is given
    balanced = {"loss": {"class_weights": "balanced"}}
    assert with_balanced_weights(balanced, data)["loss"]["class_weights"] is None
