"""Rates that go with choices."""

from pathlib import Path

import numpy as np
import yaml

from multilayer.sweeps.candidates import command_of
from multilayer.sweeps.table import runs_table

from ..made_up import found_in, opened, write_run

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
    sweep, candidates = opened(tmp_path)
    assert runs_table(sweep)["optimizer.lr"].to_list() == [0.1, 0.3, 0.2]
    by_name = {each.choice["model.activation"]: each for each in candidates}
    assert by_name["tanh"].reported == {"optimizer.lr": "0.2 to 0.3"}
    assert command_of(by_name["relu"], sweep).endswith("model.activation=relu optimizer.lr=0.1")
    assert "optimizer.lr" not in command_of(by_name["tanh"], sweep)
    text = found_in(tmp_path)["learning rate and activation"]
    assert "tanh with optimizer.lr=0.2 to 0.3" in text


def test_a_run_that_finds_its_rate_is_trained_again_by_finding_it(tmp_path: Path) -> None:
    """A rate beside the callback that looks for one would be refused."""
    for number, activation in enumerate(["relu", "tanh"]):
        folder = tmp_path / str(number)
        write_run(folder, 0.5 + number, model__activation=activation)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["optimizer"] = {"lr": 0.01 * (1 + number)}
        config["callbacks"] = {"lr_sweep": {"_target_": "multilayer.callbacks.LearningRateSweep"}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    sweep, candidates = opened(tmp_path)
    assert candidates[0].reported == {"optimizer.lr": "0.01"}
    assert command_of(candidates[0], sweep) == "multilayer train model.activation=relu"
