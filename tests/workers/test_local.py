"""Sweeps whose jobs are trained by processes of this machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from multilayer.core.text import override_word
from multilayer.sweeps import Ledger
from multilayer.workers.local import LocalEngine

from ..conftest import Run

SWEEP = ["train", "-m", "data=iris", "trainer.max_epochs=3", "hydra.sweep.dir=sweep"]
BY_TWO = ["hydra/launcher=lockstep", "hydra.launcher.workers=local:2"]
ODD = "a b'c=ß $x"
WAITS = ["+callbacks.own._target_=tests.lockstep.callbacks.GoesWrongUntilMended"]
WAITS += ["+callbacks.own.how=waits"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From which workers find the classes of the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def ledger(sweep: str = "sweep") -> Ledger:
    """The sweep's, as it is now."""
    found = Ledger(sweep)
    found.refresh()
    return found


def states() -> list[str]:
    """Of all jobs."""
    return [job.state for job in ledger().jobs.values()]


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < 120
        time.sleep(0.1)


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process, once two workers train jobs of its sweep."""
    command = [sys.executable, "-m", "multilayer", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        try:
            wait_for(lambda: process.poll() is not None or len(pids()) == 2)
            assert process.poll() is None, process.communicate()[0]
            yield process
        finally:
            process.kill()


def pids() -> set[int]:
    """The processes that train jobs that have begun."""
    begun = [job for job in ledger().jobs.values() if Path("sweep", job.subdir).is_dir()]
    last = [job.attempts.last for job in begun if job.state == "running"]
    return {attempt.worker.pid for attempt in last if attempt is not None}


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("stack", ["true", "false"])
def test_workers_give_what_one_process_gives(stack: str, multilayer: Run) -> None:
    """The same files with the same numbers, to rounding; one by one to the bits."""
    words = [
        *SWEEP[:-1],
        "seed=0,1,2,3",
        "hydra/launcher=lockstep",
        f"hydra.launcher.stack={stack}",
    ]
    alone = multilayer(*words, "hydra.sweep.dir=alone")
    assert alone.code == 0, alone.err
    outcome = multilayer(*words, "hydra.sweep.dir=sweep", "hydra.launcher.workers=local:2")
    assert outcome.code == 0, outcome.err
    assert alone.out[alone.out.index("┏") :].replace("alone", "sweep") in outcome.out
    jobs = ledger().jobs.values()
    assert [job.state for job in jobs] == ["done"] * 4
    assert all(job.attempts.by_number[1].worker.pid != os.getpid() for job in jobs)
    for number in range(4):
        folders = [Path(f"alone/{number}"), Path(f"sweep/{number}")]
        files = [{path.name[:20] for path in each.rglob("*")} for each in folders]  # tfevents.TIME
        assert files[0] == files[1]
        tables = [pl.read_csv(each / "history.csv").drop("seconds") for each in folders]
        assert_frame_equal(*tables, check_exact=stack == "false", abs_tol=1e-6)


def test_a_worker_that_is_killed_loses_nothing() -> None:
    """Its jobs go on with others, by themselves; what had ended is not trained again."""
    words = ["+callbacks.own.whole=true,false", "hydra.launcher.stack=false", "seed=0,1"]
    with running(*SWEEP, *BY_TWO, *WAITS, *words) as parent:
        wait_for(lambda: states() == ["done"] * 2 + ["running"] * 2)
        wait_for(lambda: len(pids()) == 2)
        os.kill(min(pids()), signal.SIGKILL)
        wait_for(lambda: "interrupted" in states())
        Path("mended").touch()
        assert parent.wait(120) == 0
    assert states() == ["done"] * 4
    counts = [job.attempts.count for job in ledger().jobs.values()]
    assert (counts[:2], sorted(counts[2:])) == ([1, 1], [1, 2])


def test_a_job_that_its_workers_die_of_has_failed(multilayer: Run) -> None:
    """At its third death, the last of which is its own; those in its stack come to their ends.

    The sweep's folder has an odd name, which the workers find too.
    """
    words = [*WAITS[:1], "+callbacks.own.how=kills", "+callbacks.own.whole=true,false", "seed=0,1"]
    words = [
        *SWEEP[:-1],
        override_word("hydra.sweep.dir", ODD),
        *BY_TWO[:1],
        "hydra.launcher.workers=local:1",
        *words,
    ]
    outcome = multilayer(*words)
    assert outcome.code == 1
    states = [job.state for job in ledger(ODD).jobs.values()]
    assert states == ["done", "done", "failed", "failed"]
    said = "job 2: its process died 3 times, by SIGSEGV at last; what it printed: "
    log = outcome.err.partition(said)[2].partition("\n")[0]
    printed = Path(log).read_text()
    assert "Fatal Python error: Segmentation fault" in printed
    assert "tests/lockstep/callbacks.py" in printed
    table = outcome.out[outcome.out.index("┏") :]
    assert len(re.findall("│ failed", table)) == 2
    shutil.rmtree(Path(ODD) / "2")  # as if its process had died before it wrote anything
    left = multilayer(*words, "sweep.retry=none")
    assert "4 jobs: 2 done, 2 failed, left so" in left.out
    assert "failed        2 of 4: jobs 3, 2" in left.out
    Path("mended").touch()
    assert multilayer(*words).code == 0
    assert {job.state for job in ledger(ODD).jobs.values()} == {"done"}


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(by: signal.Signals, multilayer: Run) -> None:
    """However it ends, and a worker that is started by hand then trains what they have left."""
    words = ["hydra.launcher.stack=false", "seed=0,1"]
    with running(*SWEEP, *BY_TWO, *WAITS, *words) as parent:
        workers = pids()
        parent.send_signal(by)
        out, _ = parent.communicate(timeout=120)
        assert parent.returncode == (-by if by == signal.SIGKILL else 128 + by)
        if by != signal.SIGKILL:
            assert "to go on: the same command with hydra.sweep.dir=sweep" in out
        wait_for(lambda: not any(map(is_running, workers)))
    errors = [job.error for job in ledger().jobs.values()]
    assert states() == ["interrupted"] * 2, errors
    Path("mended").touch()
    outcome = multilayer("work", "sweep", "trust=true")
    assert outcome.code == 0, outcome.err
    assert "sweep: 2 jobs: 2 done" in outcome.out
    assert states() == ["done"] * 2


def test_processes_of_joblib_end_with_their_parent() -> None:
    """Which they would outlive."""
    words = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1"]
    with running(*SWEEP, *WAITS, *words) as parent:
        workers = pids()
        parent.kill()
        parent.communicate()
        wait_for(lambda: not any(map(is_running, workers)))
    assert states() == ["interrupted"] * 2


def test_a_job_that_fails_is_said_by_the_parent(multilayer: Run) -> None:
    """With its folder, while the others go on; and no further one begins after that many."""
    words = ["data.folds=2,3,5", "data.fold=0,4", "sweep.max_failures=2"]
    outcome = multilayer(*SWEEP, *BY_TWO, *words)
    assert outcome.code == 1
    assert "job 1: data.fold=4: of data.folds=2 the last is 1" in outcome.err
    assert f"run folder: {Path('sweep/1')}" in outcome.err
    assert states()[1:4:2] == ["failed"] * 2


def test_workers_that_cannot_train_are_not_started_for_ever(
    multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the last words of one."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    outcome = multilayer(*SWEEP, *BY_TWO, "seed=0,1")
    assert outcome.code == 2
    assert "the workers end before they have trained a job: exit code 1" in outcome.err
    assert states() == ["waiting"] * 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["hydra.launcher.workers=local"],
            "must be an engine and a number of workers, as in local:2",
        ),
        (["hydra.launcher.workers=local:0"], "must be an engine and a number of workers"),
        (["hydra.launcher.workers=locl:2"], "unknown engine 'locl': did you mean local?"),
        (["hydra.launcher.stack=maybe"], "hydra.launcher.stack=maybe: must be true or false"),
        (["hydra.launcher.workers=local:2", "hydra/sweeper=basic"], "needs hydra/sweeper=grid"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], message: str, multilayer: Run) -> None:
    """Before anything is trained."""
    outcome = multilayer(*SWEEP, "hydra/launcher=lockstep", *words, "seed=0,1")
    assert outcome.code == 2
    assert message in outcome.err
    assert not list(Path().rglob("manifest.json"))


def test_secrets_are_not_for_workers(multilayer: Run) -> None:
    """The ledger does not record them."""
    words = ["+callbacks.own._target_=tests.lockstep.callbacks.Raises", "+callbacks.own.token=abc"]
    outcome = multilayer(*SWEEP, *BY_TWO, *words, "seed=0,1")
    assert outcome.code == 2
    assert "job 0: +callbacks.own.token=***: the ledger records no secrets" in outcome.err
    words = ["hydra.sweep.dir=other", "+hydra.job.env_set.MY_TOKEN=abc", "seed=0,1"]
    outcome = multilayer(*SWEEP[:-1], *BY_TWO, *words)
    assert outcome.code == 2
    assert "error: +hydra.job.env_set.MY_TOKEN=***: the ledger records no" in outcome.err
    assert list(Path().iterdir()) == []


def test_workers_share_out_cores_and_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is started after another has died takes its place."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr("multilayer.workers.local._n_cores", lambda: 9)
    say = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['CUDA_VISIBLE_DEVICES'])"
    engine = LocalEngine(2)
    try:
        engine.start(["sleep", "60"], tmp_path, tmp_path, 1)
        engine.start([sys.executable, "-c", say], tmp_path, tmp_path, 1)
        wait_for(lambda: engine.n_alive() == 1)
        engine.start([sys.executable, "-c", say], tmp_path, tmp_path, 1)
        wait_for(lambda: engine.n_alive() == 1)
    finally:
        engine.stop()
    assert engine.n_alive() == 0
    assert [path.read_text() for path in sorted(tmp_path.glob("*.log"))] == ["", *["4 7\n"] * 2]
