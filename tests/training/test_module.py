"""The LightningModules, used as a researcher would who imports them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from multilayer import (
    MLP,
    BinaryCrossEntropy,
    BinaryModule,
    BuiltinData,
    CrossEntropy,
    MulticlassModule,
    PassClassData,
    RegressionModule,
)
from multilayer.cli.check import check_command_line
from multilayer.cli.tasks import train
from multilayer.core.errors import UserError
from multilayer.training.epoch_outputs import EpochOutputs

from ..lockstep.test_equivalence import scalars
from ..trained import config_of


def adam(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-2)  # type: ignore[arg-type]


def quiet_trainer(tmp_path: Path, n_epochs: int = 3, **settings: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=n_epochs,
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **settings,
    )


def test_a_module_trains_with_lightnings_own_trainer(tmp_path: Path) -> None:
    """Without Hydra and without a config; raw columns in, probabilities out."""
    data = BuiltinData(name="breast_cancer")
    data.setup()
    module = BinaryModule(MLP(30, 1), optimizer=adam, preprocessing=data.preprocessing)
    trainer = quiet_trainer(tmp_path)
    trainer.fit(module, data)
    table = data.load()
    probabilities = module.eval()(table.features)
    assert probabilities.shape == (569,)
    assert ((probabilities > 0.5) == table.target).float().mean() > 0.9


def test_metrics_are_those_of_scikit_learn() -> None:
    """Loss and accuracy over a split, whatever the size of the minibatches."""
    data = BuiltinData(name="wine")
    data.setup()
    torch.manual_seed(0)
    module = MulticlassModule(MLP(13, 3))
    features, target = data.split_tensors("train")
    probabilities = module.predictions(module.output(features)).detach().double().numpy()
    probabilities /= probabilities.sum(1, keepdims=True)
    for batch_size in (7, 1000):
        batches = zip(features.split(batch_size), target.split(batch_size), strict=True)
        metrics = module.evaluate(batches)
        assert metrics["loss"] == pytest.approx(log_loss(target, probabilities), rel=1e-5)
        assert metrics["accuracy"] == pytest.approx(
            accuracy_score(target, probabilities.argmax(1)), rel=1e-6
        )


def test_regression_metrics_are_in_the_units_of_the_target() -> None:
    """Though the loss is on the standardised target."""
    data = BuiltinData(name="diabetes")
    data.setup()
    module = RegressionModule(MLP(10, 1), preprocessing=data.preprocessing)
    metrics = module.evaluate(data.minibatches("train"))
    scale = float(data.preprocessing.target_scale)
    assert metrics["rmse"] == pytest.approx(np.sqrt(metrics["loss"]) * scale, rel=1e-5)


def test_evaluating_changes_nothing() -> None:
    """Neither the mode nor the running statistics of the network, nor with dropout its result."""
    data = PassClassData()
    data.setup()
    network = MLP(2, 1, dropout=0.5, normalization="batch")
    module = BinaryModule(network, preprocessing=data.preprocessing)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    first = module.evaluate(data.minibatches("test"))
    assert module.evaluate(data.minibatches("test")) == first
    assert module.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


class Shifted(nn.Module):
    """A network of a user's own, that gives a single output as (B,)."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 1)
        self.shift = shift

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)[:, 0] + self.shift


def test_a_network_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named in the config by where it is; without a word in this package."""
    config = config_of("data=pass_class", "trainer.max_epochs=2")
    config["model"] = {"_target_": f"{__name__}.Shifted", "shift": 0.5}
    result = train(config, tmp_path, quiet=True)
    assert result.manifest["status"] == "done"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"_target_": "torch.nn.Linear", "in_features": 3, "out_features": 1}, "2 features"),
        ({"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 5}, "1 output a row"),
    ],
)
def test_a_network_of_the_wrong_shape_is_told(
    tmp_path: Path, model: dict[str, object], message: str
) -> None:
    """Before the training, and nothing is written."""
    config = config_of("data=pass_class")
    config["model"] = model
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_what_is_logged_reaches_all_who_look(tmp_path: Path) -> None:
    """Callbacks and loggers in a fit, and whoever calls `trainer.validate`."""
    data = BuiltinData(name="wine")
    data.setup()
    module = MulticlassModule(MLP(13, 3), optimizer=adam)
    trainer = quiet_trainer(tmp_path)
    trainer.fit(module, data)
    metrics = module.evaluate(data.minibatches("validation"))
    expected = {f"validation/{name}": value for name, value in metrics.items()}
    names = {*expected, *(name.replace("validation", "train") for name in expected)}
    assert set(trainer.callback_metrics) == set(trainer.logged_metrics) == names
    for name, value in expected.items():
        assert float(trainer.callback_metrics[name]) == pytest.approx(value, rel=1e-5)
    (found,) = trainer.validate(module, data, verbose=False)
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_check_before_the_training_is_not_logged(tmp_path: Path) -> None:
    """`trainer.num_sanity_val_steps` leaves no point before the first step."""
    config = check_command_line(
        "train", ["data=wine", "trainer.num_sanity_val_steps=1", "trainer.max_epochs=2"]
    )
    assert config is not None
    train(config, tmp_path, quiet=True)
    steps = [step for step, _ in scalars(tmp_path)["validation/loss"]]
    assert steps == [1, 3]  # of 125 rows, two minibatches an epoch


@pytest.mark.parametrize("n_minibatches", [10, 700])
def test_of_a_long_epoch_the_last_rows_are_kept(
    n_minibatches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the loss of all rows; what is kept has a bound."""
    monkeypatch.setattr("multilayer.training.epoch_outputs._MINIBATCHES_A_PACK", 16)
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(n_minibatches, generator=generator, dtype=torch.float64)
    sizes = torch.randint(1, 9, (n_minibatches,), generator=generator)
    outputs = torch.rand(int(sizes.sum()), 3, generator=generator)
    targets = torch.arange(len(outputs))
    epoch = EpochOutputs(kept_bytes=20 * 200)  # a row has 12 bytes of output and 8 of target
    parts = zip(losses, outputs.split(sizes.tolist()), targets.split(sizes.tolist()), strict=True)
    for part in parts:
        epoch.add(*part)
        assert sum(map(len, epoch.targets)) <= 200 + 2 * 16 * 8  # and at most two packs
        assert len(epoch.losses) < 16
    kept = torch.cat(epoch.targets)
    assert len(kept) >= min(200, len(targets))
    assert torch.equal(kept, targets[-len(kept) :])
    assert torch.equal(torch.cat(epoch.outputs), outputs[-len(kept) :])
    expected = (losses * sizes).sum() / sizes.sum()
    torch.testing.assert_close(epoch.mean_loss(), expected)


@pytest.mark.parametrize("batch_size", [7, 64, 1000])
def test_a_weighted_loss_is_the_same_in_minibatches_of_any_size(batch_size: int) -> None:
    """The mean over all rows by the weights of their classes, as torch takes it at once."""
    generator = torch.Generator().manual_seed(0)
    features, target = torch.randn(100, 3, generator=generator), torch.arange(100) % 10 // 8
    loaders = DataLoader(TensorDataset(features, target), batch_size=batch_size)
    network = nn.Linear(3, 2)
    weights = [1.0, 20.0]
    many = MulticlassModule(network, loss=CrossEntropy(class_weights=weights))
    expected = nn.CrossEntropyLoss(torch.tensor(weights))(network(features), target)
    assert many.evaluate(loaders)["loss"] == pytest.approx(expected.item(), rel=1e-5)
    one = BinaryModule(nn.Linear(3, 1), loss=BinaryCrossEntropy(class_weights=weights))
    expected = one.loss(one.network(features)[:, 0], target)
    assert one.evaluate(loaders)["loss"] == pytest.approx(expected.item(), rel=1e-5)
    none = MulticlassModule(network, loss=CrossEntropy(class_weights=[0.0, 1.0]))
    expected = nn.CrossEntropyLoss(torch.tensor([0.0, 1.0]))(network(features), target)
    assert none.evaluate(loaders)["loss"] == pytest.approx(expected.item(), rel=1e-5)
