"""Runs on tables whose rows are divided, or weighed, by a column: commands, and a stack."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import pytorch_lightning as lightning
import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from multilayer import MLP, RegressionModule
from multilayer.core.errors import UserError
from multilayer.nn import WeightedLoss

from ..conftest import Run
from ..trained import train_in
from .test_evaluate import printed

TABLE = ["data=table", "data.path=t.csv", "data.target=y", "trainer.max_epochs=3"]


@pytest.fixture
def diabetes(tmp_path: Path) -> pl.DataFrame:
    """Real rows, with a day and a split for each."""
    x, y = load_diabetes(return_X_y=True)
    frame = pl.DataFrame(x, schema=[f"x{i}" for i in range(x.shape[1])])
    days = pl.Series("day", np.arange(len(y)) // 3).cast(pl.Int32).cast(pl.Date)
    parts = pl.Series("part", ["train", "train", "train", "val", "test"] * 88 + ["train"] * 2)
    weights = pl.Series("w", np.arange(len(y)) % 4)
    frame = frame.with_columns(days, parts, weights, y=pl.Series(y))
    frame.write_csv(tmp_path / "t.csv")
    return frame


@pytest.mark.parametrize(
    ("words", "test_rows"),
    [
        (["data.split=time", "data.time=day", "data.drop_columns=[part,w]"], slice(442 - 67, 442)),
        (["data.split_column=part", "data.drop_columns=[day,w]"], slice(4, 440, 5)),
    ],
)
def test_a_split_of_the_users_is_evaluated_and_its_column_not_needed_to_predict(
    multilayer: Run, tmp_path: Path, diabetes: pl.DataFrame, words: list[str], test_rows: slice
) -> None:
    """The metrics of the test rows are those of a file with these rows alone."""
    trained = multilayer("train", *TABLE, *words)
    assert trained.code == 0, trained.err
    (run,) = tmp_path.glob("runs/*/*")
    rows = json.loads((run / "manifest.json").read_text())["rows"]
    chosen = diabetes[test_rows]
    assert rows["test"] == chosen.height
    evaluated = multilayer("evaluate", f"run={run}")
    assert printed(evaluated.out) == printed(trained.out)
    chosen.drop("day", "part", "w").write_csv(tmp_path / "newest.csv")
    on_file = multilayer("evaluate", f"run={run}", "data.path=newest.csv")
    assert printed(on_file.out) == printed(evaluated.out)
    predicted = multilayer("predict", f"run={run}", "input=newest.csv", "output=p.csv")
    assert predicted.code == 0, predicted.err
    mae = (pl.read_csv(tmp_path / "p.csv")["prediction"] - chosen["y"]).abs().mean()
    written = json.loads((run / "metrics.json").read_text())["test"]["mae"]
    assert written == pytest.approx(mae, rel=1e-5)


def test_what_does_not_go_together_is_one_message(multilayer: Run, diabetes: pl.DataFrame) -> None:
    """With exit code 2, and nothing written."""
    outcome = multilayer("train", *TABLE, "data.split=time", "data.time=day", "data.folds=5")
    assert outcome.code == 2
    assert "time=day decides the split, and cannot be combined with folds=5" in outcome.err
    assert "Traceback" not in outcome.err
    assert not Path("runs").exists()


@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
def test_a_weighted_run_is_evaluated_with_its_weights(
    multilayer: Run, tmp_path: Path, diabetes: pl.DataFrame, engine: str
) -> None:
    """On its own splits, and on a file; there a row of weight 3 is as one that is there 3 times."""
    words = ["data.weight=w", "data.drop_columns=[day,part]", f"engine={engine}"]
    trained = multilayer("train", *TABLE, *words)
    assert trained.code == 0, trained.err
    assert "weighted by 'w'" in trained.err + trained.out
    (run,) = tmp_path.glob("runs/*/*")
    evaluated = multilayer("evaluate", f"run={run}")
    assert printed(evaluated.out) == printed(trained.out)
    first, repeated = (
        diabetes.head(100),
        pl.concat(diabetes[row] for row in range(100) for _ in range(row % 4)),
    )
    first.write_csv(tmp_path / "first.csv")
    repeated.drop("w").write_csv(tmp_path / "repeated.csv")
    ours = multilayer("evaluate", f"run={run}", "data.path=first.csv")
    theirs = multilayer("evaluate", f"run={run}", "data.path=repeated.csv")
    values, expected = (
        {name: float(value) for name, value in printed(each.out).items() if name != "metric"}
        for each in (ours, theirs)
    )
    assert values == pytest.approx(expected, rel=1e-3)
    assert "repeated.csv has no column 'w', the weight of a row: all weigh 1" in theirs.err
    assert multilayer("predict", f"run={run}", "input=repeated.csv", "output=p.csv").code == 0


def test_weights_of_classes_are_drawn_and_counted(
    multilayer: Run, tmp_path: Path, iris_csv: Path
) -> None:
    """With balanced classes, a metric to monitor, and figures."""
    iris = pl.read_csv(iris_csv)
    iris.with_columns(w=pl.Series(np.arange(150) % 3 + 1)).write_csv(tmp_path / "t.csv")
    words = ["data.target=species", "data.weight=w", "loss.class_weights=balanced"]
    words += ["monitor=validation/auroc", "mode=max", "callbacks=[default,figures]"]
    outcome = multilayer("train", "data=table", "data.path=t.csv", "trainer.max_epochs=2", *words)
    assert outcome.code == 0, outcome.err
    (run,) = tmp_path.glob("runs/*/*")
    assert {each.stem for each in (run / "figures").iterdir()} >= {"roc", "confusion_matrix"}


def test_a_loss_that_takes_no_weights_is_one_message(
    multilayer: Run, tmp_path: Path, diabetes: pl.DataFrame
) -> None:
    """With exit code 2, before anything is trained."""
    (tmp_path / "ours.py").write_text(
        "from torch import nn\n\n\nclass Own(nn.Module):\n"
        "    def forward(self, output, target):\n        return (output - target).abs().mean()\n"
    )
    words = ["data.weight=w", "data.drop_columns=[day,part]", "loss=mse", "loss._target_=ours.Own"]
    outcome = multilayer("train", *TABLE, *words)
    assert outcome.code == 2, outcome.err
    assert "data.weight: the loss Own takes no weights of rows; give it an attribute" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_module_takes_minibatches_with_weights_from_any_loader(tmp_path: Path) -> None:
    """Of three tensors; two are refused, since nobody would say what the weights are."""
    x, y = (torch.from_numpy(each).float() for each in load_diabetes(return_X_y=True))
    weights = torch.arange(len(y)) % 4
    module = RegressionModule(
        MLP(10, 1, d_hidden=[8]),
        loss=WeightedLoss(nn.MSELoss(), "regression"),
        optimizer=torch.optim.Adam,
    )
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", **options)
    loader = DataLoader(TensorDataset(x, y, weights), batch_size=64)
    trainer.fit(module, loader, loader)
    (found,) = trainer.test(module, loader, verbose=False)
    repeated = [each.repeat_interleave(weights, dim=0) for each in (x, y)]
    error = module(repeated[0]) - repeated[1]
    assert found["test/loss"] == pytest.approx(error.square().mean().item(), rel=1e-4)
    with pytest.raises(UserError, match="three tensors, features, target and the weights of the"):
        trainer.test(module, DataLoader(TensorDataset(x, y)), verbose=False)


def test_metrics_of_torchmetrics_are_refused_with_weights(
    multilayer: Run, diabetes: pl.DataFrame
) -> None:
    """They would count every row alike."""
    words = ["data.weight=w", "data.drop_columns=[day,part]", "metrics=[MeanSquaredError]"]
    outcome = multilayer("train", *TABLE, *words)
    assert outcome.code == 2
    assert "metrics: those of torchmetrics (mean_squared_error) take no weights" in outcome.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "weightless", "message"),
    [
        (
            ["loss.class_weights=balanced"],
            lambda row: row >= 100,
            "loss.class_weights=balanced: no training row is of class 'virginica'",
        ),
        (
            ["monitor=validation/auroc", "mode=max"],
            lambda row: row >= 50 and row % 5 == 0,
            "monitor=validation/auroc: it is not defined for the 10 validation rows",
        ),
    ],
)
def test_classes_whose_rows_all_weigh_nothing_are_not_there(
    multilayer: Run,
    tmp_path: Path,
    iris_csv: Path,
    words: list[str],
    weightless: Callable[[int], bool],
    message: str,
) -> None:
    """Neither to be balanced nor to be told apart."""
    iris = pl.read_csv(iris_csv).sort("species")
    weights = pl.Series("w", [0 if weightless(row) else 1 for row in range(150)])
    parts = pl.Series("part", ["val", "test", "train", "train", "train"] * 30)
    iris.with_columns(weights, parts).write_csv(tmp_path / "t.csv")
    table = ["data=table", "data.path=t.csv", "data.target=species", "data.weight=w"]
    outcome = multilayer("train", *table, "data.split_column=part", *words)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_weighted_run_is_resumed(tmp_path: Path, diabetes: pl.DataFrame) -> None:
    """It ends where one ends that was never interrupted; also with quantiles."""
    words = ["data=table", f"data.path={tmp_path / 't.csv'}", "data.target=y", "data.weight=w"]
    words += ["data.drop_columns=[day,part]", "loss=quantile", "scheduler=constant"]
    whole = train_in(tmp_path / "whole", *words, "trainer.max_epochs=4")
    first = [*words, "trainer.max_epochs=2", "engine=lockstep"]
    train_in(tmp_path / "first", *first)
    resume = f"resume={tmp_path / 'first'}"
    resumed = train_in(tmp_path / "resumed", *words, "trainer.max_epochs=4", resume)
    for split, metrics in whole.metrics.items():
        assert resumed.metrics[split] == pytest.approx(metrics, rel=1e-4)
