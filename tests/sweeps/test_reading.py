"""Sweep folders as they are found: finished, broken, and of several launchers."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from multilayer.sweeps.reading import count_jobs, read_sweep, varied


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
    noted = {"hydra": {"sweeper": {"params": params}, "overrides": {"task": words}}}
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump(noted))
    assert count_jobs(tmp_path) == n_jobs
