"""A worker that is started by hand on the ledger of a sweep."""

import json
from pathlib import Path

import pytest

from multilayer.sweeps import Ledger

from ..conftest import Run

SWEEP = ["train", "-m", "data=iris", "trainer.max_epochs=1", "hydra.sweep.dir=sweep"]


def reopen() -> None:
    """Let the jobs of the sweep be done again."""
    ledger = Ledger("sweep")
    ledger.refresh()
    with ledger.worker() as worker:
        worker.reopen(ledger.jobs)


def states() -> list[str]:
    """Of all jobs, by the ledger."""
    ledger = Ledger("sweep")
    ledger.refresh()
    return [job.state for job in ledger.jobs.values()]


@pytest.mark.parametrize("launcher", ["basic", "lockstep"])
def test_a_worker_trains_what_is_open(
    launcher: str, multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the sweep's launcher does; from another folder, too, since the ledger knows the first."""
    words = [*SWEEP, f"hydra/launcher={launcher}", "data.shuffle_seed=${hydra:job.num}"]
    assert multilayer(*words, "seed=5,6", "hydra.sweep.subdir=a${hydra:job.num}").code == 0
    reopen()
    metrics = [Path(f"sweep/a{number}/metrics.json").read_text() for number in range(2)]
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    outcome = multilayer("work", "../sweep")
    assert outcome.code == 0, outcome.err
    assert "sweep: 2 jobs: 2 done" in outcome.out
    assert ("1 stack of 2 runs" in outcome.out) == (launcher == "lockstep")
    monkeypatch.chdir(tmp_path)
    assert states() == ["done"] * 2
    assert sorted(path.name for path in Path("sweep/ledger/attempts").iterdir()) == ["0.1", "1.1"]
    assert [Path(f"sweep/a{n}/metrics.json").read_text() for n in range(2)] == metrics
    again = multilayer("work", "sweep")
    assert (again.code, "sweep: 2 jobs: 2 done" in again.out) == (0, True)


def test_workers_share_a_stack(multilayer: Run) -> None:
    """Each takes its part of the jobs at first, and further ones as its slots are free."""
    assert multilayer(*SWEEP, "hydra/launcher=lockstep", "seed=range(4)").code == 0
    reopen()
    outcome = multilayer("work", "sweep", "n_workers=2")
    assert outcome.code == 0, outcome.err
    assert "lockstep: 1 stack of 4 runs, 2 at a time" in outcome.out
    assert states() == ["done"] * 4


def test_a_failed_job_ends_a_worker_with_1(multilayer: Run) -> None:
    """As it ends the command of the sweep."""
    assert multilayer(*SWEEP, "model.d_hidden=[8],[-1]").code == 1
    outcome = multilayer("work", "sweep")
    assert outcome.code == 1
    assert "sweep: 2 jobs: 1 done, 1 failed" in outcome.out


def test_a_stranger_s_classes_are_refused(multilayer: Run) -> None:
    """A sweep's folder may be anybody's; the user says whom to trust."""
    words = ["+callbacks.own._target_=tests.lockstep.callbacks.Raises", "+callbacks.own.hook=x"]
    assert multilayer(*SWEEP, *words, "seed=0,1").code == 0
    reopen()
    outcome = multilayer("work", "sweep")
    assert outcome.code == 2
    assert "tests.lockstep.callbacks.Raises for callbacks.own, which is not on the list" in (
        outcome.err
    )
    assert states() == ["waiting"] * 2
    assert multilayer("work", "sweep", "trusted_packages=[tests.lockstep.callbacks]").code == 0


def test_a_ledger_cannot_have_hydra_start_something(multilayer: Run) -> None:
    """Of Hydra's own overrides few are taken from it."""
    assert multilayer(*SWEEP, "seed=0,1").code == 0
    reopen()
    path = Path("sweep/ledger/jobs/0.jsonl")
    head, *rest = path.read_text().splitlines()
    changed = json.loads(head)
    changed["command"]["hydra"] += ["+hydra.callbacks.x._target_=tests.lockstep.callbacks.Raises"]
    path.write_text("\n".join([json.dumps(changed), *rest, ""]))
    outcome = multilayer("work", "sweep")
    assert outcome.code == 0, outcome.err


def test_a_job_that_is_another_one_here_is_refused(
    multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment of another host may give another value."""
    monkeypatch.setenv("RATE", "1e-3")
    words = ["optimizer.lr='${oc.decode:${oc.env:RATE}}'", "seed=0,1"]
    assert multilayer(*SWEEP, *words).code == 0
    reopen()
    monkeypatch.setenv("RATE", "1e-2")
    outcome = multilayer("work", "sweep")
    assert outcome.code == 2
    assert "job 0: its config is another one here than where the sweep was begun" in outcome.err
    assert states() == ["waiting"] * 2


def test_a_folder_without_a_ledger_is_refused(multilayer: Run, tmp_path: Path) -> None:
    """Nothing is written there."""
    outcome = multilayer("work", "nowhere")
    assert outcome.code == 2
    assert "sweep=nowhere: there is no sweep with a ledger" in outcome.err
    assert list(tmp_path.iterdir()) == []
