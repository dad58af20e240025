"""Sweep folders: which are sweeps, what is broken in them, and what can be compared."""

import os
from pathlib import Path
from typing import Any

import pytest

from multilayer.core.errors import UserError
from multilayer.reports.by_data import parts_of
from multilayer.reports.configs import _command_of
from multilayer.reports.markdown import _state_lines
from multilayer.reports.sweep import find_sweep, open_sweep
from multilayer.sweeps import Ledger, NewJob

from .fake_sweeps import opened, write_grid, write_noted, write_run


def write_losses(folder: Path) -> None:
    """Two of which the lower one belongs to the worse classifier."""
    for number, (smoothing, loss, accuracy) in enumerate([(0.0, 0.1, 0.8), (0.3, 0.9, 0.9)]):
        metrics = {"validation": {"loss": loss, "accuracy": accuracy}}
        write_run(folder / str(number), metrics=metrics, loss__label_smoothing=smoothing)


def test_where_losses_differ_the_accuracy_decides(tmp_path: Path) -> None:
    """And it is said why."""
    write_losses(tmp_path)
    sweep = open_sweep(tmp_path)
    assert (sweep.metric, sweep.mode) == ("validation/accuracy", "max")
    assert "loss.label_smoothing varied" in sweep.warnings[0]
    assert "ranked by validation/accuracy" in sweep.warnings[0]


def test_the_loss_decides_if_the_user_says_so(tmp_path: Path) -> None:
    """With a caution."""
    write_losses(tmp_path)
    sweep = open_sweep(tmp_path, "validation/loss")
    assert (sweep.metric, sweep.mode) == ("validation/loss", "min")
    assert "not comparable" in sweep.warnings[0]


def test_a_sweep_without_a_run_yet_says_so(tmp_path: Path) -> None:
    """It has begun, and is no mistake."""
    write_noted(tmp_path, ["optimizer.lr=0.1,1,10"])
    with pytest.raises(UserError, match="0 of 3 runs have begun"):
        find_sweep(tmp_path)


def test_a_folder_that_happens_to_hold_runs_is_no_sweep(tmp_path: Path) -> None:
    """A day of single runs, a run among other things, and runs of which nothing is shared."""
    day, other, mixed = tmp_path / "2026-11-25", tmp_path / "tmp", tmp_path / "mixed"
    write_run(day / "21-03-02-123456", 0.5, optimizer__lr=0.1)
    write_run(other / "0", 0.5, optimizer__lr=0.1)
    for name in ("a", "b", "c"):
        (other / name).mkdir()
    write_run(mixed / "mine", 0.5, optimizer__lr=0.1)
    write_run(mixed / "yours", 0.5, model__dropout=0.1)
    for folder, reason in (
        (day, "single ones of a day"),
        (other, "only 1 of the 4 folders"),
        (mixed, "share"),
    ):
        with pytest.raises(UserError, match=reason):
            find_sweep(folder)
    write_noted(mixed, [])
    assert find_sweep(mixed) == mixed


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
def test_an_invalid_file_breaks_that_run_alone(
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
    assert "done, but without validation/loss: 1 (run 1)" in _state_lines(sweep, parts_of(sweep))
    assert {each.values["optimizer.lr"]: each.mean for each in configs} == {
        0.1: 0.5,
        1.0: pytest.approx(0.65),
    }


def test_with_a_damaged_multirun_yaml_the_planned_number_is_unknown(
    tmp_path: Path,
) -> None:
    """The runs are there all the same."""
    write_grid(tmp_path, {0.1: [0.5], 1.0: [0.6]})
    (tmp_path / "multirun.yaml").write_bytes(b"\xff\xfe\x00")
    sweep, configs = opened(tmp_path)
    assert sweep.n_planned is None
    assert _command_of(configs[0], sweep) == "multilayer train optimizer.lr=0.1 seed=0"


def test_a_ledger_knows_which_runs_still_train(tmp_path: Path) -> None:
    """However long one has been silent; one whose process has ended is interrupted."""
    for number in range(3):
        write_run(tmp_path / str(number), 0.4, status="running", seed=number)
        for path in [tmp_path / str(number), *(tmp_path / str(number)).iterdir()]:
            os.utime(path, (0, 0))
    ledger = Ledger(tmp_path)
    jobs: list[Any] = [NewJob({"seed": seed}, [f"seed={seed}"]) for seed in range(4)]
    ledger.register(jobs)
    with ledger.worker() as alive:
        gone = ledger.worker()
        alive.claim([0])
        gone.claim([1])
        gone.close()
        sweep = open_sweep(tmp_path)
        assert sweep.n_planned == 4
        assert sweep.running == ["0"]
        assert sweep.stalled == {}
        assert [run.status for run in sweep.runs] == ["running", "interrupted", "interrupted"]
