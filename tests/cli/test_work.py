"""A worker that is started by hand on the ledger of a sweep."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    """As the sweep's launcher does, from another folder too where the data is no file."""
    words = [*SWEEP, f"hydra/launcher={launcher}", "data.shuffle_seed=${hydra:job.num}"]
    assert multilayer(*words, "seed=5,6", "hydra.sweep.subdir=a${hydra:job.num}").code == 0
    reopen()
    metrics = [Path(f"sweep/a{number}/metrics.json").read_text() for number in range(2)]
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    outcome = multilayer("work", "../sweep", "trust=true")
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
    assert multilayer(*SWEEP, "loss=auto,mse").code == 1
    outcome = multilayer("work", "sweep")
    assert outcome.code == 1
    assert "sweep: 2 jobs: 1 done, 1 failed" in outcome.out


OWN = ["+callbacks.own._target_=tests.lockstep.callbacks.Raises", "+callbacks.own.hook=x"]
LOGGER = ["logger=csv", "logger.csv.name=${oc.env:MARK}"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (OWN, "tests.lockstep.callbacks.Raises for callbacks.own, which is not on the list"),
        (LOGGER, "logger.csv.name=${oc.env:MARK}"),
    ],
)
def test_what_a_stranger_may_not_is_refused(
    words: list[str], named: str, multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep's folder may be anybody's; the user says that it is not."""
    monkeypatch.setenv("MARK", "mine")
    assert multilayer(*SWEEP, *words, "seed=0,1").code == 0
    reopen()
    outcome = multilayer("work", "sweep")
    assert outcome.code == 2
    assert f"job 0: {named}" in outcome.err.replace("the run's config names ", "")
    assert "if it is yours, add trust=true" in outcome.err
    assert states() == ["waiting"] * 2
    assert multilayer("work", "sweep", "trust=true").code == 0


@pytest.mark.parametrize("link", ["1", "1/checkpoints"])
def test_a_link_out_of_the_sweep_is_not_followed(
    link: str, multilayer: Run, tmp_path: Path
) -> None:
    """Unless the sweep is the user's own; that its folder itself is reached by one is fine."""
    assert multilayer(*SWEEP, "seed=0,1").code == 0
    reopen()
    elsewhere = tmp_path / "elsewhere"
    Path("sweep", link).rename(elsewhere)
    Path("sweep", link).symlink_to(elsewhere)
    before = {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*")}
    Path("mine").symlink_to("sweep")
    outcome = multilayer("work", "mine")
    assert outcome.code == 2
    assert f"job 1: {tmp_path / 'mine' / link} is a link to another place" in outcome.err
    assert {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*")} == before
    Path("sweep", link).unlink()
    assert multilayer("work", "mine").code == 0


@pytest.mark.parametrize("link", ["", "workers", "claims", "claims/000", "clock", "attempts"])
def test_a_ledger_that_lies_elsewhere_is_not_written_to(
    link: str, multilayer: Run, tmp_path: Path
) -> None:
    """What would be added to it could be added to anything of the user's."""
    assert multilayer(*SWEEP, "seed=0,1").code == 0
    reopen()
    place, elsewhere = Path("sweep/ledger", link), tmp_path / "elsewhere"
    place.touch() if link == "clock" else place.mkdir(exist_ok=True)
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    before = {path: path.stat().st_mtime_ns for path in [elsewhere, *elsewhere.rglob("*")]}
    outcome = multilayer("work", "sweep")
    assert outcome.code == 2
    assert f"{place.absolute()} is a link to another place: this is not done" in outcome.err
    assert {path: path.stat().st_mtime_ns for path in [elsewhere, *elsewhere.rglob("*")]} == before
    assert multilayer("work", "sweep", "trust=true").code == 0


def change_ledger(change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the lines in which the sweep's jobs are registered."""
    path = Path("sweep/ledger/jobs/0.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_ledger_cannot_have_hydra_do_something(multilayer: Run, tmp_path: Path) -> None:
    """Neither by the overrides of the sweep's command, nor by those of a job."""
    assert multilayer(*SWEEP, "seed=0,1").code == 0
    reopen()
    own = "+hydra.callbacks.x._target_=tests.lockstep.callbacks.Raises"
    change_ledger(lambda lines: lines[0]["command"]["hydra"].append(own))
    outcome = multilayer("work", "sweep")
    assert outcome.code == 0, outcome.err
    reopen()
    change_ledger(lambda lines: lines[2]["overrides"].append("+hydra.job.env_set.PATH=/evil"))
    outcome = multilayer("work", "sweep")
    assert outcome.code == 2
    assert "job 1: +hydra.job.env_set.PATH=/evil: this is not done for a sweep that" in outcome.err


def test_what_a_killed_command_left_is_no_ledger_yet(multilayer: Run) -> None:
    """It is killed between making the folder and filling it."""
    Path("sweep/ledger/jobs").mkdir(parents=True)
    outcome = multilayer("work", "sweep")
    assert outcome.code == 2
    assert "sweep=sweep: there is no sweep with a ledger" in outcome.err
    assert multilayer(*SWEEP, "seed=0,1").code == 0


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


def test_a_sweep_goes_on_with_the_old_values_of_defaults_that_have_changed(
    multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With workers of its command as well as one that is started by hand."""
    default = Path("conf/experiment/mine.yaml")
    default.parent.mkdir(parents=True)
    text = "# @package _global_\ntrainer: {{max_epochs: {}}}\n"
    default.write_text(text.format(2))
    sweep = ["train", "-m", "--config-dir=conf", "data=iris", "experiment=mine", "seed=0,1"]
    sweep += ["hydra.sweep.dir=sweep", "hydra/launcher=lockstep"]
    assert multilayer(*sweep).code == 0
    metrics = [Path(f"sweep/{number}/metrics.json").read_text() for number in range(2)]
    default.write_text(text.format(3))

    reopen()
    refused = multilayer("work", "--config-dir=conf", "sweep", "trust=true")
    assert (refused.code, states()) == (2, ["waiting"] * 2)
    assert "\"overrides=['KEY=VALUE']\"" in refused.err
    words = "overrides=['trainer.max_epochs=2']"
    outcome = multilayer("work", "--config-dir=conf", "sweep", "trust=true", words)
    assert (outcome.code, states()) == (0, ["done"] * 2), outcome.err

    reopen()
    monkeypatch.setenv("EPOCHS", "2")
    words = "trainer.max_epochs='${oc.decode:${oc.env:EPOCHS}}'"
    outcome = multilayer(*sweep, words, "hydra.launcher.workers=local:2")
    assert (outcome.code, states()) == (0, ["done"] * 2), outcome.err
    assert [Path(f"sweep/{n}/metrics.json").read_text() for n in range(2)] == metrics


def test_words_of_a_command_are_not_those_of_other_jobs(multilayer: Run) -> None:
    """A part of an extended sweep, by other words than its jobs were registered with."""
    sweep = [*SWEEP, "hydra/launcher=lockstep"]
    assert multilayer(*sweep, "seed=0,1").code == 0
    assert multilayer(*sweep, "seed=0,1", "optimizer.lr=0.003,0.01").code == 0
    reopen()
    part = ["seed=0,1", "optimizer.lr=0.003", "hydra.launcher.workers=local:1"]
    outcome = multilayer(*sweep, *part)
    assert (outcome.code, states()) == (0, ["done"] * 4), outcome.err


def test_a_folder_without_a_ledger_is_refused(multilayer: Run, tmp_path: Path) -> None:
    """Nothing is written there."""
    outcome = multilayer("work", "nowhere")
    assert outcome.code == 2
    assert "sweep=nowhere: there is no sweep with a ledger" in outcome.err
    assert list(tmp_path.iterdir()) == []
