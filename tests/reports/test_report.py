"""`multilayer report`: any sweep folder in, tables, figures and findings out."""

import json
import subprocess
import sys
from os import utime
from pathlib import Path
from time import time

import polars as pl
import pytest
from matplotlib.image import imread

from ..conftest import Run
from .fake_sweeps import write_grid, write_noted, write_run


def test_a_real_sweep_is_reported_whole(multilayer: Run, tmp_path: Path) -> None:
    """Trained in lockstep; what is written is read back, and agrees with the run folders."""
    words = ["data=iris", "trainer.max_epochs=3", "optimizer=sgd,adam", "optimizer.lr=1e-3,1e-1"]
    sweep = ["hydra/launcher=lockstep", "hydra.sweep.dir=sweeps/iris"]
    assert multilayer("train", "-m", *words, *sweep, "seed=0,1,2").code == 0
    outcome = multilayer("report", "sweep=sweeps/iris")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "sweeps" / "iris"
    runs = pl.read_parquet(folder / "runs.parquet")
    assert runs.height == 12
    for run in runs.iter_rows(named=True):
        final = json.loads((folder / run["run"] / "metrics.json").read_text())
        for split, metrics in final.items():
            assert {name: run[f"{split}/{name}"] for name in metrics} == metrics
        assert run["status"] == "done"
    assert pl.read_csv(folder / "runs.csv", schema_overrides={"run": pl.String}).equals(runs)
    configs = pl.read_csv(folder / "configs.csv")
    best = (
        runs.group_by("optimizer", "optimizer.lr")
        .agg(pl.col("validation/loss").mean())
        .sort("validation/loss")
    )
    assert configs["optimizer"].to_list() == best["optimizer"].to_list()
    assert configs["validation/loss mean"].to_list() == pytest.approx(best["validation/loss"])
    text = (folder / "report.md").read_text()
    pictures = [line.partition("](")[2][:-1] for line in text.splitlines() if line[:2] == "!["]
    assert len(pictures) == 5
    for picture in pictures:
        assert imread(folder / picture).std() > 0.01
    name, lr = best["optimizer"][0], best["optimizer.lr"][0]
    command = f"multilayer train data=iris trainer.max_epochs=3 optimizer={name} optimizer.lr={lr}"
    assert command in text
    assert command in outcome.out
    assert "12 runs of 12 planned: 12 done" in outcome.out
    assert "report   sweeps/iris/report.md" in outcome.out


def report(multilayer: Run, tmp_path: Path) -> tuple[str, str]:
    """The report of the sweep in the working folder's `sweep`, and what was printed."""
    outcome = multilayer("report", "sweep=sweep")
    assert outcome.code == 0, outcome.err
    assert not list((tmp_path / "sweep").glob(".*"))  # nothing half-written is left
    return (tmp_path / "sweep" / "report.md").read_text(), outcome.out


def test_reports_agree(multilayer: Run, tmp_path: Path) -> None:
    """The same folder gives the same report, digit by digit."""
    write_grid(tmp_path / "sweep", {0.1: [0.3, 0.5, 0.4], 1.0: [0.9, 0.7, 0.8]})
    assert report(multilayer, tmp_path) == report(multilayer, tmp_path)


def test_a_sweep_that_runs_says_so_and_names_what_is_missing(
    multilayer: Run, tmp_path: Path
) -> None:
    """What runs, what was interrupted, what never began, and what cannot be read."""
    folder = tmp_path / "sweep"
    write_grid(folder, {0.1: [0.3, 0.5]})
    write_run(folder / "2", status="running", optimizer__lr=1.0, seed=0, curve=[1.0])
    write_run(folder / "4", status="interrupted", optimizer__lr=2.0, seed=0)
    write_run(folder / "5", 0.2, optimizer__lr=2.0, seed=1)
    (folder / "5" / "config.yaml").unlink()
    write_run(folder / "6", 0.2, optimizer__lr=3.0, seed=1)
    (folder / "6" / "manifest.json").write_text('{"status": "do')
    write_noted(folder, ["seed=range(8)"])
    text, out = report(multilayer, tmp_path)
    assert "still running" in text
    assert "still running" in out
    for line in (
        "6 runs of 8 planned: 2 done, 1 running, 1 interrupted",
        "running: 1 (run 2)",
        "broken, left out: 2 (runs 5, 6)",
        "missing: 2 (runs 3, 7)",
    ):
        assert line in text
        assert line in out
    assert "config.yaml is missing" in text


def test_a_run_that_is_silent_for_hours_is_reported_as_stalled(
    multilayer: Run, tmp_path: Path
) -> None:
    """It cannot say so itself."""
    write_grid(tmp_path / "sweep", {0.1: [0.3]})
    write_run(tmp_path / "sweep" / "1", status="running", optimizer__lr=1.0, seed=0)
    then = time() - 3.2 * 3600
    for path in [tmp_path / "sweep" / "1", *(tmp_path / "sweep" / "1").iterdir()]:
        utime(path, (then, then))
    text, out = report(multilayer, tmp_path)
    assert "running, or killed: nothing written for 3 h: 1 (run 1)" in text
    assert "still running" not in out


def test_where_all_runs_failed_the_reasons_are_listed(multilayer: Run, tmp_path: Path) -> None:
    """No best config, no figure, and no error."""
    for number, lr in enumerate((0.1, 1.0)):
        manifest = {"stop_reason": "RuntimeError: out of memory\nand more", "fit_seconds": None}
        write_run(
            tmp_path / "sweep" / str(number), status="failed", manifest=manifest, optimizer__lr=lr
        )
    text, out = report(multilayer, tmp_path)
    assert "there is no best one" in out
    assert "| RuntimeError: out of memory |" in text
    assert not (tmp_path / "sweep" / "figures").exists()


def test_a_sweep_of_one_run(multilayer: Run, tmp_path: Path) -> None:
    """Nothing varied and nothing is compared."""
    write_run(tmp_path / "sweep" / "0", 0.4, optimizer__lr=0.1)
    text, out = report(multilayer, tmp_path)
    assert "no second config" in out
    assert "Nothing." in text


def test_a_sweep_of_nothing_but_seeds(multilayer: Run, tmp_path: Path) -> None:
    """One config, folded; folds of the data count as seeds do."""
    for seed, loss in enumerate((0.4, 0.6, 0.5)):
        write_run(tmp_path / "sweep" / str(seed), loss, seed=seed, data__fold=seed)
    text, _ = report(multilayer, tmp_path)
    assert "0.5 ± 0.1 [0.4, 0.6], n = 3" in text
    assert "Nothing but the seed. Folded: 3 seeds." in text


def test_the_tables_have_one_n(multilayer: Run, tmp_path: Path) -> None:
    """Two runs of one seed are one."""
    for number, (seed, loss) in enumerate([(0, 0.4), (0, 0.6), (1, 0.5)]):
        write_run(tmp_path / "sweep" / str(number), loss, optimizer__lr=0.1, seed=seed)
    text, _ = report(multilayer, tmp_path)
    assert "n = 2" in text
    assert pl.read_csv(tmp_path / "sweep" / "configs.csv")["n"].to_list() == [2]


def test_the_time_of_a_run_is_its_own(multilayer: Run, tmp_path: Path) -> None:
    """In a stack its share; that of the stack stands apart, and is no run's in an old sweep."""
    manifests = [
        {"members": 3, "stack": "0", "fit_seconds": 2.0, "stack_seconds": 6.0},
        {"members": 3, "stack": "0", "fit_seconds": 3.0, "stack_seconds": 7.0},
        {"members": 3, "fit_seconds": 50.0},
        {"members": 1, "fit_seconds": 8.0, "stack_seconds": 8.0},
        {"fit_seconds": 9.0},
    ]
    for number, manifest in enumerate(manifests):
        values = {"optimizer__lr": 0.1 if number < 3 else 0.2, "seed": number}
        write_run(tmp_path / "sweep" / str(number), 0.5, manifest=manifest, **values)
    text, out = report(multilayer, tmp_path)
    runs = pl.read_csv(tmp_path / "sweep" / "runs.csv")
    assert runs["fit_seconds"].to_list() == [2.0, 3.0, None, 8.0, 9.0]
    assert runs["stack_seconds"].to_list() == [6.0, 7.0, 50.0, None, None]
    configs = pl.read_csv(tmp_path / "sweep" / "configs.csv")
    assert dict(configs.select("optimizer.lr", "fit_seconds").iter_rows()) == {0.1: 2.5, 0.2: 8.5}
    assert "the time is that of a run, in a stack its share (not known where" in text
    assert "2.5" in out
    for printed in (text, out):
        assert printed.count("time of the stack of 2 (runs 0, 1): 7 s") == 1
        assert printed.count("time of the stack") == 1


def test_runs_may_have_names(multilayer: Run, tmp_path: Path) -> None:
    """`hydra.sweep.subdir` gives others than numbers."""
    for name, lr in (("lr=0.1", 0.1), ("lr=1", 1.0)):
        write_run(tmp_path / "sweep" / name, lr, optimizer__lr=lr)
    text, _ = report(multilayer, tmp_path)
    assert "2 runs: 2 done" in text


def test_a_mixture_of_numbers_and_words_is_a_table(multilayer: Run, tmp_path: Path) -> None:
    """`data.batch_size=64,full`, a dropout of 0 and 0.2, and lists."""
    for number, (size, rate, width) in enumerate([(64, 0, [8]), ("full", 0.2, [8, 4])]):
        write_run(
            tmp_path / "sweep" / str(number),
            0.4,
            data__batch_size=size,
            model__dropout=rate,
            model__d_hidden=width,
        )
    report(multilayer, tmp_path)
    frame = pl.read_parquet(tmp_path / "sweep" / "runs.parquet")
    assert frame["data.batch_size"].to_list() == ["64", "full"]
    assert frame["model.dropout"].to_list() == [0.0, 0.2]
    assert frame["model.d_hidden"].to_list() == ["[8]", "[8,4]"]


def test_another_metric_may_decide(multilayer: Run, tmp_path: Path) -> None:
    """Of the accuracy more is better; a misspelt one and one of the test split are refused."""
    for number, (loss, accuracy) in enumerate([(0.1, 0.7), (0.2, 0.9)]):
        metrics = {split: {"loss": loss, "accuracy": accuracy} for split in ("train", "validation")}
        write_run(tmp_path / "sweep" / str(number), metrics=metrics, optimizer__lr=10.0**-number)
    by_loss = multilayer("report", "sweep=sweep")
    by_accuracy = multilayer("report", "sweep=sweep", "metric=validation/accuracy")
    assert "best     multilayer train optimizer.lr=1.0" in by_loss.out
    assert "best     multilayer train optimizer.lr=0.1" in by_accuracy.out
    refused = {
        "validation/acuracy": "did you mean validation/accuracy?",
        "accuracy": "did you mean validation/accuracy?",
        "train/acuracy": "did you mean validation/accuracy?",
        "test/loss": "no longer tested",
    }
    for wrong, hint in refused.items():
        outcome = multilayer("report", "sweep=sweep", f"metric={wrong}")
        assert outcome.code == 2
        assert hint in outcome.err


def test_a_nearby_sweep_is_named_in_the_error(multilayer: Run, tmp_path: Path) -> None:
    """The one above a run, or the one below `sweeps`."""
    write_grid(tmp_path / "sweeps" / "mine", {0.1: [0.3]})
    for given in ("sweeps", "sweeps/mine/0"):
        outcome = multilayer("report", f"sweep={given}")
        assert outcome.code == 2
        assert "did you mean sweeps/mine?" in outcome.err


def test_only_a_folder_that_would_do_is_named(multilayer: Run, tmp_path: Path) -> None:
    """The folder of a day is no sweep."""
    write_run(tmp_path / "runs" / "2026-01-31" / "10-00-00-000000", 0.5, seed=0)
    outcome = multilayer("report", "sweep=runs")
    assert outcome.code == 2
    assert "did you mean" not in outcome.err


def test_a_sweep_that_cannot_be_read_at_all_is_an_error(multilayer: Run, tmp_path: Path) -> None:
    """With the reason."""
    write_run(tmp_path / "sweep" / "0", 0.3)
    (tmp_path / "sweep" / "0" / "config.yaml").write_text("a: [1")
    outcome = multilayer("report", "sweep=sweep")
    assert outcome.code == 2
    assert "no run can be read (0: config.yaml is damaged)" in outcome.err


def test_a_report_that_cannot_be_written_is_a_message(multilayer: Run, tmp_path: Path) -> None:
    """With the folder, and what is in the way."""
    write_grid(tmp_path / "sweep", {0.1: [0.5], 0.2: [0.4]})
    (tmp_path / "sweep" / "report.md").mkdir()
    outcome = multilayer("report", "sweep=sweep")
    assert outcome.code == 2
    assert "sweep=sweep: the report cannot be written" in outcome.err
    assert "Traceback" not in outcome.err
    assert not list((tmp_path / "sweep").glob(".*"))  # nothing half-written


def test_it_needs_no_torch() -> None:
    """Which takes seconds to import."""
    program = "import sys, multilayer.reports.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
