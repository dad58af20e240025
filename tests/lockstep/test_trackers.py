"""Each job of a sweep has its own run of a tracker that has one active run in a process."""

import json
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from multilayer.lockstep.plan import make_plan
from multilayer.training.trackers import shares_active_run

from ..conftest import Run
from .conftest import MakeJobs
from .trackers import WandbLogger

SWEEP = ["train", "-m", "data=iris", "model.d_hidden=[8]", "trainer.max_epochs=3"]
SWEEP += ["callbacks=none", "hydra.sweep.dir=sweep", "seed=0,1,2"]
LOCKSTEP = "hydra/launcher=lockstep"
TRACKER = ["logger=none", "+logger.own._target_=tests.lockstep.trackers.WandbLogger"]
TRACKER += ["+logger.own.save_dir='@run_folder'"]
OWN_RUNS = "+logger.own.reinit=create_new"


@pytest.fixture
def all_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether the packages of the loggers are installed: none is made."""
    monkeypatch.setattr("multilayer.core.config_problems._missing_extras", lambda loggers: [])


def check_tracked(tracked: dict[int, list[float]]) -> None:
    """Raise unless each job's validation losses are those of its own table."""
    assert tracked.keys() == {0, 1, 2}
    for number, losses in tracked.items():
        history = pl.read_csv(f"sweep/{number}/history.csv")
        assert losses == pytest.approx(history["validation/loss"].to_list(), rel=1e-6)


def lines_of(number: int) -> list[dict[str, Any]]:
    """What our tracker has of a job."""
    lines = Path(f"sweep/{number}/tracked.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("words", [[], [LOCKSTEP], [LOCKSTEP, OWN_RUNS]])
def test_each_job_has_its_own_run(words: list[str], multilayer: Run) -> None:
    """One by one, since the run ends with the job; and in a stack, if the runs are told apart."""
    outcome = multilayer(*SWEEP, *TRACKER, *words)
    assert outcome.code == 0, outcome.err
    key = "validation/loss"
    check_tracked({n: [line[key] for line in lines_of(n) if key in line] for n in range(3)})
    reason = "jobs 0 to 2 alone: logger.own has one active run a process (tests.lockstep.trackers."
    assert (f"lockstep: {reason}" in outcome.out) == (words == [LOCKSTEP])
    assert ("1 stack of 3 runs" in outcome.out) == (OWN_RUNS in words)


def test_a_run_ends_where_the_job_fails(multilayer: Run) -> None:
    """The jobs after it begin theirs."""
    fails = "+callbacks.own._target_=tests.lockstep.callbacks.GoesWrongUntilMended"
    outcome = multilayer(*SWEEP, *TRACKER, fails, "+callbacks.own.epoch=2")
    assert outcome.code == 1
    assert all(Path(f"sweep/{number}/tracked.jsonl").exists() for number in range(3))


@pytest.mark.parametrize("logger", ["csv", "mlflow", "tensorboard", "none", "wandb"])
@pytest.mark.usefixtures("all_extras")
def test_what_stacks_of_our_loggers(logger: str, jobs: MakeJobs) -> None:
    """All, since conf/logger/wandb.yaml asks for a run for each."""
    plan = make_plan(jobs(["data=iris", f"logger={logger}"], [["seed=1"], ["seed=2"]]))
    assert [len(stack.jobs) for stack in plan.stacks] == [2]


@pytest.mark.usefixtures("all_extras")
def test_wandb_as_lightning_has_it_trains_alone(jobs: MakeJobs) -> None:
    """With any other value of reinit."""
    plan = make_plan(jobs(["data=iris", "logger=wandb", "logger.wandb.reinit=null"], [["seed=1"]]))
    ((_, reason),) = plan.sequential
    target = "pytorch_lightning.loggers.WandbLogger"
    assert reason == f"logger.wandb has one active run a process ({target})"
    assert shares_active_run(type("Mine", (WandbLogger,), {}), {})
    assert not shares_active_run(None, {})


def read_wandb(path: Path) -> list[float]:
    """The validation losses in a file of Weights & Biases, which is a log of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, losses = path.read_bytes(), 7, []
    assert content.startswith(b":W&B")
    assert len(content) < 2**15, "a single block"
    while place < len(content):
        _, size, kind = struct.unpack_from("<IHB", content, place)
        assert kind == 1, "a whole record"
        record = Record.FromString(content[place + 7 : place + 7 + size])
        place += 7 + size
        for item in record.history.item:
            if "validation/loss" in (item.key, *item.nested_key):
                losses.append(float(item.value_json))
    return losses


def run_alone(*words: str) -> str:
    """Run a command in its own process, with the packages' own threads; returns its output."""
    command = [sys.executable, "-m", "multilayer", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], [LOCKSTEP], [LOCKSTEP, "logger.wandb.reinit=null"]])
def test_wandb_has_a_run_for_each_job(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, of the real package."""
    pytest.importorskip("wandb", reason="an extra")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    printed = run_alone(*SWEEP, "logger=wandb", *words)
    assert (" alone: " in printed) == (len(words) == 2)
    runs = [list(Path(f"sweep/{n}/wandb").glob("offline-run-*/run-*.wandb")) for n in range(3)]
    assert [len(paths) for paths in runs] == [1, 1, 1]
    check_tracked({n: read_wandb(path) for n, (path,) in enumerate(runs)})


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], [LOCKSTEP]])
def test_mlflow_has_a_run_for_each_job(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a local database, of the real package."""
    pytest.importorskip("mlflow", reason="an extra")
    monkeypatch.chdir(tmp_path)
    run_alone(*SWEEP, "logger=mlflow", *words)
    with closing(sqlite3.connect("mlflow.db")) as database:
        (states,) = {*database.execute("select status, count(*) from runs group by status")}
        found = database.execute(
            "select run_uuid, value from metrics where key = 'validation/loss' order by step"
        ).fetchall()
    assert states == ("FINISHED", 3)
    tables = [pl.read_csv(f"sweep/{number}/history.csv") for number in range(3)]
    tracked = [[value for run, value in found if run == each] for each in dict(found)]
    expected = [table["validation/loss"].to_list() for table in tables]
    assert sorted(tracked) == [pytest.approx(each, rel=1e-6) for each in sorted(expected)]
