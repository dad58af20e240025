"""Ctrl-C, SIGTERM and SIGHUP: each ends a run in such a way that it can be resumed."""

import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import current_thread, main_thread
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))  # Windows has no SIGHUP


class Terminated(KeyboardInterrupt):
    """SIGTERM, from a scheduler, `timeout` or `kill`, or SIGHUP, from a lost terminal.

    Whatever saves a run after Ctrl-C also saves it after these.
    """

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signal = signal.Signals(signum)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
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

    Ignored signals stay ignored: `nohup` lets a run outlive its terminal.
    """
    if current_thread() is not main_thread():  # Python handles signals only in the main thread
        yield
        return
    before = {each: signal.getsignal(each) for each in _SIGNALS}
    for each, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(each, _terminate)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def describe(interrupt: KeyboardInterrupt) -> str:
    """What ended the command, and how to continue."""
    by_whom = f" by {interrupt.signal.name}" if isinstance(interrupt, Terminated) else ""
    return "\n".join([f"interrupted{by_whom}", *getattr(interrupt, "__notes__", ())])


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """The code by which a shell reports that a signal ended the program."""
    return 128 + (interrupt.signal if isinstance(interrupt, Terminated) else signal.SIGINT)


def interrupt_behind(error: SystemExit) -> BaseException:
    """The interrupt that Lightning turned into an exit; the exit itself if there is none."""
    context = error.__context__
    return context if isinstance(context, KeyboardInterrupt) else error
