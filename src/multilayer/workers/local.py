"""Workers that are processes of this machine, whose cores they share out."""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from multilayer.core.errors import UserError
from multilayer.workers.engine import SECONDS_TO_SAVE
from multilayer.workers.logs import describe_code, last_line

_GPUS = "CUDA_VISIBLE_DEVICES"

_SECONDS_TO_DIE = 5.0
"""How long a process that has been found dead may take to end with all of its threads."""


@dataclass(frozen=True)
class _Process:
    """A worker."""

    popen: subprocess.Popen[bytes]
    log: Path
    gpu: str | None


class LocalEngine:
    """Starts processes of this machine; see `Engine`.

    Each has its own session of the system, so that Ctrl-C reaches only the process that started it,
    which then ends it. The workers share out the machine's cores, as CPU threads, and its GPUs.

    Args:
        n: How many workers share the machine.
    """

    waits = "nowhere"

    def __init__(self, n: int) -> None:
        self.n = n
        self.n_threads = max(1, _n_cores() // n)
        self._gpus = _visible_gpus()
        self._started: list[_Process] = []

    def start(self, command: Sequence[str], cwd: Path, logs: Path, n: int) -> None:
        """Start workers; see `Engine`."""
        for _ in range(n):
            log = logs / f"local-{os.getpid()}-{len(self._started)}.log"
            gpu = self._free_gpu()
            try:
                with log.open("wb") as output:
                    process = subprocess.Popen(  # noqa: S603  # our own command
                        command,
                        cwd=cwd,
                        env=self._environment(gpu),
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
            except OSError as error:
                raise UserError(f"a worker cannot be started: {error}") from error
            self._started.append(_Process(process, log, gpu))

    def _free_gpu(self) -> str | None:
        """The GPU that the fewest workers use; None for all there are."""
        used = [each.gpu for each in self._started if each.popen.poll() is None]
        return min(self._gpus, key=used.count) if len(self._gpus) > 1 else None

    def _environment(self, gpu: str | None) -> dict[str, str]:
        """That of a worker."""
        threads = {"OMP_NUM_THREADS": str(self.n_threads)}
        return threads | os.environ | ({} if gpu is None else {_GPUS: gpu})

    def n_alive(self) -> int:
        """How many run."""
        return sum(each.popen.poll() is None for each in self._started)

    def n_waiting(self) -> int:
        """None: a process begins at once."""
        return 0

    def last_words(self) -> str:
        """What the last worker that failed printed last."""
        failed = [each for each in self._started if each.popen.poll()]
        if not failed:
            return ""
        return last_line(failed[-1].log) or f"exit code {failed[-1].popen.returncode}"

    def how_ended(self, log: str) -> str:
        """How a worker ended; see `Engine`."""
        for each in self._started:
            if each.log.name == Path(log).name:
                with suppress(subprocess.TimeoutExpired):  # some threads of it may still end
                    return describe_code(each.popen.wait(_SECONDS_TO_DIE))
        return ""

    def stop(self) -> None:
        """End all workers."""
        for each in self._started:
            each.popen.terminate()
        end = monotonic() + SECONDS_TO_SAVE
        while self.n_alive() and monotonic() < end:
            sleep(0.05)
        for each in self._started:
            each.popen.kill()
            each.popen.wait()


def _n_cores() -> int:
    """The cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _visible_gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA names them; torch is not imported here."""
    if _GPUS in os.environ:
        return [each for each in os.environ[_GPUS].split(",") if each]
    found = Path("/proc/driver/nvidia/gpus").glob("*")
    return [str(number) for number, _ in enumerate(found)]
