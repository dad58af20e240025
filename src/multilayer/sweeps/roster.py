"""The workers of a sweep: their files, and which of them are alive."""

import os
from collections.abc import Iterator
from pathlib import Path
from time import time

from multilayer.core.errors import UserError
from multilayer.sweeps.job import WorkerInfo
from multilayer.sweeps.journal import GrowingFile, Line, damaged
from multilayer.sweeps.process import is_running


class Roster:
    """The workers of a sweep, as far as their files were read.

    Args:
        folder: The ledger's.
        dead_after: Seconds after which a worker that has not touched its file counts as dead.
        only: The one worker whose file is read; None for all.
        touches: Whether a file may be touched to learn the time.

    Attributes:
        workers: By their names.
    """

    def __init__(
        self, folder: Path, dead_after: float, *, only: str | None = None, touches: bool = True
    ) -> None:
        self.folder = folder / "workers"
        self.dead_after = dead_after
        self.only = only
        self.touches = touches
        self.workers: dict[str, WorkerInfo] = {}
        self._clock = folder / "clock"
        self._open: dict[str, GrowingFile] = {}
        self._processes: dict[str, Line] = {}
        self._claims: dict[Path, WorkerInfo] = {}

    def file(self, name: str) -> Path:
        """The file of a worker."""
        return self.folder / f"{name}.jsonl"

    def read(self) -> Iterator[tuple[WorkerInfo, Path, int, Line]]:
        """The lines that workers have added, each with its worker, file and number.

        Raises:
            UserError: A file cannot be read, or is damaged.
        """
        for name in self._names():
            if name not in self._processes:
                self._open.setdefault(name, GrowingFile(self.file(name)))
        for name, file in list(self._open.items()):
            worker = self.workers.setdefault(name, WorkerInfo(name))
            for number, line in file.read():
                if number == 1:
                    self._describe(worker, file.path, line)
                elif "closed" in line:
                    worker.is_alive, worker.has_closed = False, True
                    del self._open[name]
                else:
                    yield worker, file.path, number, line
        self._judge()

    def _names(self) -> list[str]:
        """The names of the workers whose files are read."""
        if self.only is not None:
            return [self.only]
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"{self.folder} cannot be read: {error.strerror}") from error
        return [each[:-6] for each in names if each.endswith(".jsonl") and each[0] != "."]

    def _describe(self, worker: WorkerInfo, path: Path, head: Line) -> None:
        """Note which process a worker is."""
        try:
            worker.host, worker.pid = str(head["host"]), int(head["pid"])
            worker.parent, worker.log = (
                None if head.get(key) is None else str(head[key]) for key in ("parent", "log")
            )
            self._processes[worker.name] = {key: head[key] for key in ("machine", "pid", "started")}
        except (LookupError, TypeError, ValueError) as error:
            raise damaged(path, 1, "is damaged: not the head of a worker's file") from error

    def _judge(self) -> None:
        """Find out which workers are alive."""
        if not (self._open or self._claims):
            return
        now = self._now()
        running: dict[str, bool | None] = {}
        for name, file in self._open.items():
            if name in self._processes:
                process = self._processes[name]
                if (key := str(process)) not in running:
                    running[key] = is_running(process)
                known = running[key]
                is_silent = now - file.modified > self.dead_after
                self.workers[name].is_alive = not is_silent if known is None else known
        for path, worker in self._claims.items():
            worker.is_alive = now - path.stat().st_mtime <= self.dead_after

    def owner(self, name: str | None, claim: Path) -> WorkerInfo:
        """The worker that has made a claim.

        Args:
            name: As the claim says; None if the worker was killed before it had said that. Such a
                claim is alive while its file is young.
            claim: The claim's file.
        """
        if name in self.workers:
            return self.workers[name]
        if name is not None and self.file(name).exists():
            return self.workers.setdefault(name, WorkerInfo(name))
        worker = self._claims.setdefault(claim, WorkerInfo("?"))
        worker.is_alive = self._now() - claim.stat().st_mtime <= self.dead_after
        return worker

    def _now(self) -> float:
        """The time by the clock of the file system: those of hosts differ."""
        if not self.touches:
            return time()
        try:
            self._clock.touch()
            return self._clock.stat().st_mtime
        except OSError:  # a folder that this user may only read
            return time()
