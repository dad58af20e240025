"""Workers that are processes of this machine, whose cores they share out."""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

from multilayer.core.errors import UserError
from multilayer.workers.engine import SECONDS_TO_SAVE


class LocalEngine:
    """Starts processes of this machine; see `Engine`.

    Each has a session of its own in the system, so that Ctrl-C reaches only the process that
    started it, which then ends it. Its CPU threads are the machine's cores divided by the workers.

    Args:
        n: How many workers share the machine.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.n_threads = max(1, _n_cores() // n)
        self._started: list[tuple[subprocess.Popen[bytes], Path]] = []

    def start(self, command: Sequence[str], cwd: Path, logs: Path, n: int) -> None:
        """Start workers; see `Engine`."""
        environment = {"OMP_NUM_THREADS": str(self.n_threads), **os.environ}
        for _ in range(n):
            log = logs / f"local-{os.getpid()}-{len(self._started)}.log"
            try:
                with log.open("wb") as output:
                    process = subprocess.Popen(  # noqa: S603  # our own command
                        command,
                        cwd=cwd,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
            except OSError as error:
                raise UserError(f"a worker cannot be started: {error}") from error
            self._started.append((process, log))

    def n_alive(self) -> int:
        """How many run."""
        return sum(process.poll() is None for process, _ in self._started)

    def last_words(self) -> str:
        """What the last worker that failed printed last."""
        failed = [(process, log) for process, log in self._started if process.poll()]
        if not failed:
            return ""
        process, log = failed[-1]
        lines = log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {process.returncode}"

    def stop(self) -> None:
        """End all workers."""
        for process, _ in self._started:
            process.terminate()
        end = monotonic() + SECONDS_TO_SAVE
        while self.n_alive() and monotonic() < end:
            sleep(0.05)
        for process, _ in self._started:
            process.kill()
            with suppress(ChildProcessError):
                process.wait()


def _n_cores() -> int:
    """The cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
