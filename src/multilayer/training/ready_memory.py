"""Memory that stays ready between the steps of a stack."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

LARGEST_KEPT_BLOCK = 2**25 - 2**12
"""Bytes: a little below glibc's bound on what it learns from (DEFAULT_MMAP_THRESHOLD_MAX)."""


@contextmanager
def ready_memory() -> Iterator[None]:
    """Keep Python and the C library from tidying up between steps.

    A step takes and gives back a few megabytes. glibc returns such blocks to the system and has
    them filled with zeros again each time, until one block of this size was given back; that alone
    took up to half of a step. Python's garbage collector went through all that was imported, unless
    a command has set that apart (`multilayer.training.garbage`). What building the stack has left
    free goes back first.
    """
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # glibc's; musl has none
    torch.empty(LARGEST_KEPT_BLOCK, dtype=torch.uint8)
    gc.collect()
    is_set_apart = gc.get_freeze_count() > 0
    if not is_set_apart:
        gc.freeze()
    try:
        yield
    finally:
        if not is_set_apart:
            gc.unfreeze()
