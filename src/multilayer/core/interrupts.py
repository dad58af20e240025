"""Ctrl-C, SIGTERM and SIGHUP: each ends a run so that it can be resumed."""

import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import current_thread, main_thread
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))  # Windows has no SIGHUP


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler, `timeout` and `kill` end a program, or SIGHUP, of a lost terminal.

    All that saves a run after Ctrl-C saves it after these too.
    """

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signal = signal.Signals(signum)


def terminate(signum: int, frame: FrameType | None) -> NoReturn:
    """Raise, once: `timeout` and schedulers send the signal twice."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    leave_lost_terminal()
    raise Terminated(signum)


def leave_lost_terminal() -> None:
    """Print nowhere where the terminal is gone: an error of printing would end all saving."""
    for stream in (1, 2):
        with suppress(OSError):  # it may be closed
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


@contextmanager
def signals_raise() -> Iterator[None]:
    """Within it the signals raise `Terminated`, where Python would end without a word.

    Those that are ignored stay so: `nohup` lets a run outlive its terminal.
    """
    if current_thread() is not main_thread():  # Python has signals in the main thread alone
        yield
        return
    before = {each: signal.getsignal(each) for each in SIGNALS}
    for each, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(each, terminate)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def in_words(interrupt: KeyboardInterrupt) -> str:
    """What ended the command, and how to go on."""
    by_whom = f" by {interrupt.signal.name}" if isinstance(interrupt, Terminated) else ""
    return "\n".join([f"interrupted{by_whom}", *getattr(interrupt, "__notes__", ())])


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """What a shell says of a program that the signal ended."""
    return 128 + (interrupt.signal if isinstance(interrupt, Terminated) else signal.SIGINT)


def behind_exit(error: SystemExit) -> BaseException:
    """The interrupt that Lightning has turned into an exit; the exit itself where there is none."""
    context = error.__context__
    return context if isinstance(context, KeyboardInterrupt) else error
