"""Rates that go with choices."""

from pathlib import Path

from ..made_up import found_in, write_run


def test_each_optimizer_has_its_own_rate(tmp_path: Path) -> None:
    """They are compared at their best; an edge is named."""
    losses = {"sgd": [0.9, 0.5, 0.3], "adam": [0.4, 0.2, 0.8]}
    number = 0
    for optimizer, each in losses.items():
        for lr, loss in zip([0.001, 0.01, 0.1], each, strict=True):
            write_run(tmp_path / str(number), loss, optimizer=optimizer, optimizer__lr=lr)
            number += 1
    text = found_in(tmp_path)["learning rate and optimizer"]
    assert "adam with optimizer.lr=0.01 (0.2), sgd with optimizer.lr=0.1 (0.3, at the edge)" in text
    assert "a learning rate of its own" in text


def test_rates_that_differ_by_chance_are_no_rates_of_their_own(tmp_path: Path) -> None:
    """Where each optimizer is as good at the other's rate, to what seeds do."""
    losses = {"sgd": [0.50, 0.30, 0.31], "adam": [0.60, 0.32, 0.30]}
    number = 0
    for optimizer, each in losses.items():
        for lr, loss in zip([0.001, 0.01, 0.1], each, strict=True):
            for seed in (0, 1):
                own = loss + 0.1 * seed
                write_run(
                    tmp_path / str(number), own, optimizer=optimizer, optimizer__lr=lr, seed=seed
                )
                number += 1
    assert "matters less than the seeds" in found_in(tmp_path)["learning rate and optimizer"]
