"""The chapters of the lecture: each experiment runs as it comes, and shows what it says."""

import json
from math import isfinite
from pathlib import Path
from typing import Any

from ..conftest import Run


def runs(tmp_path: Path, name: str) -> dict[str, dict[str, Any]]:
    """A file of each job of the one sweep, by the job's last override."""
    found: dict[str, dict[str, Any]] = {}
    for path in tmp_path.glob(f"sweeps/*/*/{name}"):
        manifest = json.loads((path.parent / "manifest.json").read_text())
        found[manifest["overrides"][0].partition("=")[2]] = json.loads(path.read_text())
    return found


def single(multilayer: Run, tmp_path: Path, experiment: str) -> tuple[Any, Any]:
    """The manifest and the metrics of an experiment that is one run."""
    outcome = multilayer("train", f"experiment={experiment}")
    assert outcome.code == 0, outcome.err
    (folder,) = tmp_path.glob("runs/*/*")
    assert (folder / "figures" / "learning_curves.png").is_file()
    return tuple(
        json.loads((folder / name).read_text()) for name in ("manifest.json", "metrics.json")
    )


def sweep(multilayer: Run, experiment: str) -> None:
    """An experiment that is a sweep needs no -m."""
    outcome = multilayer("train", f"experiment={experiment}")
    assert outcome.code == 0, outcome.err
    assert "sweep folder" in outcome.out


def test_pass_class_is_learnt(multilayer: Run, tmp_path: Path) -> None:
    """Nearly as well as luck allows."""
    _, metrics = single(multilayer, tmp_path, "pass_class")
    assert metrics["test"]["accuracy"] > 0.9


def test_an_underfit_is_bad_on_both(multilayer: Run, tmp_path: Path) -> None:
    """Training and validation loss are high, and near each other."""
    _, metrics = single(multilayer, tmp_path, "underfit")
    assert metrics["train"]["loss"] > 1.5
    assert abs(metrics["validation"]["loss"] - metrics["train"]["loss"]) < 0.3


def test_an_ideal_fit_is_good_on_both(multilayer: Run, tmp_path: Path) -> None:
    """Both losses are low."""
    _, metrics = single(multilayer, tmp_path, "ideal_fit")
    assert metrics["train"]["loss"] < 0.1
    assert metrics["validation"]["loss"] < 0.3


def test_an_overfit_turns_long_before_its_end(multilayer: Run, tmp_path: Path) -> None:
    """Its best epoch is early, and even there it is far worse on rows that it has not seen."""
    manifest, metrics = single(multilayer, tmp_path, "overfit")
    assert manifest["best_epoch"] < 50
    assert manifest["stop_reason"] == "reached trainer.max_epochs=100"
    assert metrics["validation"]["loss"] > metrics["train"]["loss"] + 0.5


def test_learning_rates_are_slow_stable_and_divergent(multilayer: Run, tmp_path: Path) -> None:
    """In the order of their size; what diverges is a result and no failure."""
    sweep(multilayer, "learning_rates")
    metrics = runs(tmp_path, "metrics.json")
    losses = {rate: metrics[rate]["validation"]["loss"] for rate in metrics}
    assert losses["0.001"] > 2 > losses["0.01"] > 2 * losses["0.1"]
    assert runs(tmp_path, "manifest.json")["10.0"]["status"] == "diverged"


def test_each_optimizer_learns(multilayer: Run, tmp_path: Path) -> None:
    """All six, at the rates of their files."""
    sweep(multilayer, "optimizers")
    metrics = runs(tmp_path, "metrics.json")
    assert set(metrics) == {"sgd", "adam", "adamw", "adadelta", "adagrad", "rmsprop"}
    assert all(values["test"]["accuracy"] > 0.9 for values in metrics.values())


def test_smaller_minibatches_take_more_steps(multilayer: Run, tmp_path: Path) -> None:
    """Per epoch, and with the same rate they get further."""
    sweep(multilayer, "batch_sizes")
    steps = {size: manifest["steps"] for size, manifest in runs(tmp_path, "manifest.json").items()}
    assert steps == {"1": 15 * 420, "16": 15 * 27, "64": 15 * 7, "full": 15}
    metrics = runs(tmp_path, "metrics.json")
    assert metrics["16"]["validation"]["loss"] < metrics["full"]["validation"]["loss"]


def test_dropout_helps_a_network_that_overfits(multilayer: Run, tmp_path: Path) -> None:
    """The lowest validation loss is lower with it."""
    sweep(multilayer, "dropout")
    losses = {
        p: values["validation"]["loss"] for p, values in runs(tmp_path, "metrics.json").items()
    }
    assert all(map(isfinite, losses.values()))
    assert losses["0.5"] < losses["0"]


def test_a_large_network_is_better_with_all_that_regularizes(
    multilayer: Run, tmp_path: Path
) -> None:
    """Than without dropout and weight decay; the schedule comes to its end."""
    manifest, metrics = single(multilayer, tmp_path, "regularized")
    assert manifest["stop_reason"] == "reached trainer.max_epochs=100"
    without = ["model.dropout=0", "optimizer.weight_decay=0", "hydra.run.dir=without"]
    outcome = multilayer("train", "experiment=regularized", *without)
    assert outcome.code == 0, outcome.err
    plain = json.loads((tmp_path / "without" / "metrics.json").read_text())
    assert metrics["test"]["loss"] < 0.8 * plain["test"]["loss"]
    assert metrics["test"]["accuracy"] > plain["test"]["accuracy"]
