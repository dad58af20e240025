"""Runs on tables whose rows are divided, or weighed, by a column: commands, and a stack."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_diabetes

from ..conftest import Run
from .test_evaluate import printed

TABLE = ["data=table", "data.path=t.csv", "data.target=y", "trainer.max_epochs=3"]


@pytest.fixture
def diabetes(tmp_path: Path) -> pl.DataFrame:
    """Real rows, with a day and a split for each."""
    x, y = load_diabetes(return_X_y=True)
    frame = pl.DataFrame(x, schema=[f"x{i}" for i in range(x.shape[1])])
    days = pl.Series("day", np.arange(len(y)) // 3).cast(pl.Int32).cast(pl.Date)
    parts = pl.Series("part", ["train", "train", "train", "val", "test"] * 88 + ["train"] * 2)
    frame = frame.with_columns(days, parts, y=pl.Series(y))
    frame.write_csv(tmp_path / "t.csv")
    return frame


@pytest.mark.parametrize(
    ("words", "test_rows"),
    [
        (["data.split=time", "data.time=day", "data.drop_columns=[part]"], slice(442 - 67, 442)),
        (["data.split_column=part", "data.drop_columns=[day]"], slice(4, 440, 5)),
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
    chosen.drop("day", "part").write_csv(tmp_path / "newest.csv")
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
