"""Lightning's own callbacks around the modules, on anyone's loaders of raw rows."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor

from multilayer import MLP, SupervisedModule

from .test_lightning_use import data_of, expected_metrics, module_for, of_split, plain_loader
from .test_lightning_use import raw_rows as rows_of
from .test_module import quiet_trainer

TASKS = ["binary", "multiclass", "regression"]


def parts_of(task: str, **arguments: Any) -> tuple[SupervisedModule, dict[str, Any], Any]:
    """A module that has the preprocessing of some data, loaders of its raw rows, and the data."""
    data = data_of(task)
    module = module_for(data, **arguments)
    module.take_preprocessing(data.preprocessing)
    loaders = {split: plain_loader(*rows_of(data, split)) for split in data.rows}
    return module, loaders, data


class Weights(pl.Callback):
    """Notes the network's first weights, after each step and at the end of each epoch."""

    def __init__(self) -> None:
        self.of_steps: list[Tensor] = []
        self.of_epochs: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        self.of_steps.append(first_weights(pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.of_epochs.append(first_weights(pl_module))


def first_weights(module: Any) -> Tensor:
    return next(module.network.parameters()).detach().clone()  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("task", TASKS)
def test_model_checkpoint_keeps_the_best_epoch(tmp_path: Path, task: str) -> None:
    """`ckpt_path="best"` tests it, `load_from_checkpoint` brings it, and a fit goes on from it."""
    module, loaders, data = parts_of(task)

    def keeping() -> ModelCheckpoint:
        options: dict[str, Any] = {"monitor": "validation/loss", "save_last": True}
        return ModelCheckpoint(tmp_path / "kept", filename="best", **options)

    best = keeping()
    seen: list[float] = []

    class Losses(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if not trainer.sanity_checking:
                seen.append(float(trainer.callback_metrics["validation/loss"]))

    trainer = quiet_trainer(tmp_path, n_epochs=4, callbacks=[Losses()])
    trainer.callbacks.append(best)  # type: ignore[attr-defined]
    trainer.fit(module, loaders["train"], loaders["validation"])
    assert float(best.best_model_score) == pytest.approx(min(seen))  # type: ignore[arg-type]
    (found,) = trainer.test(module, loaders["test"], ckpt_path="best", verbose=False)
    network = MLP(data.preprocessing.n_features, data.columns.n_outputs, dropout=0.2)
    loaded = type(module).load_from_checkpoint(best.best_model_path, network=network)
    expected = expected_metrics(loaded, rows_of(data, "test"))
    assert of_split(found, "test") == pytest.approx(expected, rel=1e-4)
    trainer = quiet_trainer(tmp_path, n_epochs=6)
    trainer.callbacks.append(keeping())  # type: ignore[attr-defined]
    last = tmp_path / "kept" / "last.ckpt"
    trainer.fit(module.train(), loaders["train"], loaders["validation"], ckpt_path=last)
    assert (trainer.current_epoch, trainer.global_step) == (6, 6 * len(loaders["train"]))


@pytest.mark.parametrize("normalization", [None, "batch"])
def test_stochastic_weight_averaging_ends_with_the_mean(tmp_path: Path, normalization: Any) -> None:
    """Of the weights that its epochs began with; the predictions are those of that mean."""
    module, loaders, data = parts_of("regression")
    module.network = MLP(
        data.preprocessing.n_features, 1, d_hidden=[8], normalization=normalization
    )
    weights = Weights()
    averaging = StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=2, annealing_epochs=1)
    trainer = quiet_trainer(tmp_path, n_epochs=5, callbacks=[weights, averaging])
    trainer.fit(module, loaders["train"], loaders["validation"])
    mean = torch.stack(weights.of_epochs[:4]).mean(dim=0)  # before each epoch from the second on
    torch.testing.assert_close(first_weights(module), mean)
    (found,) = trainer.test(module, loaders["test"], verbose=False)
    expected = expected_metrics(module, rows_of(data, "test"))
    assert of_split(found, "test") == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_averaged_weights_are_validated_and_left(tmp_path: Path, task: str) -> None:
    """An exponential mean over the steps; the last validation is that of the weights at the end."""
    module, loaders, data = parts_of(task)
    weights = Weights()
    averaging = EMAWeightAveraging(decay=0.5)
    trainer = quiet_trainer(tmp_path, n_epochs=3, callbacks=[weights, averaging])
    trainer.fit(module, loaders["train"], loaders["validation"])
    mean = weights.of_steps[0]
    for each in weights.of_steps[1:]:
        mean = 0.5 * mean + 0.5 * each
    torch.testing.assert_close(first_weights(module), mean)
    expected = expected_metrics(module, rows_of(data, "validation"))
    assert of_split(trainer.callback_metrics, "validation") == pytest.approx(expected, rel=1e-4)


def test_others_of_lightnings_callbacks_find_what_they_follow(tmp_path: Path) -> None:
    """Early stopping by our metrics, the rates in a logger, gradients accumulated."""
    module, loaders, _ = parts_of("binary")
    stopping = EarlyStopping("validation/accuracy", mode="max", min_delta=1.0, patience=2)
    others = [LearningRateMonitor("epoch"), GradientAccumulationScheduler({0: 2})]
    trainer = quiet_trainer(tmp_path, n_epochs=9, callbacks=[stopping, *others])
    trainer.loggers = [CSVLogger(tmp_path, name="", version="")]
    trainer.fit(module, loaders["train"], loaders["validation"])
    assert trainer.current_epoch == 3
    assert trainer.global_step == 3 * -(-len(loaders["train"]) // 2)
    assert "lr-Adam" in (tmp_path / "metrics.csv").read_text().partition("\n")[0]
