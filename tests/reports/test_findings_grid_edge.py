"""The best config at the edge of the grid."""

from pathlib import Path

import numpy as np
import pytest

from multilayer.reports.configs import ConfigResult
from multilayer.reports.findings import _at_grid_edge, _values_beyond
from multilayer.reports.hyperparameters import Hyperparameter

from .fake_sweeps import found_in, write_grid, write_run


@pytest.mark.parametrize(
    ("key", "levels", "side", "expected"),
    [
        ("optimizer.lr", [1e-3, 1e-2, 1e-1], 1, [1.0, 10.0]),
        ("optimizer.lr", [1e-3, 1e-2, 1e-1], -1, [1e-4, 1e-5]),
        ("model.dropout", [0.3, 0.5, 0.7], 1, [0.9]),
        ("model.dropout", [0.0, 0.2, 0.4], -1, []),
        ("data.batch_size", [32, 64, 128], -1, [16, 8]),
        ("trainer.max_epochs", [10, 20, 30], 1, [40, 50]),
        ("model.depth", [1, 2, 3], -1, []),
        ("optimizer.lr", [0.01, 1e3, 1e30], -1, [1e-3, 1e-4]),
        ("optimizer.lr", [0.1, 0.3], 1, [0.9, 3.0]),
        ("optimizer.lr", [1e-3, 3e-3, 1e-2], 1, [0.03, 0.1]),
        ("optimizer.lr", [0.0025, 0.025], 1, [0.25, 2.5]),
        ("optimizer.weight_decay", [0.0, 1e-3], 1, [3e-3, 1e-2]),
        ("model.n_layers", [0, 2], 1, [4, 6]),
        ("optimizer.betas", [0.9, 0.99], 1, []),
        ("optimizer.lr", [2.0**k for k in range(20)], 1, [2.1e6, 8.39e6]),
        ("x", [0.25 * k for k in range(30)], 1, [8.0, 8.75]),
        ("x", [0.5, 1.0, 1.5], -1, [0.25, 0.125]),
        ("x", [-2.0, -1.5, -1.0], -1, [-2.5, -3.0]),
        ("x", [-1, 0, 1], 1, [2, 3]),
        ("x", [-1, 0, 1], -1, [-2, -3]),
        ("x", [2, 4, 6], -1, [1]),
        ("x", [1.0, 1.25, 1.5], 1, [1.75, 2.0]),
        ("optimizer.lr", [0.1, 0.2, 0.4], 1, [0.8, 1.6]),
        ("optimizer.lr", [0.0011, 0.0033, 0.0099], 1, [0.0297, 0.0891]),
        ("x", [0.0, 1e-3], 1, [2e-3, 3e-3]),
        ("data.batch_size", [0, 64], 1, [128, 192]),
        ("optimizer.lr", [0.0, 0.1, 1.0], 1, [10.0, 100.0]),
        ("model.dropout", [0.5, 0.6], -1, [0.4, 0.3]),
        ("optimizer.momentum", [0.5, 0.9, 0.95], 1, []),
        ("optimizer.lr", [1.0, 100.0], 1, [1000.0, 10000.0]),
        ("optimizer.lr", [1.0, 100.0], -1, [0.1, 0.01]),
    ],
)
def test_what_to_try_beyond_the_edge_is_spaced_like_the_grid(
    key: str, levels: list[float], side: int, expected: list[float]
) -> None:
    """And stays where the hyperparameter has a meaning."""
    assert _values_beyond(Hyperparameter.from_runs(key, levels), side) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("levels", "level", "side"),
    [
        ([0.0, 5.0, 35.0, 65.0, 100.0], 5.0, -1),
        ([0.0, 5.1, 35.0, 65.0, 100.0], 5.1, 0),
        ([0.0, 35.0, 65.0, 95.0, 100.0], 95.0, 1),
        ([0.0, 35.0, 65.0, 94.9, 100.0], 94.9, 0),
        ([1e-3, 1e-2, 1e-1], 1e-2, 0),
        ([1e-3, 1e-2, 1e-1], 1e-3, -1),
        ([0.1], 0.1, 0),
        (["a", "b"], "a", 0),
    ],
)
def test_the_edge_is_the_outer_twentieth_of_the_range(
    levels: list[float], level: float, side: int
) -> None:
    """Of numbers, where there is a range."""
    assert Hyperparameter.from_runs("optimizer.lr", levels).edge_side(level) == side


def test_an_edge_says_which_and_how_near() -> None:
    """The largest itself, or one near it; a zero is where a hyperparameter ends by itself."""
    swept = Hyperparameter.from_runs("optimizer.lr", list(np.logspace(-4, 0, 101)))
    dropout = Hyperparameter.from_runs("model.dropout", [0.0, 0.2, 0.4])
    said = {
        place: [
            finding.text
            for finding in _at_grid_edge(
                [ConfigResult({"optimizer.lr": swept.values[place], "model.dropout": 0.0}, [], {})],
                [swept, dropout],
            )
        ]
        for place in (0, 2, 50, 98, 100)
    }
    assert said[50] == []
    for place, words in {
        0: "optimizer.lr=0.0001 is the smallest that was tried; try optimizer.lr=",
        2: "is near the smallest that was tried; try",
        98: "is near the largest that was tried; try",
        100: "optimizer.lr=1 is the largest that was tried; try optimizer.lr=2.51,6.31 too",
    }.items():
        (text,) = said[place]
        assert words in text


def test_the_best_on_the_edge_is_found(tmp_path: Path) -> None:
    """With the override to try; a best between others is not on the edge."""
    write_grid(tmp_path / "edge", {0.001: [0.9], 0.01: [0.6], 0.1: [0.3]})
    write_grid(tmp_path / "inside", {0.001: [0.9], 0.01: [0.2], 0.1: [0.3]})
    assert "try optimizer.lr=1,10 too" in found_in(tmp_path / "edge")["edge of the grid"]
    assert "edge of the grid" not in found_in(tmp_path / "inside")


def test_a_rate_below_one_that_diverged_is_not_on_the_edge(tmp_path: Path) -> None:
    """What is beyond has been tried."""
    write_grid(tmp_path, {0.001: [0.9], 0.01: [0.6], 0.1: [0.3], 1.0: [None]})
    assert "edge of the grid" not in found_in(tmp_path)


def test_a_search_has_its_edge_near_the_last_value() -> None:
    """Within 5 % of the range, in its logarithm."""
    swept = Hyperparameter.from_runs("optimizer.lr", list(np.logspace(-4, 0, 101)))
    assert [swept.edge_side(swept.values[i]) for i in (0, 4, 50, 96, 100)] == [-1, -1, 0, 1, 1]


def test_an_edge_beyond_which_nothing_lies_is_an_edge(tmp_path: Path) -> None:
    """But not a zero, where the hyperparameter ends by itself."""
    for number, (depth, rate) in enumerate([(1, 0.0), (1, 0.2), (2, 0.0), (2, 0.2)]):
        values = {"model__depth": depth, "model__dropout": rate}
        write_run(tmp_path / str(number), depth + rate, **values)
    text = found_in(tmp_path)["edge of the grid"]
    assert text == "the best model.depth=1 is the smallest that was tried, and nothing lies beyond"


def test_a_tie_has_no_edge(tmp_path: Path) -> None:
    """Three epochs limits, of which none was reached: to try more of it is no advice."""
    for number, limit in enumerate((50, 100, 200)):
        write_run(tmp_path / "tie" / str(number), 0.25, trainer__max_epochs=limit)
        write_run(tmp_path / "two" / str(number), [0.25, 0.25, 0.5][number], model__depth=number)
    found = found_in(tmp_path / "tie")
    assert "edge of the grid" not in found
    assert found["changes nothing"].startswith("trainer.max_epochs: with the other")
    found = found_in(tmp_path / "two")
    assert not {"edge of the grid", "changes nothing"} & set(found)


def test_what_changes_nothing_is_named_next_to_what_does(tmp_path: Path) -> None:
    """With several seeds too, whose spread does not matter then."""
    number = 0
    for lr in (0.01, 0.1, 1.0):
        for limit in (50, 100):
            for seed in range(3):
                loss = abs(lr - 0.1) + 0.01 * seed * lr
                write_run(
                    tmp_path / str(number),
                    loss,
                    optimizer__lr=lr,
                    trainer__max_epochs=limit,
                    seed=seed,
                )
                number += 1
    text = found_in(tmp_path)["changes nothing"]
    assert text == (
        "trainer.max_epochs: with the other hyperparameters at their best, all values give the "
        "same to the last digit"
    )
