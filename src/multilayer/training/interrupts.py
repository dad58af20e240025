"""Interrupts that wait until no step is half done, and a stack's members are in step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
_SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]

_came: list[tuple[int, FrameType | None, Any]] = []
"""The signal that came, the frame that it came in, and what handles it; empty if none did."""


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Within it Ctrl-C, SIGTERM and SIGHUP wait for `raise_interrupts`, but no second Ctrl-C."""
    if current_thread() is not main_thread():
        yield
        return
    usual = {number: signal.getsignal(number) for number in _SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        handler = usual[number]
        if _came and number == signal.SIGINT:
            handler(number, frame)  # type: ignore[misc,operator]
        _came.append((number, frame, handler))

    for number, handler in usual.items():
        if callable(handler):
            signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in usual.items():
            if signal.getsignal(number) is note:  # a handler may have set another
                signal.signal(number, handler)
        raise_interrupts()


def raise_interrupts() -> None:
    """Do what a signal does that came within `interrupts_deferred`."""
    came, _came[:] = _came[:], []
    for number, frame, handler in came[:1]:
        handler(number, frame)
