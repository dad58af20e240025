"""Runs whose weights are of another precision than float32: `trainer.precision`."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from multilayer.runs.checkpoint import read_checkpoint
from multilayer.training.evaluate import evaluate
from multilayer.training.loading import load
from multilayer.training.predict import predict

from ..conftest import Run, only_folder
from ..trained import train_in

DTYPES = {
    "64-true": torch.float64,
    "bf16-true": torch.bfloat16,
    "bf16-mixed": torch.float32,
    "32-true": torch.float32,
}

WORDS = {
    "classes": ["data=iris", "loss.class_weights=[1,2,3]", "model.normalization=batch"],
    "two classes": ["data=breast_cancer", "loss.class_weights=[1,2]", "model.normalization=layer"],
    "regression": ["data=diabetes", "model.dropout=0.1"],
}


@pytest.mark.parametrize("task", WORDS)
@pytest.mark.parametrize("precision", DTYPES)
def test_a_run_is_evaluated_in_the_precision_of_its_training(
    tmp_path: Path, precision: str, task: str
) -> None:
    """To the numbers that it wrote; the preprocessing and the loss keep theirs."""
    words = [*WORDS[task], "trainer.max_epochs=3", "logger=none", "optimizer.lr=0.01"]
    result = train_in(tmp_path / "run", *words, f"trainer.precision={precision}", "trainer=cpu")
    trained = load(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert {each.dtype for each in trained.task_model.network.parameters()} == {DTYPES[precision]}
    saved = read_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")["state_dict"]
    weights = [value for name, value in saved.items() if name.startswith("network")]
    assert {each.dtype for each in weights if each.is_floating_point()} == {DTYPES[precision]}
    assert trained.preprocessing.mean.dtype == torch.float32
    assert (trained.preprocessing.mean.bfloat16() != trained.preprocessing.mean).any()
    for split in ("validation", "test"):
        request = {"run": str(tmp_path / "run"), "split": split, "data": {"path": None}}
        again = evaluate({**request, "device": "cpu", "trusted_packages": []}).metrics
        assert again == pytest.approx(result.metrics[split], rel=1e-6)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """On the test rows, by the precision of the training."""
    words = ["data=iris", "trainer.max_epochs=5", "logger=none", "callbacks=none", "trainer=cpu"]
    return {
        each: train_in(
            tmp_path_factory.mktemp("precision") / "run", *words, f"trainer.precision={each}"
        ).metrics["test"]["loss"]
        for each in DTYPES
    }


@pytest.mark.parametrize("precision", DTYPES)
def test_another_precision_learns_as_float32_does(losses: dict[str, float], precision: str) -> None:
    """To its own digits; a loss in bfloat16 would have three."""
    tolerance = 1e-5 if precision == "64-true" else 0.05
    assert losses[precision] == pytest.approx(losses["32-true"], rel=tolerance)
    assert losses[precision] != torch.tensor(losses[precision]).bfloat16().item()


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_predictions_are_those_of_the_module_itself(
    tmp_path: Path, iris_csv: Path, precision: str
) -> None:
    """Called on raw columns, in float32 or float64."""
    words = ["data=table", f"data.path={iris_csv}", "data.target=species", "trainer.max_epochs=2"]
    train_in(tmp_path / "run", *words, f"trainer.precision={precision}", "logger=none")
    output = tmp_path / "out.parquet"
    request: dict[str, Any] = {"run": str(tmp_path / "run"), "input": str(iris_csv)}
    predict(
        {
            **request,
            "output": str(output),
            "keep_input_columns": False,
            "device": "cpu",
            "trusted_packages": [],
        }
    )
    task_model = load(tmp_path / "run" / "checkpoints" / "best.ckpt").task_model
    raw = torch.from_numpy(pl.read_csv(iris_csv).drop("species").to_numpy())
    with torch.no_grad():
        probabilities = task_model(raw)
    assert probabilities.dtype == (torch.float64 if precision == "64-true" else torch.float32)
    written = torch.from_numpy(pl.read_parquet(output)[:, 1:].to_numpy())
    torch.testing.assert_close(written, probabilities, check_dtype=False)
    torch.testing.assert_close(task_model(raw.float()), probabilities, rtol=1e-3, atol=1e-3)


def test_a_sweep_trains_runs_in_bfloat16_alone_and_says_why(multilayer: Run) -> None:
    """They leave the folders of any job; one by one under `engine=lockstep` it is refused."""
    words = ["data=iris", "trainer.max_epochs=1", "trainer.precision=bf16-true", "logger=none"]
    outcome = multilayer("train", "-m", "hydra/launcher=lockstep", *words, "seed=0,1")
    assert outcome.code == 0, outcome.err
    assert "jobs 0 to 1 alone: trainer.precision=bf16-true" in outcome.out + outcome.err
    for metrics in Path().glob("sweeps/*/*/metrics.json"):
        assert json.loads(metrics.read_text())["test"]["accuracy"] is not None
    alone = multilayer("train", *words, "engine=lockstep")
    assert alone.code == 2
    assert "trainer.precision=bf16-true" in alone.err


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_such_a_run_is_resumed_to_the_same_end(
    multilayer: Run, tmp_path: Path, precision: str
) -> None:
    """Bit for bit, with its figures and diagnostics."""
    words = [
        "data=iris",
        f"trainer.precision={precision}",
        "callbacks=[default,figures,diagnostics]",
        "trainer=cpu",
        "scheduler=constant",
    ]
    whole = train_in(tmp_path / "whole", *words, "trainer.max_epochs=4").metrics
    train_in(tmp_path / "half", *words, "trainer.max_epochs=2")
    half = str(tmp_path / "half")
    outcome = multilayer("train", *words, "trainer.max_epochs=4", f"resume={half}")
    assert outcome.code == 0, outcome.err
    folder = only_folder(tmp_path)
    assert json.loads((folder / "metrics.json").read_text()) == whole
