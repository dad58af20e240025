"""Over- and underfitting."""

from pathlib import Path

import numpy as np
import pytest

from multilayer.sweeps.curves import Curves
from multilayer.sweeps.findings.fit import late_turn, turned

from ..made_up import found_in, write_run


@pytest.mark.parametrize(
    ("train", "validation", "title"),
    [(1.0, 0.9, "overfitting"), (0.97, 0.95, "fit"), (0.8, 0.82, "underfitting")],
)
def test_the_fit_is_told_by_the_accuracies(
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


def test_without_an_accuracy_the_losses_tell(tmp_path: Path) -> None:
    """Of a regression."""
    for number, (own, other) in enumerate([(0.1, 0.2), (0.3, 0.5)]):
        metrics = {"train": {"loss": own}, "validation": {"loss": other}}
        write_run(tmp_path / str(number), metrics=metrics, optimizer__lr=10.0**-number)
    assert "loss 0.1 in training, 0.2 in validation" in found_in(tmp_path)["overfitting"]


def test_the_rise_after_the_turning_point() -> None:
    """From the lowest value to the last; what is not finite is left out."""
    losses = np.array([2.0, 1.0, 1.5, np.nan])
    curves = Curves(np.arange(1, 5), {"validation/loss": losses})
    assert turned([curves]) == pytest.approx(0.5)
    assert turned([]) is None


@pytest.mark.parametrize(("name", "value"), [("auroc", 0.52), ("r2", 0.01)])
def test_a_sweep_in_which_all_learn_nothing_is_told(
    tmp_path: Path, name: str, value: float
) -> None:
    """No other config is any better, and yet it is underfitting."""
    for number in range(2):
        metrics = {split: {"loss": 1.0, name: value} for split in ("train", "validation")}
        write_run(tmp_path / str(number), metrics=metrics, optimizer__lr=10.0**-number)
    assert f"{name} {value} in training" in found_in(tmp_path)["learns nothing"]


def test_a_large_turn_is_a_finding_of_its_own() -> None:
    """A small one is not."""
    large = Curves(np.arange(1, 4), {"validation/loss": np.array([2.0, 1.0, 1.5])})
    small = Curves(np.arange(1, 4), {"validation/loss": np.array([2.0, 1.0, 1.1])})
    found = late_turn([large])
    assert found is not None
    assert "risen by 50%" in found.text
    assert late_turn([small]) is None


def test_a_network_that_always_names_one_class_learns_nothing(tmp_path: Path) -> None:
    """Iris at a rate that is too low: a third is right, and the ranking happens to be good."""
    train = {"loss": 1.099, "accuracy": 1 / 3, "auroc": 0.94, "f1": 1 / 6}
    write_run(tmp_path / "0", metrics={"train": train, "validation": train}, lr=1)
    assert "accuracy 0.3333 in training" in found_in(tmp_path)["learns nothing"]
