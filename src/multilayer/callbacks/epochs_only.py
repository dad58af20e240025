"""Callbacks that have nothing to do within an epoch cost nothing there."""

from typing import Any

import pytorch_lightning as pl

HOOKS_OF_A_STEP = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


class EpochsOnly(pl.Callback):
    """A callback whose hooks of a step take no time, but those that a subclass writes.

    Lightning calls them though they are empty: six, for each callback and step, take 20 us, and a
    step of a small network takes 500.
    """

    STATE: tuple[tuple[str, str], ...] = ()
    """What checkpoints hold for a run that is resumed: the name there, and the attribute."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Hide the empty hooks before the training, and begin anew."""
        super().setup(trainer, pl_module, stage)
        hide_hooks_of_a_step(self, pl.Callback)
        if stage == "fit":
            self.reset()

    def reset(self) -> None:
        """Forget the fit before, perhaps another module's; one that is resumed loads its state."""

    def state_dict(self) -> dict[str, Any]:
        """Plain data, for a run that is resumed."""
        return {key: getattr(self, name) for key, name in self.STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the run that is resumed left off."""
        for key, name in self.STATE:
            setattr(self, name, state_dict[key])


def hide_hooks_of_a_step(callback: pl.Callback, kind: type[pl.Callback]) -> None:
    """Let Lightning pass over the hooks of a step that a callback has as they are in `kind`.

    It passes over what cannot be called. The class keeps them, for a subclass that calls `super()`.
    """
    for hook in HOOKS_OF_A_STEP:
        vars(callback).pop(hook, None)
        if getattr(type(callback), hook) is getattr(kind, hook):
            setattr(callback, hook, None)


def is_streamed(trainer: pl.Trainer) -> bool:
    """Whether training rows are read while the network trains: then an epoch may take hours."""
    return getattr(trainer.datamodule, "stream", None) is not None  # type: ignore[attr-defined]
