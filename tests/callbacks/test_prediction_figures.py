"""What the figures say, read back from them, and where they go."""

from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from pytorch_lightning.loggers import TensorBoardLogger
from sklearn.datasets import load_diabetes, load_iris
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from multilayer import (
    MLP,
    BinaryModule,
    BuiltinData,
    MulticlassModule,
    PassClassData,
    RegressionModule,
    TableData,
)
from multilayer.callbacks import Figures
from multilayer.callbacks.prediction_figures import _figures_of
from multilayer.data import Preprocessing
from multilayer.runs.checkpoint import read_checkpoint
from multilayer.training.lightning_adapter import lightning_callbacks

from ..trained import train_in


@pytest.mark.parametrize("numbers", ["standard", "quantile"])
def test_the_scaling_of_numbers_is_undone(numbers: Any) -> None:
    """Up to rounding, next to a category and the mark of a missing value."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.rand(300, 3, generator=generator) * torch.tensor([1.0, 100.0, 0.0])
    columns[::7, 1] = 50.0  # ties
    columns[5, 0] = torch.nan
    preprocessing = Preprocessing(3, n_labels={2: 1}, numeric_scaling=numbers).fit_(columns)
    found = preprocessing.unscale_numbers(preprocessing(columns))
    columns[5, 0] = preprocessing.median[0]
    assert torch.allclose(found, columns[:, :2], rtol=1e-4, atol=1e-4)


def test_the_figures_of_a_run_are_in_its_folder_and_over_epochs_in_tensorboard(
    tmp_path: Path,
) -> None:
    """After epochs 1, 2, 4 and the last, at the steps of the curves."""
    train_in(tmp_path, "experiment=pass_class", "trainer.max_epochs=5", "optimizer.lr=0.1")
    names = ["boundary", "calibration", "confusion_matrix", "roc"]
    for name in names:
        assert imread(tmp_path / "figures" / f"{name}.png").std() > 0.01
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    drawn = [tag for tag in events.Tags()["images"] if tag.startswith("figures/")]
    assert sorted(drawn) == [f"figures/{name}" for name in names]
    steps = [event.step for event in events.Scalars("validation/loss")]
    for name in names:
        found = [event.step for event in events.Images(f"figures/{name}")]
        assert found == [steps[epoch - 1] for epoch in (1, 2, 4, 5)]


def test_the_last_epoch_is_drawn_whichever_callback_stops_the_fit(tmp_path: Path) -> None:
    """Lightning's own stops after our hook at the end of the third epoch, of two steps each."""
    logger = TensorBoardLogger(tmp_path, name="", version="")
    no_improvement = pl.callbacks.EarlyStopping("validation/loss", patience=2, mode="max")
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=20,
        logger=logger,
        callbacks=lightning_callbacks(Figures(folder=tmp_path / "figures"), no_improvement),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(MulticlassModule(MLP(4, 3), optimizer=torch.optim.Adam), BuiltinData(name="iris"))
    assert trainer.current_epoch == 3
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Images("figures/roc")] == [1, 3, 5]


@pytest.mark.parametrize("order", ["default,figures", "figures,default"])
def test_the_pictures_are_of_the_best_weights(
    order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the callback stands, and the last weights are those that it found."""
    seen = []

    def note(module: Any, data: Any, n_rows: int, when: str) -> dict[str, Figure]:
        weights = {name: value.clone() for name, value in module.state_dict().items()}
        seen.append((when, weights))
        return {}

    monkeypatch.setattr("multilayer.callbacks.prediction_figures._figures_of", note)
    result = train_in(
        tmp_path, "data=pass_class", "optimizer.lr=0.1", "trainer.max_epochs=20",
        "callbacks.early_stopping.patience=3", f"callbacks=[{order}]",
    )  # fmt: skip
    best = result.manifest["best_epoch"]
    (when, weights), (last, last_weights) = seen[-1], seen[-2]
    assert when == f"epoch {best}, the best"
    assert last == f"epoch {best + 3}"
    for name, file in ((weights, "best.ckpt"), (last_weights, "last.ckpt")):
        saved = read_checkpoint(tmp_path / "checkpoints" / file)["state_dict"]
        assert all(torch.equal(value, saved[key]) for key, value in name.items())


def test_numbers_are_in_the_units_of_the_target() -> None:
    """Not standardised, as the network has them."""
    data = BuiltinData(name="diabetes")
    data.setup()
    module = RegressionModule(
        MLP(data.preprocessing.n_features, 1), preprocessing=data.preprocessing
    )
    figures = _figures_of(module, data, 10_000, "epoch 1")
    assert list(figures) == ["predicted"]
    points = np.asarray(figures["predicted"].axes[0].collections[0].get_offsets())
    expected = load_diabetes().target[data.rows["validation"].numpy()]
    assert np.allclose(points[:, 0], expected, rtol=1e-5)


def test_numbers_keep_their_digits_where_the_target_is_large(tmp_path: Path) -> None:
    """Seconds since 1970: float32 knows them to within 128 s."""
    x = np.linspace(0, 1, 100)
    frame = polars.DataFrame({"x": x, "y": 1.7e9 + np.sin(7 * x)})
    frame.write_parquet(tmp_path / "seconds.parquet")
    data = TableData(path=str(tmp_path / "seconds.parquet"), target="y")
    data.setup()
    network = MLP(data.preprocessing.n_features, 1)
    module = RegressionModule(network, preprocessing=data.preprocessing).eval()
    points = _figures_of(module, data, 10_000, "epoch 1")["predicted"].axes[0].collections[0]
    features = data.split_tensors("validation").features
    with torch.no_grad():
        expected = module.predict_features(features).numpy()
    assert expected.dtype == np.float64
    assert len(np.unique(expected)) == len(features) > 10
    assert np.array_equal(np.asarray(points.get_offsets())[:, 1], expected)


def test_there_are_no_figures_of_predictions_that_are_not_finite() -> None:
    """After a training that has diverged."""
    data = PassClassData()
    data.setup()
    network = MLP(2, 1)
    torch.nn.init.constant_(network[0].linear.weight, torch.nan)
    assert _figures_of(BinaryModule(network), data, 100, "epoch 1") == {}


def test_rows_are_capped() -> None:
    """Evenly spread over those that there are."""
    data = PassClassData()
    data.setup()
    figures = _figures_of(BinaryModule(MLP(2, 1)), data, 30, "epoch 1")
    assert figures["roc"].axes[0].get_title() == "epoch 1: 30 validation rows"


def test_no_rows_at_all_are_refused() -> None:
    """It would draw nothing."""
    with pytest.raises(ValueError, match="n_rows must be at least 1, got 0"):
        Figures(folder="figures", n_rows=0)


def test_two_columns_of_a_users_table_have_a_boundary(tmp_path: Path) -> None:
    """With three classes, and numbers scaled by quantiles."""
    iris = load_iris()
    frame = polars.DataFrame({"length": iris.data[:, 2], "width": iris.data[:, 3]})
    frame.with_columns(
        species=polars.Series([str(iris.target_names[k]) for k in iris.target])
    ).write_csv(tmp_path / "iris.csv")
    train_in(
        tmp_path / "run", "data=table", f"data.path={tmp_path / 'iris.csv'}", "data.target=species",
        "data.numeric_scaling=quantile", "trainer.max_epochs=1", "callbacks=figures", "logger=none",
    )  # fmt: skip
    assert (tmp_path / "run" / "figures" / "boundary.png").is_file()
