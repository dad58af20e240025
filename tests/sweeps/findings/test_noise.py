"""Chance beside settings."""

from pathlib import Path

import numpy as np
import pytest

from multilayer.sweeps.findings.noise import residual_std

from ..made_up import found_in, opened, write_grid

TITLE = "trial variance is as large as the differences"


def test_what_a_seed_does_to_all_configs_is_no_noise(tmp_path: Path) -> None:
    """As in the two-way table, the residual of which is the deviation of differences over √2."""
    first, second = np.array([0.1, 0.5, 0.3]), np.array([0.15, 0.54, 0.36])
    write_grid(tmp_path, {0.1: list(first), 0.2: list(second)})
    _, candidates = opened(tmp_path)
    expected = (second - first).std(ddof=1) / 2**0.5
    assert residual_std(candidates) == pytest.approx(expected)


def test_without_shared_seeds_the_deviations_are_pooled(tmp_path: Path) -> None:
    """Each config has seeds of its own."""
    write_grid(tmp_path, {0.1: [0.1, 0.3]})
    _, candidates = opened(tmp_path)
    assert residual_std(candidates) == pytest.approx(0.2 / 2**0.5)


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
