"""How the command ends: its exit codes, and Ctrl-C, SIGTERM and SIGHUP.

Each of these signals ends a run in such a way that it can be resumed.
"""

import os
import signal
import stat
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


def exit_code_of(error: BaseException) -> int:
    """The exit code of a command that ends with an error or an interrupt.

    After an interrupt it is the one by which a shell reports that a signal ended the program.

    >>> exit_code_of(UserError()), exit_code_of(OSError()), exit_code_of(KeyboardInterrupt())
    (2, 1, 130)
    """
    if isinstance(error, KeyboardInterrupt):
        return 128 + (error.signal if isinstance(error, Terminated) else signal.SIGINT)
    return BAD_INPUT if isinstance(error, UserError) else RUN_FAILED


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


def describe_interrupt(interrupt: KeyboardInterrupt) -> str:
    """What ended the command, and how to continue."""
    by_whom = f" by {interrupt.signal.name}" if isinstance(interrupt, Terminated) else ""
    return "\n".join([f"interrupted{by_whom}", *getattr(interrupt, "__notes__", ())])
