"""A worker that was silent for so long that others have taken its jobs over, and lives."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from multilayer.sweeps import Ledger

from ..conftest import Run
from ..sweeps.ledgers import ledger_of, start_python, states_of
from ..sweeps.test_claims import make_foreign
from .test_local import SWEEP, WAITS, pids, wait_for

NO_HEARTBEAT = """
import sys
from multilayer.sweeps import Ledger
Ledger.__init__.__kwdefaults__["dead_after"] = 2.0
Ledger.worker.__kwdefaults__["beat_seconds"] = 600.0
from multilayer.cli.main import command
command(sys.argv[1:])
"""


WHOLE_FILES = "[01]/**/[!.]*.*"
"""Of runs; what a process had half written stays under another name."""


def fall_silent(sweep: Path, name: str) -> None:
    """Let a worker be one of another machine, of which nobody has heard for long."""
    make_foreign(sweep, name)
    os.utime(sweep / "ledger" / "workers" / f"{name}.jsonl", (1, time.time() - 99))


WRITES = """
from multilayer.core.files import write_text
ledger = Ledger(folder, dead_after=1.0)
ledger.refresh()
worker = ledger.worker(beat_seconds=float(sys.argv[3]))
assert worker.claim([0, 1]) == [0, 1]
print(worker.info.name, flush=True)
wait()
time.sleep(float(sys.argv[4]))
(folder / "0").mkdir()
write_text(folder / "0" / "file", "late")
"""


@pytest.mark.parametrize(("beat", "pause"), [(600.0, 0.0), (0.05, 60.0)])
def test_who_has_lost_a_job_ends_before_it_writes(
    beat: float, pause: float, tmp_path: Path
) -> None:
    """Where it is about to write, or by its heartbeat; its other jobs are open at once."""
    folder = tmp_path / "s"
    ledger_of(folder, 2)
    process = start_python(WRITES, tmp_path / "go", folder, beat, pause)
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.6)  # until it is not sure any more
    fall_silent(folder, name)
    ledger = Ledger(folder, dead_after=1.0)
    ledger.refresh()
    with ledger.worker() as heir:
        assert heir.claim([0]) == [0]
        (tmp_path / "go").touch()
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=30)
        assert process.returncode == 1
        assert states_of(folder) == {0: "running", 1: "interrupted"}
    assert not (folder / "0" / "file").exists()


def test_who_has_lost_nothing_goes_on(tmp_path: Path) -> None:
    """However long it was silent; nobody else was there."""
    folder = tmp_path / "s"
    ledger_of(folder, 2)
    process = start_python(WRITES, tmp_path / "go", folder, 600.0, 0.6)
    assert process.stdout is not None
    fall_silent(folder, process.stdout.readline().strip())
    (tmp_path / "go").touch()
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert (folder / "0" / "file").read_text() == "late"


@pytest.mark.parametrize("launcher", ["basic", "lockstep"])
def test_what_another_trains_by_now_is_left_alone(
    launcher: str, tmp_path: Path, multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file is as the other has left it, also if it had not written to the folder yet."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    words = [*SWEEP, f"hydra/launcher={launcher}", *WAITS, "seed=0,1"]
    command = [sys.executable, "-c", NO_HEARTBEAT, *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        try:
            wait_for(lambda: process.poll() is not None or len(pids()) > 0)
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.1)  # until it is not sure any more
            fall_silent(Path("sweep"), next(Path("sweep/ledger/workers").glob("*.jsonl")).stem)
            Path("mended").touch()
            assert multilayer(*words).code == 0
            left = {path: path.read_bytes() for path in Path("sweep").glob(WHOLE_FILES)}
            process.send_signal(signal.SIGCONT)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1, out
    assert "taken over by another worker, since this process had shown no sign of life for" in out
    assert {path: path.read_bytes() for path in Path("sweep").glob(WHOLE_FILES)} == left
