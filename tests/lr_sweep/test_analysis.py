"""The rules: which rates are slow, stable and divergent, and which one is suggested."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multilayer.core.errors import UserError
from multilayer.lr_sweep.analysis import (
    LRSweepResult,
    _around_best,
    _classify,
    _largest_stable,
    _suggest,
    _two_digits,
    analyze_sweep,
)
from multilayer.lr_sweep.trials import TrialLosses

NAN = float("nan")
RATES = [1e-3, 1e-2, 1e-1, 1.0]


def losses(after: list[list[float]], validation: list[list[float]]) -> list[TrialLosses]:
    """Those of rates by seeds, from a training loss of 1."""
    pairs = zip(chain(*after), chain(*validation), strict=True)
    return [TrialLosses(1.0, each, [lowest]) for each, lowest in pairs]


def judged(after: list[list[float]], validation: list[list[float]] | None = None) -> LRSweepResult:
    return analyze_sweep(RATES, losses(after, validation or after))


@pytest.mark.parametrize(
    ("after", "regime"),
    [
        ([1.11, 0.2], "divergent"),  # in one seed, above what it was by more than a tenth
        ([NAN, 0.2], "divergent"),
        ([float("inf"), 0.2], "divergent"),
        ([1.09, 1.09], "slow"),  # it does not fall at all
        ([0.61, 0.61], "slow"),  # gains 0.39, less than half of the best gain of 0.8
        ([0.59, 0.59], "stable"),
        ([0.2, 0.2], "stable"),
    ],
)
def test_a_rate_is_classified_by_the_training_loss(after: list[float], regime: str) -> None:
    """Beside one that takes 0.8 from a loss of 1."""
    assert _classify(np.ones((2, 2)), np.array([[0.2, 0.2], after]))[1] == regime


def test_the_best_the_largest_stable_and_the_spread_are_named() -> None:
    """The best by the mean of the seeds; a rate that diverges in one seed is none of them."""
    found = judged(
        [[0.9, 0.9], [0.3, 0.3], [0.3, 0.3], [0.1, NAN]],
        [[0.9, 0.9], [0.2, 0.4], [0.4, 0.1], [0.1, NAN]],
    )
    assert found.regimes == ["slow", "stable", "stable", "divergent"]
    assert found.largest_stable == 0.1
    assert found.best == 0.1
    assert found.by_seed == [0.01, 0.1]
    assert found.warning() is None
    assert "by single seeds 0.01 to 0.1; best 0.1, largest stable 0.1" in found.describe()[1]


def test_rates_of_one_regime_are_named_together_and_apart_where_another_is_between() -> None:
    """A rate that is too large may gain little too."""
    found = judged([[0.9], [0.1], [0.9], [0.95]])
    assert found.describe()[0] == "slow 0.001, stable 0.01, slow 0.1 to 1"


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ([[0.1], [0.5], [0.9], [0.9]], "min_lr=1e-05"),
        ([[0.9], [0.9], [0.5], [0.1]], "max_lr=1e+02"),
    ],
)
def test_the_best_on_the_edge_is_warned_of(after: list[list[float]], words: str) -> None:
    """The optimum may lie beyond."""
    assert words in str(judged(after).warning())


def test_a_validation_loss_that_is_not_finite_is_divergent_too() -> None:
    """Although the training loss fell."""
    found = judged([[0.9], [0.3], [0.2], [0.1]], [[0.9], [0.3], [0.2], [float("inf")]])
    assert found.regimes == ["slow", "stable", "stable", "divergent"]


def test_a_rate_beyond_a_divergent_one_is_neither_suggested_nor_the_largest_stable() -> None:
    """It was lucky; between it and the others lies a rate that diverges."""
    found = judged([[0.9], [0.2], [NAN], [0.2]], [[0.9], [0.2], [0.2], [0.2]])
    assert found.regimes == ["slow", "stable", "divergent", "stable"]
    assert found.suggested == found.largest_stable == 0.01


def test_a_slow_rate_is_not_suggested_where_others_are_stable() -> None:
    """Its validation loss may be lowest by chance, where there are few rows."""
    found = judged([[0.9], [0.2], [0.9], [NAN]], [[0.9], [0.5], [0.4], [NAN]])
    assert found.best == found.suggested == found.largest_stable == 0.01


def test_losses_may_be_negative() -> None:
    """Margins are of their size: from -1 to -2 is a gain."""
    before, after = -np.ones((3, 1)), np.array([[-1.1], [-2.0], [-0.8]])
    assert _classify(before, after) == ["slow", "stable", "divergent"]


def test_where_nothing_is_learnt_it_is_told() -> None:
    """A rate is suggested all the same, with a warning."""
    found = judged([[1.0], [1.0], [1.05], [NAN]])
    assert found.largest_stable is None
    assert "no rate is stable" in str(found.warning())


def test_where_all_diverge_smaller_ones_are_named() -> None:
    """A message, with what to type."""
    with pytest.raises(UserError, match=r"all 4 rates from 0.001 to 1 diverged.*min_lr=1e-06"):
        judged([[NAN], [2.0], [NAN], [NAN]])


def test_the_suggestion_is_the_middle_of_what_is_equally_good() -> None:
    """In the logarithm: 0.01 and 1 have 0.1 between them."""
    score = np.array([9.0, 0.5, 0.5, 0.5])
    assert _suggest(np.array(RATES), score, start=1.0) == 0.1


def test_a_clear_best_is_suggested_itself() -> None:
    """The others are 10 times the tolerance away."""
    score = np.array([9.0, 0.5, 0.7, 9.0])
    assert _suggest(np.array(RATES), score, start=1.0) == 0.01


@pytest.mark.parametrize(("best", "expected"), [(0, 0.00124), (3, 0.967)])
def test_no_suggestion_is_rounded_to_a_rate_beyond_those_tried(best: int, expected: float) -> None:
    """0.0012 and 0.97, to two digits, were not tried."""
    rates = np.array([0.00124, 0.01, 0.1, 0.967])
    score = np.full(4, 9.0)
    score[best] = 0.5
    assert _suggest(rates, score, start=1.0) == expected


def test_a_loss_of_nothing_does_not_hide_what_is_nearly_as_good() -> None:
    """1e-9 is not a billion times better than 1e-3 where both fell from 1."""
    score = np.array([9.0, 1e-9, 1e-4, 9.0])
    assert _suggest(np.array(RATES), score, start=1.0) == pytest.approx(0.03, abs=0.002)


@pytest.mark.parametrize(
    ("best", "start", "margin"),
    [
        (1.0, 1.5, 0.03),  # 3 % of the best loss
        (-2.0, -1.0, 0.06),  # of its size
        (0.0, 1.0, 0.003),  # of a tenth of what it fell by, where the best is nothing
        (0.1, 5.1, 0.015),
    ],
)
def test_a_loss_that_is_a_margin_above_the_best_counts_1_e_of_it(
    best: float, start: float, margin: float
) -> None:
    """The weighted mean of the logarithms, written out for two rates."""
    score = np.array([np.inf, best, best + margin, np.inf])
    expected = np.exp((np.log(0.01) + np.exp(-1) * np.log(0.1)) / (1 + np.exp(-1)))
    assert _suggest(np.array(RATES), score, start) == _two_digits(expected)


def test_all_losses_nothing_are_equally_good() -> None:
    """No margin is 0, which would be divided by."""
    assert _suggest(np.array(RATES), np.zeros(4), start=0.0) == _two_digits(10**-1.5)


@pytest.mark.parametrize(
    ("regimes", "score", "usable"),
    [
        ("stable stable stable stable", [3, 2, 1, 4], [0, 1, 2, 3]),
        ("slow stable stable divergent", [1, 3, 2, 0], [1, 2]),
        ("stable slow stable stable", [1, 0, 3, 2], [0]),
        ("stable divergent stable slow", [2, 0, 1, 0], [2]),
        ("stable stable slow stable", [2, 1, 0, 3], [0, 1]),
        ("slow slow divergent slow", [2, 1, 0, 3], [0, 1]),
        ("divergent slow slow divergent", [0, 2, 1, 0], [1, 2]),
    ],
)
def test_the_stable_rates_on_both_sides_of_the_best_may_be_taken(
    regimes: str, score: list[float], usable: list[int]
) -> None:
    """Up to the next rate of another regime; slow ones where none is stable."""
    found = _around_best(regimes.split(), np.array(score, dtype=float))  # type: ignore[arg-type]
    assert np.flatnonzero(found).tolist() == usable


@pytest.mark.parametrize(
    ("regimes", "expected"),
    [
        ("slow stable stable slow", 0.1),
        ("stable stable divergent stable", 0.01),
        ("stable divergent divergent stable", 0.001),
        ("divergent stable stable stable", None),
        ("slow slow slow slow", None),
        ("stable stable stable stable", 1.0),
    ],
)
def test_the_largest_stable_rate_lies_below_the_first_divergent_one(
    regimes: str, expected: float | None
) -> None:
    """None where that is the first of all, or none is stable."""
    assert _largest_stable(np.array(RATES), regimes.split()) == expected  # type: ignore[arg-type]


def test_the_bounds_of_a_regime_belong_to_the_milder_one() -> None:
    """Just a tenth above is not divergent, just half of the best gain is not slow."""
    before, after = np.ones((3, 1)), np.array([[0.5], [0.75], [1.1]])
    assert _classify(before, after) == ["stable", "stable", "slow"]
    assert _classify(before[:2], np.ones((2, 1))) == ["slow", "slow"]


def test_a_training_may_start_from_another_loss_in_each_seed() -> None:
    """Divergence is of each seed's own loss, the gain of their mean."""
    before = np.array([[1.0, 10.0], [1.0, 10.0], [1.0, 10.0]])
    after = np.array([[0.5, 1.0], [2.0, 1.0], [0.9, 9.0]])
    assert _classify(before, after) == ["stable", "divergent", "slow"]


def test_the_lowest_loss_after_any_epoch_counts_and_one_that_is_not_finite_is_divergent() -> None:
    """Three epochs: a rate may be best early, and may diverge early."""
    curves = [[0.9, 0.8, 0.7], [0.6, 0.2, 0.5], [0.5, 0.4, 0.3], [0.3, float("inf"), 0.1]]
    after = [0.9, 0.3, 0.3, 0.3]
    found = analyze_sweep(RATES, map(TrialLosses, [1.0] * 4, after, curves))
    assert found.validation[:, 0] == pytest.approx([0.7, 0.2, 0.3, 0.1])
    assert found.regimes == ["slow", "stable", "stable", "divergent"]
    assert found.best == 0.01


@given(
    st.lists(st.floats(0.0, 10.0), min_size=4, max_size=4),
    st.floats(0.1, 10.0),
)
def test_the_suggestion_lies_among_the_rates_that_may_be_taken(
    score: list[float], start: float
) -> None:
    """Never beyond the grid, nor at an infinite loss alone."""
    usable = np.array([*score[:3], np.inf])
    found = _suggest(np.array(RATES), usable, start)
    assert RATES[0] * 0.95 <= found <= RATES[2] * 1.05


def test_the_table_has_every_number() -> None:
    """A row a rate, the losses of each seed in columns of their own."""
    after = [[0.9, 0.8], [0.3, 0.2], [0.3, 0.3], [0.1, NAN]]
    validation = [[0.8, 0.6], [0.4, 0.2], [0.5, 0.5], [0.1, NAN]]
    table = judged(after, validation).table()
    assert table["learning_rate"].to_list() == RATES
    assert table["regime"].to_list() == ["slow", "stable", "stable", "divergent"]
    assert table["validation_loss"].to_list() == pytest.approx([0.7, 0.3, 0.5, float("inf")])
    for k in range(2):
        assert table[f"train_before_seed_{k}"].to_list() == [1.0] * 4
        found = table[f"train_after_seed_{k}"].to_list()
        assert found == pytest.approx([own[k] for own in after], nan_ok=True)
        found = table[f"validation_seed_{k}"].to_list()[:3]
        assert found == pytest.approx([own[k] for own in validation[:3]])
    assert len(table.columns) == 3 + 3 * 2
