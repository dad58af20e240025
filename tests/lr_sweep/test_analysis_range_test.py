"""The range test: where the loss falls fastest, by the logarithm of the rate."""

import numpy as np
import pytest

from multilayer.core.errors import UserError
from multilayer.lr_sweep.analysis import (
    _smooth,
    _steepest,
    _steps_until_explosion,
    analyze_ramps,
)

RATES = np.geomspace(1e-6, 10, 200)


def falling_at(rate: float, explodes: float = np.inf) -> list[float]:
    """A loss that falls from 2 to 1 around a rate, and explodes beyond another."""
    loss = 1.5 - np.tanh(3 * np.log10(RATES / rate)) / 2
    return list(np.where(explodes < RATES, 100.0, loss))


@pytest.mark.parametrize("rate", [1e-4, 1e-2, 1.0])
def test_the_steepest_rate_is_found_wherever_it_lies(rate: float) -> None:
    """To the next step; by the rate itself the smallest rates would be steepest."""
    assert _steepest(RATES, np.array(falling_at(rate))) == pytest.approx(rate, rel=0.05)


@pytest.mark.parametrize("rate", [1e-4, 1e-2])
def test_the_suggestion_is_twice_the_steepest_of_the_moving_average(rate: float) -> None:
    """Which lags a little behind the loss; with two digits."""
    found = analyze_ramps(list(RATES), [falling_at(rate)])
    assert rate < found.steepest < 3 * rate
    assert found.suggested == pytest.approx(2 * found.steepest, rel=0.05)
    assert found.warning() is None


def test_noise_between_minibatches_is_no_slope() -> None:
    """Where minibatches differ by half of what the loss falls by, the answer is nearly the same."""
    noise = np.random.default_rng(0).normal(scale=0.25, size=(3, len(RATES)))
    noisy = [list(falling_at(1e-2) + own) for own in noise]
    found = analyze_ramps(list(RATES), noisy)
    assert found.steepest == pytest.approx(
        analyze_ramps(list(RATES), [falling_at(1e-2)]).steepest, rel=0.6
    )
    assert min(found.by_seed) <= found.steepest * 2
    assert max(found.by_seed) >= found.steepest / 2


def test_a_loss_that_explodes_ends_the_test() -> None:
    """And what it does on the way there does not count."""
    found = analyze_ramps(list(RATES), [falling_at(1e-3, explodes=1e-1)])
    assert found.rates[-1] == pytest.approx(1e-1, rel=0.1)
    assert 1e-3 < found.steepest < 3e-3


def test_the_seed_that_ends_first_ends_all() -> None:
    """One may have met a loss that is not finite."""
    found = analyze_ramps(list(RATES), [falling_at(1e-3), falling_at(1e-3)[:150]])
    assert found.losses.shape == (2, 150)


def test_a_ramp_that_explodes_at_once_is_a_message() -> None:
    """With smaller rates to try."""
    with pytest.raises(UserError, match="min_lr=1e-09"):
        analyze_ramps(list(RATES), [[1.0, 1000.0]])


def test_the_average_is_that_of_adam() -> None:
    """Against the formula, written out for three losses."""
    expected = [1.0, (0.9 * 0.1 * 1 + 0.1 * 2) / 0.19]
    expected.append((0.81 * 0.1 * 1 + 0.9 * 0.1 * 2 + 0.1 * 3) / 0.271)
    assert _smooth(np.array([1.0, 2.0, 3.0])) == pytest.approx(expected)


@pytest.mark.parametrize(("rate", "words"), [(1e-6, "min_lr=1e-08"), (100.0, "max_lr=1e+03")])
def test_a_fall_on_the_edge_is_warned_of(rate: float, words: str) -> None:
    """It may be steeper beyond."""
    assert words in str(analyze_ramps(list(RATES), [falling_at(rate)]).warning())


@pytest.mark.parametrize(
    ("smoothed", "n_steps"),
    [
        ([1.0, 1.0, 3.9, 4.0, 4.1], 4),  # 4 is its lowest and three times that, 4.1 above
        ([2.0, 1.0, 5.0, 0.5, 9.0], 2),  # measured by the lowest so far
        ([-1.0, 1.9, 2.0, 2.1], 3),  # by the size of a negative one
        ([3.0, 2.0, 1.0], 3),
    ],
)
def test_a_loss_explodes_above_its_lowest_by_three_times_that(
    smoothed: list[float], n_steps: int
) -> None:
    """The steps before the first that does are kept."""
    assert _steps_until_explosion(np.array(smoothed)) == n_steps


def test_three_steps_before_an_explosion_are_enough() -> None:
    """Two are not: a slope needs some rates."""
    rates = [1e-3, 2e-3, 4e-3, 8e-3]
    found = analyze_ramps(rates, [[2.0, 1.5, 1.2, 1e6]])
    assert found.rates.tolist() == rates[:3]
    assert found.smoothed == pytest.approx(_smooth(np.array([2.0, 1.5, 1.2])))
    assert found.max_lr == 8e-3
    with pytest.raises(UserError, match=r"from the first rate on, 0\.001"):
        analyze_ramps(rates, [[2.0, 1.5, 1e6, 1e6]])


@pytest.mark.parametrize("lowest", [30, 39])
def test_the_slope_is_that_of_a_line_over_the_rates_half_a_decade_around(lowest: int) -> None:
    """Against numpy's least squares, for a noisy loss; ends of the window belong to it."""
    rates = np.geomspace(1e-4, 1.0, 41)
    loss = 5 * np.random.default_rng(5).normal(size=41)
    loss[lowest:] = [-9.0] + [-8.9] * (40 - lowest)  # rates beyond the lowest loss do not count
    slopes = []
    for rate in rates[: lowest + 1]:
        near = (rates >= rate / 10**0.5 * 0.999) & (rates <= rate * 10**0.5 * 1.001)
        slopes.append(np.polyfit(np.log(rates[near]), loss[near], 1)[0])
    assert _steepest(rates, loss) == rates[int(np.argmin(slopes))]


@pytest.mark.parametrize("scale", [1.0, 0.967])
def test_the_suggestion_ends_with_the_rates_that_were_to_be_tried(scale: float) -> None:
    """Twice the steepest would lie beyond, and so may what is rounded to two digits."""
    found = analyze_ramps(list(scale * RATES), [falling_at(8.0)])
    assert 2 * found.steepest > 10 * scale
    assert found.suggested == scale * RATES[-1]


def test_each_seed_has_a_steepest_rate_of_its_own_and_all_are_told() -> None:
    """Their mean lies between; the table has the losses of each."""
    ramps = [falling_at(1e-3), falling_at(1e-1)]
    found = analyze_ramps(list(RATES), ramps)
    alone = [analyze_ramps(list(RATES), [own]).steepest for own in ramps]
    assert found.by_seed == alone
    assert f"at {found.by_seed[0]:.2g} to {found.by_seed[1]:.2g}" in found.describe()[0]
    table = found.table()
    assert table["learning_rate"].to_list() == list(RATES)
    assert table["smoothed"].to_list() == pytest.approx(_smooth(np.mean(ramps, axis=0)))
    for k, own in enumerate(ramps):
        assert table[f"train_loss_seed_{k}"].to_list() == own
