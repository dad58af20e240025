"""Ctrl-C and SIGTERM: both end a run so that it can be resumed."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType
from typing import NoReturn


class Terminated(KeyboardInterrupt):
    """SIGTERM: as a cluster's scheduler, `timeout` and `kill` end a program.

    All that saves a run after Ctrl-C saves it after this too.
    """


def terminate(signum: int, frame: FrameType | None) -> NoReturn:
    """Raise, once: `timeout` and schedulers send the signal twice."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within it SIGTERM raises `Terminated`, where Python would end without a word."""
    if current_thread() is not main_thread():  # Python has signals in the main thread alone
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def in_words(interrupt: KeyboardInterrupt) -> str:
    """What ended the command, and how to go on."""
    by_whom = " by SIGTERM" if isinstance(interrupt, Terminated) else ""
    return "\n".join([f"interrupted{by_whom}", *getattr(interrupt, "__notes__", ())])


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """What a shell says of a program that the signal ended."""
    signum = signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT
    return 128 + signum


def behind_exit(error: SystemExit) -> BaseException:
    """The interrupt that Lightning has turned into an exit; the exit itself where there is none."""
    context = error.__context__
    return context if isinstance(context, KeyboardInterrupt) else error
