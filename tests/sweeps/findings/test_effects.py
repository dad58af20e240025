"""What each setting is worth."""

from pathlib import Path

import numpy as np

from ..made_up import found_in, write_grid, write_run


def test_a_setting_that_does_not_matter_is_named(tmp_path: Path) -> None:
    """Its values, each at the best learning rate, differ by less than seeds; the rate matters."""
    number = 0
    for lr in (0.01, 0.1, 1.0):
        for dropout in (0.0, 0.5):
            for seed in (0, 1, 2):
                loss = abs(np.log10(lr) + 1) + 0.05 * seed + 0.01 * dropout + 0.2
                write_run(
                    tmp_path / str(number),
                    loss,
                    optimizer__lr=lr,
                    model__dropout=dropout,
                    seed=seed,
                )
                number += 1
    text = found_in(tmp_path)["does not matter here"]
    assert "model.dropout (0.005)" in text
    assert "optimizer.lr" not in text


def test_one_seed_cannot_tell_what_matters(tmp_path: Path) -> None:
    """The differences are given, and that chance is not known."""
    write_grid(tmp_path, {0.01: [0.2], 0.1: [0.3]})
    title = "what matters cannot be told from one seed"
    assert "optimizer.lr (0.1)" in found_in(tmp_path)[title]
