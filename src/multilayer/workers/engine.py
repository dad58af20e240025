"""What starts the workers of a sweep: an engine, as `hydra.launcher.workers` names it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from multilayer.core.errors import UserError, unknown_name

ENGINES = ("local", "ray", "slurm")
"""Their names, each that of a file in this package."""

SECONDS_TO_SAVE = 60.0
"""How long a worker that is to end may take to save what it trains."""


class Engine(Protocol):
    """What starts workers, which are processes on any host that sees the sweep's folder.

    Attributes:
        n: How many workers there are to be.
        waits: Where workers wait until they may begin, as "in the queue".
    """

    n: int
    waits: str

    def start(self, command: Sequence[str], cwd: Path, logs: Path, n: int) -> None:
        """Start workers; again if some have died.

        Args:
            command: What each of them runs.
            cwd: Where.
            logs: The folder for what they print, which exists.
            n: How many.

        Raises:
            UserError: They cannot be started.
        """

    def n_alive(self) -> int:
        """How many of those that were started run, or are to run."""

    def n_waiting(self) -> int:
        """How many of these wait until they may begin."""

    def last_words(self) -> str:
        """What a worker that failed printed last; empty if none has."""

    def how_ended(self, log: str) -> str:
        """How a worker ended that failed, in the system's or the engine's words, as `SIGSEGV`.

        Args:
            log: The file that it printed to.

        Returns:
            The words; none if that is not known.
        """

    def stop(self) -> None:
        """End all workers: by SIGTERM, after which they save, and those that stay by SIGKILL."""


def make_engine(workers: str, options: Mapping[str, Mapping[str, Any]]) -> Engine:
    """The engine that `hydra.launcher.workers` names.

    Args:
        workers: An engine and how many workers it is to start, such as `local:2`.
        options: The options of each engine, by its name.

    Raises:
        UserError: There is no such engine, what it needs is not there, or an option is wrong.
    """
    match = re.fullmatch(r"([a-z]+):([1-9][0-9]*)", str(workers))
    if match is None:
        raise UserError(
            f"hydra.launcher.workers={workers}: must be an engine and a number of workers, as in "
            f"local:2; the engines are {', '.join(ENGINES)}"
        )
    if match[1] not in ENGINES:
        problem = unknown_name("engine", match[1], ENGINES)
        raise UserError(f"hydra.launcher.workers={workers}: {problem}")
    n = int(match[2])
    if match[1] == "ray":
        from multilayer.workers.ray import RayEngine

        return RayEngine(n, options["ray"])
    if match[1] == "slurm":
        from multilayer.workers.slurm import SlurmEngine

        return SlurmEngine(n, options["slurm"])
    from multilayer.workers.local import LocalEngine

    return LocalEngine(n)
