"""The range test: where the loss falls fastest, by the logarithm of the rate."""

import numpy as np
import pytest

from multilayer.errors import UserError
from multilayer.lr_sweep.range_test import RangeTest, judge_ramp, smooth

RATES = np.geomspace(1e-6, 10, 200)


def falling_at(rate: float, explodes: float = np.inf) -> list[float]:
    """A loss that falls from 2 to 1 around a rate, and explodes beyond another."""
    position = np.log10(RATES / rate)
    loss = 1.5 - np.tanh(3 * position) / 2
    return list(np.where(explodes < RATES, 100.0, loss))


@pytest.mark.parametrize("rate", [1e-4, 1e-2, 1.0])
def test_the_steepest_rate_is_found_wherever_it_lies(rate: float) -> None:
    """By the rate itself the smallest would be steepest; the average lags a little behind."""
    found = judge_ramp(list(RATES), falling_at(rate)).steepest
    assert rate < found < 4 * rate


def test_a_loss_that_explodes_ends_the_test() -> None:
    """And what it does on the way there does not count."""
    found = judge_ramp(list(RATES), falling_at(1e-3, explodes=1e-1))
    assert found.rates[-1] == pytest.approx(1e-1, rel=0.1)
    assert 1e-3 < found.steepest < 4e-3


def test_a_ramp_that_explodes_at_once_is_a_message() -> None:
    """With smaller rates to try."""
    with pytest.raises(UserError, match="min_lr=1e-09"):
        judge_ramp(list(RATES), [1.0, 1000.0])


def test_the_average_is_that_of_adam() -> None:
    """Against the formula, written out for three losses."""
    expected = [1.0, (0.9 * 0.1 * 1 + 0.1 * 2) / 0.19]
    expected.append((0.81 * 0.1 * 1 + 0.9 * 0.1 * 2 + 0.1 * 3) / 0.271)
    assert smooth(np.array([1.0, 2.0, 3.0])) == pytest.approx(expected)


def test_seeds_are_averaged_by_the_logarithm() -> None:
    """The suggestion is the geometric mean; a fall at the edge is warned of."""
    ramps = [judge_ramp(list(RATES), falling_at(rate)) for rate in (1e-3, 1e-1)]
    found = RangeTest(ramps, max_lr=RATES[-1])
    product = ramps[0].steepest * ramps[1].steepest
    assert found.suggested == pytest.approx(product**0.5, rel=0.05)
    assert found.warning() is None
    edge = judge_ramp(list(RATES), falling_at(100.0))
    assert "edge" in str(RangeTest([edge], max_lr=RATES[-1]).warning())
