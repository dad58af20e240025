"""What becomes of a job's folder when another attempt at it begins."""

import json
from pathlib import Path
from typing import Any

import pytest

from multilayer.sweeps import Ledger, NewJob, Outcome, Session

FOUND = 0.25
"""The value that the files of a finished run say."""


def leave_run(folder: Path, status: str, *, checkpoint: bool = False) -> None:
    """What a run leaves in its folder."""
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"status": status, "fit_seconds": 1.0}))
    (folder / "config.yaml").write_text("monitor: validation/loss")
    (folder / "metrics.json").write_text(json.dumps({"validation": {"loss": FOUND}}))
    if checkpoint:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.ckpt").touch()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Of a sweep of one job."""
    ledger = Ledger(tmp_path)
    jobs: list[Any] = [NewJob({"seed": 0}, ["seed=0"])]
    ledger.register(jobs)
    return ledger


def claim_and_die(ledger: Ledger) -> None:
    """A process claims the job, and is killed before it does anything."""
    ledger.refresh()
    worker = ledger.worker()
    assert worker.claim([0]) == [0]
    worker.close()


def end(ledger: Ledger, outcome: Outcome) -> None:
    """A process claims the job, which ends so, and opens it again."""
    with ledger.worker() as worker:
        worker.claim([0])
        worker.finish({0: outcome})
        if outcome.state != "interrupted":
            worker.reopen([0])


def take(sweep: Path) -> tuple[list[int], bool, str]:
    """What is taken, whether it goes on in its folder, and the state of the job."""
    session = Session(sweep)
    with session.worker:
        taken = session.take([0])
        return taken, bool(taken) and session.goes_on(0), session.ledger.jobs[0].state


@pytest.mark.parametrize("n_deaths", [0, 1, 2])
@pytest.mark.parametrize("state", ["failed", "done"])
def test_what_is_opened_again_begins_anew(
    state: Any, n_deaths: int, ledger: Ledger, tmp_path: Path
) -> None:
    """Whatever it has left, and also if processes are killed that wanted to begin it."""
    end(ledger, Outcome(state, 0.5))
    leave_run(tmp_path / "0", state, checkpoint=True)
    for _ in range(n_deaths):
        claim_and_die(ledger)
    assert take(tmp_path) == ([0], False, "running")
    assert not (tmp_path / "0").exists()
    assert (tmp_path / "ledger" / "attempts" / f"0.{n_deaths + 1}" / "metrics.json").exists()


@pytest.mark.parametrize("n_deaths", [1, 2])
@pytest.mark.parametrize("ends", [True, False])
def test_what_was_interrupted_goes_on(
    ends: bool, n_deaths: int, ledger: Ledger, tmp_path: Path
) -> None:
    """From its checkpoint, whether or not it could record that; without one, anew."""
    if ends:
        end(ledger, Outcome("interrupted"))
    leave_run(tmp_path / "0", "running", checkpoint=True)
    for _ in range(n_deaths):
        claim_and_die(ledger)
    assert take(tmp_path) == ([0], True, "running")
    (tmp_path / "0" / "checkpoints" / "last.ckpt").unlink()
    assert take(tmp_path) == ([0], False, "running")
    assert not (tmp_path / "0").exists()


def test_a_run_that_ended_and_was_not_recorded_is(ledger: Ledger, tmp_path: Path) -> None:
    """Also if that is of an attempt after one that had failed."""
    end(ledger, Outcome("failed"))
    leave_run(tmp_path / "0", "failed")
    assert take(tmp_path) == ([0], False, "running")
    leave_run(tmp_path / "0", "done")
    assert take(tmp_path) == ([], False, "done")
    ledger.refresh()
    assert ledger.jobs[0].value == FOUND


def test_what_is_damaged_is_set_aside(ledger: Ledger, tmp_path: Path) -> None:
    """And the job begins anew."""
    claim_and_die(ledger)
    leave_run(tmp_path / "0", "done")
    (tmp_path / "0" / "metrics.json").write_text("{")
    assert take(tmp_path) == ([0], False, "running")
    assert (tmp_path / "ledger" / "attempts" / "0.1" / "metrics.json").read_text() == "{"


def test_a_folder_that_is_another_runs_is_left_as_it_is(ledger: Ledger, tmp_path: Path) -> None:
    """A first attempt has nothing before it; the run itself refuses the folder."""
    leave_run(tmp_path / "0", "running", checkpoint=True)
    assert take(tmp_path) == ([0], False, "running")
    assert (tmp_path / "0").exists()
