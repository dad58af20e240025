"""What Lightning does in each training step although nobody needs it, left out."""

import pytorch_lightning as pl

HOOKS_OF_A_STEP = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
"""The hooks that Lightning calls in each training step."""


class NoStepHooks(pl.Callback):
    """A Lightning callback whose hooks of a step take no time, except those a subclass writes.

    Lightning calls them though they are empty: six, for each callback and step, take 20 us, and a
    step of a small network takes 500.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Hide the empty hooks."""
        super().setup(trainer, pl_module, stage)
        hide_hooks_of_a_step(self, pl.Callback)


def hide_hooks_of_a_step(callback: pl.Callback, kind: type[pl.Callback]) -> None:
    """Have Lightning skip the hooks of a step that a callback has as they are in `kind`.

    Lightning skips what cannot be called. The class keeps them, for subclasses that call `super()`.
    """
    for hook in HOOKS_OF_A_STEP:
        vars(callback).pop(hook, None)
        if getattr(type(callback), hook) is getattr(kind, hook):
            setattr(callback, hook, None)
