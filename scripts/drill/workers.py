"""Sweeps whose workers, or a node of whose cluster, are killed: the command comes to its end."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from drill.files import changed_files, finished_files
from drill.kills import MOST_IN_A_ROW, Drill, Row, end_problems, worker_pids
from drill.ray_cluster import running_ray
from drill.results import done_attempts, repeated_jobs
from drill.slurm_cluster import running_slurm, why_not
from drill.subjects import run, running


class Cluster(Protocol):
    """Two nodes of one core each on this machine."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which commands find it."""

    def tasks(self) -> list[int]:
        """The processes of its users on the second node."""

    def lose_node(self) -> None:
        """Kill the second node, with everything that runs on it."""

    def bring_node_back(self) -> None:
        """Start the second node again."""


@contextmanager
def running_cluster(engine: str) -> Iterator[Cluster | None]:
    """A cluster for workers of an engine; None for an engine without nodes.

    Raises:
        RuntimeError: It cannot be started here.
    """
    name = engine.partition(":")[0]
    # A socket's path, which is below the folder, may have about a hundred letters.
    with TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True) as folder:
        if name == "slurm":
            if reason := why_not():
                raise RuntimeError(reason)
            with running_slurm(Path(folder)) as slurm:
                yield slurm
        elif name == "ray":
            with running_ray(Path(folder)) as ray:
                yield ray
        else:
            yield None


_MOST_TRIES = 5
"""Of sweeps in which no worker ran on the node that is to be lost."""


def train_by_workers(drill: Drill) -> Row:
    """Train undisturbed, which gives what one process gives; how long it takes is the drill's."""
    row = Row(f"undisturbed, {drill.subject.name}")
    folder = drill.new_folder()
    ended = run(drill.subject.command(folder), folder.parent)
    drill.seconds = ended.seconds
    row.note(str(folder), end_problems(ended))
    drill.check_end(row, folder)
    return row


def kill_workers(drill: Drill, moments: int) -> Row:
    """Kill processes that the command has started."""
    row = Row(f"SIGKILL of a worker, {drill.subject.name}")

    def kill(pids: Sequence[int]) -> bool:
        with suppress(ProcessLookupError):
            os.kill(drill.random.choice(pids), signal.SIGKILL)
        return True

    while row.moments < moments:  # workers are not replaced for ever
        n_before = row.moments
        _disturb(row, drill, kill, min(MOST_IN_A_ROW, moments - row.moments))
        if row.moments == n_before and row.problems:
            break  # it cannot be disturbed
    return row


def kill_nodes(drill: Drill, moments: int, cluster: Cluster) -> Row:
    """Kill the node that one of two workers runs on; it comes back once the command has ended."""
    row = Row(f"SIGKILL of a node, {drill.subject.name}")

    def kill(pids: Sequence[int]) -> bool:
        if is_there := not set(pids).isdisjoint(cluster.tasks()):
            cluster.lose_node()
        return is_there

    n_tries = 0
    while row.moments < moments:
        n_before = row.moments
        _disturb(row, drill, kill, 1)
        if row.moments > n_before:
            cluster.bring_node_back()
            continue
        n_tries += 1
        if row.problems or n_tries == _MOST_TRIES:
            row.note(drill.subject.name, ["no worker ran on the node that is to be lost"])
            break
    return row


def _disturb(row: Row, drill: Drill, disturb: Callable[[Sequence[int]], bool], most: int) -> None:
    """Disturb the workers of a sweep, which goes on by itself.

    Args:
        row: Gets what comes of it.
        drill: Of the sweep.
        disturb: Is given the processes of the workers; returns whether it could do anything.
        most: How often it is disturbed.
    """
    folder = drill.new_folder()
    finished: dict[Path, str] = {}
    done: dict[int, int] = {}
    with running(drill.subject.command(folder), folder.parent) as command:
        while not command.ends_within(drill.random.uniform(0, drill.seconds)):
            pids = [pid for pid in worker_pids(folder) if pid != command.process.pid]
            if not pids or not most:
                continue
            done = done_attempts(folder)
            finished |= finished_files([folder / str(number) for number in done])
            if disturb(pids):
                row.moments += 1
                row.n_done.append(len(done))
                most -= 1
        row.note(str(folder), end_problems(command.end()))
    row.note(str(folder), changed_files(finished) + repeated_jobs(done, done_attempts(folder)))
    drill.check_end(row, folder)
