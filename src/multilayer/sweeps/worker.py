"""A worker: claims jobs of a sweep, shows that it lives, and records how they ended."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from math import isfinite
from pathlib import Path
from threading import Event, Lock, Thread
from time import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from multilayer.core.errors import UserError
from multilayer.core.files import CHECKS_BEFORE_WRITING
from multilayer.core.text import name_jobs
from multilayer.sweeps.job import Outcome, WorkerInfo
from multilayer.sweeps.journal import VERSION, append, encode, publish
from multilayer.sweeps.lease import Lease
from multilayer.sweeps.process import describe_this_process, new_name

if TYPE_CHECKING:
    from multilayer.sweeps.ledger import Ledger

_STDERR = 2

_RUN_FAILED = 1
"""The exit code of `multilayer.cli.exit_codes`."""


class Worker:
    """A worker of a sweep, which has its own file in the ledger; a context manager.

    The file is begun by what is first written to it. From then on a thread touches it every few
    seconds, until the worker is closed: jobs that have not ended then are interrupted.

    If another worker has taken a job of it over, since it was silent for long, the process ends at
    once, without writing anything more: see `Lease`. All that it held was open to others by then.

    Args:
        ledger: The sweep's.
        beat_seconds: How often the file is touched.
        parent: The worker whose process has started this one; None if it was started by hand.

    Attributes:
        info: What others see of it.
        held: The jobs that it has claimed and that have not ended, with the number of the attempt.
    """

    def __init__(self, ledger: Ledger, *, beat_seconds: float, parent: str | None = None) -> None:
        self.ledger = ledger
        self.beat_seconds = beat_seconds
        process = describe_this_process()
        self.info = WorkerInfo(new_name(), process["host"], process["pid"], parent, process["log"])
        self.held: dict[int, int] = {}
        self._head = {"ledger": VERSION, **process, "parent": parent, "at": _now()}
        self._path = ledger.worker_file(self.info.name)
        self._is_begun = False
        self._lease: Lease | None = None
        self._lock = Lock()
        self._end = Event()
        self._thread = Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close; an error of the ledger does not hide the one that ended the block."""
        with suppress(*[UserError] if error else []):
            self.close()

    def claim(self, numbers: Iterable[int]) -> list[int]:
        """Claim jobs that are to train together, in the order of their numbers.

        It ends at the first job that another worker has or has done. Of several workers that claim
        the same jobs at once, one gets them all. No other gets a job of this one before it ends, or
        this worker dies.

        Args:
            numbers: Of jobs that were open when the ledger was last read.

        Returns:
            Those that the worker got.

        Raises:
            UserError: The ledger cannot be written.
        """
        self.begin()
        got: dict[int, int] = {}
        for number in sorted(numbers):
            attempt = self.ledger.claim(number, self.info)
            if attempt is None:
                break
            got[number] = attempt
        if got:
            self.held |= got
            self._append([{"claimed": [*map(list, got.items())], "at": _now()}])
        return list(got)

    def finish(self, outcomes: Mapping[int, Outcome]) -> None:
        """Record how jobs ended, unless one was taken over: see `end_if_lost`.

        Args:
            outcomes: By the numbers of jobs that it holds.

        Raises:
            UserError: The ledger cannot be written.
        """
        self.end_if_lost()
        ended = [(number, self.held[number], each) for number, each in outcomes.items()]
        self._append([_ended(*each) for each in ended], durable=True)
        for number, attempt, outcome in ended:
            del self.held[number]
            self.ledger.note_end(number, attempt, outcome, self.info, time())

    def end_if_lost(self) -> None:
        """Have the process end if a job that it holds was taken over by another worker.

        A job may have failed of that alone: its folder holds the other's run.
        """
        if lost := self.lost():
            assert self._lease is not None, "it has begun"
            with suppress(OSError):
                self._lease.renew()  # which finds out for how long it was silent
            self._end_process(lost, self._lease.silent)

    def lost(self) -> list[int]:
        """Jobs that it holds and that another worker has taken over; they are not to be gone on."""
        return [
            number
            for number, attempt in dict(self.held).items()  # threads may change it
            if self.ledger.is_claimed(number, attempt + 1)
        ]

    def reopen(self, numbers: Iterable[int]) -> None:
        """Let jobs that have ended be done again: by any worker, once.

        Raises:
            UserError: The ledger cannot be written.
        """
        attempts = [[number, self.ledger.jobs[number].attempts.count] for number in numbers]
        if attempts:
            self.begin()
            self._append([{"reopened": attempts, "at": _now()}], durable=True)
            for number, attempt in attempts:
                self.ledger.note_reopened(number, attempt)

    def close(self) -> None:
        """Say that it ends; jobs that it still holds are interrupted."""
        self._end.set()
        if self._is_begun:
            self._is_begun = False
            CHECKS_BEFORE_WRITING.remove(self.check)
            self._thread.join()
            self._append([{"closed": True, "at": _now()}])
            self.info.is_alive, self.info.has_closed = False, True

    def begin(self) -> None:
        """Begin the file and the thread, once; others see from then on that it is alive.

        Raises:
            UserError: The ledger cannot be written.
        """
        with self._lock:
            if not self._is_begun:
                self.ledger.note_worker(self.info)
                publish(self._path, encode([self._head]))
                self._lease = Lease(self._path, self.ledger.dead_after)
                CHECKS_BEFORE_WRITING.append(self.check)
                self._thread.start()
                self._is_begun = True

    def _append(self, lines: Iterable[Mapping[str, Any]], *, durable: bool = False) -> None:
        """Append lines to its file."""
        with self._lock:
            append(self._path, lines, durable=durable)

    def check(self, path: Path) -> None:
        """Have the process end if it must not write a file, since a job was taken over.

        Raises:
            OSError: That cannot be found out.
        """
        is_sure = not self.held or (self._lease is not None and self._lease.is_sure())
        if not is_sure and Path(os.path.abspath(path)).is_relative_to(
            os.path.abspath(self.ledger.sweep)  # which may have `..` in it
        ):
            self._show_life()

    def _beat(self) -> None:
        """Show until the end that it lives."""
        while not self._end.wait(self.beat_seconds):
            with suppress(OSError):  # what goes on is shown by the next one
                self._show_life()

    def _show_life(self) -> None:
        """Touch the file, and have the process end if that comes too late."""
        assert self._lease is not None, "it has begun"
        if self._lease.renew() and (lost := self.lost()):
            self._end_process(lost, self._lease.silent)

    def _end_process(self, lost: list[int], silent: float) -> NoReturn:
        """End without writing to any run folder; others may have its other jobs at once."""
        with suppress(UserError):
            append(self._path, [{"closed": True, "at": _now()}], durable=False)
        were = "was" if len(lost) == 1 else "were"
        message = (
            f"multilayer: error: {name_jobs(lost)} {were} taken over by another worker, since "
            f"this process had shown no sign of life for {silent:.0f} s: it ends without writing "
            "anything more; the same command goes on"
        )
        with suppress(OSError):
            os.write(_STDERR, f"{message}\n".encode())
        os._exit(_RUN_FAILED)


def _now() -> float:
    """The time by this machine's clock: for people, and compared with nothing."""
    return round(time(), 3)


def _ended(number: int, attempt: int, outcome: Outcome) -> dict[str, Any]:
    """The line for a job that ended; JSON has no NaN and no infinity."""
    value = None if outcome.value is None else float(outcome.value)
    is_written = value is None or isfinite(value)
    return {
        "ended": [number, attempt],
        "state": outcome.state,
        "value": value if is_written else str(value),
        "seconds": outcome.seconds and round(outcome.seconds, 3),
        "error": outcome.error.partition("\n")[0],
        "at": _now(),
    }


def read_outcome(line: Mapping[str, Any]) -> Outcome:
    """How a job ended, from its line; raises what a wrong line does."""
    value, seconds = line["value"], line["seconds"]
    return Outcome(
        line["state"],
        None if value is None else float(value),
        None if seconds is None else float(seconds),
        str(line["error"]),
    )
