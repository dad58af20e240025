"""How many minibatches and steps a training has, against the training itself."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from multilayer.core.errors import UserError
from multilayer.training.steps import limited_batches, planned_steps


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
    """Lightning's own training with this number of minibatches an epoch."""
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
