"""When a training stops, and which weights it ends with, on curves that are given."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from multilayer.callbacks import BestWeights, EarlyStopping
from multilayer.core.config_folder import conf_dir
from multilayer.core.files import load_yaml
from multilayer.training.epoch_callback import EpochCallback, Record
from multilayer.training.lightning_adapter import lightning_callbacks

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


BATCHES = [torch.zeros(1)]


def trainer_with(*callbacks: Any, **arguments: Any) -> pl.Trainer:
    """A trainer with no callbacks but these."""
    usual = {"max_epochs": 100, "num_sanity_val_steps": 0, "accelerator": "cpu"}
    return pl.Trainer(
        **(usual | arguments),
        callbacks=lightning_callbacks(*callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def fit(
    losses: list[float], early_stopping: EarlyStopping, *, min_epochs: int = 1, mode: str = "min"
) -> tuple[int, BestWeights, GivenCurve]:
    """Train on the given curve; returns the epochs it took."""
    best = BestWeights(mode=mode)  # type: ignore[arg-type]
    trainer = trainer_with(best, early_stopping, max_epochs=len(losses), min_epochs=min_epochs)
    module = GivenCurve(losses)
    trainer.fit(module, BATCHES, BATCHES)
    return trainer.current_epoch, best, module


def test_it_stops_after_patience_epochs_without_improvement() -> None:
    """Three epochs after the best, with the weights of the best."""
    stopping = EarlyStopping(patience=3)
    n_epochs, best, module = fit([5, 4, 3, 4, 4, 4, 1, 1], stopping)
    assert n_epochs == 6
    assert best.best_epoch == 3
    assert best.best_value == 3
    assert best.best_step == 3
    assert module.weight.item() == 3  # it was 6 at the end
    assert stopping.reasons[0] is not None
    assert "has not improved on 3 of epoch 3 for 3 epochs" in stopping.reasons[0]


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
    assert stopping.reasons[0] is not None
    assert stopping.reasons[0] == f"diverged: validation/loss is {value} in epoch 3"
    assert best.best_epoch == 2
    assert module.weight.item() == 2


def test_a_run_that_goes_on_improving_has_no_reason_to_stop() -> None:
    """It ends with its last epoch."""
    stopping = EarlyStopping(patience=1)
    n_epochs, best, module = fit([5, 4, 3, 2], stopping)
    assert (n_epochs, best.best_epoch, module.weight.item()) == (4, 4, 4)
    assert stopping.reasons[0] is None


def test_a_metric_that_is_not_logged_is_named() -> None:
    """With the names of those that are."""
    with pytest.raises(ValueError, match=r"no metric 'validation/acc'.*validation/loss"):
        fit([1, 2], EarlyStopping(monitor="validation/acc"))


def test_patience_below_one_is_refused() -> None:
    """It would stop before it began."""
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        EarlyStopping(patience=0)


def test_as_many_validations_without_improvement_are_borne_as_the_config_says() -> None:
    """A value that is as good as the best is no improvement."""
    config = load_yaml((conf_dir() / "callbacks" / "early_stopping.yaml").read_text())
    patience = config["early_stopping"]["patience"]
    n_epochs, best, module = fit([1.0] * (patience + 4), EarlyStopping())
    assert (n_epochs, best.best_epoch, module.weight.item()) == (patience + 1, 1, 1)


def test_a_gain_of_just_min_delta_is_no_improvement() -> None:
    """It has to be exceeded, in either mode."""
    for mode, losses in (("min", [5, 4.5, 4.5, 4.5]), ("max", [5, 5.5, 5.5, 5.5])):
        stopping = EarlyStopping(patience=2, min_delta=0.5, mode=mode)  # type: ignore[arg-type]
        n_epochs, best, _ = fit(losses, stopping, mode=mode)
        assert (n_epochs, stopping.best_epoch, best.best_epoch) == (3, 1, 2)


def test_min_epochs_is_the_last_epoch_that_does_not_count() -> None:
    """With patience 1 the first epoch after it ends the training."""
    n_epochs, _, _ = fit([1, 9, 9, 9, 9, 9], EarlyStopping(patience=1), min_epochs=3)
    assert n_epochs == 4


class LogsMore(GivenCurve):
    """A curve beside other metrics, one value for each epoch."""

    def __init__(self, losses: list[float], **more: list[float]) -> None:
        super().__init__(losses)
        self.more = more

    def validation_step(self, batch: Any, index: int) -> None:
        super().validation_step(batch, index)
        for name, values in self.more.items():
            self.log(name.replace("_", "/"), values[self.current_epoch])


@pytest.mark.parametrize(("name", "diverges"), [("train_loss", True), ("validation_r2", False)])
def test_any_loss_that_is_not_finite_is_a_divergence_and_no_other_metric_is(
    name: str, diverges: bool
) -> None:
    """R squared is minus infinity for a target that happens to be constant."""
    stopping = EarlyStopping(patience=3)
    trainer = trainer_with(BestWeights(), stopping, max_epochs=4)
    trainer.fit(LogsMore([4, 3, 2, 1], **{name: [1, -INF, 1, 1]}), BATCHES, BATCHES)
    assert stopping.diverged == diverges
    assert trainer.current_epoch == (2 if diverges else 4)


def test_a_metric_that_is_never_a_number_never_improves() -> None:
    """Patience counts from the first epoch."""
    stopping = EarlyStopping(monitor="validation/r2", mode="max", patience=2)
    trainer = trainer_with(stopping, max_epochs=5)
    trainer.fit(LogsMore([5, 4, 3, 2, 1], validation_r2=[NAN] * 5), BATCHES, BATCHES)
    assert trainer.current_epoch == 2
    assert stopping.best_epoch == 0


class StopsAt(pl.Callback):
    """Asks to stop after an epoch, as a limit of time does."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch == 1


def test_another_callback_may_stop_the_training_too() -> None:
    """It is no reason of this one's."""
    stopping = EarlyStopping()
    trainer = trainer_with(StopsAt(), BestWeights(), stopping, max_epochs=9)
    trainer.fit(GivenCurve([9, 8, 7, 6, 5, 4, 3, 2, 1]), BATCHES, BATCHES)
    assert trainer.current_epoch == 2
    assert stopping.reasons[0] is None


@pytest.mark.parametrize("n_before", [1, 2, 4])
def test_a_training_that_is_resumed_remembers_the_best_and_how_long_ago_it_was(
    tmp_path: Path, n_before: int
) -> None:
    """It stops where the whole training does, with the same weights and the same reason."""
    losses = [5, 3, 4, 4, 4, 4, 1, 1]
    whole = EarlyStopping(patience=4)
    n_epochs, best, module = fit(losses, whole)
    first = trainer_with(BestWeights(), EarlyStopping(patience=4), max_epochs=n_before)
    first.fit(GivenCurve(losses), BATCHES, BATCHES)
    first.save_checkpoint(tmp_path / "first.ckpt")
    stopping, kept = EarlyStopping(patience=4), BestWeights()
    resumed, again = trainer_with(kept, stopping, max_epochs=len(losses)), GivenCurve(losses)
    resumed.fit(again, BATCHES, BATCHES, ckpt_path=tmp_path / "first.ckpt", weights_only=True)
    assert (n_epochs, best.best_epoch) == (6, 2)
    assert resumed.current_epoch == 6
    assert stopping.state_dict() == whole.state_dict()
    assert stopping.reasons[0] == whole.reasons[0]
    assert (kept.best_epoch, kept.best_step, kept.best_value) == (2, 2, 3)
    assert again.weight.item() == module.weight.item() == 2


def test_a_validation_that_belongs_to_no_epoch_changes_nothing() -> None:
    """Neither the check before the training, nor one of a trained network by itself."""
    best, stopping = BestWeights(), EarlyStopping(patience=2)
    trainer = trainer_with(best, stopping, max_epochs=2, num_sanity_val_steps=1)
    module = GivenCurve([2, 3, 1])
    trainer.fit(module, BATCHES, BATCHES)
    assert (best.best_epoch, best.best_step, module.weight.item()) == (1, 1, 1)
    module.weight.data.fill_(7)
    trainer.validate(module, BATCHES, verbose=False)  # at epoch 3 of the curve, whose loss is 1
    assert (best.best_epoch, stopping.best_epoch, stopping.n_without_improvement) == (1, 1, 1)
    assert module.weight.item() == 7


class Finds(EpochCallback):
    """Looks for other callbacks of its fit."""

    def on_fit_start(self, record: Record) -> None:
        self.found = record.find(BestWeights)


def test_a_callback_is_found_by_its_class() -> None:
    """None where there is none."""
    best, finds = BestWeights(), Finds()
    trainer_with(EarlyStopping(), best, finds, max_epochs=1).fit(GivenCurve([1]), BATCHES, BATCHES)
    assert finds.found is best
    trainer_with(finds, max_epochs=1).fit(GivenCurve([1]), BATCHES, BATCHES)
    assert finds.found is None
