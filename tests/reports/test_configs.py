"""Configs: which runs they are, and which is best."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from multilayer.reports.configs import (
    ConfigResult,
    _command_of,
    _is_one_number,
    best_command,
    format_range,
)
from multilayer.reports.curves import best_run
from multilayer.reports.report import report
from multilayer.reports.significance import compare, verdict

from .fake_sweeps import found_in, opened, write_grid, write_run


def by_rate(configs: list[ConfigResult]) -> dict[Any, ConfigResult]:
    """The configs of a sweep over learning rates."""
    return {each.values["optimizer.lr"]: each for each in configs}


def order(configs: list[ConfigResult]) -> list[Any]:
    """The learning rates, best first."""
    return [each.values["optimizer.lr"] for each in configs]


def test_configs_are_ranked_by_their_mean_within_what_can_be_relied_on(tmp_path: Path) -> None:
    """Then those with fewer seeds than most, with a diverged one, and without any score."""
    losses: dict[float, list[float | None]] = {
        1.0: [0.5, 0.6, 0.7],
        2.0: [0.4, 0.5, 0.6],
        3.0: [0.1],
        4.0: [0.2, 0.3],
        5.0: [0.01, None, 0.01],
        6.0: [0.02, 0.02, None],
        7.0: [None, None, None],
        8.0: [0.9, 0.9, 0.9],
    }
    write_grid(tmp_path, losses)
    _, configs = opened(tmp_path)
    assert order(configs) == [2.0, 1.0, 8.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert {each.n_expected for each in configs} == {3}


def test_where_more_is_better_the_highest_mean_is_first(tmp_path: Path) -> None:
    """By the mode of the runs."""
    for number, loss in enumerate((0.3, 0.9, 0.5)):
        write_run(tmp_path / str(number), loss, optimizer__lr=float(number), mode="max")
    _, configs = opened(tmp_path)
    assert order(configs) == [1.0, 2.0, 0.0]


def test_no_config_of_which_a_seed_diverged_is_best_in_any_part_of_a_report(
    tmp_path: Path,
) -> None:
    """Where each has one: no best command, no comparison, no finding, no best run, no mark."""
    write_grid(tmp_path, {0.1: [0.1, None, 0.2], 1.0: [None, 0.5, 0.6]})
    sweep, configs = opened(tmp_path)
    assert [each.is_valid for each in configs] == [False, False]
    assert compare(configs, sweep.sign) == []
    assert "there is no best one" in verdict(sweep, configs, [])
    assert best_command(configs, sweep) is None
    assert best_run(sweep, configs) is None
    assert found_in(tmp_path) == {}
    text = report({"sweep": tmp_path, "metric": None}).read_text()
    assert "multilayer train" not in text
    assert "## Findings" not in text


def test_a_diverged_seed_counts_whatever_the_others_did(tmp_path: Path) -> None:
    """Beside a worse config that is sound, that is the best in each part."""
    write_grid(tmp_path, {0.1: [0.1, None, 0.1], 1.0: [0.8, 0.9, 0.7], 10.0: [0.85, 0.95, 0.8]})
    sweep, configs = opened(tmp_path)
    assert order(configs) == [1.0, 10.0, 0.1]
    assert best_command(configs, sweep) == "multilayer train optimizer.lr=1.0"
    best = best_run(sweep, configs)
    assert best is not None
    assert best.metric("validation/loss") == 0.7
    (only,) = compare(configs, sweep.sign)
    assert only.other is configs[1]
    assert all("=0.1 " not in text for text in found_in(tmp_path).values())


@pytest.mark.parametrize(
    ("status", "states"),
    [
        ("running", "1 of 2 done, 1 of 2 running"),
        ("failed", "1 of 2 done, 1 of 2 failed"),
        ("interrupted", "1 of 2 done, 1 of 2 interrupted"),
        ("diverged", "1 of 2 diverged, 1 of 2 done"),
    ],
)
def test_a_run_without_an_end_takes_a_seed_and_no_more(
    tmp_path: Path, status: str, states: str
) -> None:
    """Its metrics count for nothing, though a run that failed late may have some."""
    write_grid(tmp_path, {0.1: [0.5, 0.7], 1.0: [0.9, 0.9]})
    path = tmp_path / "1" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": status}))
    _, configs = opened(tmp_path)
    found = by_rate(configs)[0.1]
    assert (found.mean, found.status_text) == (0.5, states)
    assert found.is_valid == (status != "diverged")
    assert [run.name for run in found.done] == ["0"]


def test_runs_of_one_seed_are_one(tmp_path: Path) -> None:
    """Their mean, so that a seed that ran twice does not count twice."""
    for number, (seed, loss) in enumerate([(0, 0.2), (0, 0.4), (1, 0.9)]):
        write_run(tmp_path / str(number), loss, optimizer__lr=0.1, seed=seed)
    _, (only,) = opened(tmp_path)
    assert only.scores == {(0,): pytest.approx(0.3), (1,): 0.9}
    assert only.mean == pytest.approx(0.6)
    assert only.stats["train/loss"] == only.score
    assert only.stats.get("test/loss") is None


def test_a_seed_may_be_several_keys(tmp_path: Path) -> None:
    """Runs of one seed with two splits are two."""
    for number in range(4):
        values = {"seed": number % 2, "data__split_seed": number // 2}
        write_run(tmp_path / str(number), 0.1 * number, optimizer__lr=0.1, **values)
    sweep, (only,) = opened(tmp_path)
    assert sweep.seed_keys == ("seed", "data.split_seed")
    assert only.scores == {(0, 0): 0.0, (1, 0): 0.1, (0, 1): 0.2, (1, 1): pytest.approx(0.3)}


def test_as_many_seeds_as_most_are_complete(tmp_path: Path) -> None:
    """The median over the configs that are sound; half a seed is not asked for."""
    write_grid(tmp_path / "a", {1.0: [0.5] * 3, 2.0: [0.4] * 2, 3.0: [0.3] * 2, 4.0: [None] * 3})
    _, configs = opened(tmp_path / "a")
    assert {each.n_expected for each in configs} == {2}
    assert all(each.is_complete for each in configs[:3])
    assert order(configs) == [3.0, 2.0, 1.0, 4.0]
    write_grid(tmp_path / "b", {1.0: [0.5] * 3, 2.0: [0.4] * 2})
    _, configs = opened(tmp_path / "b")
    assert {each.n_expected for each in configs} == {2}
    write_grid(tmp_path / "c", {1.0: [None], 2.0: [None]})
    _, configs = opened(tmp_path / "c")
    assert {each.n_expected for each in configs} == {0}
    assert np.isnan(configs[0].mean)


def test_the_ends_of_runs_are_counted_by_status(tmp_path: Path) -> None:
    """One status is a word; missing seeds are said where all that began are done."""
    losses: dict[float, list[float | None]] = {rate: [0.5] * 3 for rate in (1.0, 2.0, 6.0)}
    write_grid(tmp_path, losses | {3.0: [0.3], 4.0: [None, None, 0.1]})
    write_run(tmp_path / "100", status="failed", optimizer__lr=3.0, seed=1)
    write_run(tmp_path / "101", 0.3, optimizer__lr=5.0, seed=1)
    _, configs = opened(tmp_path)
    assert {rate: each.status_text for rate, each in by_rate(configs).items()} == {
        1.0: "done",
        2.0: "done",
        6.0: "done",
        3.0: "1 of 2 done, 1 of 2 failed",
        4.0: "2 of 3 diverged, 1 of 3 done",
        5.0: "done, 1 of 3 seeds",
    }


def test_the_words_of_a_config_are_its_overrides(tmp_path: Path) -> None:
    """All hyperparameters, as one would type them."""
    for number, width in enumerate([[8], [8, 4]]):
        write_run(tmp_path / str(number), 0.1, optimizer__lr=0.1 + number, model__d_hidden=width)
    _, configs = opened(tmp_path)
    assert configs[0].describe() == "optimizer.lr=0.1 model.d_hidden=[8]"


@pytest.mark.parametrize(
    ("levels", "text"),
    [([0.3], "0.3"), ([0.3, 0.1, 0.2], "0.1 to 0.3"), ([None, 0.1], "0.1"), ([None, "x"], "-")],
)
def test_a_range_has_its_two_ends(levels: list[Any], text: str) -> None:
    """Of the numbers."""
    assert format_range(levels) == text


@pytest.mark.parametrize(("text", "is_one"), [("1e-05", True), ("0.1 to 0.3", False), ("-", False)])
def test_one_number_is_no_range(text: str, is_one: bool) -> None:
    """Which could not be an override."""
    assert _is_one_number(text) == is_one


def test_words_that_a_shell_takes_otherwise_are_quoted(tmp_path: Path) -> None:
    """The command works as it stands."""
    for number, lr in enumerate((0.1, 0.2)):
        write_run(tmp_path / str(number), lr, optimizer__lr=lr, model__d_hidden=[8, 4])
    sweep, configs = opened(tmp_path)
    words = "multilayer train optimizer.lr=0.1 'model.d_hidden=[8, 4]'"
    assert _command_of(configs[0], sweep) == words


def test_the_command_has_the_names_of_today(tmp_path: Path) -> None:
    """Of a sweep that an earlier version trained: an old key would be refused."""
    for number, n_rows in enumerate((50, 100)):
        write_run(tmp_path / str(number), 1 / n_rows, data__train_rows=n_rows, threads=2)
    sweep, configs = opened(tmp_path)
    (rows,) = sweep.hyperparameters
    assert (rows.key, rows.values) == ("data.max_train_rows", (50, 100))
    command = "multilayer train data.max_train_rows=100 num_threads=2"
    assert _command_of(configs[0], sweep) == command


def write_found_rate(folder: Path, lr: float, callbacks: dict[str, Any]) -> None:
    """A rate of the config that no override says."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config |= {"optimizer": {"lr": lr}, "callbacks": callbacks}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def test_a_run_that_finds_its_rate_is_trained_again_by_finding_it(tmp_path: Path) -> None:
    """A rate beside the callback that looks for one would be refused."""
    for number, activation in enumerate(["relu", "tanh"]):
        folder = tmp_path / str(number)
        write_run(folder, 0.5 + number, model__activation=activation)
        finds = {"lr_sweep": {"_target_": "multilayer.lr_sweep.LearningRateSweep"}}
        write_found_rate(folder, 0.01 * (1 + number), finds)
    sweep, configs = opened(tmp_path)
    assert configs[0].derived == {"optimizer.lr": "0.01"}
    assert _command_of(configs[0], sweep) == "multilayer train model.activation=relu"


def test_a_rate_that_no_override_says_is_part_of_the_command(tmp_path: Path) -> None:
    """Where all runs of the config have the same."""
    rates = [("relu", 0.1, 0), ("relu", 0.1, 1), ("tanh", 0.2, 0), ("tanh", 0.3, 1)]
    for number, (activation, lr, seed) in enumerate(rates):
        folder = tmp_path / str(number)
        write_run(folder, lr, model__activation=activation, seed=seed)
        write_found_rate(folder, lr, {"other": {"_target_": "multilayer.callbacks.Figures"}})
    sweep, configs = opened(tmp_path)
    assert [each.derived for each in configs] == [
        {"optimizer.lr": "0.1"},
        {"optimizer.lr": "0.2 to 0.3"},
    ]
    assert [_command_of(each, sweep) for each in configs] == [
        "multilayer train model.activation=relu optimizer.lr=0.1",
        "multilayer train model.activation=tanh",
    ]


@pytest.mark.parametrize(
    ("hydra", "end"), [("[hydra.mode=MULTIRUN]", "=0.1"), ("[]", "=0.1 hydra.mode=RUN")]
)
def test_a_file_that_starts_a_sweep_is_kept_from_it(tmp_path: Path, hydra: str, end: str) -> None:
    """Where the sweep was not started by -m, which Hydra notes as a mode."""
    write_grid(tmp_path, {0.1: [0.1], 1.0: [0.2]})
    (tmp_path / "multirun.yaml").write_text(f"hydra: {{overrides: {{hydra: {hydra}, task: []}}}}")
    sweep, configs = opened(tmp_path)
    assert _command_of(configs[0], sweep).endswith(f"optimizer.lr=0.1 seed=0{end[4:]}")
