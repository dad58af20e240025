"""What a sweep teaches: each finding where it is due, and none where it is not."""

from pathlib import Path

import numpy as np
import pytest

from multilayer.sweeps.curves import Curves
from multilayer.sweeps.findings import find
from multilayer.sweeps.setting_findings import side_of, values_beyond
from multilayer.sweeps.settings import make_setting
from multilayer.sweeps.training_findings import Ending, still_improving, turned

from .made_up import opened, write_grid, write_run


def found_in(folder: Path) -> dict[str, str]:
    """The findings of a sweep without curves, by title."""
    sweep, candidates = opened(folder)
    return {finding.title: finding.text for finding in find(sweep, candidates, {})}


@pytest.mark.parametrize(
    ("levels", "is_log"),
    [
        ([1e-4, 1e-3, 1e-2], True),
        ([16, 32, 64, 128], True),
        ([0, 1e-4, 1e-3, 1e-2], True),
        ([0.0, 0.1, 0.2, 0.3], False),
        ([1, 2, 3], False),
        ([0.1, 0.2], False),
        ([0.01, 0.1], True),
        ([-1.0, 1.0, 10.0], False),
        (list(10 ** np.random.default_rng(0).uniform(-5, 0, size=40)), True),
        (list(np.random.default_rng(0).uniform(0, 0.5, size=40)), False),
    ],
)
def test_what_was_swept_by_factors_is_found(levels: list[float], is_log: bool) -> None:
    """Grids, a zero beside them, and what a search has drawn."""
    assert make_setting("optimizer.lr", levels).is_log == is_log


def test_levels_are_numbers_words_or_lists_in_order() -> None:
    """One word among numbers makes them words; 1 and 1.0 are one level."""
    assert make_setting("k", [2, 10, 1.0, 1]).levels == (1.0, 2, 10)
    assert make_setting("k", [64, "full", 8]).levels == (8, 64, "full")
    assert not make_setting("k", [64, "full", 8]).is_number
    assert make_setting("k", [[64, 32], [8], [64]]).levels == ("[8]", "[64]", "[64,32]")
    assert make_setting("k", [True, None, False]).levels == (False, None, True)


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
    ],
)
def test_what_to_try_beyond_the_edge_is_spaced_like_the_grid(
    key: str, levels: list[float], side: int, expected: list[float]
) -> None:
    """And stays where the setting has a meaning."""
    assert values_beyond(make_setting(key, levels), side) == pytest.approx(expected)


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
    setting = make_setting("optimizer.lr", list(np.logspace(-4, 0, 101)))
    assert [side_of(setting, setting.levels[i]) for i in (0, 4, 50, 96, 100)] == [-1, -1, 0, 1, 1]


def test_seeds_that_matter_as_much_as_settings_are_found(tmp_path: Path) -> None:
    """And not where the configs differ by more."""
    write_grid(tmp_path / "noise", {0.1: [0.1, 0.5], 0.2: [0.2, 0.6], 0.3: [0.5, 0.2]})
    write_grid(tmp_path / "clear", {0.1: [0.1, 0.11], 0.2: [0.3, 0.31], 0.3: [0.5, 0.51]})
    write_grid(tmp_path / "single", {0.1: [0.1], 0.2: [0.3]})
    title = "seeds matter as much as settings"
    assert title in found_in(tmp_path / "noise")
    assert title not in found_in(tmp_path / "clear")
    assert title not in found_in(tmp_path / "single")


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


def ending(best_epoch: int, gain: float | None = 0.1, ran_out: bool = True) -> Ending:
    """A run of 20 epochs."""
    return Ending(str(best_epoch), 20, best_epoch, ran_out, gain)


def test_runs_that_still_improved_are_counted() -> None:
    """Only where the number of epochs ended them, and the last ones brought something."""
    found = still_improving([ending(20), ending(10), ending(19, 0.0), ending(18)], ["20"])
    assert found is not None
    assert found.text.startswith("1 of 4 finished runs")
    assert "the best config among them (1 of its 1 runs)" in found.text
    assert "trainer.max_epochs=40" in found.text
    assert still_improving([ending(20, ran_out=False)], []) is None


@pytest.mark.parametrize(
    ("train", "validation", "title"),
    [(1.0, 0.9, "overfitting"), (0.97, 0.95, "fit"), (0.8, 0.82, "underfitting")],
)
def test_the_fit_is_told_by_the_accuracies(
    tmp_path: Path, train: float, validation: float, title: str
) -> None:
    """The gap for over-, and the distance from the best training for underfitting."""
    for number, (loss, own, other) in enumerate([(0.1, train, validation), (0.5, 0.99, 0.7)]):
        metrics = {
            "train": {"loss": loss, "accuracy": own},
            "validation": {"loss": loss, "accuracy": other},
        }
        write_run(tmp_path / str(number), metrics=metrics, optimizer__lr=10.0**-number)
    assert title in found_in(tmp_path)


def test_without_an_accuracy_the_losses_tell(tmp_path: Path) -> None:
    """Of a regression."""
    for number, (own, other) in enumerate([(0.1, 0.2), (0.3, 0.5)]):
        metrics = {"train": {"loss": own}, "validation": {"loss": other}}
        write_run(tmp_path / str(number), metrics=metrics, optimizer__lr=10.0**-number)
    assert "loss 0.1 in training, 0.2 in validation" in found_in(tmp_path)["overfitting"]


def test_the_rise_after_the_turning_point() -> None:
    """From the lowest value to the last; what is not finite is left out."""
    losses = np.array([2.0, 1.0, 1.5, np.nan])
    curves = Curves(np.arange(1, 5), {"validation/loss": losses})
    assert turned([curves]) == pytest.approx(0.5)
    assert turned([]) is None
