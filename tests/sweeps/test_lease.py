"""How long a worker may count on its claims."""

import os
import threading
import time
from pathlib import Path

import pytest

from multilayer.sweeps import Ledger
from multilayer.sweeps.lease import Lease

from .ledgers import ledger_of


def test_all_threads_know_of_a_silence_that_one_has_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that finds the file just touched, while the other still works out for how long."""
    file = tmp_path / "worker"
    file.touch()
    lease = Lease(file, 60.0)
    os.utime(file, (1, time.time() - 99))
    touch, said = os.utime, []
    other = threading.Thread(target=lambda: said.append(lease.renew()))

    def touch_and_let_the_other_look(path: Path) -> None:
        monkeypatch.setattr(os, "utime", touch)
        touch(path)
        other.start()
        other.join(0.2)

    monkeypatch.setattr(os, "utime", touch_and_let_the_other_look)
    assert lease.renew()
    other.join()
    assert said == [True]


def test_a_file_of_the_sweep_is_one_however_its_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker in doubt looks before it writes one."""
    ledger_of(tmp_path / "s", 1)
    (tmp_path / "x").mkdir()
    ledger = Ledger(tmp_path / "x" / ".." / "s")
    ledger.refresh()
    with ledger.worker(beat_seconds=600.0) as worker:
        assert worker.claim([0]) == [0]
        looks: list[int] = []
        monkeypatch.setattr(Lease, "is_sure", lambda _: False)
        monkeypatch.setattr(Lease, "renew", lambda _: looks.append(1))
        worker.check(tmp_path / "elsewhere")
        assert looks == []
        worker.check(tmp_path / "s" / "0" / "file")
        assert len(looks) == 1
