"""What each setting is worth."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from multilayer.reports.findings.effects import Effect, effects, without_effect
from multilayer.reports.significance import Comparison

from ..fake_sweeps import fake_config, found_in, opened, write_grid, write_run


def write_dropout(folder: Path, n_seeds: int, worse: float) -> None:
    """Three rates by two of dropout, of which 0.5 is worse by so much, and by some chance."""
    chance = np.random.default_rng(0).normal(0, 0.01, size=(3, 2, n_seeds))
    places = np.ndindex(*chance.shape)
    for number, (i, j, seed) in enumerate(places):
        loss = 0.2 + abs(i - 1) + worse * j + 0.05 * seed + chance[i, j, seed]
        values = {"optimizer__lr": 10.0 ** (i - 2), "model__dropout": 0.5 * j}
        write_run(folder / str(number), loss, **values, seed=seed)


def test_a_setting_that_does_not_matter_is_shown_not_to(tmp_path: Path) -> None:
    """Its values, each at the best rate, differ by less than chance does to a run; rates do not."""
    write_dropout(tmp_path, 20, 0.0)
    text = found_in(tmp_path)["does not matter here"]
    assert text.startswith("model.dropout (")
    assert "optimizer.lr" not in text


def test_of_a_setting_with_few_seeds_nothing_is_claimed(tmp_path: Path) -> None:
    """That no difference was seen is no proof that there is none."""
    write_dropout(tmp_path, 3, 0.0)
    found = found_in(tmp_path)
    assert "does not matter here" not in found
    assert found["whether it matters cannot be told"].startswith("model.dropout (")


def test_a_setting_that_matters_is_in_neither(tmp_path: Path) -> None:
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


def test_where_all_runs_are_equal_nothing_is_said_of_settings(tmp_path: Path) -> None:
    """Accuracies of 1 on few rows; a bound of 0 would be no bound."""
    write_grid(tmp_path, {0.01: [1.0] * 3, 0.1: [1.0] * 3})
    assert not [title for title in found_in(tmp_path) if "matter" in title]


def effect(*ends: tuple[float, float] | None, n: int = 3, key: str = "model.dropout") -> Effect:
    """Of a setting with a level for each interval; the difference is its middle."""
    against = {
        str(level): Comparison(fake_config([0.0]), n, sum(end) / 2, 0.1, *end) if end else None
        for level, end in enumerate(ends)
    }
    return Effect(key, against)


def titles(*found: Effect, residual: float | None = 1.0) -> list[str]:
    """Of the findings."""
    return [each.title for each in without_effect(found, residual)]


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
def test_a_setting_is_idle_where_both_ends_are_within_what_chance_does(
    end: tuple[float, float], residual: float, is_idle: bool
) -> None:
    """To a single run."""
    expected = "does not matter here" if is_idle else "whether it matters cannot be told"
    assert titles(effect((0.0, 0.0), end), residual=residual) == [expected]


def test_a_setting_that_is_seen_to_matter_is_in_no_finding() -> None:
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
    (finding,) = without_effect(found, residual)
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
    rate, dropout = effects(configs, sweep.hyperparameters, sweep.sign)
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
    found = Effect("model.dropout", dict(pairs))
    (finding,) = without_effect([found], 1.0)
    assert finding.text.endswith("Yet worse with every seed: model.dropout=0.5")
    assert "to within ±1;" in finding.text


def test_numbers_that_a_search_drew_are_held_in_ranges(tmp_path: Path) -> None:
    """Four, of equal numbers of values."""
    for number in range(16):
        write_run(tmp_path / str(number), 0.1 * number, optimizer__lr=2.0**-number)
    sweep, configs = opened(tmp_path)
    (found,) = effects(configs, sweep.hyperparameters, sweep.sign)
    assert len(found.comparisons) == 4
    assert [each.worse_by for each in found.known] == pytest.approx([1.2, 0.8, 0.4, 0.0])
