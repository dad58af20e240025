"""Workers that are tasks of Ray, on a cluster of this machine and on one that is joined."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from drill.ray_cluster import RayCluster
from drill.slurm_cluster import free_ports, wait_until

from multilayer.core.errors import UserError
from multilayer.workers.ray import RayEngine

from .plain_workers import FAILS, WAITS, WRITES, is_running, kill_one, n_saved, pids, wait_for

pytestmark = pytest.mark.slow

OPTIONS = {"num_cpus": 1, "num_gpus": 0}


@pytest.fixture
def engine(local_ray: None) -> Iterator[RayEngine]:
    """An engine of two workers on a cluster of this machine, which are ended after the test."""
    made = RayEngine(2, OPTIONS)
    yield made
    made.stop()


@pytest.fixture
def joined(ray_cluster: RayCluster) -> Iterator[RayEngine]:
    """An engine of two workers on a cluster that runs, which are ended after the test."""
    made = RayEngine(2, OPTIONS)
    yield made
    made.stop()


def processes_of(session: str) -> list[str]:
    """The command lines of processes that have a word in their environment or command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if session.encode() in words and is_running(int(process.name)):
            found.append((process / "comm").read_text().strip())
    return found


def test_workers_of_a_local_cluster(engine: RayEngine, tmp_path: Path, logs: Path) -> None:
    """They run until they end, fail, are killed, or are ended, when they may save."""
    engine.start(WRITES, tmp_path, logs, 2)
    assert engine.n_alive() == 2
    wait_until(lambda: engine.n_alive() == 0, "the end")
    assert [path.read_text() for path in tmp_path.glob("*.pid")] == [str(tmp_path)] * 2
    printed = [path.read_text() for path in logs.glob("*.log") if "driver" not in path.name]
    assert printed == ["written\n"] * 2
    assert engine.last_words() == ""

    engine.start(FAILS, tmp_path, logs, 1)
    wait_until(lambda: engine.n_alive() == 0, "the end")
    assert engine.last_words() == "what went wrong (exit code 3)"

    engine.start(WAITS, tmp_path, logs, 2)
    wait_for(tmp_path, 2)
    kill_one(tmp_path)
    wait_until(lambda: engine.n_alive() == 1, "one worker")
    assert engine.last_words().endswith("(SIGKILL)")
    engine.start(WAITS, tmp_path, logs, 1)
    wait_for(tmp_path, 2)
    engine.stop()
    assert engine.n_alive() == 0
    assert n_saved(tmp_path) == 2
    assert pids(tmp_path) == []


def test_a_local_cluster_is_for_this_machine_alone(
    engine: RayEngine, tmp_path: Path, logs: Path
) -> None:
    """It listens on loopback, with a token, and ends with the engine."""
    engine.start(WAITS, tmp_path, logs, 1)
    wait_for(tmp_path, 1)
    environment = Path(f"/proc/{pids(tmp_path)[0]}/environ").read_bytes().split(b"\0")
    variables = dict(each.partition(b"=")[::2] for each in environment)
    assert variables[b"RAY_AUTH_MODE"] == b"token"
    token = variables[b"RAY_AUTH_TOKEN"].decode()
    assert len(token) == 64
    assert {"gcs_server", "raylet"} <= set(processes_of(token))
    assert {address for address in listening() if not address.startswith("127.")} <= BEFORE
    engine.stop()
    assert processes_of(token) == []


def listening() -> set[str]:
    """The addresses at which something listens on this machine, as `ADDRESS:PORT`."""
    found = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            place, _, state = line.split()[1:4]
            if state == "0A":
                address, port = place.split(":")
                words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
                text = socket.inet_ntop(family, b"".join(words)).removeprefix("::ffff:")
                found.add(f"{text}:{int(port, 16)}")
    return found


BEFORE = listening()
"""Where something listened before the tests."""


def test_workers_end_when_their_engine_is_killed(
    local_ray: None, tmp_path: Path, logs: Path
) -> None:
    """They save, and the cluster ends too."""
    program = f"""
from pathlib import Path
import time
from multilayer.workers.ray import RayEngine
engine = RayEngine(2, {OPTIONS})
engine.start({WAITS!r}, Path({str(tmp_path)!r}), Path({str(logs)!r}), 2)
time.sleep(300)
"""
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        wait_for(tmp_path, 2)
        environment = Path(f"/proc/{pids(tmp_path)[0]}/environ").read_text().split("\0")
        (token,) = [each for each in environment if each.startswith("RAY_AUTH_TOKEN=")]
        parent.kill()
    wait_until(lambda: pids(tmp_path) == [], "the end of the workers")
    assert n_saved(tmp_path) == 2
    wait_until(lambda: processes_of(token) == [], "the end of the cluster")


def lose_one_of_two(engine: RayEngine, cluster: RayCluster, folder: Path, logs: Path) -> set[int]:
    """Start two workers, and kill the node of one; returns the processes that they were."""
    engine.start(WAITS, folder, logs, 2)
    wait_for(folder, 2)
    before = set(pids(folder))
    cluster.lose_node()
    assert cluster.tasks() == []
    wait_for(folder, 1)
    return before


def test_workers_of_a_cluster_that_is_joined(
    joined: RayEngine, ray_cluster: RayCluster, tmp_path: Path, logs: Path
) -> None:
    """That of a lost node begins again on the other one, by Ray, as soon as there is room."""
    before = lose_one_of_two(joined, ray_cluster, tmp_path, logs)
    assert joined.n_alive() == 2
    (left,) = pids(tmp_path)
    os.kill(left, signal.SIGKILL)
    wait_until(lambda: pids(tmp_path) and not before & set(pids(tmp_path)), "a worker again")
    wait_until(lambda: joined.n_alive() == 1, "one worker")
    joined.stop()
    assert pids(tmp_path) == []


def test_a_node_that_comes_back_has_a_worker_again(
    joined: RayEngine, ray_cluster: RayCluster, tmp_path: Path, logs: Path
) -> None:
    """By Ray, for the task that was lost with the node."""
    before = lose_one_of_two(joined, ray_cluster, tmp_path, logs)
    (left,) = pids(tmp_path)
    ray_cluster.bring_node_back()
    wait_for(tmp_path, 2)
    (new,) = set(pids(tmp_path)) - {left}
    assert new not in before
    assert new in ray_cluster.tasks()


def test_a_cluster_that_goes_away_is_noticed(
    joined: RayEngine, ray_cluster: RayCluster, tmp_path: Path, logs: Path
) -> None:
    """With all its workers, and without an end of this process."""
    joined.start(WAITS, tmp_path, logs, 2)
    wait_for(tmp_path, 2)
    ray_cluster.process.communicate(timeout=60)
    wait_until(lambda: pids(tmp_path) == [], "the end of the workers")
    wait_until(lambda: joined.n_alive() == 0, "no worker")
    assert joined.last_words() != ""


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:{closed}", "no cluster answers: .*refused"),
        ("127.0.0.1:{mute}", r"the cluster has not answered within 2 s"),
        ("nowhere", "must be HOST:PORT"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_error(
    address: str, message: str, local_ray: None, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which Ray itself tries to reach for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        place = address.format(closed=free_ports(1)[0], mute=mute.getsockname()[1])
        monkeypatch.setenv("RAY_ADDRESS", place)
        with pytest.raises(UserError, match=f"ray:2: RAY_ADDRESS={place}: {message}"):
            RayEngine(2, OPTIONS, timeout=2).start(WRITES, logs, logs, 2)


def test_another_token_is_one_error(
    ray_cluster: RayCluster, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray says so after 20 s, in the last line of a long message."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with pytest.raises(UserError, match=r"cannot be used: AuthenticationError: .*token"):
        RayEngine(2, OPTIONS).start(WRITES, logs, logs, 2)


def test_gpus_that_are_not_there_are_one_error(local_ray: None, tmp_path: Path) -> None:
    """For which tasks of Ray would wait for ever."""
    with pytest.raises(UserError, match="GPUs that the workers need: 2, and that are here: 0"):
        RayEngine(2, OPTIONS | {"num_gpus": 1}).start(WRITES, tmp_path, tmp_path, 2)


def test_what_a_worker_takes_is_a_number(local_ray: None) -> None:
    """It is refused before anything is started."""
    with pytest.raises(UserError, match=r"hydra\.launcher\.ray\.num_cpus=two: must be a number"):
        RayEngine(2, OPTIONS | {"num_cpus": "two"})


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how it is installed."""
    monkeypatch.setattr("multilayer.workers.ray.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'multilayer\[ray\]'"):
        RayEngine(2, OPTIONS)
