"""The outputs that are kept of an epoch, and what is logged of them."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, distributed

from multilayer.core.errors import UserError
from multilayer.training.epoch import _monitored_value, is_fitting, log_in_fit
from multilayer.training.epoch_outputs import EpochOutputs

SIZES = [3, 5, 2, 7, 4, 1]


def minibatches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """A loss, outputs `(B, 2)` and targets `(B,)` that are the numbers of the rows."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(sum(SIZES)).split(SIZES)
    for own in rows:
        outputs = torch.stack([own, -own], dim=1).float()
        yield torch.rand((), generator=generator), outputs, own


def filled(kept_bytes: int | None = None) -> EpochOutputs:
    """All of them."""
    epoch = EpochOutputs(kept_bytes)
    for parts in minibatches():
        epoch.add(*parts)
    return epoch


def check(epoch: EpochOutputs) -> None:
    """Every row is there, in order, and the loss is the mean over the rows."""
    rows = torch.arange(sum(SIZES))
    assert torch.equal(torch.cat(epoch.targets), rows)
    assert torch.equal(torch.cat(epoch.outputs), torch.stack([rows, -rows], dim=1).float())
    losses = torch.stack([loss for loss, _, _ in minibatches()])
    expected = (losses * torch.tensor(SIZES)).sum() / sum(SIZES)
    torch.testing.assert_close(epoch.mean_loss(), expected)


@pytest.mark.parametrize(
    ("name", "value", "n_packs"),
    [
        ("_MINIBATCHES_A_PACK", 3, 2),
        ("_BYTES_A_PACK", 16 * 9, 2),  # a row has 8 bytes of output and 8 of target: 10 and 11 rows
        ("_BYTES_A_PACK", 16 * 10, 1),  # more than that: 17 rows
    ],
)
def test_many_or_large_minibatches_are_put_together(
    monkeypatch: pytest.MonkeyPatch, name: str, value: int, n_packs: int
) -> None:
    """None is lost, and the mean of means has the weights of all rows."""
    monkeypatch.setattr(f"multilayer.training.epoch_outputs.{name}", value)
    epoch = filled()
    assert epoch.n_packs == n_packs
    check(epoch)


def test_small_epochs_stay_as_they_came() -> None:
    """Nothing is copied."""
    epoch = filled()
    assert [len(target) for target in epoch.targets] == SIZES
    assert epoch.n_packs == 0
    check(epoch)


def test_an_epoch_carries_no_gradients() -> None:
    """Or the graphs of all its minibatches would stay in memory."""
    weight = torch.ones(2, requires_grad=True)
    epoch = EpochOutputs()
    epoch.add((weight * 2).sum(), weight[None] * 3, torch.zeros(1))
    assert not epoch.mean_loss().requires_grad
    assert not epoch.outputs[0].requires_grad


def test_the_epoch_of_all_processes_is_that_of_one_where_there_is_one() -> None:
    """By torch's own gathering, in a group of one process."""
    epoch = filled()
    assert epoch.of_all_processes() is epoch
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        together = filled().of_all_processes()
    finally:
        distributed.destroy_process_group()
    assert sum(together.weights) == sum(SIZES)
    check(together)


@pytest.mark.parametrize(
    ("kept_bytes", "n_rows"), [(None, 48), (1, 8), (128, 8), (256, 16), (257, 24), (10**6, 48)]
)
def test_of_a_long_epoch_as_many_packs_are_kept_as_have_the_bytes(
    monkeypatch: pytest.MonkeyPatch, kept_bytes: int | None, n_rows: int
) -> None:
    """The last ones, of 8 rows and 128 bytes each; the loss is that of all rows."""
    monkeypatch.setattr("multilayer.training.epoch_outputs._BYTES_A_PACK", 100)
    epoch = EpochOutputs(kept_bytes)
    for number in range(12):
        rows = torch.arange(4 * number, 4 * number + 4)
        epoch.add(torch.tensor(float(number)), torch.stack([rows, -rows], dim=1).float(), rows)
    expected = torch.arange(48)[-n_rows:]
    assert torch.equal(torch.cat(epoch.targets), expected)
    assert torch.equal(torch.cat(epoch.outputs), torch.stack([expected, -expected], dim=1).float())
    assert epoch.n_packs == n_rows // 8
    assert epoch.mean_loss().item() == pytest.approx(5.5)


def test_the_loss_is_taken_where_the_network_is() -> None:
    """A device that computes nothing stands for a GPU."""
    epoch = EpochOutputs()
    for _ in range(2):
        epoch.add(*(torch.zeros(shape, device="meta") for shape in ((), (3, 2), (3,))))
    assert epoch.mean_loss().device.type == "meta"


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
    assert _monitored_value(trainer, "a") == 1.0
    with pytest.raises(UserError, match="no metric 'c' to monitor; logged are a, b"):
        _monitored_value(trainer, "c")
