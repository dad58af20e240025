"""A cluster of Ray's with two nodes of one CPU each on this machine; run as a process.

It prints the address of the cluster, and the process of its second node. At a line it forgets that
node, which was killed, and at the next one it starts another. It ends when there is nothing more to
read.
"""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def main() -> None:
    """Start the nodes, and end them."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    print(f"address {cluster.address}", flush=True)
    while True:
        second = cluster.add_node(**NODE)
        (raylet,) = second.all_processes["raylet"]
        print(f"node {raylet.process.pid}", flush=True)
        if not sys.stdin.readline():
            break
        cluster.remove_node(second, allow_graceful=False)
        print("lost", flush=True)
        if not sys.stdin.readline():
            break
    cluster.shutdown()


class RayCluster:
    """A cluster that runs.

    Args:
        variables: Of processes that join it, without its address.
        process: What has started it.

    Attributes:
        environment: The variables of processes that join it.
        process: What has started it.
    """

    def __init__(self, variables: dict[str, str], process: subprocess.Popen[str]) -> None:
        self.process = process
        self.environment = {**variables, "RAY_ADDRESS": self._read("address")}
        self._raylet = int(self._read("node"))

    def tasks(self) -> list[int]:
        """The processes on the second node, without Ray's own."""
        return _descendants(self._raylet)

    def lose_node(self) -> None:
        """Kill the second node, with everything that runs on it."""
        for pid in [self._raylet, *self.tasks()]:  # that first which would tell of the others' end
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._write("forget")
        self._read("lost")

    def bring_node_back(self) -> None:
        """Start a second node again."""
        self._write("start")
        self._raylet = int(self._read("node"))

    def _write(self, line: str) -> None:
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)

    def _read(self, word: str) -> str:
        """The rest of the next line that begins with a word."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()
        raise AssertionError(f"it has ended without {word!r}")


def _descendants(pid: int) -> list[int]:
    """The processes that one has started, and those that these have, and so on."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it has ended
            for child in map(int, path.read_text().split()):
                found += [child, *_descendants(child)]
    return found


@contextmanager
def running_ray(folder: Path) -> Iterator[RayCluster]:
    """A cluster that ends afterwards."""
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(folder),
        "PYTHONPATH": str(Path(__file__).parents[2]),  # where workers find the classes of the tests
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # it listens on loopback alone
        "RAY_worker_niceness": "0",  # by default other work of a busy machine goes first
    }
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        yield RayCluster(environment, process)
        process.communicate(timeout=60)


if __name__ == "__main__":
    main()
