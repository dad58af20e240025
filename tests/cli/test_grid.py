"""A sweep that is begun again, extended, interrupted or killed."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from multilayer.core.files import partial_of
from multilayer.lockstep.stack import Stack
from multilayer.sweeps import Ledger, Worker

from ..conftest import Run
from ..core.test_files import ended_process
from .grid_sweeps import FAILS, LAUNCHERS, SWEEP, content, manifest, states, times


@LAUNCHERS
def test_the_same_command_again_trains_nothing(launcher: str, multilayer: Run) -> None:
    """Whatever each job gave stays, and the table is the same."""
    words = [*SWEEP, f"hydra/launcher={launcher}", "seed=0,1"]
    first = multilayer(*words)
    assert first.code == 0, first.err
    before = content("[0-9]/*", "[0-9]/checkpoints/*", "ledger/**/*")
    again = multilayer(*words)
    assert again.code == 0, again.err
    assert "sweep: 2 jobs: 2 done" in again.out
    assert content("[0-9]/*", "[0-9]/checkpoints/*", "ledger/**/*") == before
    tables = [each.out[each.out.index("┏") :] for each in (first, again)]
    assert tables[0] == tables[1]


@LAUNCHERS
def test_a_sweep_is_extended(launcher: str, multilayer: Run) -> None:
    """A job keeps its number and folder, new ones count on, in whatever order they are given."""
    words = [*SWEEP, f"hydra/launcher={launcher}", "data.shuffle_seed=${hydra:job.num}"]
    assert multilayer(*words, "seed=5,6").code == 0
    before = content("[0-9]/*")
    outcome = multilayer(*words, "seed=6,7,5,8")
    assert outcome.code == 0, outcome.err
    assert "sweep: 4 jobs: 2 done, 2 to train" in outcome.out
    assert before.items() <= content("[0-9]/*").items()
    assert [manifest(number)["seed"] for number in range(4)] == [5, 6, 7, 8]
    configs = [Path(f"sweep/{number}/config.yaml").read_text() for number in range(4)]
    assert all(f"shuffle_seed: {number}" in text for number, text in enumerate(configs))
    fewer = multilayer(*words, "seed=7")
    assert (fewer.code, states()) == (0, ["done"] * 4)
    swept = multilayer(*words, "seed=7", "optimizer.lr=3e-3,1e-2")  # which was fixed until now
    assert "sweep: 2 jobs: 1 done, 1 to train" in swept.out
    assert manifest(4)["overrides"][-2:] == ["seed=7", "optimizer.lr=0.01"]


@LAUNCHERS
def test_another_sweep_is_refused_before_anything_is_written(
    launcher: str, multilayer: Run
) -> None:
    """With the values that differ, and without the table of the jobs that are there."""
    words = [*SWEEP, f"hydra/launcher={launcher}"]
    assert multilayer(*words, "seed=0,1").code == 0
    before = content()
    outcome = multilayer(*words, "seed=0,1", "optimizer.lr=0.5", "data=wine")
    assert outcome.code == 2
    head = f"{Path('sweep').absolute()} holds another sweep: choose another folder, as "
    assert f"multilayer: error: {head}hydra.sweep.dir=FOLDER, or" in outcome.err
    assert "optimizer.lr=0.5: the jobs of this sweep have optimizer.lr=0.003" in outcome.err
    assert "data.name=wine: the jobs of this sweep have data.name=iris" in outcome.err
    assert "done" not in outcome.out
    assert content() == before


@LAUNCHERS
def test_a_run_that_a_callback_prunes_is_not_trained_again(launcher: str, multilayer: Run) -> None:
    """It is no failure, and has its value; tables and the report say what became of it."""
    words = [
        *SWEEP,
        f"hydra/launcher={launcher}",
        "trainer.max_epochs=3",
        "+callbacks.own.after=0,1",
    ]
    words += ["+callbacks.own._target_=tests.lockstep.callbacks.Prunes"]
    for command in (words, words, ["work", "sweep", "trust=true"]):
        outcome = multilayer(*command)
        assert outcome.code == 0, outcome.err
    assert "1 done, 1 pruned" in outcome.out
    ledger = Ledger("sweep")
    ledger.refresh()
    assert [(job.state, job.attempts.count) for job in ledger.jobs.values()] == [
        ("done", 1),
        ("pruned", 1),
    ]
    metrics = json.loads(Path("sweep/1/metrics.json").read_text())
    assert ledger.jobs[1].value == pytest.approx(metrics["validation"]["loss"])
    assert [manifest(1)[name] for name in ("status", "stop_reason")] == ["pruned", "hopeless"]
    sweeps = multilayer("sweeps", ".").out
    assert "pruned" in sweeps
    assert "(job 0)" in sweeps  # the best, however good the other is
    assert multilayer("report", "sweep=sweep").code == 0
    assert "2 runs of 2 planned: 1 done, 1 pruned" in Path("sweep/report.md").read_text()


@LAUNCHERS
def test_what_says_how_a_sweep_goes_on_is_no_part_of_its_runs(
    launcher: str, multilayer: Run
) -> None:
    """Neither of their configs nor of what is recorded of their commands."""
    words = [*SWEEP, f"hydra/launcher={launcher}", "seed=0,1", "sweep.retry=none"]
    assert multilayer(*words, "sweep.max_failures=1").code == 0
    texts = [
        text.decode() for name, text in content("0/*").items() if name[-4:] in ("json", "yaml")
    ]
    assert not any("retry" in text or "max_failures" in text for text in texts)


def test_diverged_jobs_have_ended(multilayer: Run) -> None:
    """They are no failure, and not tried again."""
    words = [*SWEEP, "hydra/launcher=lockstep", "optimizer=sgd", "optimizer.lr=1e30,1e-3"]
    assert multilayer(*words).code == 0
    assert states() == ["diverged", "done"]
    again = multilayer(*words)
    assert again.code == 0
    assert "sweep: 2 jobs: 1 diverged, 1 done" in again.out


def test_a_dry_run_says_what_would_become_of_each_job(multilayer: Run) -> None:
    """And writes nothing, neither of a new sweep nor of one that is there."""
    words = [*SWEEP, "hydra/launcher=lockstep", *FAILS]
    new = multilayer(*words, "sweep.dry_run=true")
    assert new.code == 0, new.err
    assert len(re.findall("to train .* sweep/[012] ", new.out)) == 3
    assert not Path("sweep").exists()
    assert multilayer(*words).code == 1
    before, written = content(), times()
    known = multilayer(*words, "seed=0,1", "sweep.dry_run=true")
    assert times() == written
    assert known.code == 0, known.err
    lines = [line for line in known.out.splitlines() if "whole=" in line]
    assert [re.split(r" *│ *", line)[1] for line in lines] == ["0", "3", "1", "4", "2", "5"]
    assert ["done" in line for line in lines] == [True, False, False, False, True, False]
    assert "failed, to try again" in lines[2]
    assert content() == before
    refused = multilayer(*words, "optimizer.lr=1", "sweep.dry_run=true")
    assert (refused.code, "optimizer.lr=1: the jobs" in refused.err) == (2, True)


def test_an_interrupted_sweep_says_how_it_goes_on(
    multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same command, which trains what is left."""
    begin = Stack.begin_epoch

    def begin_first(stack: Stack) -> None:
        if stack.members()[0].epoch == 1:
            raise KeyboardInterrupt
        begin(stack)

    words = [*SWEEP, "hydra/launcher=lockstep", "hydra.launcher.max_members=2", "seed=0,1,2"]
    with monkeypatch.context() as patch:
        patch.setattr(Stack, "begin_epoch", begin_first)
        outcome = multilayer(*words)
    assert outcome.code == 130
    assert outcome.err.endswith(
        "multilayer: interrupted\n1 of 3 jobs has not begun; to go on: the same command with "
        "hydra.sweep.dir=sweep\n"
    )
    assert states() == ["interrupted", "interrupted", "waiting"]
    again = multilayer(*words)
    assert again.code == 0, again.err
    assert "sweep: 3 jobs: 2 interrupted, to go on, 1 to train" in again.out
    assert states() == ["done"] * 3
    assert [manifest(number).get("attempts") for number in range(3)] == [2, 2, None]


@LAUNCHERS
def test_an_interrupted_run_goes_on_where_it_was(launcher: str, multilayer: Run) -> None:
    """In its own folder; one by one to the bits of the undisturbed run, in a stack to rounding."""
    own = [FAILS[0], "+callbacks.own.how=interrupts", "+callbacks.own.epoch=3"]
    words = [*SWEEP[:3], f"hydra/launcher={launcher}", "trainer.max_epochs=5", *own, "seed=0,1"]
    assert multilayer(*words, "hydra.sweep.dir=sweep").code == 130
    assert states() == ["interrupted", "waiting" if launcher == "basic" else "interrupted"]
    Path("mended").touch()
    again = multilayer(*words, "hydra.sweep.dir=sweep")
    assert again.code == 0, again.err
    assert (manifest(0)["attempts"], manifest(0)["status"]) == (2, "done")
    assert not Path("sweep/ledger/attempts").exists()
    assert multilayer(*words, "hydra.sweep.dir=whole").code == 0
    folders = [Path("sweep/0"), Path("whole/0")]
    hashes = {
        json.loads((folder / "manifest.json").read_text())["config_hash"] for folder in folders
    }
    assert len(hashes) == 1
    tables = [pl.read_csv(folder / "history.csv").drop("seconds") for folder in folders]
    assert tables[0]["epoch"].to_list() == [1, 2, 3, 4, 5]
    tolerance = {} if launcher == "basic" else {"abs_tol": 1e-6, "check_exact": False}
    assert_frame_equal(*tables, **{"check_exact": True, **tolerance})


@LAUNCHERS
def test_an_end_that_was_not_recorded_is_found(
    launcher: str, multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command was killed after a run's last file was written: nothing is trained again."""
    words = [*SWEEP, f"hydra/launcher={launcher}", "seed=0,1"]
    with monkeypatch.context() as patch:
        patch.setattr(Worker, "finish", _interrupt)
        assert multilayer(*words).code == 130
    before = content("[0-9]/*")
    partial_of(Path("sweep/0/checkpoints/best.ckpt"), ended_process()).touch()
    partial_of(Path("sweep/multirun.yaml"), ended_process()).touch()
    assert len([name for name in before if "metrics" in name]) == (1 if launcher == "basic" else 2)
    assert multilayer(*words).code == 0
    assert states() == ["done"] * 2
    assert before.items() <= content("[0-9]/*").items()
    assert not [*Path("sweep").rglob(".partial*")]
    ledger = Ledger("sweep")
    ledger.refresh()
    metrics = json.loads(Path("sweep/0/metrics.json").read_text())
    assert ledger.jobs[0].value == metrics["validation"]["loss"]


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_folder_with_runs_and_no_ledger_is_refused(multilayer: Run) -> None:
    """It is of an earlier version, or a run of another command."""
    assert multilayer("train", *SWEEP[2:4], "hydra.run.dir=sweep/1").code == 0
    before = content()
    outcome = multilayer(*SWEEP, "hydra/launcher=lockstep", "seed=0,1")
    assert outcome.code == 2
    assert "1 holds a run already, which is not of this sweep's ledger" in outcome.err
    assert content() == before


@LAUNCHERS
def test_a_job_keeps_its_folder_whatever_the_command_says(launcher: str, multilayer: Run) -> None:
    """Also where it is trained again."""
    words = [*SWEEP, f"hydra/launcher={launcher}", *FAILS]
    assert multilayer(*words, "hydra.sweep.subdir=a${hydra.job.num}").code == 1
    Path("mended").touch()
    assert multilayer(*words, "hydra.sweep.subdir=b${hydra.job.num}").code == 0
    folders = {path.parent.name for path in Path("sweep").glob("*/manifest.json")}
    assert folders == {"a0", "a1", "a2"}


@LAUNCHERS
def test_what_hydra_writes_of_an_attempt_stays_with_it(launcher: str, multilayer: Run) -> None:
    """In the run folder, as the working folder of the run does."""
    words = [*SWEEP, f"hydra/launcher={launcher}", FAILS[0], "seed=0,1"]
    words += ["hydra.job.chdir=true", "hydra.output_subdir=.hydra"]
    assert multilayer(*words).code == 1
    for number in (0, 1):
        Path(f"sweep/{number}/mended").touch()  # moved with the attempt
    assert multilayer(*words).code == 1
    assert states() == ["failed"] * 2
    assert Path("sweep/0/.hydra/hydra.yaml").is_file()
    assert Path("sweep/ledger/attempts/0.1/mended").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "seed=0,1", "sweep.retry=never"], "sweep.retry=never: must be 'failed' or 'none'"),
        (["-m", "seed=0,1", "sweep.max_failures=0"], "sweep.max_failures=0: must be greater"),
        (["-m", "seed=0,1", "sweep.retri=none"], "sweep.retri: unknown key, did you mean"),
        (["-m", "seed=0,1", "sweep.retry=failed,none"], "one value for the whole sweep"),
        (["sweep.dry_run=true"], "sweep.dry_run=true: this is for a sweep, add -m"),
    ],
)
def test_what_says_how_a_sweep_goes_on_is_checked(
    words: list[str], message: str, multilayer: Run, tmp_path: Path
) -> None:
    """Before anything is written."""
    outcome = multilayer("train", "data=iris", *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert list(tmp_path.iterdir()) == []


@LAUNCHERS
def test_a_killed_sweep_goes_on(launcher: str, tmp_path: Path, multilayer: Run) -> None:
    """Jobs that had ended are not done again, and the others are."""
    words = [*SWEEP, f"hydra/launcher={launcher}", *FAILS, "+callbacks.own.how=waits"]
    words += ["hydra.launcher.max_members=1"] if launcher == "lockstep" else []
    command = [sys.executable, "-m", "multilayer", *words]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    null = subprocess.DEVNULL
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=null, stderr=null
    ) as process:
        try:
            begun = time.monotonic()
            while not Path("sweep/1/manifest.json").exists() or states()[0] != "done":
                assert process.poll() is None
                assert time.monotonic() - begun < 120
                time.sleep(0.05)
        finally:
            process.kill()
    assert states() == ["done", "interrupted", "waiting"]
    before = content("0/*")
    written = times()
    plan = multilayer(*words, "sweep.dry_run=true")
    assert times() == written  # nor the file that tells the time, to learn who lives
    assert len(re.findall("interrupted, to go on .* sweep/1 ", plan.out)) == 1
    Path("mended").touch()
    outcome = multilayer(*words)
    assert outcome.code == 0, outcome.err
    assert "sweep: 3 jobs: 1 done, 1 interrupted, to go on, 1 to train" in outcome.out
    assert states() == ["done"] * 3
    assert before.items() <= content("0/*").items()
    left = json.loads(Path("sweep/ledger/attempts/1.1/manifest.json").read_text())
    assert left["status"] == "running"
