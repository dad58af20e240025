"""Folding seeds, and telling the best from the second."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from multilayer.sweeps.candidates import Candidate, command_of
from multilayer.sweeps.comparison import compare, holm, seeds_needed
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
    pair = fold([1.0, 3.0])
    assert pair is not None
    assert (pair.low, pair.high) == (None, None)  # the two values themselves are no interval
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
    assert verdict(sweep, candidates, compare(candidates, sweep.sign)).startswith(
        "There is no second"
    )


def test_the_verdict_says_what_can_be_told(tmp_path: Path) -> None:
    """Clear, unclear, and untold for want of seeds."""
    write_grid(tmp_path / "clear", {0.1: [0.1, 0.11, 0.12], 1.0: [0.9, 0.92, 0.91]})
    write_grid(tmp_path / "unclear", {0.1: [0.1, 0.2, 0.3], 1.0: [0.3, 0.1, 0.25]})
    write_grid(tmp_path / "single", {0.1: [0.1], 1.0: [0.3]})
    said = {}
    for name in ("clear", "unclear", "single"):
        sweep, candidates = opened(tmp_path / name)
        said[name] = verdict(sweep, candidates, compare(candidates, sweep.sign))
    assert "is distinguishable from the second (optimizer.lr=1)" in said["clear"]
    assert "is not distinguishable" in said["unclear"]
    assert "cannot be told" in said["single"]
    assert "seed=0,1,2,3,4" in said["single"]


def test_no_configs_are_ranked_by_fewer_seeds_than_the_others(tmp_path: Path) -> None:
    """The one lucky seed of a config that was cut off does not make it the best."""
    write_grid(tmp_path, {0.1: [0.5, 0.6, 0.5], 1.0: [0.3], 10.0: [0.7, 0.8, 0.7]})
    _, candidates = opened(tmp_path)
    assert [each.choice["optimizer.lr"] for each in candidates] == [0.1, 10.0, 1.0]
    assert candidates[2].states() == "done, 1 of 3 seeds"


def test_the_seeds_that_are_advised_would_tell() -> None:
    """At Holm's strictest level: of trials with so many seeds, about 80 % see the difference."""
    second = compare([candidate([0.0, 0.0, 0.0]), candidate([0.0, 1.0, 2.0])], sign=1)[0]
    n = seeds_needed(second, n_comparisons=10)
    assert n is not None
    draws = np.random.default_rng(0).normal(1.0, 1.0, size=(4000, n))
    seen = stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05 / 10
    assert seen.mean() == pytest.approx(0.8, abs=0.1)
    assert n > (seeds_needed(second, n_comparisons=1) or 0)


def test_the_advice_names_what_was_repeated_and_its_own_number(tmp_path: Path) -> None:
    """Folds are not seeds; the seeds that are there are kept, and the number is one."""
    losses = {0.1: [0.30, 0.40, 0.31], 1.0: [0.34, 0.42, 0.37]}
    for number, (lr, i) in enumerate((lr, i) for lr in losses for i in range(3)):
        write_run(tmp_path / "a" / str(number), losses[lr][i], optimizer__lr=lr, seed=7 + i)
        write_run(tmp_path / "b" / str(number), losses[lr][i], optimizer__lr=lr, data__fold=i)
    sweep, candidates = opened(tmp_path / "a")
    said = verdict(sweep, candidates, compare(candidates, sweep.sign))
    words = said.rpartition("About ")[2]
    n, override = int(words.split()[0]), words.rpartition("seed=")[2].rstrip(".")
    assert override.startswith("7,8,9,")
    assert len(override.split(",")) == n
    assert "the second is worse by 0.04" in said
    assert "uncorrected 95 % interval" in said
    sweep, candidates = opened(tmp_path / "b")
    said = verdict(sweep, candidates, compare(candidates, sweep.sign))
    assert "3 shared folds" in said
    assert "folds would tell: data.fold=" in said


def test_the_command_gives_the_config_without_its_seed(tmp_path: Path) -> None:
    """A seed that did not vary stays; a file that makes a sweep by itself is kept from doing so."""
    for number, (lr, seed) in enumerate([(0.1, 0), (0.1, 1), (1.0, 0), (1.0, 1)]):
        kept: dict[str, Any] = {"sweep": "learning_rates", "data__split_seed": 3}
        write_run(tmp_path / str(number), lr, **kept, optimizer__lr=lr, seed=seed)
    sweep, candidates = opened(tmp_path)
    words = "multilayer train sweep=learning_rates data.split_seed=3 optimizer.lr=0.1"
    assert command_of(candidates[0], sweep) == words
    (tmp_path / "multirun.yaml").write_text("hydra: {overrides: {hydra: [], task: []}}")
    assert command_of(candidates[0], sweep) == f"{words} hydra.mode=RUN"


def test_a_config_that_explodes_is_worse_with_every_seed(tmp_path: Path) -> None:
    """No t-test tells, for its spread is as wide as its mean is high."""
    write_grid(tmp_path, {0.01: [0.3, 0.4, 0.35], 0.1: [0.4, 0.5, 0.2], 1.0: [3.0, 900.0, 20.0]})
    sweep, candidates = opened(tmp_path)
    found = compare(candidates, sweep.sign)
    assert [each.is_clear for each in found] == [False, False]
    assert [each.is_always_worse for each in found] == [False, True]
    text = verdict(sweep, candidates, found)
    assert "2 of 2 other configs cannot be told from the best, though 1 of them did worse" in text
