"""What each hyperparameter is worth."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from multilayer.reports.configs import ConfigResult
from multilayer.reports.effects import (
    _better_half,
    _Effect,
    _effects,
    _order_is_chance,
    _residual_std,
    _without_effect,
)
from multilayer.reports.significance import Comparison

from .fake_sweeps import fake_config, found_in, opened, write_grid, write_run


def write_dropout(folder: Path, n_seeds: int, worse: float) -> None:
    """Three rates by two of dropout, of which 0.5 is worse by so much, and by some chance."""
    chance = np.random.default_rng(0).normal(0, 0.01, size=(3, 2, n_seeds))
    places = np.ndindex(*chance.shape)
    for number, (i, j, seed) in enumerate(places):
        loss = 0.2 + abs(i - 1) + worse * j + 0.05 * seed + chance[i, j, seed]
        values = {"optimizer__lr": 10.0 ** (i - 2), "model__dropout": 0.5 * j}
        write_run(folder / str(number), loss, **values, seed=seed)


def test_a_hyperparameter_that_does_not_matter_is_shown_not_to(tmp_path: Path) -> None:
    """Its values, each at the best rate, differ by less than chance does to a run; rates do not."""
    write_dropout(tmp_path, 20, 0.0)
    text = found_in(tmp_path)["does not matter here"]
    assert text.startswith("model.dropout (")
    assert "optimizer.lr" not in text


def test_of_a_hyperparameter_with_few_seeds_nothing_is_claimed(tmp_path: Path) -> None:
    """That no difference was seen is no proof that there is none."""
    write_dropout(tmp_path, 3, 0.0)
    found = found_in(tmp_path)
    assert "does not matter here" not in found
    assert found["whether it matters cannot be told"].startswith("model.dropout (")


def test_a_hyperparameter_that_matters_is_in_neither(tmp_path: Path) -> None:
    """It is clearly worse at one of its values."""
    write_dropout(tmp_path, 5, 0.1)
    assert not {"does not matter here", "whether it matters cannot be told"} & set(
        found_in(tmp_path)
    )


def test_one_seed_cannot_tell_what_matters(tmp_path: Path) -> None:
    """The differences are given, and that chance is not known."""
    write_grid(tmp_path, {0.01: [0.2], 0.1: [0.3]})
    title = "what matters cannot be told from one seed"
    assert "optimizer.lr (0.1)" in found_in(tmp_path)[title]


def test_where_all_runs_are_equal_nothing_is_said_of_hyperparameters(tmp_path: Path) -> None:
    """Accuracies of 1 on few rows; a bound of 0 would be no bound."""
    write_grid(tmp_path, {0.01: [1.0] * 3, 0.1: [1.0] * 3})
    assert not [title for title in found_in(tmp_path) if "matter" in title]


def effect(*ends: tuple[float, float] | None, n: int = 3, key: str = "model.dropout") -> _Effect:
    """Of a hyperparameter with a level for each interval; the difference is its middle."""
    against = {
        str(level): Comparison(fake_config([0.0]), n, sum(end) / 2, 0.1, *end) if end else None
        for level, end in enumerate(ends)
    }
    return _Effect(key, against)


def titles(*found: _Effect, residual: float | None = 1.0) -> list[str]:
    """Of the findings."""
    return [each.title for each in _without_effect(found, residual)]


@pytest.mark.parametrize(
    ("ends", "reach"),
    [
        ([(0.0, 0.0), (-0.2, 0.9)], 0.9),
        ([(0.0, 0.0), (-0.9, 0.2)], 0.9),
        ([(-0.3, 0.1), (-0.1, 0.2)], 0.3),
        ([(0.5, 0.7), (0.0, 0.0)], 0.7),
        ([(0.0, 0.0), None], None),
    ],
)
def test_an_interval_reaches_as_far_as_either_end(
    ends: list[tuple[float, float] | None], reach: float | None
) -> None:
    """The farthest of all levels; not known where a level has none."""
    assert effect(*ends).reach == reach


@pytest.mark.parametrize(
    ("end", "residual", "is_idle"),
    [
        ((-0.2, 0.99), 1.0, True),
        ((-0.2, 1.01), 1.0, False),
        ((-1.01, 0.2), 1.0, False),  # the end below 0 counts as the other
        ((-0.99, 0.2), 1.0, True),
        ((-0.2, 0.99), 0.5, False),
    ],
)
def test_a_hyperparameter_is_idle_where_both_ends_are_within_what_chance_does(
    end: tuple[float, float], residual: float, is_idle: bool
) -> None:
    """To a single run."""
    expected = "does not matter here" if is_idle else "whether it matters cannot be told"
    assert titles(effect((0.0, 0.0), end), residual=residual) == [expected]


def test_a_hyperparameter_that_is_seen_to_matter_is_in_no_finding() -> None:
    """Its interval lies above 0, however near; one that begins at 0 does not."""
    assert titles(effect((0.0, 0.0), (0.001, 0.2))) == []
    assert titles(effect((0.0, 0.0), (0.0, 0.2))) == ["does not matter here"]


def test_nothing_is_said_where_nothing_can_be() -> None:
    """A level without a comparison, no seed in common, or runs that are equal to the digit."""
    assert titles(effect((0.0, 0.0), None)) == []
    assert titles(effect((0.0, 0.0), (0.1, 0.2), n=0)) == []
    assert titles(effect((0.0, 0.0), (0.0, 0.0)), residual=0.0) == []
    assert titles() == []


@pytest.mark.parametrize(
    ("n", "residual", "title"),
    [
        (1, None, "what matters cannot be told from one seed"),
        (2, 1.0, "what matters cannot be told from 2 seeds"),
        (3, None, "what matters cannot be told from 3 seeds"),
    ],
)
def test_two_seeds_are_too_few(n: int, residual: float | None, title: str) -> None:
    """Nor do more say anything where chance is not known; the differences are listed."""
    found = [effect((0.0, 0.0), (-0.2, 0.4), n=n), effect((0.0, 0.0), (0.0, 0.1), n=9, key="lr")]
    (finding,) = _without_effect(found, residual)
    assert finding.title == title
    assert "model.dropout (0.1), lr (0.05)" in finding.text


def test_the_difference_is_that_of_the_worst_level() -> None:
    """To the best config of all."""
    assert effect((0.0, 0.0), (0.2, 0.4), (0.0, 0.1)).difference == pytest.approx(0.3)


def test_each_level_is_held_by_its_best_config_against_the_best_of_all(tmp_path: Path) -> None:
    """By the paired test; diverged ones and those without a score are passed over."""
    losses = {
        (0.1, 0.0): [0.1, 0.2, 0.3],
        (0.1, 0.5): [0.2, 0.25, 0.5],
        (1.0, 0.0): [0.15, 0.3, 0.3],
        (1.0, 0.5): [0.9, 0.8, 0.9],
        (9.0, 0.0): [0.0, None, 0.0],
        (9.0, 0.5): [None, None, None],
    }
    number = 0
    for (lr, dropout), each in losses.items():
        for seed, loss in enumerate(each):
            values = {"optimizer__lr": lr, "model__dropout": dropout, "seed": seed}
            status = "done" if loss is not None else "diverged"
            write_run(tmp_path / str(number), loss, status=status, **values)
            number += 1
    sweep, configs = opened(tmp_path)
    rate, dropout = _effects(sweep, configs)
    assert (rate.key, dropout.key) == ("optimizer.lr", "model.dropout")
    assert rate.comparisons["9"] is None
    assert rate.known == []
    same, other = rate.comparisons["0.1"], rate.comparisons["1"]
    assert same is not None
    assert same.worse_by == 0.0
    assert other is not None
    test = stats.ttest_rel([0.15, 0.3, 0.3], [0.1, 0.2, 0.3])
    assert other.p == pytest.approx(test.pvalue)
    half = dropout.comparisons["0.5"]
    assert half is not None
    assert half.p == pytest.approx(stats.ttest_rel([0.2, 0.25, 0.5], [0.1, 0.2, 0.3]).pvalue)
    assert [name for name, it in dropout.comparisons.items() if it and it.is_always_worse] == [
        "0.5"
    ]
    assert len(dropout.known) == 2


def test_a_level_that_is_worse_with_every_seed_is_named_where_no_interval_shows_it() -> None:
    """With its key."""
    pairs = {
        "0": Comparison(fake_config([0.0]), 3, 0.0, 0.0, 0.0, 0.0),
        "0.5": Comparison(fake_config([0.0]), 3, 0.5, 0.5, -0.7, 1.7, n_worse=3),
    }
    found = _Effect("model.dropout", dict(pairs))
    (finding,) = _without_effect([found], 1.0)
    assert finding.text.endswith("Yet worse with every seed: model.dropout=0.5")
    assert "to within ±1;" in finding.text


def test_numbers_that_a_search_drew_are_held_in_ranges(tmp_path: Path) -> None:
    """Four, of equal numbers of values."""
    for number in range(16):
        write_run(tmp_path / str(number), 0.1 * number, optimizer__lr=2.0**-number)
    sweep, configs = opened(tmp_path)
    (found,) = _effects(sweep, configs)
    assert len(found.comparisons) == 4
    assert [each.worse_by for each in found.known] == pytest.approx([1.2, 0.8, 0.4, 0.0])


TITLE = "trial variance is as large as the differences"


def test_what_a_seed_does_to_all_configs_is_no_noise(tmp_path: Path) -> None:
    """As in the two-way table, the residual of which is the deviation of differences over √2."""
    first, second = np.array([0.1, 0.5, 0.3]), np.array([0.15, 0.54, 0.36])
    write_grid(tmp_path, {0.1: list(first), 0.2: list(second)})
    _, configs = opened(tmp_path)
    expected = (second - first).std(ddof=1) / 2**0.5
    assert _residual_std(configs) == pytest.approx(expected)


def test_without_shared_seeds_the_deviations_are_pooled(tmp_path: Path) -> None:
    """Each config has its own seeds."""
    write_grid(tmp_path, {0.1: [0.1, 0.3]})
    _, configs = opened(tmp_path)
    assert _residual_std(configs) == pytest.approx(0.2 / 2**0.5)


def test_an_order_by_chance_is_found(tmp_path: Path) -> None:
    """And not where the configs differ by more."""
    write_grid(tmp_path / "noise", {0.1: [0.1, 0.5], 0.2: [0.6, 0.2], 0.3: [0.5, 0.4]})
    write_grid(tmp_path / "clear", {0.1: [0.1, 0.11], 0.2: [0.3, 0.32], 0.3: [0.5, 0.5]})
    write_grid(tmp_path / "single", {0.1: [0.1], 0.2: [0.3]})
    assert TITLE in found_in(tmp_path / "noise")
    assert TITLE not in found_in(tmp_path / "clear")
    assert TITLE not in found_in(tmp_path / "single")


def test_seeds_that_are_hard_for_all_do_not_contradict_the_verdict(tmp_path: Path) -> None:
    """The best is distinguishable, though seeds differ by far more than configs."""
    hard = [0.1, 0.9, 0.5, 1.4]
    write_grid(tmp_path, {0.1: hard, 0.2: [each + 0.05 + 0.01 * (each > 0.5) for each in hard]})
    found = found_in(tmp_path)
    assert TITLE not in found
    assert "does not matter here" not in found


def test_the_residual_is_that_of_the_two_way_table() -> None:
    """Of the better half of the configs, by the analysis of variance written out."""
    scores = np.random.default_rng(0).normal(size=(5, 4)) + np.arange(5)[:, None]
    half = scores[:3]  # of five
    squares = 0.0
    for row in half:
        for k, value in enumerate(row):
            squares += (value - row.mean() - half[:, k].mean() + half.mean()) ** 2
    found = _residual_std([fake_config(list(each)) for each in scores])
    assert found == pytest.approx((squares / (2 * 3)) ** 0.5)


def test_only_seeds_that_all_of_the_half_have_are_in_the_table() -> None:
    """With one that is shared the deviations are pooled."""
    scores = [[0.1, 0.5, 0.9], [0.2, 0.4], [5.0, 6.0, 7.0], [8.0, 9.0, 9.5]]
    found = _residual_std([fake_config(each) for each in scores])
    differences = np.subtract(scores[1], scores[0][:2])
    assert found == pytest.approx(differences.std(ddof=1) / 2**0.5)
    apart = [ConfigResult({"a": k}, [], {(k,): 0.1, (k + 1,): 0.1 + k}) for k in (1, 2)]
    assert _residual_std(apart) == pytest.approx(((1 + 4) / 2 / 2) ** 0.5)
    assert _residual_std([fake_config([0.1]), fake_config([0.2])]) is None


@pytest.mark.parametrize(("n", "n_half"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 3), (8, 4)])
def test_the_better_half_has_the_median_and_two_at_least(n: int, n_half: int) -> None:
    """Where there are two; the best first."""
    configs = [fake_config([float(k)]) for k in range(n)]
    assert _better_half(configs) == configs[:n_half]


def test_an_order_is_chance_from_where_the_error_is_the_spread_of_the_means() -> None:
    """The error of a mean of the fewest seeds; all numbers are in the sentence."""

    def found(apart: float, *more: float) -> str | None:
        first, second = [0.0, 0.2, 0.1, 0.1], [apart, apart, apart + 0.1, apart + 0.1]
        half = [fake_config([*first, *more]), fake_config(second)]
        finding = _order_is_chance([*half, fake_config([9.0] * 4), fake_config([9.0] * 4)], False)
        return finding.text if finding else None

    def spread_and_error(apart: float) -> tuple[float, float]:
        first, second = [0.0, 0.2, 0.1, 0.1], [apart, apart, apart + 0.1, apart + 0.1]
        residual = np.subtract(second, first).std(ddof=1) / 2**0.5
        return abs(np.mean(second) - np.mean(first)) / 2**0.5, residual / 4**0.5

    spread, error = spread_and_error(0.08)
    assert spread < error
    text = found(0.08)
    assert text is not None
    assert f"(2), the means have a standard deviation of {spread:.4g}," in text
    assert f"one of {error:.4g} for n = 4" in text
    spread, error = spread_and_error(0.14)
    assert error < spread
    assert found(0.14) is None
    assert _order_is_chance([fake_config([0.1, 0.5]), fake_config([0.6, 0.2])], True) is None


def test_equal_runs_have_no_order_and_no_chance() -> None:
    """Nor has one config."""
    assert _order_is_chance([fake_config([0.5, 0.5]), fake_config([0.5, 0.5])], False) is None
    assert _order_is_chance([fake_config([0.5, 0.6])], False) is None
