"""When a training stops, and which weights it ends with, on curves that are given."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from multilayer.callbacks import BestWeights, EarlyStopping

INF, NAN = float("inf"), float("nan")


class GivenCurve(pl.LightningModule):
    """A module whose validation loss is given, and whose one weight counts the epochs."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.losses = losses
        self.weight = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Any, index: int) -> Tensor:
        return -self.weight.sum()  # with sgd at rate 1 the weight grows by 1 a step

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("validation/loss", self.losses[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(
    losses: list[float], early_stopping: EarlyStopping, *, min_epochs: int = 1, mode: str = "min"
) -> tuple[int, BestWeights, GivenCurve]:
    """Train on the given curve; returns the epochs it took."""
    best = BestWeights(mode=mode)  # type: ignore[arg-type]
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=len(losses),
        min_epochs=min_epochs,
        callbacks=[best, early_stopping],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    module = GivenCurve(losses)
    batches = [torch.zeros(1)]
    trainer.fit(module, batches, batches)
    return trainer.current_epoch, best, module


def test_it_stops_after_patience_epochs_without_improvement() -> None:
    """Three epochs after the best, with the weights of the best."""
    stopping = EarlyStopping(patience=3)
    n_epochs, best, module = fit([5, 4, 3, 4, 4, 4, 1, 1], stopping)
    assert n_epochs == 6
    assert best.best_epoch == 3
    assert best.best_value == 3
    assert module.weight.item() == 3  # it was 6 at the end
    assert stopping.reason is not None
    assert "has not improved on 3 of epoch 3 for 3 epochs" in stopping.reason


def test_patience_counts_from_min_epochs_on() -> None:
    """The best is tracked from the start; a best before min_epochs is still the best."""
    n_epochs, best, _ = fit([1, 9, 9, 9, 9, 9, 9, 9, 9], EarlyStopping(patience=2), min_epochs=5)
    assert n_epochs == 7
    assert best.best_epoch == 1


def test_an_improvement_starts_the_count_again() -> None:
    """Patience is for epochs in a row."""
    n_epochs, _, _ = fit([5, 6, 6, 4, 5, 5, 5, 5], EarlyStopping(patience=3))
    assert n_epochs == 7


def test_what_gains_less_than_min_delta_is_no_improvement() -> None:
    """It is no reason to go on, but its weights are the best all the same."""
    n_epochs, best, _ = fit([5, 4.9, 4.8, 4.7, 4.6], EarlyStopping(patience=3, min_delta=0.5))
    assert n_epochs == 4
    assert best.best_epoch == 4


def test_mode_max_is_for_metrics_where_more_is_better() -> None:
    """As with an accuracy."""
    stopping = EarlyStopping(mode="max", patience=2)
    n_epochs, best, _ = fit([0.5, 0.7, 0.6, 0.6, 0.9], stopping, mode="max")
    assert (n_epochs, best.best_epoch) == (4, 2)


@pytest.mark.parametrize("value", [INF, NAN])
def test_a_loss_that_is_not_finite_stops_at_once(value: float) -> None:
    """Whatever the patience and min_epochs; the last finite best is restored."""
    stopping = EarlyStopping(patience=100)
    n_epochs, best, module = fit([5, 4, value, 1], stopping, min_epochs=4)
    assert n_epochs == 3
    assert stopping.diverged
    assert stopping.reason is not None
    assert stopping.reason.startswith("diverged: validation/loss")
    assert best.best_epoch == 2
    assert module.weight.item() == 2


def test_a_run_that_goes_on_improving_has_no_reason_to_stop() -> None:
    """It ends with its last epoch."""
    stopping = EarlyStopping(patience=1)
    n_epochs, best, module = fit([5, 4, 3, 2], stopping)
    assert (n_epochs, best.best_epoch, module.weight.item()) == (4, 4, 4)
    assert stopping.reason is None


def test_a_metric_that_is_not_logged_is_named() -> None:
    """With the names of those that are."""
    with pytest.raises(ValueError, match=r"no metric 'validation/acc'.*validation/loss"):
        fit([1, 2], EarlyStopping(monitor="validation/acc"))


def test_patience_below_one_is_refused() -> None:
    """It would stop before it began."""
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        EarlyStopping(patience=0)
