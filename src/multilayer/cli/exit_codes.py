"""How the command ends: its exit codes, and Ctrl-C, SIGTERM and SIGHUP.

Each of these signals ends a run in such a way that it can be resumed.
"""

import os
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import current_thread, main_thread
from types import FrameType
from typing import NoReturn

from multilayer.core.errors import Terminated, UserError

DONE = 0
RUN_FAILED = 1
BAD_INPUT = 2

MEANINGS = f"""\
  {DONE} done, {RUN_FAILED} the run failed or diverged, {BAD_INPUT} mend the input or the disk
  of a sweep: {RUN_FAILED} a job failed; one that diverged has ended, and is no failure
  130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP
"""

_SIGNALS = (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))  # Windows has no SIGHUP


_POLL_SECONDS = 0.02
"""How often it is looked whether an import has ended for whose end a signal waits."""


def exit_code_of(error: BaseException) -> int:
    """The exit code of a command that ends with an error or an interrupt.

    After an interrupt it is the one by which a shell reports that a signal ended the program.

    >>> exit_code_of(UserError()), exit_code_of(OSError()), exit_code_of(KeyboardInterrupt())
    (2, 1, 130)
    """
    if isinstance(error, KeyboardInterrupt):
        return 128 + (error.signal if isinstance(error, Terminated) else signal.SIGINT)
    return BAD_INPUT if isinstance(error, UserError) else RUN_FAILED


def _terminate(signum: int) -> NoReturn:
    """Raise `Terminated`, once: `timeout` and schedulers send the signal twice."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    _leave_lost_terminal()
    raise Terminated(signum)


def _leave_lost_terminal() -> None:
    """Discard output if the terminal is gone: an error from printing would prevent the saving."""
    for stream in (1, 2):
        with suppress(OSError):  # it may be closed
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


@contextmanager
def signals_raise() -> Iterator[None]:
    """Raise `Terminated` on the signals, where Python would end silently.

    Ignored signals stay ignored: `nohup` lets a run outlive its terminal. While modules are
    imported, these signals and Ctrl-C wait; see `_Imports`.
    """
    if current_thread() is not main_thread():  # Python handles signals only in the main thread
        yield
        return
    imports = _Imports()

    def end(signum: int, frame: FrameType | None) -> None:
        if imports.defer(signum, frame):
            return
        if signum == signal.SIGINT:
            signal.default_int_handler(signum, frame)
        _terminate(signum)

    before = {each: signal.getsignal(each) for each in (*_SIGNALS, signal.SIGINT)}
    for each, handler in before.items():
        usual = signal.default_int_handler if each == signal.SIGINT else handler
        if handler is usual is not signal.SIG_IGN:
            signal.signal(each, end)
    try:
        yield
    finally:
        imports.forget()
        for each, handler in before.items():
            signal.signal(each, handler)


class _Imports:
    """Has a signal wait until no module is half imported.

    torch imports NumPy from C, and discards what is raised there: the signal was lost, and NumPy
    lacked functions from then on.
    """

    def __init__(self) -> None:
        self._n_before = _n_imports(sys._getframe())
        self._waiting: int | None = None

    def defer(self, signum: int, frame: FrameType | None) -> bool:
        """Whether a signal does nothing now, and comes again after an import.

        A second Ctrl-C does not wait. Neither does any where the system has no timers (Windows), or
        another handler for them.
        """
        if self._waiting is not None:
            if signum == signal.SIGINT:
                self.forget()
            return self._waiting is not None
        if not (self._is_importing(frame) and _has_free_timer()):
            return False
        self._waiting = signum
        # A thread that waits could send it just before this one begins to sleep, unseen.
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, _POLL_SECONDS, _POLL_SECONDS)
        return True

    def forget(self) -> None:
        """Let no signal wait any more."""
        if self._waiting is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            self._waiting = None

    def _look(self, _: int, frame: FrameType | None) -> None:
        """Handle the signal that waits, if nothing is imported."""
        if self._waiting is not None and not self._is_importing(frame):
            signum = self._waiting
            self.forget()
            handler = signal.getsignal(signum)  # it may be another by now, which waits for a step
            if callable(handler):
                handler(signum, frame)

    def _is_importing(self, frame: FrameType | None) -> bool:
        """Whether an import has begun since, and has not ended."""
        return _n_imports(frame) > self._n_before


def _has_free_timer() -> bool:
    """Whether the system has timers, and nothing uses the one that there is."""
    number = getattr(signal, "SIGALRM", None)
    return number is not None and signal.getsignal(number) == signal.SIG_DFL


def _n_imports(frame: FrameType | None) -> int:
    """How many frames of Python's import system a stack has."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename.startswith("<frozen importlib._bootstrap")
        frame = frame.f_back
    return count


def describe_interrupt(interrupt: KeyboardInterrupt) -> str:
    """What ended the command, and how to continue."""
    by_whom = f" by {interrupt.signal.name}" if isinstance(interrupt, Terminated) else ""
    return "\n".join([f"interrupted{by_whom}", *getattr(interrupt, "__notes__", ())])
