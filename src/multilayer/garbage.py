"""Keeping Python's garbage collector away from what stays to the end anyway.

torch and what stands on it bring half a million objects. The collector goes through them again and
again while they are imported, which is a quarter of that time, and once more when Python ends,
which takes one to two seconds.
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Import, or compile, without collecting."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def end_quickly() -> None:
    """Leave to the system what is there when Python ends."""
    atexit.register(gc.freeze)
