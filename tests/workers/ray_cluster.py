"""A cluster of Ray's with two nodes of one CPU each on this machine; run as a process.

It prints the cluster's address, loses its second node when it reads a line, and ends when there is
nothing more to read.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def main() -> None:
    """Start the nodes, and end them."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    second = cluster.add_node(**NODE)
    print(f"address {cluster.address}", flush=True)
    for _ in sys.stdin:
        cluster.remove_node(second, allow_graceful=False)
        print("lost", flush=True)
    cluster.shutdown()


@dataclass
class RayCluster:
    """A cluster that runs.

    Attributes:
        address: For the variable RAY_ADDRESS.
        environment: Further variables that processes need which join it.
        process: What has started it.
    """

    address: str
    environment: dict[str, str]
    process: subprocess.Popen[str]

    def lose_node(self) -> None:
        """Kill the second node."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print("lose", file=self.process.stdin, flush=True)
        _read(self.process, "lost")


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
        yield RayCluster(_read(process, "address"), environment, process)
        process.communicate(timeout=60)


def _read(process: subprocess.Popen[str], word: str) -> str:
    """The rest of the next line that begins with a word."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line.removeprefix(word).strip()
    raise AssertionError(f"it has ended without {word!r}")


if __name__ == "__main__":
    main()
