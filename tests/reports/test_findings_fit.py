"""Over- and underfitting."""

from pathlib import Path

import numpy as np
import pytest

from multilayer.reports.findings import (
    _fit_of_best,
    _late_rise,
    _median_rise,
    _predicts_one_class,
)
from multilayer.reports.runs import Curves

from .fake_sweeps import found_in, opened, write_run


@pytest.mark.parametrize(
    ("train", "validation", "title"),
    [(1.0, 0.9, "overfitting"), (0.97, 0.95, "fit"), (0.8, 0.82, "underfitting")],
)
def test_the_fit_is_judged_by_the_accuracies(
    tmp_path: Path, train: float, validation: float, title: str
) -> None:
    """The gap for over-, and the distance from the best training for underfitting."""
    for number, (loss, own, other) in enumerate([(0.1, train, validation), (0.5, 0.99, 0.7)]):
        metrics = {
            "train": {"loss": loss, "accuracy": own},
            "validation": {"loss": loss, "accuracy": other},
        }
        write_run(tmp_path / str(number), metrics=metrics, optimizer__lr=10.0**-number)
    assert title in found_in(tmp_path)


def test_without_an_accuracy_the_losses_decide(tmp_path: Path) -> None:
    """Of a regression."""
    for number, (own, other) in enumerate([(0.1, 0.2), (0.3, 0.5)]):
        metrics = {"train": {"loss": own}, "validation": {"loss": other}}
        write_run(tmp_path / str(number), metrics=metrics, optimizer__lr=10.0**-number)
    assert "loss 0.1 in training, 0.2 in validation" in found_in(tmp_path)["overfitting"]


def test_the_rise_after_the_turning_point() -> None:
    """From the lowest value to the last; what is not finite is left out."""
    losses = np.array([2.0, 1.0, 1.5, np.nan])
    curves = {"validation/loss": losses}
    assert _median_rise([curves]) == pytest.approx(0.5)
    assert _median_rise([]) is None


@pytest.mark.parametrize(("name", "value"), [("auroc", 0.52), ("r2", 0.01)])
def test_a_sweep_in_which_no_config_learns_is_found(
    tmp_path: Path, name: str, value: float
) -> None:
    """No other config is any better, and yet it is underfitting."""
    for number in range(2):
        metrics = {split: {"loss": 1.0, name: value} for split in ("train", "validation")}
        write_run(tmp_path / str(number), metrics=metrics, optimizer__lr=10.0**-number)
    assert f"{name} {value} in training" in found_in(tmp_path)["learns nothing"]


def test_a_large_turn_is_a_finding_of_its_own() -> None:
    """A small one is not."""
    large = {"validation/loss": np.array([2.0, 1.0, 1.5])}
    small = {"validation/loss": np.array([2.0, 1.0, 1.1])}
    found = _late_rise([large])
    assert found is not None
    assert "risen by 50%" in found.text
    assert _late_rise([small]) is None


def test_a_network_that_always_predicts_one_class_learns_nothing(tmp_path: Path) -> None:
    """Iris at a rate that is too low: a third is right, and the ranking happens to be good."""
    train = {"loss": 1.099, "accuracy": 1 / 3, "auroc": 0.94, "f1": 1 / 6}
    write_run(tmp_path / "0", metrics={"train": train, "validation": train}, lr=1)
    assert "accuracy 0.3333 in training" in found_in(tmp_path)["learns nothing"]


def fit(folder: Path, name: str, *pairs: tuple[float, float]) -> tuple[str, str]:
    """Title and text for configs with these values in training and validation, best first."""
    for number, (own, other) in enumerate(pairs):
        metrics = {
            "train": {"loss": 1.0, name: own},
            "validation": {"loss": float(number), name: other},
        }
        if name == "loss":
            metrics["validation"]["loss"] = other
        write_run(folder / str(number), metrics=metrics, optimizer__lr=10.0**-number)
    _, configs = opened(folder)
    finding = _fit_of_best(configs[0], configs)
    return finding.title, finding.text


@pytest.mark.parametrize(
    ("name", "pairs", "title"),
    [
        ("accuracy", [(0.951, 0.9), (0.9, 0.9)], "overfitting"),
        ("accuracy", [(0.949, 0.9), (0.9, 0.9)], "fit"),
        ("accuracy", [(0.9, 0.9), (0.951, 0.2)], "underfitting"),
        ("accuracy", [(0.9, 0.9), (0.949, 0.2)], "fit"),
        ("accuracy", [(0.8, 0.7), (0.9, 0.2)], "overfitting"),  # it is reported first
        ("accuracy", [(0.5, 0.9), (0.4, 0.1)], "fit"),
        ("loss", [(0.4, 0.501), (0.4, 0.9)], "overfitting"),
        ("loss", [(0.4, 0.499), (0.4, 0.9)], "fit"),
        ("loss", [(0.501, 0.5), (0.4, 0.9)], "underfitting"),
        ("loss", [(0.499, 0.5), (0.4, 0.9)], "fit"),
        ("loss", [(0.9, 1.2), (0.4, 2.0), (0.8, 3.0)], "overfitting"),
        ("loss", [(1.0, 0.5), (0.4, 0.9), (1.6, 1.0)], "underfitting"),
    ],
)
def test_the_bounds_of_the_fit(
    tmp_path: Path, name: str, pairs: list[tuple[float, float]], title: str
) -> None:
    """Five points of accuracy, a quarter of a loss; the best training is that of any config."""
    assert fit(tmp_path, name, *pairs)[0] == title


def test_the_sentence_has_the_numbers(tmp_path: Path) -> None:
    """Of training, of validation, and of the best training."""
    _, text = fit(tmp_path, "accuracy", (0.7, 0.68), (0.9, 0.3), (0.8, 0.2))
    assert "accuracy 0.7 in training, 0.68 in validation" in text
    assert "another config reached 0.9 in training" in text


def test_without_both_splits_nothing_is_said_of_the_fit(tmp_path: Path) -> None:
    """But that they are not there."""
    for number in range(2):
        metrics = {"validation": {"loss": 0.5 + number}, "train": {}}
        write_run(tmp_path / str(number), metrics=metrics, optimizer__lr=10.0**-number)
    assert found_in(tmp_path)["fit"] == "the best config has no loss for training and validation"


@pytest.mark.parametrize(
    ("accuracy", "f1", "is_one"),
    [
        (1 / 3, 1 / 6, True),  # three classes of equal shares
        (0.1, 2 * 0.1 / 1.1 / 10, True),
        (0.6, 2 * 0.6 / 1.6 / 3, True),
        (0.6, 0.75, True),  # of two classes F1 is that of class 1 alone: always 1
        (0.6, 0.0, True),  # or always 0
        (0.6, 0.75 + 0.0009, True),
        (0.6, 0.75 + 0.0011, False),
        (0.6, 0.75 / 2 - 0.0011, False),
        (0.2, 2 * 0.2 / 1.2 / 3, False),  # of three classes none is the most frequent at 0.2
        (0.01, 2 * 0.01 / 1.01 / 100, True),
        (0.95, 2 * 0.95 / 1.95, False),  # of a good network F1 is as near
        (0.949, 2 * 0.949 / 1.949, True),
        (0.97, 0.0005, True),
        (0.97, 0.9, False),
    ],
)
def test_always_naming_one_class_is_known_by_accuracy_and_f1(
    accuracy: float, f1: float, is_one: bool
) -> None:
    """To a thousandth, whatever the share of the class is."""
    assert _predicts_one_class(accuracy, f1) == is_one


@pytest.mark.parametrize(
    ("name", "value", "is_nothing"),
    [("auroc", 0.599, True), ("auroc", 0.6, False), ("r2", 0.049, True), ("r2", 0.05, False)],
)
def test_the_bounds_of_learning_nothing(
    tmp_path: Path, name: str, value: float, is_nothing: bool
) -> None:
    """In training; what is at the bound is something."""
    for number in range(2):
        metrics = {
            "train": {"loss": 1.0, name: value},
            "validation": {"loss": 1.0 + number, name: 0.01},
        }
        write_run(tmp_path / str(number), metrics=metrics, optimizer__lr=10.0**-number)
    assert ("learns nothing" in found_in(tmp_path)) == is_nothing


def with_losses(*values: float) -> Curves:
    """A curve of the validation loss."""
    return {"validation/loss": np.array(values)}


def test_the_rise_is_the_median_of_the_runs() -> None:
    """Those whose lowest loss is 0, or of which none is finite, are left out."""
    curves = [with_losses(1.0, 0.5, 1.0), with_losses(2.0, 1.0, 1.1), with_losses(1.0, 1.0, 1.3)]
    assert _median_rise(curves) == pytest.approx(0.3)
    assert _median_rise([*curves, with_losses(1.0, 0.0), with_losses(float("nan"))]) == (
        pytest.approx(0.3)
    )
    assert _median_rise([with_losses(0.0, 1.0)]) is None


@pytest.mark.parametrize(("end", "is_found"), [(1.25, False), (1.26, True)])
def test_a_turn_is_a_finding_above_a_quarter(end: float, is_found: bool) -> None:
    """And without curves there is none."""
    assert (_late_rise([with_losses(2.0, 1.0, end)]) is not None) == is_found
    assert _late_rise([]) is None
