"""Quantile regression through the commands: training, evaluation, prediction, report."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.datasets import load_diabetes

import multilayer as package

from ..conftest import Run
from .test_evaluate import printed

OPTIONS = ["loss=quantile", "trainer.max_epochs=3"]
TABLE = ["data=table", "data.path=rows.csv", "data.target=progression", *OPTIONS]


@pytest.fixture
def rows(tmp_path: Path) -> pl.DataFrame:
    """The rows of diabetes, in a file."""
    data = load_diabetes()
    frame = pl.DataFrame(data.data, schema=list(data.feature_names))
    frame = frame.with_columns(progression=pl.Series(data.target))
    frame.write_csv(tmp_path / "rows.csv")
    return frame


@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
def test_a_run_predicts_quantiles_in_order(
    multilayer: Run, tmp_path: Path, rows: pl.DataFrame, engine: str
) -> None:
    """A column for each level, whose pinball loss and coverage are those that are evaluated."""
    trained = multilayer("train", *TABLE, f"engine={engine}", "callbacks=[default,figures]")
    assert trained.code == 0, trained.err
    assert "mae and pinball_loss are in the target's units" in trained.out
    (run,) = tmp_path.glob("runs/*/*")
    metrics = json.loads((run / "metrics.json").read_text())["test"]
    names = ["coverage_0.1", "coverage_0.5", "coverage_0.9", "loss", "mae", "pinball_loss", "r2"]
    assert sorted(metrics) == names
    assert (run / "figures" / "predicted.png").exists()
    evaluated = multilayer("evaluate", f"run={run}")
    assert printed(evaluated.out) == printed(trained.out)
    predicted = multilayer(
        "predict", f"run={run}", "input=rows.csv", "output=p.csv", "keep_input_columns=false"
    )
    assert predicted.code == 0, predicted.err
    table = pl.read_csv(tmp_path / "p.csv")
    assert table.columns == ["quantile_0.1", "quantile_0.5", "quantile_0.9"]
    quantiles, target = table.to_numpy(), rows["progression"].to_numpy()
    assert (np.diff(quantiles, axis=1) >= 0).all()
    on_file = multilayer("evaluate", f"run={run}", "data.path=rows.csv")
    values = printed(on_file.out)
    for level, own in zip((0.1, 0.5, 0.9), quantiles.T, strict=True):
        found = float(values[f"coverage_{level}"])
        assert found == pytest.approx((target <= own).mean(), abs=1e-4)
    assert float(values["mae"]) == pytest.approx(abs(target - quantiles[:, 1]).mean(), rel=1e-4)
    loaded = package.load(run)
    assert loaded.predict(rows) == pytest.approx(quantiles, rel=1e-4)


def test_the_order_holds_where_outputs_cross(tmp_path: Path, multilayer: Run) -> None:
    """A network whose highest output is that of the lowest level."""
    assert multilayer("train", "data=diabetes", *OPTIONS, "loss.levels=[0.1,0.9]").code == 0
    (run,) = tmp_path.glob("runs/*/*")
    model = package.load(run).task_model
    last = [each for each in model.network.modules() if isinstance(each, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.bias.copy_(torch.tensor([100.0, -100.0]))
    predictions = model(torch.zeros(1, 10))
    assert predictions[0, 0] < predictions[0, 1]


def test_a_single_level_is_a_column(tmp_path: Path, multilayer: Run, rows: pl.DataFrame) -> None:
    """Its network has one output; a weight does not change that."""
    assert multilayer("train", *TABLE, "loss.levels=[0.75]", "data.weight=age").code == 2
    frame = rows.with_columns(w=pl.lit(2.0))
    frame.write_csv(tmp_path / "rows.csv")
    assert multilayer("train", *TABLE, "loss.levels=[0.75]", "data.weight=w").code == 0
    (run,) = tmp_path.glob("runs/*/*")
    assert multilayer("predict", f"run={run}", "input=rows.csv", "output=p.csv").code == 0
    assert pl.read_csv(tmp_path / "p.csv").columns[-1] == "quantile_0.75"


def test_a_sweep_of_quantiles_is_stacked_and_reported(multilayer: Run, tmp_path: Path) -> None:
    """With the pinball loss among its metrics, and in the table of the sweep."""
    words = ["data=diabetes", "-m", "hydra/launcher=lockstep", "optimizer.lr=0.001,0.01"]
    swept = multilayer("train", *OPTIONS, *words)
    assert swept.code == 0, swept.err
    assert "pinball_loss" in swept.out
    (sweep,) = {path.parent for path in tmp_path.glob("sweeps/*/0")}
    assert json.loads((sweep / "1" / "manifest.json").read_text())["members"] == 2
    reported = multilayer("report", f"sweep={sweep}", "metric=validation/pinball_loss")
    assert reported.code == 0, reported.err
    text = "".join(path.read_text() for path in sweep.rglob("*.md"))
    assert "coverage_0.9" in text
    assert "mae and pinball_loss are in the target's units" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loss.levels=[0.9,0.1]"], "levels must be in ascending order, each once"),
        (["loss.levels=[0,0.5]"], "loss.levels"),
        (["loss.levels=[]"], "loss.levels"),
        (["loss.levels=0.5"], "loss.levels"),
        (["data=iris"], "QuantileLoss is for regression, and the data's task is multiclass"),
        (["monitor=validation/coverage_0.5"], "a coverage is best where it is its level"),
        (["monitor=validation/rmse"], "no such metric"),
        (["metrics=[MeanSquaredError]"], "take no quantiles; leave them out, or loss"),
        (["monitor=validation/mae", "loss.levels=[0.1]"], "monitor=validation/mae: no such metric"),
    ],
)
def test_what_cannot_be_is_one_message(multilayer: Run, words: list[str], message: str) -> None:
    """With exit code 2, and nothing written."""
    data = [] if any(word.startswith("data=") for word in words) else ["data=diabetes"]
    outcome = multilayer("train", *data, *OPTIONS, *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not Path("runs").exists()
