"""Metrics that are not defined for the rows: what the commands print, write and refuse."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from multilayer.core.text import counted

from ..conftest import Run, only_folder

N = 120


@pytest.fixture
def table(tmp_path: Path) -> pl.DataFrame:
    """Two classes in the training rows, and a number to regress on."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(N)
    frame = pl.DataFrame({"x": x, "y": np.where(x > 0, "yes", "no"), "z": x + 0.5})
    frame.write_csv(tmp_path / "t.csv")
    return frame


def training(target: str, *words: str) -> list[str]:
    """The words of a short training."""
    table = ["data=table", "data.path=t.csv", f"data.target={target}", "data.drop_columns=[]"]
    return ["train", *table, "trainer.max_epochs=2", "model.d_hidden=[]", *words]


@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
@pytest.mark.parametrize(
    ("target", "rows", "undefined"),
    [
        ("y", pl.col("y") == "no", {"auroc", "f1"}),
        ("y", pl.col("y") == "yes", {"auroc"}),
        ("z", pl.int_range(pl.len()) == 0, {"r2"}),
    ],
)
def test_a_run_says_what_is_undefined(
    multilayer: Run,
    tmp_path: Path,
    table: pl.DataFrame,
    engine: str,
    target: str,
    rows: pl.Expr,
    undefined: set[str],
) -> None:
    """A dash and a reason on the screen, null in `metrics.json`, nothing in TensorBoard."""
    rest = table.filter(rows).head(10)
    if target == "y":  # so that F1 of class 1 is not defined: none is predicted either
        rest = rest.with_columns(x=pl.when(pl.col("y") == "no").then(-9.0).otherwise("x"))
    rest.write_csv(tmp_path / "held.csv")
    held = ["data.validation_path=held.csv", "data.test_path=held.csv"]
    words = training(target, *held, f"engine={engine}", "optimizer.lr=0.3")
    outcome = multilayer(*words)
    assert outcome.code == 0, outcome.err
    folder = only_folder(tmp_path)
    metrics = json.loads((folder / "metrics.json").read_text())
    for split in ("validation", "test"):
        assert {name for name, value in metrics[split].items() if value is None} == undefined
    assert None not in metrics["train"].values()
    for name in ("auroc", "f1", "r2"):
        said = f"{name} is not defined for validation, test: it needs" in outcome.out
        assert said == (name in undefined)
    assert "nan" not in outcome.out
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    logged = set(events.Tags()["scalars"])
    for name in metrics["train"]:
        assert (f"validation/{name}" in logged) == (name not in undefined)
        assert f"train/{name}" in logged
    again = multilayer("evaluate", f"run={folder}", "data.path=held.csv")
    assert again.code == 0, again.err
    assert "nan" not in again.out
    for name in undefined:
        assert (
            f"{name} is not defined for {counted(len(rest), 'row')} of held.csv, which decided the "
            "best epoch: it needs" in again.out
        )


@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
@pytest.mark.parametrize(
    ("target", "metric", "mode"), [("y", "auroc", "max"), ("y", "f1", "max"), ("z", "r2", "max")]
)
def test_an_undefined_metric_chooses_no_best_epoch(
    multilayer: Run,
    tmp_path: Path,
    table: pl.DataFrame,
    engine: str,
    target: str,
    metric: str,
    mode: str,
) -> None:
    """It is refused before the training, with what to say instead, which works."""
    table.filter(pl.col("y") == "no").head(1).write_csv(tmp_path / "held.csv")
    words = training(target, "data.validation_path=held.csv", f"engine={engine}")
    outcome = multilayer(*words, f"monitor=validation/{metric}", f"mode={mode}")
    assert outcome.code == 2
    assert f"monitor=validation/{metric}: it is not defined for the 1 validation row" in outcome.err
    assert "use monitor=validation/loss mode=min" in outcome.err
    assert not list(tmp_path.glob("runs/*/*"))
    assert multilayer(*words, "monitor=validation/loss", "mode=min").code == 0


def test_a_sweep_whose_metrics_are_undefined_is_reported(
    multilayer: Run, tmp_path: Path, table: pl.DataFrame
) -> None:
    """Its table has a dash, and no number, where there is none."""
    table.filter(pl.col("y") == "yes").head(9).write_csv(tmp_path / "held.csv")
    held = ["data.validation_path=held.csv", "data.test_path=held.csv", "seed=0,1"]
    outcome = multilayer(
        training("y")[0], "-m", "hydra/launcher=lockstep", *training("y", *held)[1:]
    )
    assert outcome.code == 0, outcome.err
    (sweep,) = (path.parent for path in tmp_path.glob("sweeps/**/multirun.yaml"))
    outcome = multilayer("report", f"sweep={sweep}")
    assert outcome.code == 0, outcome.err
    runs = pl.read_csv(sweep / "runs.csv")
    (column,) = (name for name in runs.columns if "test" in name and "auroc" in name)
    assert runs[column].null_count() == 2
    assert "nan" not in outcome.out
