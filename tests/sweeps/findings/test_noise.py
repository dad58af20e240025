"""Chance beside settings."""

from pathlib import Path

from ..made_up import found_in, write_grid


def test_seeds_that_matter_as_much_as_settings_are_found(tmp_path: Path) -> None:
    """And not where the configs differ by more."""
    write_grid(tmp_path / "noise", {0.1: [0.1, 0.5], 0.2: [0.2, 0.6], 0.3: [0.5, 0.2]})
    write_grid(tmp_path / "clear", {0.1: [0.1, 0.11], 0.2: [0.3, 0.31], 0.3: [0.5, 0.51]})
    write_grid(tmp_path / "single", {0.1: [0.1], 0.2: [0.3]})
    title = "seeds matter as much as settings"
    assert title in found_in(tmp_path / "noise")
    assert title not in found_in(tmp_path / "clear")
    assert title not in found_in(tmp_path / "single")
