"""Telling the best config from the others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from multilayer.reports.configs import ConfigResult, _command_of
from multilayer.reports.runs import SweepRun
from multilayer.reports.significance import (
    Comparison,
    _holm,
    _seeds_needed,
    compare,
    paired_test,
    verdict,
    with_adjusted,
)
from multilayer.runs.folder import RunFolder

from .fake_sweeps import fake_config, opened, write_grid, write_run


def test_the_test_is_the_paired_t_test() -> None:
    """As scipy has it, over the seeds that both have; the third config is corrected for too."""
    best, second, third = [0.1, 0.5, 0.3, 0.2], [0.2, 0.55, 0.42, 0.24], [0.9, 0.8, 1.1]
    found = compare([fake_config(best), fake_config(second), fake_config(third)], sign=1)
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
    (found,) = compare([fake_config([0.9, 0.8, 0.9]), fake_config([0.5, 0.6, 0.6])], sign=-1)
    assert found.worse_by == pytest.approx(0.3)


def sweeps_of_ten(rng: np.random.Generator, worse_by: float = 0.0) -> list[list[ConfigResult]]:
    """Three hundred, of five seeds; nine of the configs are worse than the first by so much."""
    scores = rng.normal(size=(300, 10, 5))
    scores[:, 1:] += worse_by
    return [[fake_config(list(own)) for own in each] for each in scores]


def share_of_claims(sweeps: list[list[ConfigResult]]) -> float:
    """In how many of the sweeps any config is called worse than the first one."""
    return float(np.mean([any(it.is_clear for it in compare(each, sign=1)) for each in sweeps]))


def test_a_config_is_called_worse_than_an_equal_one_in_one_sweep_of_twenty_at_most() -> None:
    """Any of nine, which without the correction happens in every third sweep."""
    sweeps = sweeps_of_ten(np.random.default_rng(0))
    uncorrected = [any((it.p or 1) < 0.05 for it in compare(each, sign=1)) for each in sweeps]
    assert np.mean(uncorrected) > 0.25
    assert 0.01 < share_of_claims(sweeps) < 0.05


def test_the_best_of_equal_configs_is_called_better_than_some_in_one_sweep_of_ten() -> None:
    """As the report's page says: the best was chosen by the same runs. Never than the second."""
    sweeps = sweeps_of_ten(np.random.default_rng(0))
    for each in sweeps:
        each.sort(key=lambda it: it.mean)
    assert share_of_claims(sweeps) == pytest.approx(0.1, abs=0.03)
    assert np.mean([compare(each, sign=1)[0].is_clear for each in sweeps]) < 0.01


def test_configs_that_are_worse_by_much_are_told_apart() -> None:
    """By five standard deviations: nearly all of them, for all the correction."""
    sweeps = sweeps_of_ten(np.random.default_rng(0), worse_by=5.0)
    assert np.mean([it.is_clear for each in sweeps for it in compare(each, sign=1)]) > 0.95


def test_clear_is_by_the_corrected_p_value() -> None:
    """Of three comparisons one is below 0.05 before the correction, and not after it."""
    best = [0.0, 0.0, 0.0, 0.0]
    close, far = [0.1, 0.2, 0.3, 0.1], [-0.5, 0.9, 0.4, -0.3]
    found = compare([fake_config(each) for each in (best, close, far, far)], sign=1)
    assert found[0].p is not None
    assert found[0].p == pytest.approx(stats.ttest_1samp(close, 0.0).pvalue)
    assert found[0].p < 0.05 < 3 * found[0].p
    assert found[0].adjusted == pytest.approx(3 * found[0].p)
    assert not found[0].is_clear
    (alone,) = compare([fake_config(best), fake_config(close)], sign=1)
    assert alone.is_clear


@pytest.mark.parametrize(("adjusted", "is_clear"), [(0.049, True), (0.051, False), (None, False)])
def test_the_bound_of_a_clear_comparison_is_one_in_twenty(
    adjusted: float | None, is_clear: bool
) -> None:
    """And without a p-value nothing is clear."""
    assert Comparison(fake_config([0.0]), 3, p=0.001, adjusted=adjusted).is_clear == is_clear


def test_only_seeds_that_both_have_are_compared() -> None:
    """In whatever order they came; without one there is nothing to say."""
    best = ConfigResult({"a": 1}, [], {(2,): 0.3, (0,): 0.1, (1,): 0.2, (7,): 9.0})
    other = ConfigResult({"a": 2}, [], {(1,): 0.4, (2,): 0.35, (0,): 0.2, (8,): -9.0})
    found = paired_test(best, other, 1)
    expected = stats.ttest_rel([0.2, 0.4, 0.35], [0.1, 0.2, 0.3])
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.n, found.n_worse) == (3, 3)
    assert found.std == pytest.approx(np.std([0.1, 0.2, 0.05], ddof=1))
    none = paired_test(best, ConfigResult({"a": 3}, [], {(9,): 0.4}), 1)
    assert none == Comparison(none.other, 0)
    assert (none.worse_by, none.p, none.n_worse) == (None, None, 0)


def test_both_ends_of_the_interval_are_those_of_t() -> None:
    """Also where more is better: it is of how much worse the other is."""
    best, other = [0.9, 0.8, 0.95, 0.7], [0.5, 0.85, 0.6, 0.65]
    found = paired_test(fake_config(best), fake_config(other), -1)
    expected = stats.ttest_rel(best, other).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.worse_by == pytest.approx(np.mean(np.subtract(best, other)))
    assert found.n_worse == 3


def test_two_seeds_give_a_difference_and_no_spread() -> None:
    """Three give both."""
    two = paired_test(fake_config([0.1, 0.2]), fake_config([0.3, 0.1]), 1)
    assert (two.n, two.n_worse) == (2, 1)
    assert two.worse_by == pytest.approx(0.05)
    assert (two.std, two.low, two.high, two.p) == (None, None, None, None)
    three = paired_test(fake_config([0.1, 0.2, 0.3]), fake_config([0.3, 0.1, 0.4]), 1)
    assert None not in (three.std, three.low, three.high, three.p)


@pytest.mark.parametrize(("spread", "is_known"), [(1e-8, True), (1e-10, False)])
def test_a_spread_of_rounding_is_none(spread: float, is_known: bool) -> None:
    """A standard error of a billionth of the difference is one."""
    other = [1.0 - spread, 1.0, 1.0 + spread]
    found = paired_test(fake_config([0.0] * 3), fake_config(other), 1)
    assert (found.p is not None) == (found.low is not None) == is_known
    assert (found.n, found.n_worse) == (3, 3)
    assert found.worse_by == pytest.approx(1.0)
    assert found.std == pytest.approx(spread, rel=1e-3)


def test_equal_to_the_digit_is_a_difference_of_nothing() -> None:
    """With an interval of no width, and no seed with which the other is worse."""
    found = paired_test(fake_config([0.5] * 3), fake_config([0.5] * 3), 1)
    assert (found.n, found.worse_by, found.std, found.low, found.high) == (3, 0.0, 0.0, 0.0, 0.0)
    assert (found.p, found.n_worse) == (1.0, 0)


@pytest.mark.parametrize(
    ("n", "n_worse", "is_always"), [(3, 3, True), (2, 2, False), (4, 3, False)]
)
def test_always_worse_takes_every_seed_and_three_of_them(
    n: int, n_worse: int, is_always: bool
) -> None:
    """One that is as good is enough against it."""
    assert Comparison(fake_config([0.0]), n, n_worse=n_worse).is_always_worse == is_always


def test_what_has_no_p_value_is_not_counted_in_the_correction() -> None:
    """Nor does it take the place of another."""
    pairs = [Comparison(fake_config([0.0]), 3, p=p) for p in (None, 0.02, None, 0.01)]
    assert [each.adjusted for each in with_adjusted(pairs)] == [None, 0.02, None, 0.02]


def test_what_is_not_sound_is_compared_with_nothing() -> None:
    """A config of which a run diverged, or that has no score; nor is it what others are held to."""
    sound = [fake_config([0.2, 0.3, 0.4]), fake_config([0.5, 0.5, 0.6])]
    gone = ConfigResult({"a": 1}, [run_that("diverged")], {(0,): 0.0, (1,): 0.0, (2,): 0.0})
    empty = ConfigResult({"a": 2}, [], {})
    (found,) = compare([gone, sound[0], empty, gone, sound[1]], sign=1)
    assert found.other is sound[1]
    assert found.worse_by == pytest.approx(0.7 / 3)
    assert compare([gone, empty], sign=1) == []
    assert compare([gone, sound[0]], sign=1) == []


def run_that(status: str) -> SweepRun:
    """A run of which only its end is known."""
    return SweepRun(RunFolder("0"), "0", {"status": status, "overrides": []}, {})


@pytest.mark.parametrize(
    ("best", "second"),
    [([0.1], [0.2]), ([0.1, 0.2], [0.3, 0.5]), ([0.1, 0.2, 0.3], [0.2, 0.3, 0.4])],
)
def test_too_few_seeds_or_no_spread_are_no_proof(best: list[float], second: list[float]) -> None:
    """One or two seeds, and differences that are one number."""
    (found,) = compare([fake_config(best), fake_config(second)], sign=1)
    assert (found.p, found.is_clear) == (None, False)


def test_configs_that_are_equal_to_the_digit_are_not_told_apart() -> None:
    """All accuracies 1."""
    (found,) = compare([fake_config([1.0] * 3), fake_config([1.0] * 3)], sign=-1)
    assert (found.p, found.is_clear) == (1.0, False)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.2, 0.001, 0.04, 0.011], [0.2, 0.004, 0.08, 0.033]),
        ([0.01, 0.01, 0.01], [0.03, 0.03, 0.03]),
        ([0.6, 0.9], [1.0, 1.0]),
        ([0.02, 0.011], [0.022, 0.022]),
        ([0.04], [0.04]),
        ([], []),
    ],
)
def test_holm_is_monotone_and_never_below_the_p_value(
    p_values: list[float], adjusted: list[float]
) -> None:
    """The smallest is multiplied by their number, the next by one less; none is above 1."""
    assert _holm(p_values) == pytest.approx(adjusted)


def test_a_config_that_diverges_for_one_seed_is_not_the_best(tmp_path: Path) -> None:
    """However good its other seeds are; the verdict leaves it out too."""
    write_grid(tmp_path, {0.1: [0.5, 0.6, 0.5], 1.0: [0.1, None, 0.1], 10.0: [None] * 3})
    sweep, configs = opened(tmp_path)
    assert [each.values["optimizer.lr"] for each in configs] == [0.1, 1.0, 10.0]
    assert configs[1].status_text == "1 of 3 diverged, 2 of 3 done"
    assert verdict(sweep, configs, compare(configs, sweep.sign)).startswith("There is no second")


def test_the_verdict_says_what_can_be_told(tmp_path: Path) -> None:
    """Clear, unclear, and untold for want of seeds."""
    write_grid(tmp_path / "clear", {0.1: [0.1, 0.11, 0.12], 1.0: [0.9, 0.92, 0.91]})
    write_grid(tmp_path / "unclear", {0.1: [0.1, 0.2, 0.3], 1.0: [0.3, 0.1, 0.25]})
    write_grid(tmp_path / "single", {0.1: [0.1], 1.0: [0.3]})
    said = {}
    for name in ("clear", "unclear", "single"):
        sweep, configs = opened(tmp_path / name)
        said[name] = verdict(sweep, configs, compare(configs, sweep.sign))
    assert "is distinguishable from the second (optimizer.lr=1)" in said["clear"]
    assert "is not distinguishable" in said["unclear"]
    assert "cannot be told" in said["single"]
    assert "seed=0,1,2,3,4" in said["single"]


def test_no_configs_are_ranked_by_fewer_seeds_than_the_others(tmp_path: Path) -> None:
    """The one lucky seed of a config that was cut off does not make it the best."""
    write_grid(tmp_path, {0.1: [0.5, 0.6, 0.5], 1.0: [0.3], 10.0: [0.7, 0.8, 0.7]})
    _, configs = opened(tmp_path)
    assert [each.values["optimizer.lr"] for each in configs] == [0.1, 10.0, 1.0]
    assert configs[2].status_text == "done, 1 of 3 seeds"


def test_the_seeds_that_are_advised_would_tell() -> None:
    """At Holm's strictest level: of trials with so many seeds, about 80 % see the difference."""
    second = compare([fake_config([0.0, 0.0, 0.0]), fake_config([0.0, 1.0, 2.0])], sign=1)[0]
    n = _seeds_needed(second, n_comparisons=10)
    assert n is not None
    draws = np.random.default_rng(0).normal(1.0, 1.0, size=(4000, n))
    seen = stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05 / 10
    assert seen.mean() == pytest.approx(0.8, abs=0.1)
    assert n > (_seeds_needed(second, n_comparisons=1) or 0)


@pytest.mark.parametrize("m", [1, 9])
@pytest.mark.parametrize("effect", [0.5, -0.8, 2.0])
def test_the_fewest_seeds_that_would_tell_are_advised(effect: float, m: int) -> None:
    """By the formula of the page, with scipy's t: a difference either way, more than there are."""
    found = _seeds_needed(Comparison(fake_config([0.0]), 3, worse_by=effect * 0.1, std=0.1), m)

    def would_tell(n: int) -> bool:
        bound = stats.t.ppf(1 - 0.05 / m / 2, n - 1) + stats.t.ppf(0.8, n - 1)
        return bool(abs(effect) * n**0.5 >= bound)

    assert found == next((n for n in range(4, 51) if would_tell(n)), None)


def test_no_advice_without_a_spread_or_beyond_fifty_seeds() -> None:
    """At fifty there still is some; never fewer than there are."""
    other = fake_config([0.0])
    assert _seeds_needed(Comparison(other, 3, worse_by=0.0, std=0.1), 1) is None
    assert _seeds_needed(Comparison(other, 3, worse_by=0.1, std=0.0), 1) is None
    assert _seeds_needed(Comparison(other, 3, worse_by=0.1), 1) is None
    assert _seeds_needed(Comparison(other, 2), 1) is None
    bound = (stats.t.ppf(0.975, 49) + stats.t.ppf(0.8, 49)) / 50**0.5
    assert _seeds_needed(Comparison(other, 3, worse_by=1.001 * bound, std=1.0), 1) == 50
    assert _seeds_needed(Comparison(other, 3, worse_by=0.999 * bound, std=1.0), 1) is None
    assert _seeds_needed(Comparison(other, 30, worse_by=9.0, std=1.0), 1) == 31


def test_the_advice_names_what_was_repeated_and_its_own_number(tmp_path: Path) -> None:
    """Folds are not seeds; the seeds that are there are kept, and the number is one."""
    losses = {0.1: [0.30, 0.40, 0.31], 1.0: [0.34, 0.42, 0.37]}
    for number, (lr, i) in enumerate((lr, i) for lr in losses for i in range(3)):
        write_run(tmp_path / "a" / str(number), losses[lr][i], optimizer__lr=lr, seed=7 + i)
        write_run(tmp_path / "b" / str(number), losses[lr][i], optimizer__lr=lr, data__fold=i)
    sweep, configs = opened(tmp_path / "a")
    said = verdict(sweep, configs, compare(configs, sweep.sign))
    words = said.rpartition("About ")[2]
    n, override = int(words.split()[0]), words.rpartition("seed=")[2].rstrip(".")
    assert override.startswith("7,8,9,")
    assert len(override.split(",")) == n
    assert "the second is worse by 0.04" in said
    assert "uncorrected 95 % interval" in said
    sweep, configs = opened(tmp_path / "b")
    said = verdict(sweep, configs, compare(configs, sweep.sign))
    assert "3 shared folds" in said
    assert "folds would tell: data.fold=" in said


def test_the_command_gives_the_config_without_its_seed(tmp_path: Path) -> None:
    """A seed that did not vary stays; a file that makes a sweep by itself is kept from doing so."""
    for number, (lr, seed) in enumerate([(0.1, 0), (0.1, 1), (1.0, 0), (1.0, 1)]):
        kept: dict[str, Any] = {"hparams_search": "learning_rates", "data__split_seed": 3}
        write_run(tmp_path / str(number), lr, **kept, optimizer__lr=lr, seed=seed)
    sweep, configs = opened(tmp_path)
    words = "multilayer train hparams_search=learning_rates data.split_seed=3 optimizer.lr=0.1"
    assert _command_of(configs[0], sweep) == words
    (tmp_path / "multirun.yaml").write_text("hydra: {overrides: {hydra: [], task: []}}")
    assert _command_of(configs[0], sweep) == f"{words} hydra.mode=RUN"


def test_a_config_that_explodes_is_worse_with_every_seed(tmp_path: Path) -> None:
    """No t-test tells, for its spread is as wide as its mean is high."""
    write_grid(tmp_path, {0.01: [0.3, 0.4, 0.35], 0.1: [0.4, 0.5, 0.2], 1.0: [3.0, 900.0, 20.0]})
    sweep, configs = opened(tmp_path)
    found = compare(configs, sweep.sign)
    assert [each.is_clear for each in found] == [False, False]
    assert [each.is_always_worse for each in found] == [False, True]
    text = verdict(sweep, configs, found)
    assert "2 of 2 other configs cannot be told from the best, though 1 of them did worse" in text
