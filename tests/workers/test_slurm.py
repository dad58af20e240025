"""Workers that Slurm starts, on a cluster of two nodes."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drill.slurm_cluster import SlurmCluster, wait_until

from multilayer.core.errors import UserError
from multilayer.workers.slurm import SlurmEngine

from .plain_workers import FAILS, WAITS, WRITES, kill_one, n_saved, pids, wait_for

pytestmark = pytest.mark.slow

OPTIONS: dict[str, Any] = {
    "partition": "debug",
    "timeout_min": 10,
    "cpus_per_task": 1,
    "gpus_per_node": None,
    "mem_gb": 1,
    "setup": [],
    "additional_parameters": {},
}


@pytest.fixture
def engine(slurm: SlurmCluster) -> Iterator[SlurmEngine]:
    """An engine of two workers, which are ended after the test."""
    made = SlurmEngine(2, OPTIONS, poll_seconds=0.1)
    yield made
    made.stop()


def test_workers_run_until_they_end(engine: SlurmEngine, tmp_path: Path, logs: Path) -> None:
    """In the parent's folder, and what they print is in the logs; no pickle is left."""
    engine.start(WRITES, tmp_path, logs, 2)
    assert engine.n_alive() == 2
    wait_until(lambda: engine.n_alive() == 0, "the end")
    assert [path.read_text() for path in tmp_path.glob("*.pid")] == [str(tmp_path)] * 2
    printed = [path.read_text() for path in logs.glob("*.out")]
    assert ["written\n" in each for each in printed] == [True] * 2
    assert engine.last_words() == ""
    engine.stop()
    assert not list(logs.rglob("*.pkl"))


def test_the_last_words_of_one_that_fails(engine: SlurmEngine, tmp_path: Path, logs: Path) -> None:
    """Its own, not those that Slurm adds, and Slurm's word for its end."""
    engine.start(FAILS, tmp_path, logs, 1)
    wait_until(lambda: engine.n_alive() == 0, "the end")
    assert engine.last_words().startswith("what went wrong (Slurm's job ")
    assert engine.last_words().endswith(": FAILED)")


def test_a_worker_that_is_killed_is_noticed(
    engine: SlurmEngine, tmp_path: Path, logs: Path
) -> None:
    """Without the accounts that submitit asks; another can be started in its place."""
    engine.start(WAITS, tmp_path, logs, 2)
    wait_for(tmp_path, 2)
    kill_one(tmp_path)
    wait_until(lambda: engine.n_alive() == 1, "one worker")
    engine.start(WAITS, tmp_path, logs, 1)
    assert engine.n_alive() == 2
    wait_for(tmp_path, 2)


def test_workers_that_are_ended_may_save(
    engine: SlurmEngine, slurm: SlurmCluster, tmp_path: Path, logs: Path
) -> None:
    """By SIGTERM, and those that still wait in the queue never begin."""
    engine.start(WAITS, tmp_path, logs, 3)
    wait_for(tmp_path, 2)
    wait_until(lambda: (engine.n_alive(), engine.n_waiting()) == (3, 1), "one in the queue")
    engine.stop()
    assert engine.n_alive() == 0
    assert n_saved(tmp_path) == 2
    assert pids(tmp_path) == []
    assert slurm.ask("squeue", "--noheader") == ""


@pytest.mark.parametrize("why", ["time limit", "preempted", "preempted after a while"])
def test_workers_that_slurm_ends_begin_again(
    why: str, engine: SlurmEngine, slurm: SlurmCluster, tmp_path: Path, logs: Path
) -> None:
    """They save, are alive in the queue, and begin again when they can."""
    engine.start(WAITS, tmp_path, logs, 2)
    wait_for(tmp_path, 2)
    before = set(pids(tmp_path))
    if why == "time limit":  # what Slurm does a while before it
        jobs = slurm.ask("squeue", "--noheader", "--array", "-o%i").split()
        slurm.ask("scancel", "--signal=TERM", *jobs)
    else:
        grace = 100 if why == "preempted after a while" else 0
        slurm.ask("scontrol", "update", "PartitionName=debug", f"GraceTime={grace}")
        slurm.ask("sbatch", "-purgent", "-N2", "-o/dev/null", "--wrap=true")
    wait_until(lambda: not before & set(pids(tmp_path)), "the end of those that ran")
    assert n_saved(tmp_path) == 2
    assert engine.n_alive() == 2
    slurm.wait_for_begin(lambda: len(pids(tmp_path)) == 2)
    assert engine.n_alive() == 2
    assert engine.last_words() == ""


def test_the_worker_of_a_node_that_is_lost_begins_again(
    engine: SlurmEngine, slurm: SlurmCluster, tmp_path: Path, logs: Path
) -> None:
    """It waits in the queue until there is another node."""
    engine.start(WAITS, tmp_path, logs, 2)
    wait_for(tmp_path, 2)
    with slurm.without_node():
        wait_for(tmp_path, 1)
        assert engine.n_alive() == 2
        left = pids(tmp_path)
        kill_one(tmp_path)
        slurm.wait_for_begin(lambda: len(pids(tmp_path)) == 1 and pids(tmp_path) != left)
        assert engine.n_alive() == 1
        engine.stop()


def test_what_slurm_refuses_is_said(slurm: SlurmCluster, tmp_path: Path, logs: Path) -> None:
    """In Slurm's words, or submitit's."""
    for option, message in [
        ({"partition": "gpus"}, "Slurm refuses the workers: .*invalid partition specified: gpus"),
        ({"additional_parameters": {"partition": "own"}}, "invalid partition specified: own"),
        ({"timeout_min": "1h"}, 'Parameter "timeout_min" expected type'),
    ]:
        engine = SlurmEngine(2, OPTIONS | option)
        with pytest.raises(UserError, match=message):
            engine.start(WRITES, tmp_path, logs, 2)


def test_a_slurm_that_is_not_there_is_one_error(
    slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its controller is down, mute, or there is none at all."""
    conf = tmp_path / "slurm.conf"
    monkeypatch.setenv("SLURM_CONF", str(conf))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = f"SlurmctldPort={mute.getsockname()[1]}"
        lines = slurm.conf.read_text().splitlines()
        conf.write_text("\n".join([port if "SlurmctldPort" in each else each for each in lines]))
        with pytest.raises(UserError, match=r"slurm:2: Slurm has not answered within 0\.5 s"):
            SlurmEngine(2, OPTIONS, timeout=0.5)
    with pytest.raises(UserError, match="slurm:2: Slurm does not answer: "):
        SlurmEngine(2, OPTIONS)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="slurm:2: there is no Slurm here: sinfo was not found"):
        SlurmEngine(2, OPTIONS)


def test_a_submission_that_is_not_answered_is_one_error(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the controller goes away after it was asked; submitit waits for ever."""
    pytest.importorskip("submitit")
    for name, line in {"sinfo": "exit 0", "srun": "exit 0", "sbatch": "exec sleep 60"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(
        UserError, match=r"^hydra.launcher.workers=slurm:2: sbatch has not answered within 0\.5 s"
    ):
        SlurmEngine(2, OPTIONS, timeout=0.5).start(WRITES, tmp_path, logs, 2)


def test_submitit_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how it is installed."""
    monkeypatch.setattr("multilayer.workers.slurm.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'multilayer\[slurm\]'"):
        SlurmEngine(2, OPTIONS)
