"""Keeping Python's garbage collector away from what stays to the end anyway.

torch and what stands on it bring half a million objects. The collector goes through them again and
again while they are imported, which is a quarter of that time, and once more when Python ends,
which takes one to two seconds.
"""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Import without collecting, and never look through what was imported."""
    was_enabled, n_modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > n_modules:
            gc.freeze()
        if was_enabled:
            gc.enable()


def end_quickly() -> None:
    """Leave to the system what is there when Python ends."""
    atexit.register(gc.freeze)
