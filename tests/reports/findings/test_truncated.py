"""Runs that were cut off."""

import numpy as np
import pytest

from multilayer.reports.findings.truncated import Ending, _late_gain, still_improving
from multilayer.reports.runs import Curves


def ending(best_epoch: int, gain: float | None = 0.1, ran_out: bool = True) -> Ending:
    """A run of 20 epochs."""
    return Ending(str(best_epoch), 20, best_epoch, ran_out, gain)


def test_runs_that_still_improved_are_counted() -> None:
    """Only where the number of epochs ended them, and the last ones brought something."""
    found = still_improving(
        [ending(20), ending(20, None), ending(10), ending(19, 0.0), ending(18)], ["20"]
    )
    assert found is not None
    assert found.text.startswith("1 of 5 finished runs")
    assert "the best config among them (its run)" in found.text
    assert "trainer.max_epochs=40" in found.text
    assert still_improving([ending(20, ran_out=False)], []) is None


def test_one_run_is_the_run() -> None:
    """And has no others."""
    found = still_improving([ending(20)], ["20"])
    assert found is not None
    assert found.text.startswith("the run had its best epoch")


NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "sign", "gain"),
    [
        ([2.0] + [1.0] * 18 + [0.75], 1, 0.25),  # the last two of twenty
        ([2.0] + [1.0] * 17 + [0.75, 1.0], 1, 0.25),
        ([2.0] + [1.0] * 16 + [0.75, 1.0, 1.0], 1, 0.0),
        ([0.2] + [0.5] * 18 + [0.6], -1, 0.2),
        ([-1.0, -2.0, -2.0, -2.0, -2.0, -3.0], 1, 0.5),
        ([1.0, 0.5], 1, 0.5),
        ([1.0, NAN, 0.5], 1, 0.5),
        ([1.0, 0.5, NAN], 1, 0.0),
        ([NAN, 0.5], 1, None),
        ([NAN, NAN], 1, None),
        ([0.5], 1, None),
        ([0.0, 0.5], 1, None),
    ],
)
def test_the_gain_is_what_the_last_tenth_of_the_epochs_brought(
    values: list[float], sign: int, gain: float | None
) -> None:
    """As a share of the best before; one epoch at least, and none where nothing came before."""
    curve = Curves(np.arange(1, len(values) + 1), {"m": np.array(values)})
    found = _late_gain(curve, "m", sign)
    assert found == (None if gain is None else pytest.approx(gain))


def test_without_a_curve_no_gain_is_known() -> None:
    """Nor where the metric was not logged."""
    assert _late_gain(None, "m", 1) is None
    assert _late_gain(Curves(np.arange(1, 4), {}), "m", 1) is None


@pytest.mark.parametrize(
    ("best_epoch", "gain", "ran_out", "late"),
    [
        (19, 0.01, True, True),
        (18, 0.5, True, False),
        (20, 0.0099, True, False),
        (20, None, True, False),
        (20, 0.5, False, False),
    ],
)
def test_late_is_in_the_last_tenth_with_a_gain_of_a_hundredth(
    best_epoch: int, gain: float | None, ran_out: bool, late: bool
) -> None:
    """Of twenty epochs the last two, if nothing but their number ended the run."""
    assert ending(best_epoch, gain, ran_out).is_late == late


def test_only_the_slow_ones_would_gain() -> None:
    """Where the best config is not among them; the longest is doubled."""
    found = still_improving([ending(20), Ending("x", 30, 30, True, 0.1), ending(3)], ["3"])
    assert found is not None
    assert found.text.startswith("2 of 3 finished runs had their best epoch in the last 10%")
    assert "but not the best config" in found.text
    assert found.text.endswith("try trainer.max_epochs=60")


def test_of_a_best_config_with_several_runs_they_are_counted() -> None:
    """Those that were cut off."""
    found = still_improving([ending(20), ending(19), ending(3)], ["20", "19", "3"])
    assert found is not None
    assert "the best config among them (2 of its 3 runs)" in found.text
