"""What each setting is worth."""

from pathlib import Path

import numpy as np

from ..made_up import found_in, write_grid, write_run


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
