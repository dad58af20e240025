"""Ledgers for tests, and processes that work on one."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from multilayer.sweeps import Ledger, NewJob


def new_jobs(*seeds: int, **fixed: Any) -> list[NewJob]:
    """Jobs that differ in their seed."""
    return [NewJob({"seed": seed, **fixed}, [f"seed={seed}"]) for seed in seeds]


def ledger_of(folder: Path, n_jobs: int, **settings: Any) -> Ledger:
    """A ledger with jobs that wait."""
    ledger = Ledger(folder, **settings)
    ledger.register(new_jobs(*range(n_jobs)))
    return ledger


def states_of(folder: Path, **settings: Any) -> dict[int, str]:
    """As whoever opens the ledger now finds them."""
    ledger = Ledger(folder, **settings)
    ledger.refresh()
    return {number: job.state for number, job in ledger.jobs.items()}


def at_once(start: Callable[[], Sequence[subprocess.Popen[str]]], go: Path) -> list[str]:
    """What processes print that wait for a file before they begin."""
    processes = start()
    time.sleep(0.5)
    go.touch()
    printed = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return printed


def start_python(
    program: str, *arguments: object, stderr: int | None = None
) -> subprocess.Popen[str]:
    """A process that runs a program; `go` is its first argument, which it waits for."""
    head = """
import sys, time
from pathlib import Path
from multilayer.sweeps import Job, Ledger, NewJob, Outcome
go, folder = map(Path, sys.argv[1:3])
def wait():
    print("ready", file=sys.stderr)
    while not go.exists():
        time.sleep(0.0005)
"""
    return subprocess.Popen(
        [sys.executable, "-c", head + program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
