"""What is logged in a fit: writing it for all who look, and reading it back."""

from collections.abc import Mapping
from math import isnan

import pytorch_lightning as pl
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.core.metric_names import NEEDED


def is_fitting(trainer: pl.Trainer) -> bool:
    """Whether a validation belongs to a fit, and is not the check before it."""
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def log_in_fit(trainer: pl.Trainer, values: dict[str, Tensor]) -> None:
    """Do what Lightning's `log_dict` does in a fit, at an epoch's end.

    Lightning takes 0.3 ms for each value, which for ten of them is a tenth of an epoch of 1,257
    rows: it prepares to accumulate them over minibatches and processes.
    """
    if trainer.sanity_checking or not values:
        return
    trainer.callback_metrics.update(values)
    trainer.logged_metrics.update(values)
    scalars = defined(values)
    for logger in trainer.loggers:
        logger.log_metrics({**scalars, "epoch": trainer.current_epoch}, trainer.global_step - 1)
        logger.save()


def defined(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The values as numbers, without metrics that are not defined for the rows."""
    numbers = {name: float(value) for name, value in values.items()}
    return {
        name: value
        for name, value in numbers.items()
        if not (isnan(value) and NEEDED.keys() & name.split("/"))
    }


def monitored(trainer: pl.Trainer, monitor: str) -> float:
    """The current value of a logged metric.

    Raises `UserError` for one that is not logged, with the names of those that are.
    """
    if monitor not in trainer.callback_metrics:
        raise UserError(
            f"no metric {monitor!r} to monitor; logged are "
            f"{', '.join(sorted(trainer.callback_metrics))}"
        )
    return float(trainer.callback_metrics[monitor])
