"""Sweep folders as they are found: finished, broken, and of several launchers."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from multilayer.reports.planned_jobs import count_jobs
from multilayer.reports.runs import read_curves, varied
from multilayer.reports.sweep import find_sweep, open_sweep, read_sweep

from .fake_sweeps import write_grid, write_history, write_noted


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


def test_the_error_names_the_file_that_cannot_be_read(tmp_path: Path) -> None:
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


NAMES = ("train/loss", "validation/loss")
NAN = float("nan")


def test_curves_are_the_metrics_of_each_epoch(tmp_path: Path) -> None:
    """NaN where one was not finite or not measured; other columns are left out."""
    names = ["train/accuracy", *NAMES]
    write_history(tmp_path, names, [[0.1, 3.0, 6.0], [0.2, NAN, None], [0.3, 1.0, float("inf")]])
    curves = read_curves(tmp_path / "history.csv", [*NAMES, "validation/accuracy"])
    assert curves is not None
    assert curves["epoch"].tolist() == [1, 2, 3]
    assert set(curves) == {"epoch", *NAMES, "validation/accuracy"}
    np.testing.assert_equal(curves["train/loss"], [3.0, NAN, 1.0])
    np.testing.assert_equal(curves["validation/loss"], [6.0, NAN, NAN])
    assert np.isnan(curves["validation/accuracy"]).all()


def test_a_file_that_is_cut_off_anywhere_gives_its_whole_rows(tmp_path: Path) -> None:
    """Of a run that is running, or was killed in the middle of a write."""
    write_history(tmp_path, list(NAMES), [[3.25, 6.25], [2.25, 4.25]])
    path = tmp_path / "history.csv"
    content = path.read_bytes()
    found = []
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        curves = read_curves(tmp_path / "history.csv", NAMES)
        found.append([] if curves is None else curves["validation/loss"].tolist())
    assert all(now[: len(before)] == before for before, now in pairwise(found))
    assert {tuple(each) for each in found} == {(), (6.25,), (6.25, 4.25)}


def test_an_epoch_that_was_trained_again_counts_once(tmp_path: Path) -> None:
    """As it was the last time, in the order of the epochs."""
    rows = ["epoch,train/loss", "1,3.0", "2,2.0", "3,9.0", "2,1.5", "3,1.0"]
    (tmp_path / "history.csv").write_text("\n".join([*rows, ""]))
    curves = read_curves(tmp_path / "history.csv", NAMES)
    assert curves is not None
    assert curves["epoch"].tolist() == [1, 2, 3]
    assert curves["train/loss"].tolist() == [3.0, 1.5, 1.0]


@pytest.mark.parametrize(
    ("row", "n"),
    [("3,0.5", 3), ("3,x", 2), ("three,0.5", 2), ("3", 2), ("-3,0.5", 2), ("9" * 30 + ",0.5", 2)],
)
def test_a_damaged_row_ends_the_curve(tmp_path: Path, row: str, n: int) -> None:
    """What comes before it is there."""
    (tmp_path / "history.csv").write_text(f"epoch,train/loss\n1,3.0\n2,2.0\n{row}\n")
    curves = read_curves(tmp_path / "history.csv", NAMES)
    assert curves is not None
    assert curves["epoch"].tolist() == [1, 2, 3][:n]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"epoch,step\n1,2\n", b"train/loss\n3.0\n", b"\xff\xfe\x00\n1\n", b"\x00" * 99],
)
def test_files_of_another_kind_are_no_curves(tmp_path: Path, content: bytes) -> None:
    """Nor an error; nor is a folder without the file, as older versions left it."""
    assert read_curves(tmp_path / "history.csv", NAMES) is None
    (tmp_path / "history.csv").write_bytes(content)
    assert read_curves(tmp_path / "history.csv", NAMES) is None
