"""How long a worker may count on its claims: one that was silent for long looks before it writes.

A worker shows that it lives by touching its file. Where that is not seen for `dead_after`, as while
a laptop sleeps or a network's file system hangs, others take its jobs over. It may live, though,
and two processes must not write to one run folder. So it writes nothing unless it has touched its
file within half of that time, or has looked since whether its jobs are still its own. What remains
is one that stands still between that look and the end of the call that writes.
"""

import os
import time
from pathlib import Path
from threading import Lock

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that goes on while the machine sleeps; Linux's other one stops."""

_SECONDS_IN_DOUBT = 1.0
"""How long it may count on them after it was silent for long: someone may take its jobs over who
had found it dead just before."""


class Lease:
    """How long a worker may count on its claims.

    Args:
        file: The worker's, which was just written.
        dead_after: Seconds after which it counts as dead if it does not touch the file.

    Attributes:
        silent: For how many seconds it had not touched the file, when it last was in doubt.
    """

    def __init__(self, file: Path, dead_after: float) -> None:
        self.file = file
        self.silent = 0.0
        self._dead_after = dead_after
        self._sure_until = _now() + dead_after / 2
        self._in_doubt_until = 0.0
        self._lock = Lock()

    def is_sure(self) -> bool:
        """Whether nobody can have taken its jobs over yet."""
        return _now() < self._sure_until

    def renew(self) -> bool:
        """Touch the file, by the clock of its file system, which all hosts share.

        Returns:
            Whether its jobs may have been taken over.

        Raises:
            OSError: The file cannot be touched.
        """
        with self._lock:  # a thread that finds the file just touched knows what the other found
            now, before = _now(), self.file.stat().st_mtime
            os.utime(self.file)
            silent = self.file.stat().st_mtime - before
            if silent > self._dead_after / 2:
                self.silent, self._in_doubt_until = silent, now + self._dead_after
            is_in_doubt = now < self._in_doubt_until
            self._sure_until = now + (_SECONDS_IN_DOUBT if is_in_doubt else self._dead_after / 2)
            return is_in_doubt


def _now() -> float:
    """The time, in seconds since some moment."""
    return time.clock_gettime(_CLOCK)
