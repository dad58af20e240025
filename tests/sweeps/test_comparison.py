"""Folding seeds, and telling the best from the second."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from multilayer.sweeps.candidates import Candidate, command_of
from multilayer.sweeps.comparison import compare, holm
from multilayer.sweeps.folding import N_RESAMPLES, fold, resamples
from multilayer.sweeps.verdict import verdict

from .made_up import opened, write_grid, write_run


def candidate(scores: list[float], name: str = "a") -> Candidate:
    """A config with a score for each seed."""
    return Candidate({"name": name}, [], {(seed,): score for seed, score in enumerate(scores)})


def test_seeds_fold_into_mean_deviation_and_interval() -> None:
    """By hand, and scipy's percentile bootstrap."""
    found = fold([1.0, 2.0, 6.0])
    assert found is not None
    assert (found.mean, found.n) == (3.0, 3)
    assert found.std == pytest.approx(7**0.5)
    assert (found.low, found.high) == (1.0, 6.0)  # 1/27 of resamples are thrice the lowest
    sample = np.random.default_rng(3).normal(size=40)
    ours = fold(list(sample))
    theirs = stats.bootstrap((sample,), np.mean, method="percentile", rng=0).confidence_interval
    assert ours is not None
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


@pytest.mark.parametrize(("n", "share"), [(3, 0.75), (5, 0.84), (10, 0.90)])
def test_intervals_hold_the_mean_as_often_as_the_report_says(n: int, share: float) -> None:
    """Too seldom with few seeds, which is said."""
    samples = np.random.default_rng(1).standard_normal((800, n))
    means = np.sort(samples[:, resamples(n)].mean(axis=2), axis=1)  # (800, N_RESAMPLES)
    tail = round(N_RESAMPLES * 0.025)
    held = (means[:, tail] <= 0) & (means[:, -1 - tail] >= 0)
    assert held.mean() == pytest.approx(share, abs=0.04)


def test_the_test_is_the_paired_t_test() -> None:
    """As scipy has it, over the seeds that both have; the third config is corrected for too."""
    best, second, third = [0.1, 0.5, 0.3, 0.2], [0.2, 0.55, 0.42, 0.24], [0.9, 0.8, 1.1]
    found = compare([candidate(best), candidate(second), candidate(third)], sign=1)
    expected = stats.ttest_rel(second, best)
    interval = expected.confidence_interval()
    assert found[0].p == pytest.approx(expected.pvalue)
    assert (found[0].low, found[0].high) == pytest.approx((interval.low, interval.high))
    assert found[1].n == 3
    assert found[1].p == pytest.approx(stats.ttest_rel(third, best[:3]).pvalue)
    assert found[0].p < found[1].p
    assert found[0].adjusted == pytest.approx(2 * found[0].p)
    assert found[1].adjusted == pytest.approx(max(found[1].p, 2 * found[0].p))


def test_more_is_better_where_the_mode_is_max() -> None:
    """`worse_by` is positive for the worse one either way."""
    (found,) = compare([candidate([0.9, 0.8, 0.9]), candidate([0.5, 0.6, 0.6])], sign=-1)
    assert found.worse_by == pytest.approx(0.3)


def test_equal_configs_are_seldom_told_apart() -> None:
    """Of sweeps whose ten configs are all the same, at most one in twenty names a winner."""
    rng = np.random.default_rng(0)
    claims = 0
    for _ in range(300):
        candidates = [candidate(list(scores)) for scores in rng.normal(size=(10, 5))]
        candidates.sort(key=lambda each: each.mean)
        claims += compare(candidates, sign=1)[0].is_clear
    assert claims / 300 <= 0.05


@pytest.mark.parametrize(
    ("best", "second"),
    [([0.1], [0.2]), ([0.1, 0.2], [0.3, 0.5]), ([0.1, 0.2, 0.3], [0.2, 0.3, 0.4])],
)
def test_too_few_seeds_or_no_spread_are_no_proof(best: list[float], second: list[float]) -> None:
    """One or two seeds, and differences that are one number."""
    (found,) = compare([candidate(best), candidate(second)], sign=1)
    assert (found.p, found.is_clear) == (None, False)


def test_configs_that_are_equal_to_the_digit_are_not_told_apart() -> None:
    """All accuracies 1."""
    (found,) = compare([candidate([1.0] * 3), candidate([1.0] * 3)], sign=-1)
    assert (found.p, found.is_clear) == (1.0, False)


def test_holm_is_monotone_and_never_below_the_p_value() -> None:
    """The smallest is multiplied by their number."""
    p_values = [0.2, 0.001, 0.04, 0.011]
    adjusted = holm(p_values)
    assert adjusted == pytest.approx([0.2, 0.004, 0.08, 0.033])
    assert holm([]) == []


def test_a_config_that_diverges_for_one_seed_is_not_the_best(tmp_path: Path) -> None:
    """However good its other seeds are; the verdict leaves it out too."""
    write_grid(tmp_path, {0.1: [0.5, 0.6, 0.5], 1.0: [0.1, None, 0.1], 10.0: [None] * 3})
    sweep, candidates = opened(tmp_path)
    assert [each.choice["optimizer.lr"] for each in candidates] == [0.1, 1.0, 10.0]
    assert candidates[1].states() == "1 of 3 diverged, 2 of 3 done"
    assert verdict(candidates, compare(candidates, sweep.sign)).startswith("There is no second")


def test_the_verdict_says_what_can_be_told(tmp_path: Path) -> None:
    """Clear, unclear, and untold for want of seeds."""
    write_grid(tmp_path / "clear", {0.1: [0.1, 0.11, 0.12], 1.0: [0.9, 0.92, 0.91]})
    write_grid(tmp_path / "unclear", {0.1: [0.1, 0.2, 0.3], 1.0: [0.3, 0.1, 0.25]})
    write_grid(tmp_path / "single", {0.1: [0.1], 1.0: [0.3]})
    said = {}
    for name in ("clear", "unclear", "single"):
        sweep, candidates = opened(tmp_path / name)
        said[name] = verdict(candidates, compare(candidates, sweep.sign))
    assert "is distinguishable from the second (optimizer.lr=1)" in said["clear"]
    assert "is not distinguishable" in said["unclear"]
    assert "cannot be told" in said["single"]
    assert "seed=0,1,2,3,4" in said["single"]


def test_the_command_gives_the_config_without_its_seed(tmp_path: Path) -> None:
    """A file that makes a sweep by itself is kept from doing so."""
    write_run(tmp_path / "0", 0.5, sweep="learning_rates", optimizer__lr=0.1, seed=0)
    write_run(tmp_path / "1", 0.6, sweep="learning_rates", optimizer__lr=1.0, seed=0)
    sweep, candidates = opened(tmp_path)
    words = "multilayer train sweep=learning_rates optimizer.lr=0.1"
    assert command_of(candidates[0], sweep) == words
    (tmp_path / "multirun.yaml").write_text("hydra: {overrides: {hydra: [], task: []}}")
    assert command_of(candidates[0], sweep) == f"{words} hydra.mode=RUN"
