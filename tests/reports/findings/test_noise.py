"""Chance beside settings."""

from pathlib import Path

import numpy as np
import pytest

from multilayer.reports.configs import ConfigResult
from multilayer.reports.findings.effects import _better_half, order_is_chance, residual_std

from ..fake_sweeps import fake_config, found_in, opened, write_grid

TITLE = "trial variance is as large as the differences"


def test_what_a_seed_does_to_all_configs_is_no_noise(tmp_path: Path) -> None:
    """As in the two-way table, the residual of which is the deviation of differences over √2."""
    first, second = np.array([0.1, 0.5, 0.3]), np.array([0.15, 0.54, 0.36])
    write_grid(tmp_path, {0.1: list(first), 0.2: list(second)})
    _, configs = opened(tmp_path)
    expected = (second - first).std(ddof=1) / 2**0.5
    assert residual_std(configs) == pytest.approx(expected)


def test_without_shared_seeds_the_deviations_are_pooled(tmp_path: Path) -> None:
    """Each config has seeds of its own."""
    write_grid(tmp_path, {0.1: [0.1, 0.3]})
    _, configs = opened(tmp_path)
    assert residual_std(configs) == pytest.approx(0.2 / 2**0.5)


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
    found = residual_std([fake_config(list(each)) for each in scores])
    assert found == pytest.approx((squares / (2 * 3)) ** 0.5)


def test_only_seeds_that_all_of_the_half_have_are_in_the_table() -> None:
    """With one that is shared the deviations are pooled."""
    scores = [[0.1, 0.5, 0.9], [0.2, 0.4], [5.0, 6.0, 7.0], [8.0, 9.0, 9.5]]
    found = residual_std([fake_config(each) for each in scores])
    differences = np.subtract(scores[1], scores[0][:2])
    assert found == pytest.approx(differences.std(ddof=1) / 2**0.5)
    apart = [ConfigResult({"a": k}, [], {(k,): 0.1, (k + 1,): 0.1 + k}) for k in (1, 2)]
    assert residual_std(apart) == pytest.approx(((1 + 4) / 2 / 2) ** 0.5)
    assert residual_std([fake_config([0.1]), fake_config([0.2])]) is None


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
        finding = order_is_chance([*half, fake_config([9.0] * 4), fake_config([9.0] * 4)], False)
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
    assert order_is_chance([fake_config([0.1, 0.5]), fake_config([0.6, 0.2])], True) is None


def test_equal_runs_have_no_order_and_no_chance() -> None:
    """Nor has one config."""
    assert order_is_chance([fake_config([0.5, 0.5]), fake_config([0.5, 0.5])], False) is None
    assert order_is_chance([fake_config([0.5, 0.6])], False) is None
