"""Trainings that would never be validated, though something waits for it."""

from typing import Any

import pytorch_lightning as pl

from multilayer.core.errors import UserError
from multilayer.data import DataModule
from multilayer.training.factory import limited_batches, steps_per_epoch


def check_validations(
    config: dict[str, Any], trainer: pl.Trainer, data: DataModule, n_steps: int
) -> None:
    """Refuse, before the start, a validation that never comes; n_steps: of the whole training.

    One that ends by `max_steps` within its first epoch is let through: it may go on later.

    Raises `UserError`.
    """
    limits, n_batches = config["trainer"], len(data.train_minibatches())
    limited_batches(limits, len(data.minibatches("validation")), "limit_val_batches")
    interval, n_limited = limits.get("val_check_interval"), limited_batches(limits, n_batches)
    if isinstance(interval, int) and interval > n_limited:
        raise UserError(
            f"trainer.val_check_interval={interval}: an epoch has only {n_limited} minibatches"
        )
    every = limits["check_val_every_n_epoch"]
    n_epochs = n_steps / steps_per_epoch(limits, n_batches)
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    waiting = [type(item).__name__ for item in callbacks if waits_for_validation(item)]
    if config["scheduler"]["_target_"].endswith("ReduceLROnPlateau"):
        waiting.append("scheduler=plateau")
    if waiting and every > 1 and n_epochs < every:
        raise UserError(
            f"trainer.check_val_every_n_epoch={every}: a training of {n_epochs:.4g} epochs is "
            f"never validated, and {', '.join(waiting)} would wait for it; give "
            f"{max(1, int(n_epochs))} at most, or train longer"
        )


def waits_for_validation(callback: pl.Callback) -> bool:
    """Whether a callback does nothing before the first validation."""
    is_theirs = isinstance(callback, pl.callbacks.EarlyStopping)
    return is_theirs or getattr(callback, "waits_for_validation", False)
