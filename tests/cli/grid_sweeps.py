"""What the tests of sweeps with a ledger share: commands, and what is found in the folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from multilayer.sweeps import Ledger

SWEEP = ["train", "-m", "data=iris", "trainer.max_epochs=2", "hydra.sweep.dir=sweep"]

LAUNCHERS = pytest.mark.parametrize("launcher", ["basic", "lockstep"])

FAILS = ["+callbacks.own._target_=tests.lockstep.callbacks.GoesWrongUntilMended"]
FAILS += ["+callbacks.own.whole=true,false,true"]


def manifest(number: int) -> dict[str, Any]:
    """Of a job."""
    found: dict[str, Any] = json.loads(Path(f"sweep/{number}/manifest.json").read_text())
    return found


def states() -> list[str]:
    """Of all jobs, by the ledger."""
    ledger = Ledger("sweep")
    ledger.refresh()
    return [ledger.jobs[number].state for number in range(len(ledger.jobs))]


def times() -> dict[str, int]:
    """When the files and folders of the sweep were last written or touched."""
    return {str(path): path.stat().st_mtime_ns for path in Path("sweep").rglob("*")}


def content(*patterns: str) -> dict[str, bytes]:
    """Of the files in the sweep's folder."""
    paths = [path for each in patterns or ["**/*"] for path in Path("sweep").glob(each)]
    return {str(path): path.read_bytes() for path in sorted(paths) if path.is_file()}
