"""Callbacks that have nothing to do within an epoch cost nothing there."""

from typing import TypeVar

import pytorch_lightning as pl

Callbacks = TypeVar("Callbacks", bound=pl.Callback | type[pl.Callback])

HOOKS_OF_A_STEP = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def epochs_only(callbacks: Callbacks) -> Callbacks:
    """Take the hooks of a step from a callback, or from a class of them as its decorator.

    Lightning calls them though they are empty: six, for each callback and step, take 20 us, and a
    step of a small network takes 500. It passes over a hook that cannot be called.
    """
    for hook in HOOKS_OF_A_STEP:
        setattr(callbacks, hook, None)
    return callbacks
