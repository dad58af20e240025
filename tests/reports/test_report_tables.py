"""The tables of a report, number by number."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from multilayer.core.errors import UserError
from multilayer.reports.configs import SeedStats
from multilayer.reports.hyperparameters import as_column
from multilayer.reports.report import _config_row, _runs_table, report

from .fake_sweeps import opened, write_run


def write_metrics(folder: Path, losses: dict[float, list[float | None]]) -> None:
    """A sweep whose runs have metrics of all splits, those of test and training apart."""
    number = 0
    for lr, each in losses.items():
        for seed, loss in enumerate(each):
            metrics = {
                "train": {"loss": loss and loss / 2},
                "validation": {"loss": loss, "accuracy": loss and 1 - loss},
                "test": {"loss": loss and loss * 2},
            }
            about = {"fit_seconds": 1.0 + number, "best_epoch": number, "steps": 10 * number}
            values = {"optimizer__lr": lr, "seed": seed}
            write_run(folder / str(number), manifest=about, metrics=metrics, **values)
            number += 1


def test_each_part_of_each_metric_stands_in_its_own_column(tmp_path: Path) -> None:
    """Best first; the parts are those of the fold, both ends of the interval too."""
    losses: dict[float, list[float | None]] = {1.0: [0.5, 0.6, 0.4], 0.1: [0.1, 0.2, 0.4]}
    write_metrics(tmp_path, losses)
    sweep, configs = opened(tmp_path)
    table = pl.DataFrame([_config_row(rank, it, sweep) for rank, it in enumerate(configs, 1)])
    assert table["rank"].to_list() == [1, 2]
    assert table["optimizer.lr"].to_list() == ["0.1", "1"]
    assert table["n"].to_list() == [3, 3]
    assert table["fit_seconds"].to_list() == [5.0, 2.0]
    for name, factor in (("train/loss", 0.5), ("validation/loss", 1.0), ("test/loss", 2.0)):
        for row, lr in enumerate((0.1, 1.0)):
            expected = SeedStats.of([factor * (loss or 0.0) for loss in losses[lr]])
            for part in ("mean", "std", "low", "high"):
                assert table[f"{name} {part}"][row] == pytest.approx(getattr(expected, part))
    assert table["validation/loss low"][0] < table["validation/loss mean"][0]
    assert table["validation/loss mean"][0] < table["validation/loss high"][0]


def test_each_run_has_its_own_numbers(tmp_path: Path) -> None:
    """What is not there is null; the seed is a column."""
    write_metrics(tmp_path, {1.0: [0.5, None], 0.1: [0.1, 0.2]})
    sweep, _ = opened(tmp_path)
    table = _runs_table(sweep)
    assert table["run"].to_list() == ["0", "1", "2", "3"]
    assert table["optimizer.lr"].to_list() == [1.0, 1.0, 0.1, 0.1]
    assert table["seed"].to_list() == [0, 1, 0, 1]
    assert table["steps"].to_list() == [0, 10, 20, 30]
    assert table["best_epoch"].to_list() == [0, 1, 2, 3]
    assert table["validation/accuracy"].to_list() == [0.5, None, 0.9, 0.8]
    assert table["test/loss"].to_list() == [1.0, None, 0.2, 0.4]


def test_metrics_are_named_split_by_split(tmp_path: Path) -> None:
    """Validation first, training last of ours."""
    write_metrics(tmp_path, {1.0: [0.5]})
    sweep, _ = opened(tmp_path)
    assert sweep.metric_names == [
        "validation/loss",
        "validation/accuracy",
        "test/loss",
        "train/loss",
    ]


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([1, 2, None], [1, 2, None]),
        ([1, 0.5, None], [1.0, 0.5, None]),
        ([1, "full"], ["1", "full"]),
        ([True, False], ["true", "false"]),
        ([[1, 2], None], ["[1,2]", None]),
        ([10**30, 1], [1e30, 1.0]),
        ([float("nan"), 1], ["nan", "1"]),
        ([None, None], [None, None]),
    ],
)
def test_a_column_is_of_one_kind(values: list[Any], kept: list[Any]) -> None:
    """Numbers stay numbers, and beside a word they are words."""
    found = as_column(values)
    assert found == kept
    assert [type(each) for each in found] == [type(each) for each in kept]


@pytest.mark.parametrize(
    ("losses", "legend"),
    [
        ([0.5, 0.6, 0.4], "mean ± standard deviation over n seeds [95 % interval of the mean]"),
        (
            [0.5, 0.6],
            "mean ± standard deviation over n seeds [95 % interval of the mean, from 3 seeds on]",
        ),
        ([0.5], None),
    ],
)
@pytest.mark.parametrize("columns", ["50", "140"])
def test_what_follows_the_means_is_said_below_the_table(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    losses: list[float | None],
    legend: str | None,
    columns: str,
) -> None:
    """Where the table has it; however narrow the terminal is, no name is cut."""
    monkeypatch.setenv("COLUMNS", columns)
    write_metrics(tmp_path / "s", {1.0: losses, 0.1: losses})
    report({"sweep": str(tmp_path / "s"), "metric": None})
    out = capsys.readouterr().out
    assert ("±" in out) == (legend is not None)
    assert out.count(f"validation/loss: {legend}") == (legend is not None)
    table = out.partition("validation/loss: mean")[0].partition("time of")[0]
    assert "…" not in table
    assert "optimizer.lr" in table


def test_the_refits_stand_next_to_the_runs(tmp_path: Path) -> None:
    """Their metrics on the test rows, of those that are done; nothing is chosen by them."""
    write_metrics(tmp_path, {1.0: [0.5], 0.1: [0.25]})
    ends = {"0": ("done", {"loss": 0.75}), "1": ("diverged", {"loss": None})}
    for name, (status, test) in ends.items():
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest | {"refit": True}))
        metrics = {"train": {"loss": 0.0}, "test": test}
        write_run(tmp_path / name / "refit", status=status, metrics=metrics)
    report({"sweep": str(tmp_path), "metric": None})
    text = (tmp_path / "report.md").read_text()
    assert "done, but not their refits: 1 (run 1)" in text
    assert "was chosen: loss 0.5.\n" in text  # of the best, whose refit diverged
    table = text.partition("### Test of refit")[2]
    assert "| 1 | 0.1 | - |\n| 2 | 1 | 0.75 |\n" in table
    runs = pl.read_csv(tmp_path / "runs.csv")
    assert runs["test of refit/loss"].to_list() == [0.75, None]
    with pytest.raises(UserError, match="no such metric, did you mean validation/loss"):
        report({"sweep": str(tmp_path), "metric": "test of refit/loss"})
    for name in ends:
        manifest = json.loads((tmp_path / name / "refit" / "manifest.json").read_text())
        done = json.dumps(manifest | {"status": "done"})
        (tmp_path / name / "refit" / "manifest.json").write_text(done)
    (tmp_path / "1" / "refit" / "metrics.json").write_text('{"test": {"loss": 0.125}}')
    report({"sweep": str(tmp_path), "metric": None})
    text = (tmp_path / "report.md").read_text()
    assert "was chosen: loss 0.5. After the refit: loss 0.125.\n" in text
    assert "not their refits" not in text
