"""The table of the sweeps below a folder."""

import os
from pathlib import Path
from typing import Any

from multilayer.reports.sweep_list import list_sweeps
from multilayer.sweeps import Ledger, NewJob, Outcome, Worker

from ..conftest import Run


def make_sweep(folder: Path, *outcomes: Outcome, n_more: int = 0, mode: str = "min") -> Worker:
    """A sweep of which jobs have ended so, one trains, and some wait."""
    ledger = Ledger(folder)
    n_jobs = len(outcomes) + 1 + n_more
    jobs: list[Any] = [NewJob({"seed": seed}, [f"seed={seed}"]) for seed in range(n_jobs)]
    ledger.register(jobs, command={"mode": mode})
    worker = ledger.worker()
    worker.claim(range(len(outcomes) + 1))
    worker.finish(dict(enumerate(outcomes)))
    return worker


def test_each_sweep_below_a_folder_has_a_row(multilayer: Run, tmp_path: Path) -> None:
    """With its jobs by state, and the best by its own mode; one that is damaged says so."""
    ended = [Outcome("done", 0.5), Outcome("done", 0.25), Outcome("diverged", float("nan"))]
    low = make_sweep(tmp_path / "sweeps" / "a" / "low", *ended, Outcome("failed"), n_more=2)
    high = make_sweep(tmp_path / "sweeps" / "high", *ended, mode="max")
    high.close()
    (tmp_path / "sweeps" / "run").mkdir()
    (tmp_path / "sweeps" / "run" / "manifest.json").touch()
    make_sweep(tmp_path / "sweeps" / "run" / "within").close()  # no sweep is within a run
    with low:
        rows = list_sweeps(tmp_path / "sweeps")
        assert [row.folder.name for row in rows] == ["low", "high"]
        assert rows[0].counts == {"done": 2, "diverged": 1, "failed": 1, "running": 1, "waiting": 2}
        assert rows[1].counts == {"done": 2, "diverged": 1, "interrupted": 1}
        assert [[job.number for job in row.best] for row in rows] == [[1], [0]]
    os.truncate(tmp_path / "sweeps" / "high" / "ledger" / "jobs" / "0.jsonl", 40)
    outcome = multilayer("sweeps")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    (line,) = [line for line in lines if "low" in line]
    words = [word for word in line.replace("│", " ").split() if word != "sweeps/a/low"]
    assert words[:6] == ["2", "1", "1", "1", "2", "0.25"]
    assert "s ago" in line
    assert any("high" in line and "damaged" in line for line in lines)


def test_all_jobs_that_tie_for_the_best_are_named(multilayer: Run, tmp_path: Path) -> None:
    """Or as many of them as one reads."""
    losses = [0.5, 0.25, 0.75, 0.25]
    make_sweep(tmp_path / "two", *(Outcome("done", loss) for loss in losses)).close()
    make_sweep(tmp_path / "many", *[Outcome("done", 0.25)] * 5).close()
    many, two = [line for line in multilayer("sweeps", ".").out.splitlines() if "0.25" in line]
    assert "0.25 (jobs 1, 3)" in two
    assert "0.25 (jobs 0 to 2 and 2 more)" in many


def test_links_are_not_followed(tmp_path: Path) -> None:
    """They may lead to other people's folders, or back to where they are."""
    make_sweep(tmp_path / "sweeps" / "own").close()
    make_sweep(tmp_path / "others" / "one").close()
    (tmp_path / "sweeps" / "others").symlink_to(tmp_path / "others")
    (tmp_path / "sweeps" / "again").symlink_to(tmp_path / "sweeps")
    assert [row.folder.name for row in list_sweeps(tmp_path / "sweeps")] == ["own"]


def test_a_folder_without_a_sweep_says_so(multilayer: Run, tmp_path: Path) -> None:
    """So does one that is not there."""
    (tmp_path / "some folder").mkdir()
    empty = multilayer("sweeps", "some folder")
    assert (empty.code, empty.out) == (0, "no sweep with a ledger below some folder\n")
    missing = multilayer("sweeps", "folder=nowhere")
    assert (missing.code, "folder=nowhere: no such folder" in missing.err) == (2, True)
