"""Sweep folders as they are found: finished, broken, and of several launchers."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from multilayer.core.errors import UserError
from multilayer.reports.configs import command_of
from multilayer.reports.markdown import state_lines
from multilayer.reports.runs import count_jobs, read_sweep, varied
from multilayer.reports.sweep import find_sweep, open_sweep

from .fake_sweeps import opened, write_grid, write_noted
from .fake_sweeps import write_run as write_whole_run


def write_run(
    folder: Path, overrides: list[str], config: dict[str, Any], status: str = "done"
) -> None:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    manifest = {"status": status, "overrides": overrides}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_runs_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """2 comes before 10, and names come last; what is no run of ours is passed over."""
    for name in ("10", "2", "lr=0.1"):
        write_run(tmp_path / name, [], {})
    (tmp_path / "3").mkdir()
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / "manifest.json").write_text('{"status": "do')
    assert [run.name for run in read_sweep(tmp_path)] == ["2", "10", "lr=0.1"]


def test_what_varied_are_values_of_the_config_and_names_of_choices(tmp_path: Path) -> None:
    """A number is the number that the run had, however it was written."""
    for number, (optimizer, lr) in enumerate([("sgd", "1e-3"), ("adam", "0.1")]):
        config = {"optimizer": {"lr": float(lr)}, "seed": 0}
        overrides = ["seed=0", f"optimizer={optimizer}", f"optimizer.lr={lr}"]
        write_run(tmp_path / str(number), overrides, config)
    assert varied(read_sweep(tmp_path)) == {
        "optimizer": ["sgd", "adam"],
        "optimizer.lr": [0.001, 0.1],
    }


def test_a_number_that_is_only_written_otherwise_does_not_vary(tmp_path: Path) -> None:
    """1e-1 is 0.1."""
    for number, lr in enumerate(["1e-1", "0.1"]):
        write_run(tmp_path / str(number), [f"optimizer.lr={lr}"], {"optimizer": {"lr": 0.1}})
    assert varied(read_sweep(tmp_path)) == {}


@pytest.mark.parametrize(
    ("words", "params", "n_jobs"),
    [
        (["optimizer.lr=1e-3,1e-2", "seed=range(3)"], None, 6),
        (["data=iris"], {"model.dropout": "0,0.5"}, 2),
        (["model.dropout=0.1"], {"model.dropout": "0,0.5"}, 1),
        (["optimizer.lr=interval(0,1)"], None, None),
    ],
)
def test_the_number_of_jobs_is_that_of_the_command(
    tmp_path: Path, words: list[str], params: dict[str, str] | None, n_jobs: int | None
) -> None:
    """As Hydra noted it; what a sweeper draws is not known before."""
    write_noted(tmp_path, words, params=params)
    assert count_jobs(tmp_path) == n_jobs
    write_noted(tmp_path, words, params=params, _target_="hydra_plugins.Optuna")
    assert count_jobs(tmp_path) is None


def test_runs_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    """With `hydra.sweep.subdir='group/${hydra.job.num}'`."""
    write_noted(tmp_path, ["optimizer.lr=0.1,1"])
    write_grid(tmp_path / "group", {0.1: [0.5], 1.0: [0.6]})
    assert [run.name for run in open_sweep(find_sweep(tmp_path)).runs] == ["0", "1"]


def test_a_sweep_without_a_run_yet_says_so(tmp_path: Path) -> None:
    """It has begun, and is no mistake."""
    write_noted(tmp_path, ["optimizer.lr=0.1,1,10"])
    with pytest.raises(UserError, match="0 of 3 runs have begun"):
        find_sweep(tmp_path)


def test_a_folder_that_happens_to_hold_runs_is_no_sweep(tmp_path: Path) -> None:
    """A day of single runs, a run among other things, and runs of which nothing is shared."""
    day, other, mixed = tmp_path / "2026-11-25", tmp_path / "tmp", tmp_path / "mixed"
    write_whole_run(day / "21-03-02-123456", 0.5, optimizer__lr=0.1)
    write_whole_run(other / "0", 0.5, optimizer__lr=0.1)
    for name in ("a", "b", "c"):
        (other / name).mkdir()
    write_whole_run(mixed / "mine", 0.5, optimizer__lr=0.1)
    write_whole_run(mixed / "yours", 0.5, model__dropout=0.1)
    for folder, reason in (
        (day, "single ones of a day"),
        (other, "only 1 of the 4 folders"),
        (mixed, "share"),
    ):
        with pytest.raises(UserError, match=reason):
            find_sweep(folder)
    write_noted(mixed, [])
    assert find_sweep(mixed) == mixed


def test_what_cannot_be_read_says_which_file(tmp_path: Path) -> None:
    """Missing, broken, or another's."""
    write_grid(tmp_path, {0.1: [0.5], 1.0: [0.6], 10.0: [0.7], 100.0: [0.8]})
    (tmp_path / "1" / "manifest.json").unlink()
    (tmp_path / "2" / "metrics.json").write_text("{")
    (tmp_path / "3" / "manifest.json").write_text("{}")
    assert open_sweep(tmp_path).broken == {
        "1": "manifest.json is missing",
        "2": "metrics.json is damaged",
        "3": "manifest.json is not that of a run",
    }


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metrics.json", b"[]", "metrics.json is not that of a run"),
        ("metrics.json", b'{"validation": null}', "metrics.json is not that of a run"),
        ("metrics.json", b'{"validation": {"loss": "low"}}', "metrics.json is not that of a run"),
        ("manifest.json", b"[]", "manifest.json is not that of a run"),
        (
            "manifest.json",
            b'{"status": "done", "overrides": null}',
            "manifest.json is not that of a run",
        ),
        ("manifest.json", b"\xff\xfe\x00", "manifest.json is damaged"),
        (
            "manifest.json",
            b'{"status": "done", "overrides": [], "best_epoch": "x"}',
            "manifest.json is not that of a run",
        ),
        ("metrics.json", b"[" * 100_000, "metrics.json is damaged"),
        ("config.yaml", b"monitor: 3\nmode: min", "config.yaml is not that of a run"),
        (
            "config.yaml",
            b"monitor: validation/loss\nmode: min\ntrainer: 3",
            "config.yaml is not that of a run",
        ),
    ],
)
def test_a_file_that_is_no_runs_breaks_that_run_alone(
    name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    """It is named with the reason, and the report is of the others."""
    write_grid(tmp_path, {0.1: [0.5], 1.0: [0.6]})
    (tmp_path / "1" / name).write_bytes(content)
    sweep = open_sweep(tmp_path)
    assert sweep.broken == {"1": reason}
    assert [run.name for run in sweep.runs] == ["0"]


@pytest.mark.parametrize(
    "metrics",
    ["{}", '{"validation": {"loss": NaN}}', '{"validation": {"loss": 1%s}}' % ("0" * 400), None],
)
def test_a_run_that_is_done_without_a_number_is_named(metrics: str | None, tmp_path: Path) -> None:
    """It counts in no mean, and is not the best."""
    write_grid(tmp_path, {0.1: [0.5, 0.1], 1.0: [0.6, 0.7]})
    if metrics is None:
        (tmp_path / "1" / "metrics.json").unlink()
    else:
        (tmp_path / "1" / "metrics.json").write_text(metrics)
    sweep, configs = opened(tmp_path)
    assert "done, but without validation/loss: 1 (run 1)" in state_lines(sweep)
    assert {each.values["optimizer.lr"]: each.mean for each in configs} == {
        0.1: 0.5,
        1.0: pytest.approx(0.65),
    }


def test_where_hydras_note_is_broken_nobody_knows_how_many_runs_there_were_to_be(
    tmp_path: Path,
) -> None:
    """The runs are there all the same."""
    write_grid(tmp_path, {0.1: [0.5], 1.0: [0.6]})
    (tmp_path / "multirun.yaml").write_bytes(b"\xff\xfe\x00")
    sweep, configs = opened(tmp_path)
    assert sweep.n_planned is None
    assert command_of(configs[0], sweep) == "multilayer train optimizer.lr=0.1 seed=0"
