"""Folding seeds into a mean, a deviation and an interval."""

import numpy as np
import pytest
from scipy import stats

from multilayer.reports.configs import N_RESAMPLES, SeedStats, _resamples
from multilayer.reports.effects import _pooled_std


def test_seeds_give_mean_deviation_and_interval() -> None:
    """By hand, and scipy's percentile bootstrap."""
    found = SeedStats.of([1.0, 2.0, 6.0])
    assert found is not None
    assert (found.mean, found.n) == (3.0, 3)
    assert found.std == pytest.approx(7**0.5)
    assert (found.low, found.high) == (1.0, 6.0)  # 1/27 of _resamples are thrice the lowest
    pair = SeedStats.of([1.0, 3.0])
    assert pair is not None
    assert (pair.low, pair.high) == (None, None)  # the two values themselves are no interval
    sample = np.random.default_rng(3).normal(size=40)
    ours = SeedStats.of(list(sample))
    theirs = stats.bootstrap((sample,), np.mean, method="percentile", rng=0).confidence_interval
    assert ours is not None
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


@pytest.mark.parametrize(("n", "share"), [(3, 0.75), (5, 0.84), (10, 0.90)])
def test_intervals_hold_the_mean_as_often_as_the_report_says(n: int, share: float) -> None:
    """Too seldom with few seeds, which is said."""
    samples = np.random.default_rng(1).standard_normal((800, n))
    means = np.sort(samples[:, _resamples(n)].mean(axis=2), axis=1)  # (800, N_RESAMPLES)
    tail = round(N_RESAMPLES * 0.025)
    held = (means[:, tail] <= 0) & (means[:, -1 - tail] >= 0)
    assert held.mean() == pytest.approx(share, abs=0.04)


def test_one_value_is_its_mean_and_two_have_a_deviation() -> None:
    """By hand; without a value there is no mean."""
    assert SeedStats.of([]) is None
    assert SeedStats.of([3.0]) == SeedStats(mean=3.0, std=None, n=1, low=None, high=None)
    found = SeedStats.of([1.0, 4.0])
    assert found is not None
    assert (found.mean, found.n, found.low, found.high) == (2.5, 2, None, None)
    assert found.std == pytest.approx(4.5**0.5)


def test_the_ends_of_the_interval_leave_out_one_resample_in_forty_each() -> None:
    """Of 2,000 means of values drawn again, 50 are below and 50 above."""
    sample = np.random.default_rng(3).normal(size=12)
    found = SeedStats.of(list(sample))
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    means = sample[_resamples(12)].mean(axis=1)
    assert N_RESAMPLES == 2000
    assert (means < found.low).sum() == 50
    assert (means > found.high).sum() == 50


def test_values_are_drawn_with_equal_chances_and_always_the_same() -> None:
    """A report that is made again has the same digits."""
    drawn = _resamples(7).copy()
    assert drawn.shape == (2000, 7)
    counts = np.bincount(drawn.ravel(), minlength=7)
    assert stats.chisquare(counts).pvalue > 0.01
    _resamples.cache_clear()
    np.testing.assert_array_equal(_resamples(7), drawn)
    found = SeedStats.of([0.5, 0.25, 0.125, 1.0])
    assert found is not None
    assert (found.low, found.high) == (0.1875, 0.8125)


def test_deviations_are_pooled_by_their_degrees_of_freedom() -> None:
    """As the analysis of variance has it; a config of one seed says nothing."""
    samples = [[1.0, 3.0], [2.0, 2.5, 9.0, 4.0], [5.0]]
    folds = [each for values in samples if (each := SeedStats.of(values))]
    within = sum(((np.array(each) - np.mean(each)) ** 2).sum() for each in samples)
    assert _pooled_std(folds) == pytest.approx((within / (1 + 3)) ** 0.5)
    assert _pooled_std(folds[2:]) is None
    assert _pooled_std([]) is None
