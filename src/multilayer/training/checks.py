"""Checks of a whole training before it starts: each mistake is one message."""

from typing import Any, cast

import pytorch_lightning as pl
from torch import nn

from multilayer.core.errors import UserError, did_you_mean
from multilayer.core.metric_names import MORE_IS_BETTER, NEEDED
from multilayer.data import DataModule
from multilayer.data.batches import BatchIterator
from multilayer.data.split import Split
from multilayer.nn.losses import Task
from multilayer.nn.metrics import METRICS, is_defined
from multilayer.training.factory import limited_batches, steps_per_epoch
from multilayer.training.lightning_adapter import unwrapped


def check_validations(
    config: dict[str, Any], trainer: pl.Trainer, data: DataModule, n_steps: int
) -> None:
    """Check that a training is validated at least once if a callback or a schedule relies on it.

    A training that `max_steps` ends within its first epoch is accepted: it may be resumed.

    Args:
        config: the run's config.
        trainer: the trainer, with its callbacks.
        data: the data.
        n_steps: the optimizer steps of the whole training.

    Raises:
        UserError: It would never be validated.
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
    items = map(unwrapped, callbacks)
    waiting = [type(item).__name__ for item in items if _waits_for_validation(item)]
    if config["scheduler"]["scheduler"]["_target_"].endswith("ReduceLROnPlateau"):
        waiting.append("scheduler=plateau")
    if waiting and every > 1 and n_epochs < every:
        raise UserError(
            f"trainer.check_val_every_n_epoch={every}: a training of {n_epochs:.4g} epochs is "
            f"never validated, and {', '.join(waiting)} would wait for it; give "
            f"{max(1, int(n_epochs))} at most, or train longer"
        )


def _waits_for_validation(callback: Any) -> bool:
    """Whether a callback does nothing before the first validation."""
    is_theirs = isinstance(callback, pl.callbacks.EarlyStopping)
    return is_theirs or getattr(callback, "waits_for_validation", False)


def check_batch_normalization(network: nn.Module, minibatches: BatchIterator) -> None:
    """Raise `UserError` for a minibatch of one row; torch would in the middle of an epoch."""
    normalizes = any(isinstance(layer, nn.BatchNorm1d) for layer in network.modules())
    n_rows, batch_size = minibatches.n_rows, minibatches.batch_size
    if normalizes and (batch_size == 1 or n_rows % batch_size == 1):
        raise UserError(
            f"data.batch_size={batch_size}: of {n_rows} rows a minibatch has only one, and batch "
            "normalization needs 2; choose another size, or model.normalization=layer"
        )


def check_monitor(monitor: str, mode: str, task: Task, data: DataModule) -> None:
    """Check that a metric can decide which epoch is best.

    Args:
        monitor: the metric, as `SPLIT/NAME`.
        mode: "min" or "max".
        task: the task of the data.
        data: the data.

    Raises:
        UserError: The metric is not logged, is not defined for the rows, or `mode` contradicts it.
    """
    names = ("loss", *METRICS[task])
    logged = [f"{split}/{name}" for split in ("train", "validation") for name in names]
    if monitor not in logged:
        raise UserError(f"monitor={monitor}: no such metric, {did_you_mean(monitor, logged)}")
    more_is_better = monitor.rpartition("/")[2] in MORE_IS_BETTER
    if more_is_better != (mode == "max"):
        raise UserError(
            f"mode={mode}: of {monitor} {'more' if more_is_better else 'less'} is better"
        )
    split, _, name = monitor.partition("/")
    target = data.targets[data.rows[cast(Split, split)]]
    if name in NEEDED and not is_defined(name, task, target, len(data.columns.classes)):
        raise UserError(
            f"monitor={monitor}: it is not defined for the {len(target)} {split} rows, since "
            f"{NEEDED[name]}; use monitor={split}/loss mode=min"
        )
