"""Small programs that engines start, and what they have left in their working folder."""

import os
import signal
import sys
from pathlib import Path

from drill.slurm_cluster import wait_until

WRITES = [
    sys.executable,
    "-c",
    "import os; open(f'{os.getpid()}.pid', 'w').write(os.getcwd()); print('written')",
]
"""Writes a file and ends."""

FAILS = [sys.executable, "-c", "print('what went wrong'); raise SystemExit(3)"]
"""Says why, and ends with an exit code."""

WAITS = [
    sys.executable,
    "-uc",
    """
import os, signal, sys, time
def save(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(0.3)
    open(f"{os.getpid()}.saved", "w").close()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
open(f"{os.getpid()}.pid", "w").close()
time.sleep(300)
""",
]
"""Waits, and at SIGTERM takes a moment to save, and ends as a worker does."""


def pids(folder: Path) -> list[int]:
    """The programs that have begun and run."""
    return [
        pid for pid in map(int, (path.stem for path in folder.glob("*.pid"))) if is_running(pid)
    ]


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def n_saved(folder: Path) -> int:
    """How many programs have saved."""
    return len(list(folder.glob("*.saved")))


def kill_one(folder: Path) -> None:
    """Kill one of the programs."""
    os.kill(pids(folder)[0], signal.SIGKILL)


def wait_for(folder: Path, n: int) -> None:
    """Wait until as many programs run."""
    wait_until(lambda: len(pids(folder)) == n, f"{n} workers")
