"""Over- and underfitting."""

from pathlib import Path

import numpy as np
import pytest

from multilayer.sweeps.curves import Curves
from multilayer.sweeps.findings.fit import turned

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
