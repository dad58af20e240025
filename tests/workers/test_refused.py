"""Sweeps whose workers cannot be started: they leave the folder as it was."""

import os
import sys
from pathlib import Path

import pytest

from multilayer.sweeps import Session

from ..conftest import Run
from ..sweeps.ledgers import ledger_of
from .test_local import BY_TWO, SWEEP, states

NOBODY = "a worker cannot be started: "


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the user's."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("existing", ["", "of", "of/mine"])
def test_a_new_sweep_leaves_nothing(
    existing: str, multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that was there stays; and so the command may be given again."""
    Path(existing).mkdir(parents=True, exist_ok=True)
    before = sorted(Path().rglob("*"))
    words = [*SWEEP[:-1], "seed=0,1", "hydra.sweep.dir=of/mine/sweep", *BY_TWO]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/no/python")
        outcome = multilayer(*words)
    assert outcome.code == 2
    assert NOBODY in outcome.err
    assert "┏" not in outcome.out  # no table of a sweep that is not there
    assert sorted(Path().rglob("*")) == before
    again = multilayer(*words[:-1])
    assert again.code == 0, again.err


def test_a_sweep_that_was_there_stays(multilayer: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the jobs that the command has added."""
    assert multilayer(*SWEEP, "seed=0,1").code == 0
    monkeypatch.setattr(sys, "executable", "/no/python")
    outcome = multilayer(*SWEEP, *BY_TWO, "seed=0,1,2")
    assert outcome.code == 2
    assert NOBODY in outcome.err
    assert states() == ["done", "done", "waiting"]


def test_what_slurm_refuses_leaves_nothing(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose files submitit had written by then."""
    pytest.importorskip("submitit")
    commands = tmp_path / "commands"
    commands.mkdir()
    refuse = "echo 'sbatch: error: no such partition' >&2; exit 1"
    for name, line in {"sinfo": "exit 0", "srun": "exit 0", "sbatch": refuse}.items():
        (commands / name).write_text(f"#!/bin/sh\n{line}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    words = ["hydra/launcher=lockstep", "hydra.launcher.workers=slurm:2", "seed=0,1"]
    outcome = multilayer(*SWEEP, *words)
    assert outcome.code == 2
    assert "Slurm refuses the workers: " in outcome.err
    assert "no such partition" in outcome.err
    assert list(Path().iterdir()) == [Path("commands")]


def test_a_sweep_that_another_process_works_on_stays(tmp_path: Path) -> None:
    """It has read the jobs by now, and has begun to write."""
    ledger_of(tmp_path, 2)
    session, other = Session(tmp_path), Session(tmp_path)
    with session.worker, other.worker:
        for each in (session, other):
            each.ledger.refresh()
        other.worker.claim([0])
        session.worker.begin()
        assert not session.withdraw()
        other.worker.claim([1])
    found = Session(tmp_path).ledger
    found.refresh()
    assert [job.state for job in found.jobs.values()] == ["interrupted"] * 2
    assert list(tmp_path.iterdir()) == [tmp_path / "ledger"]
