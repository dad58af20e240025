"""Hyperparameters as they were swept: their values and spacing."""

import numpy as np
import pytest

from multilayer.reports.hyperparameters import Hyperparameter


@pytest.mark.parametrize(
    ("levels", "is_log"),
    [
        ([1e-4, 1e-3, 1e-2], True),
        ([16, 32, 64, 128], True),
        ([0, 1e-4, 1e-3, 1e-2], True),
        ([0.0, 0.1, 0.2, 0.3], False),
        ([1, 2, 3], False),
        ([0.1, 0.13], False),
        ([0.1, 0.3], True),
        ([0.01, 0.1], True),
        ([-1.0, 1.0, 10.0], False),
        (list(10 ** np.random.default_rng(0).uniform(-5, 0, size=40)), True),
        (list(np.random.default_rng(0).uniform(0, 0.5, size=40)), False),
    ],
)
def test_log_spacing_is_detected(levels: list[float], is_log: bool) -> None:
    """Grids, a zero beside them, and what a search has drawn."""
    assert Hyperparameter.from_runs("optimizer.lr", levels).is_log == is_log


def test_values_are_numbers_lists_and_text_in_order() -> None:
    """One word among numbers makes them words; 1 and 1.0 are one level."""
    assert Hyperparameter.from_runs("k", [2, 10, 1.0, 1]).values == (1.0, 2, 10)
    assert Hyperparameter.from_runs("k", [64, "full", 8]).values == (8, 64, "full")
    assert not Hyperparameter.from_runs("k", [64, "full", 8]).is_number
    assert Hyperparameter.from_runs("k", [[64, 32], [8], [64]]).values == ("[8]", "[64]", "[64,32]")
    assert Hyperparameter.from_runs("k", [True, None, False]).values == (False, None, True)
