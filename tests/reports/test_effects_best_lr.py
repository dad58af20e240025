"""Rates that go with choices."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from multilayer.reports.configs import _command_of
from multilayer.reports.effects import _best_lr_by_choice, _clause, _conclusion
from multilayer.reports.report import _runs_table
from multilayer.reports.significance import Comparison

from .fake_sweeps import fake_config, found_in, opened, write_run

TITLE = "learning rate and optimizer"


def write_rates(folder: Path, losses: dict[str, list[float | None]], n_seeds: int) -> None:
    """Two optimizers by three rates; None where nothing was tried."""
    rng = np.random.default_rng(0)
    number = 0
    for optimizer, each in losses.items():
        for lr, loss in zip([0.001, 0.01, 0.1], each, strict=True):
            for seed in range(n_seeds if loss is not None else 0):
                own = (loss or 0.0) + 0.1 * seed + rng.normal(0, 0.01)
                values = {"optimizer": optimizer, "optimizer__lr": lr, "seed": seed}
                write_run(folder / str(number), own, **values)
                number += 1


APART: dict[str, list[float | None]] = {"sgd": [0.9, 0.5, 0.3], "adam": [0.4, 0.2, 0.8]}


def test_each_optimizer_has_its_own_rate(tmp_path: Path) -> None:
    """They are compared at their best; an edge is named, and the test is a paired one."""
    write_rates(tmp_path, APART, 3)
    text = found_in(tmp_path)[TITLE]
    assert "adam with optimizer.lr=0.01 (0.2" in text
    assert "sgd with optimizer.lr=0.1 (0.4" in text
    assert "at the edge)" in text
    assert "adam at 0.1 and sgd at 0.01 are clearly worse than at their best learning rates" in text


def test_only_what_was_tested_is_said_to_be_worse(tmp_path: Path) -> None:
    """One optimizer is as good at the rate of the other."""
    write_rates(tmp_path, {"sgd": [0.9, 0.5, 0.3], "adam": [0.4, 0.2, 0.2]}, 3)
    text = found_in(tmp_path)[TITLE]
    assert "sgd at 0.01 is clearly worse than at its best learning rate" in text
    assert "adam at" not in text


def test_rates_that_tie_are_all_best(tmp_path: Path) -> None:
    """And one that is away from the edge leaves none there."""
    losses = {"sgd": [0.5, 0.25, 0.25], "adam": [0.5, 0.125, 0.25]}
    number = 0
    for optimizer, own in losses.items():
        for lr, loss in zip([0.001, 0.01, 0.1], own, strict=True):
            write_run(tmp_path / str(number), loss, optimizer=optimizer, optimizer__lr=lr)
            number += 1
    text = found_in(tmp_path)[TITLE]
    words = "adam with optimizer.lr=0.01 (0.125), sgd with optimizer.lr=0.01 or 0.1 (0.25)"
    assert text.startswith(f"best is {words}")


def test_one_seed_gives_the_best_rates_and_no_conclusion(tmp_path: Path) -> None:
    """Nothing is known of chance."""
    write_rates(tmp_path, APART, 1)
    assert ";" not in found_in(tmp_path)[TITLE]


def test_rates_that_differ_by_chance_are_no_rates_of_their_own(tmp_path: Path) -> None:
    """Where each optimizer is as good at the other's rate."""
    write_rates(tmp_path, {"sgd": [0.50, 0.30, 0.301], "adam": [0.60, 0.301, 0.30]}, 3)
    text = found_in(tmp_path)[TITLE]
    assert "clearly worse" not in text
    assert "no more than chance" in text or "the same learning rate" in text


def test_holes_in_the_grid_are_untried(tmp_path: Path) -> None:
    """And no evidence that anything diverges there."""
    write_rates(tmp_path, {"sgd": [0.9, None, 0.3], "adam": [0.4, 0.2, None]}, 3)
    text = found_in(tmp_path)[TITLE]
    assert "untried: adam at 0.1, sgd at 0.01" in text
    assert "diverge" not in text
    assert "clearly worse" not in text


def test_one_diverged_run_is_no_evidence(tmp_path: Path) -> None:
    """Three are."""
    for n_seeds in (1, 3):
        folder = tmp_path / str(n_seeds)
        write_rates(folder, {"sgd": [0.9, None, 0.3], "adam": [0.4, 0.2, 0.5]}, n_seeds)
        for seed in range(n_seeds):
            values = {"optimizer": "sgd", "optimizer__lr": 0.01, "seed": seed}
            write_run(folder / str(100 + seed), status="diverged", **values)
        text = found_in(folder)[TITLE]
        assert ("sgd at 0.01 diverges" in text) == (n_seeds == 3)
        assert "untried" not in text


def test_rates_that_were_found_are_reported(tmp_path: Path) -> None:
    """No override says them; they are a column, and part of the command where they are one."""
    for number, (activation, lr) in enumerate([("relu", 0.1), ("tanh", 0.3), ("tanh", 0.2)]):
        folder = tmp_path / str(number)
        write_run(folder, lr, model__activation=activation, seed=max(0, number - 1))
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["optimizer"] = {"lr": lr}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    sweep, configs = opened(tmp_path)
    assert _runs_table(sweep)["optimizer.lr"].to_list() == [0.1, 0.3, 0.2]
    by_name = {each.values["model.activation"]: each for each in configs}
    assert by_name["tanh"].derived == {"optimizer.lr": "0.2 to 0.3"}
    assert _command_of(by_name["relu"], sweep).endswith("model.activation=relu optimizer.lr=0.1")
    assert "optimizer.lr" not in _command_of(by_name["tanh"], sweep)
    text = found_in(tmp_path)["learning rate and activation"]
    assert "tanh with optimizer.lr=0.2 to 0.3" in text


def paired(**p_values: float | None) -> dict[str, Comparison]:
    """Paired tests by name; without a p-value there were two seeds."""
    return {
        name: Comparison(fake_config([0.0]), 2 if p is None else 3, p=p)
        for name, p in p_values.items()
    }


def test_the_conclusion_is_by_p_values_corrected_together() -> None:
    """Each of two would be clear alone."""
    assert _conclusion(paired(a=0.03), [], "rate", False) == [
        "a is clearly worse than at its best rate, as a paired test tells",
        "compare each at its own rate",
    ]
    assert _conclusion(paired(a=0.03, b=0.04), [], "rate", False) == [
        "that the rates differ is no more than chance can do"
    ]
    assert _conclusion(paired(a=0.01, b=0.04), [], "rate", False)[0] == (
        "a and b are clearly worse than at their best rates, as a paired test tells"
    )
    assert _conclusion(paired(a=0.001, b=0.4), [], "rate", False)[0].startswith("a is clearly")


def test_what_diverges_is_evidence_beside_the_tests_or_without() -> None:
    """Named once; chance is then no longer the whole story."""
    own = "compare each at its own rate"
    assert _conclusion({}, ["a", "a"], "rate", False) == ["a diverges", own]
    assert _conclusion(paired(b=0.9), ["a"], "rate", False) == ["a diverges", own]
    assert _conclusion(paired(b=0.01), ["a"], "rate", False) == [
        "a diverges",
        "b is clearly worse than at its best rate, as a paired test tells",
        own,
    ]


def test_without_evidence_nothing_is_concluded() -> None:
    """Too few seeds for any one test are too few for all; nothing to test is one rate for all."""
    assert _conclusion(paired(a=0.001, b=None), [], "rate", False) == []
    assert _conclusion({}, [], "rate", True) == []
    assert _conclusion({}, [], "rate", False) == ["the same rate is best for each"]


@pytest.mark.parametrize(
    ("names", "words"),
    [(["a"], "a is"), (["a", "b"], "a and b are"), (["a", "b", "c"], "a, b and c are")],
)
def test_names_are_listed(names: list[str], words: str) -> None:
    """As in a sentence."""
    assert _clause(names, "is", "are") == words


def test_the_best_of_a_choice_has_no_diverged_seed(tmp_path: Path) -> None:
    """Its rate is that of the best config that can be relied on, with its mean."""
    write_rates(tmp_path, {"sgd": [0.9, 0.5, 0.3], "adam": [0.4, 0.2, 0.8]}, 3)
    values = {"optimizer": "adam", "optimizer__lr": 0.01, "seed": 3}
    write_run(tmp_path / "100", status="diverged", **values)
    text = found_in(tmp_path)[TITLE]
    assert text.startswith("best is sgd with optimizer.lr=0.1 (0.40")
    assert "at the edge), adam with optimizer.lr=0.001 (0.49" in text


def test_a_config_that_failed_is_unknown_and_not_untried(tmp_path: Path) -> None:
    """So that it is not said that one rate is best for each."""
    write_rates(tmp_path, {"sgd": [0.9, None, 0.3], "adam": [0.4, 0.2, 0.5]}, 1)
    for number, seed in enumerate(range(3)):
        values = {"optimizer": "sgd", "optimizer__lr": 0.01, "seed": seed}
        write_run(tmp_path / str(100 + number), status="failed", **values)
    text = found_in(tmp_path)[TITLE]
    assert "untried" not in text
    assert "diverge" not in text
    assert "the same" not in text


def test_one_rate_that_is_best_for_each_is_told(tmp_path: Path) -> None:
    """And needs no test."""
    write_rates(tmp_path, {"sgd": [0.9, 0.3, 0.5], "adam": [0.4, 0.2, 0.8]}, 3)
    assert found_in(tmp_path)[TITLE].endswith("; the same learning rate is best for each")


def test_drawn_rates_of_one_range_are_one(tmp_path: Path) -> None:
    """A search tries no rate twice; a hole is a range that was not tried."""
    number = 0
    for optimizer, best in (("sgd", 15), ("adam", 14)):
        for k in range(16):
            values = {"optimizer": optimizer, "optimizer__lr": 2.0**-k * (1 + (best == 14) / 9)}
            write_run(tmp_path / str(number), 0.1 + abs(k - best), **values)
            number += 1
    assert found_in(tmp_path)[TITLE].endswith("; the same learning rate is best for each")


def test_few_levels_make_a_choice_and_at_most_three_are_told_of(tmp_path: Path) -> None:
    """Nine words are no choice; a level of which all failed leaves one, which is none."""
    for number in range(18):
        values = {
            "optimizer__lr": 0.1 * 10 ** (number % 2),
            "many": f"w{number % 9}",
            **{f"choice_{k}": "ab"[(number >> k) % 2] for k in range(1, 5)},
        }
        write_run(tmp_path / str(number), 0.1 * number, **values)
    sweep, configs = opened(tmp_path)
    found = list(_best_lr_by_choice(sweep, configs))
    assert [each.title for each in found] == [f"learning rate and choice {k}" for k in range(1, 4)]
    only = [each for each in configs if each.values["choice_1"] == "a"]
    titles = {each.title for each in _best_lr_by_choice(sweep, only)}
    assert "learning rate and choice 1" not in titles


def test_a_choice_of_which_each_config_diverged_has_no_best_rate(tmp_path: Path) -> None:
    """However good its other seeds are; one choice alone is then nothing to compare."""
    write_rates(tmp_path, {"sgd": [0.9, 0.5, 0.3], "adam": [0.4, None, None]}, 3)
    values = {"optimizer": "adam", "optimizer__lr": 0.001, "seed": 3}
    write_run(tmp_path / "100", status="diverged", **values)
    sweep, configs = opened(tmp_path)
    assert list(_best_lr_by_choice(sweep, configs)) == []
