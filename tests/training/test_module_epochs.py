"""What is logged of an epoch, of one process or several."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed

from multilayer.core.errors import UserError
from multilayer.training.fit_state import is_fitting, log_in_fit, monitored_value
from multilayer.training.module import _LightningOutputs

from .test_epoch_outputs import SIZES, check, minibatches


def test_the_epoch_of_all_processes_is_that_of_one_where_there_is_one() -> None:
    """By torch's own gathering, in a group of one process."""
    epoch = _LightningOutputs()
    for parts in minibatches():
        epoch.add(*parts)
    assert epoch.of_all_processes() is epoch
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        together = epoch.of_all_processes()
    finally:
        distributed.destroy_process_group()
    assert sum(together.weights) == sum(SIZES)
    check(together)


class Logger:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[tuple[dict[str, float], int]] = []
        self.n_saved = 0

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.lines.append((metrics, step))

    def save(self) -> None:
        self.n_saved += 1


def trainer_at(epoch: int, step: int, *, sanity_checking: bool = False, fn: str = "fit") -> Any:
    """As much of a trainer as is looked at."""
    return SimpleNamespace(
        sanity_checking=sanity_checking,
        state=SimpleNamespace(fn=fn),
        callback_metrics={},
        logged_metrics={},
        loggers=[Logger(), Logger()],
        current_epoch=epoch,
        global_step=step,
    )


def test_every_logger_has_the_values_at_the_step_that_was_taken_last() -> None:
    """Steps are counted from 0, as Lightning does; callbacks find the tensors."""
    trainer = trainer_at(epoch=3, step=40)
    values = {"train/loss": torch.tensor(0.5), "validation/loss": torch.tensor(0.25)}
    log_in_fit(trainer, values)
    line = {"train/loss": 0.5, "validation/loss": 0.25, "epoch": 3}
    for logger in trainer.loggers:
        assert logger.lines == [(line, 39)]
        assert logger.n_saved == 1
    assert trainer.callback_metrics == trainer.logged_metrics == values


def test_a_metric_that_is_undefined_is_not_drawn_and_a_loss_that_is_nan_is() -> None:
    """The first is no point of a curve; the second is what happened."""
    trainer = trainer_at(epoch=0, step=1)
    nan = torch.tensor(torch.nan)
    log_in_fit(trainer, {"validation/auroc": nan, "validation/loss": nan})
    ((line, _),) = trainer.loggers[0].lines
    assert set(line) == {"validation/loss", "epoch"}
    assert set(trainer.callback_metrics) == {"validation/auroc", "validation/loss"}


@pytest.mark.parametrize("values", [{}, {"validation/loss": torch.tensor(1.0)}])
def test_nothing_is_logged_of_a_check_or_of_no_values(values: dict[str, torch.Tensor]) -> None:
    """Neither before the training nor where there was no minibatch."""
    trainer = trainer_at(epoch=0, step=0, sanity_checking=bool(values))
    log_in_fit(trainer, values)
    assert not trainer.loggers[0].lines
    assert not trainer.callback_metrics


@pytest.mark.parametrize(
    ("fn", "sanity_checking", "expected"),
    [("fit", False, True), ("fit", True, False), ("validate", False, False)],
)
def test_a_validation_belongs_to_a_fit_but_for_the_check_before_it(
    fn: str, sanity_checking: bool, expected: bool
) -> None:
    """So that only epochs count."""
    assert is_fitting(trainer_at(0, 0, sanity_checking=sanity_checking, fn=fn)) is expected


def test_a_metric_that_is_monitored_is_a_number_or_named() -> None:
    """With the names of those that are logged."""
    trainer = trainer_at(0, 0)
    trainer.callback_metrics = {"b": torch.tensor(2.0), "a": torch.tensor(1.0)}
    assert monitored_value(trainer, "a") == 1.0
    with pytest.raises(UserError, match="no metric 'c' to monitor; logged are a, b"):
        monitored_value(trainer, "c")
