"""Writes the files of runs in threads, while their stack trains on."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from multilayer.lockstep.member import Member

_N_THREADS = 4
"""Each file waits for the disk, and others can be written meanwhile."""

_MOST_BYTES = 2**26
"""Bytes that may wait to be written; whoever hands in more waits until less are left."""


class Writer:
    """Writes the files of each run one after the other, in the order in which they were handed in.

    What one of a run's files raises ends that run alone: see `failures`.

    Attributes:
        failed: the runs of which a file could not be written.
    """

    def __init__(self) -> None:
        self.threads = [ThreadPoolExecutor(1, f"writer {i}") for i in range(_N_THREADS)]
        self.waiting: deque[tuple[Future[None], Member, int]] = deque()
        self.turns: dict[Member, int] = {}
        self.n_bytes = 0
        self.found: dict[Member, Exception] = {}
        self.failed: set[Member] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write all that was handed in, also after an error."""
        for thread in self.threads:
            thread.shutdown()

    def submit(self, member: Member, write: Callable[[], None], n_bytes: int = 0) -> Future[None]:
        """Have something written.

        Args:
            member: the run whose file it is.
            write: writes it.
            n_bytes: how much memory it holds until then.

        Returns:
            What to wait for.
        """
        turn = self.turns.setdefault(member, len(self.turns))  # hashes of objects are alike
        thread = self.threads[turn % _N_THREADS]
        future = thread.submit(self._write, member, write)
        self.waiting.append((future, member, n_bytes))
        self.n_bytes += n_bytes
        while self.n_bytes > _MOST_BYTES:
            self._take_first()
        while self.waiting and self.waiting[0][0].done():
            self._take_first()
        return future

    def failures(self) -> dict[Member, Exception]:
        """What was raised since the last call, by run; the first for each."""
        while self.waiting and self.waiting[0][0].done():
            self._take_first()
        found, self.found = self.found, {}
        return found

    def finish(self) -> dict[Member, Exception]:
        """Wait until all is written; returns what was raised, as `failures` does."""
        wait([future for future, *_ in self.waiting])
        return self.failures()

    def _write(self, member: Member, write: Callable[[], None]) -> None:
        """Write, in the member's thread."""
        try:
            write()
        except BaseException:
            self.failed.add(member)
            raise

    def _take_first(self) -> None:
        """Wait for what was handed in first, and note what it raised."""
        future, member, n_bytes = self.waiting.popleft()
        self.n_bytes -= n_bytes
        error = future.exception()
        if isinstance(error, Exception):
            self.found.setdefault(member, error)
        elif error is not None:
            raise error
