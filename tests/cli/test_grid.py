"""A sweep that is begun again, extended, interrupted, killed, or told to stop early."""

import errno
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from multilayer.cli import changes
from multilayer.core.errors import UserError
from multilayer.core.text import override_word
from multilayer.lockstep.stack import Stack
from multilayer.sweeps import Ledger, Worker

from ..conftest import Run

SWEEP = ["train", "-m", "data=iris", "trainer.max_epochs=2", "hydra.sweep.dir=sweep"]

LAUNCHERS = pytest.mark.parametrize("launcher", ["basic", "lockstep"])

FAILS = ["+callbacks.own._target_=tests.lockstep.callbacks.GoesWrongUntilMended"]
FAILS += ["+callbacks.own.whole=true,false,true"]


def manifest(number: int) -> dict[str, Any]:
    """Of a job."""
    found: dict[str, Any] = json.loads(Path(f"sweep/{number}/manifest.json").read_text())
    return found


def states() -> list[str]:
    """Of all jobs, by the ledger."""
    ledger = Ledger("sweep")
    ledger.refresh()
    return [ledger.jobs[number].state for number in range(len(ledger.jobs))]


def times() -> dict[str, int]:
    """When the files and folders of the sweep were last written or touched."""
    return {str(path): path.stat().st_mtime_ns for path in Path("sweep").rglob("*")}


def content(*patterns: str) -> dict[str, bytes]:
    """Of the files in the sweep's folder."""
    paths = [path for each in patterns or ["**/*"] for path in Path("sweep").glob(each)]
    return {str(path): path.read_bytes() for path in sorted(paths) if path.is_file()}


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
    swept = multilayer(*words, "seed=7", "optimizer.lr=1e-3,1e-2")  # which was fixed until now
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
    assert outcome.err.startswith(f"multilayer: error: {head}hydra.sweep.dir=FOLDER\n")
    assert "optimizer.lr=0.5: the jobs of this sweep have optimizer.lr=0.001" in outcome.err
    assert "data.name=wine: the jobs of this sweep have data.name=iris" in outcome.err
    assert "done" not in outcome.out
    assert content() == before


@LAUNCHERS
def test_failed_jobs_are_tried_again(launcher: str, multilayer: Run) -> None:
    """Unless they are to be left; what they had written is kept elsewhere."""
    words = [*SWEEP, f"hydra/launcher={launcher}", *FAILS]
    outcome = multilayer(*words)
    assert outcome.code == 1
    assert "not mended yet" in outcome.err
    assert f"run folder: {Path('sweep', '1')}" in outcome.err
    assert "resume=" not in outcome.err
    assert states() == ["done", "failed", "done"]
    left = multilayer(*words, "sweep.retry=none")
    assert left.code == 1
    assert "sweep: 3 jobs: 2 done, 1 failed, left so" in left.out
    before = content("0/*", "2/*")
    Path("mended").touch()
    mended = multilayer(*words)
    assert mended.code == 0, mended.err
    assert "sweep: 3 jobs: 2 done, 1 failed, to try again" in mended.out
    assert states() == ["done"] * 3
    assert content("0/*", "2/*") == before
    assert manifest(1)["status"] == "done"
    earlier = json.loads(Path("sweep/ledger/attempts/1.1/manifest.json").read_text())
    assert earlier["status"] == "failed"


@LAUNCHERS
def test_so_many_failures_end_a_sweep(launcher: str, multilayer: Run) -> None:
    """The jobs that have not begun are the same command's."""
    bounded = ["hydra.launcher.max_members=1"] if launcher == "lockstep" else []
    words = [*SWEEP, f"hydra/launcher={launcher}", *bounded, FAILS[0], "seed=0,1,2,3"]
    outcome = multilayer(*words, "sweep.max_failures=2")
    assert outcome.code == 1
    assert states() == ["failed", "failed", "waiting", "waiting"]
    assert not Path("sweep/2").exists()
    assert "sweep.max_failures=2: 2 of 4 jobs have not begun; to go on: the same" in outcome.out
    Path("mended").touch()
    assert multilayer(*words, "sweep.max_failures=2").code == 0
    assert states() == ["done"] * 4


@LAUNCHERS
def test_failures_of_earlier_commands_do_not_count(launcher: str, multilayer: Run) -> None:
    """Where they are left so: further ones may fail."""
    bounded = ["hydra.launcher.max_members=1"] if launcher == "lockstep" else []
    words = [*SWEEP, f"hydra/launcher={launcher}", *bounded, FAILS[0], "sweep.retry=none"]
    assert multilayer(*words, "seed=0,1").code == 1
    outcome = multilayer(*words, "seed=range(5)", "sweep.max_failures=2")
    assert outcome.code == 1
    assert states() == ["failed"] * 4 + ["waiting"]
    assert "sweep.max_failures=2: 1 of 5 jobs" in outcome.out
    by_hand = multilayer("work", "sweep", "trust=true", "max_failures=1")
    assert (by_hand.code, states()) == (1, ["failed"] * 5)


def test_so_many_failures_end_what_joblib_trains(multilayer: Run, monkeypatch: Any) -> None:
    """Its processes hear of one another's."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    words = [*SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", FAILS[0], "seed=range(8)"]
    outcome = multilayer(*words, "sweep.max_failures=1")
    assert outcome.code == 1
    assert set(states()[:2]) <= {"failed", "waiting"}
    assert 1 <= states().count("failed") <= 4
    assert states()[4:] == ["waiting"] * 4


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


def test_the_command_of_a_sweep_is_written_whole_or_not_at_all(
    multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that is full the earlier one stays, and nothing is left."""
    words = [*SWEEP, "hydra/launcher=lockstep"]
    assert multilayer(*words, "seed=0,1").code == 0
    before, replace = content("*"), os.replace

    def refuse(partial: Path, path: Path) -> None:
        if path.name == "multirun.yaml":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(partial, path)

    monkeypatch.setattr(os, "replace", refuse)
    outcome = multilayer(*words, "seed=0,1,2")
    assert outcome.code == 2
    assert "multirun.yaml: cannot be written: No space left on device" in outcome.err
    assert content("*") == before


@pytest.mark.parametrize("launcher", ["basic", "lockstep"])
def test_what_is_said_to_paste_works(launcher: str, multilayer: Run) -> None:
    """In a shell, whatever the folder is called."""
    sweep = "a b'c=ß $x"
    words = [*SWEEP[:-1], f"hydra/launcher={launcher}", FAILS[0], "seed=0,1,2"]
    words += ["hydra.launcher.max_members=1"] if launcher == "lockstep" else []
    folder = override_word("hydra.sweep.dir", sweep)
    outcome = multilayer(*words, folder, "sweep.max_failures=1")
    assert outcome.code == 1, outcome.err
    (said,) = re.findall("the same command with (.*)", outcome.out)
    Path("mended").touch()
    outcome = multilayer(*words, *arguments(said))
    assert outcome.code == 0, outcome.err
    assert "sweep: 3 jobs: 1 failed, to try again, 2 to train" in outcome.out
    (report,) = re.findall("report  *multilayer (.*)", outcome.out)
    assert multilayer(*arguments(report)).code == 0
    (shown,) = re.findall("tensorboard (.*)", outcome.out)
    assert arguments(shown) == ["--logdir", sweep]


def arguments(line: str) -> list[str]:
    """What a command is given by the words of a line that is pasted into a shell."""
    command = ["bash", "-c", f"printf '%s\\0' {line}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return printed.split("\0")[:-1]


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
        "multilayer: interrupted\n1 of 3 jobs have not begun; to go on: the same command with "
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
    assert len([name for name in before if "metrics" in name]) == (1 if launcher == "basic" else 2)
    assert multilayer(*words).code == 0
    assert states() == ["done"] * 2
    assert before.items() <= content("[0-9]/*").items()
    ledger = Ledger("sweep")
    ledger.refresh()
    metrics = json.loads(Path("sweep/0/metrics.json").read_text())
    assert ledger.jobs[0].value == metrics["validation"]["loss"]


@LAUNCHERS
def test_a_ledger_that_cannot_be_written_ends_the_sweep(
    launcher: str, multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, for example: the sweep does not wait for itself, and goes on from there."""
    words = [*SWEEP, f"hydra/launcher={launcher}", "seed=0,1"]

    def refuse(*_: object) -> None:
        raise UserError("ledger/workers: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "finish", refuse)
        outcome = multilayer(*words)
    assert outcome.code in (1, 2)
    assert "No space left on device" in outcome.err
    before = content("[0-9]/metrics.json")
    assert multilayer(*words).code == 0
    assert states() == ["done"] * 2
    assert before.items() <= content("[0-9]/metrics.json").items()


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
    plan = multilayer(*words, "sweep.dry_run=true")
    assert len(re.findall("interrupted, to go on .* sweep/1 ", plan.out)) == 1
    Path("mended").touch()
    outcome = multilayer(*words)
    assert outcome.code == 0, outcome.err
    assert "sweep: 3 jobs: 1 done, 1 interrupted, to go on, 1 to train" in outcome.out
    assert states() == ["done"] * 3
    assert before.items() <= content("0/*").items()
    left = json.loads(Path("sweep/ledger/attempts/1.1/manifest.json").read_text())
    assert left["status"] == "running"


@LAUNCHERS
def test_what_has_changed_since_is_said_and_done_again(
    launcher: str, iris_csv: Path, multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data by its content, versions and the revision of the code as manifests have them."""
    words = [*SWEEP[:2], f"hydra/launcher={launcher}", "data=table", f"data.path={iris_csv.name}"]
    words += ["data.target=species", "trainer.max_epochs=1", "hydra.sweep.dir=sweep"]
    older = iris_csv.with_name("older.csv")
    older.write_text("".join(iris_csv.read_text().splitlines(keepends=True)[:-3]))
    while time.time() < math.ceil(older.stat().st_mtime):  # manifests count in whole seconds
        time.sleep(0.05)
    assert multilayer(*words, "seed=0,1").code == 0
    iris_csv.touch()
    same = multilayer(*words, "seed=0,1")
    assert "was trained with" not in same.out
    if launcher == "basic":
        iris_csv.write_text(older.read_text())
    else:  # nothing but the link is newer than the runs
        iris_csv.unlink()
        iris_csv.symlink_to("older.csv")
    before = content("[0-9]/*")
    said = multilayer(*words, "seed=0,1,2")
    assert said.code == 0, said.err
    assert (
        "sweep: job 0 to 1 was trained with data that has changed since; sweep.redo=changed trains "
        "such jobs again\nsweep: 3 jobs: 2 done, 1 to train\n"
    ) in said.out
    assert before.items() <= content("[0-9]/*").items()
    redone = multilayer(*words, "seed=0,1,2", "sweep.redo=changed")
    assert redone.code == 0, redone.err
    assert "sweep: 3 jobs: 2 changed, to train again, 1 done" in redone.out
    assert sorted(path.name for path in Path("sweep/ledger/attempts").iterdir()) == ["0.1", "1.1"]
    assert [sum(manifest(number)["rows"].values()) for number in range(3)] == [147] * 3
    assert "was trained with" not in multilayer(*words, "seed=0,1,2").out
    versions = changes.package_versions() | {"torch": "99.0"}
    monkeypatch.setattr(changes, "package_versions", lambda: versions)
    monkeypatch.setattr(changes, "git_state", lambda folder: {"revision": "b" * 40, "dirty": True})
    first = manifest(0) | {"git": {"revision": "a" * 40, "dirty": False}}
    Path("sweep/0/manifest.json").write_text(json.dumps(first))
    out = multilayer(*words, "seed=0,1,2", "sweep.dry_run=true", "sweep.redo=changed").out
    assert f"job 0 to 2 was trained with torch {torch.__version__}, which is 99.0 now\n" in out
    assert "job 0 was trained with revision aaaaaaaa of your code, which is bbbbbbbb now\n" in out
    assert out.count("changed, to train again") == 3
