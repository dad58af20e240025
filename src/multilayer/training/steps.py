"""How many minibatches an epoch has, and how many optimizer steps a training will take."""

from typing import Any

from multilayer.core.errors import UserError
from multilayer.core.text import counted
from multilayer.runs.config import Config, is_refit


def limited_batches(
    trainer: dict[str, Any], n_batches: int, key: str = "limit_train_batches"
) -> int:
    """The number of minibatches of an epoch that a limit of the trainer leaves.

    Raises:
        UserError: None are left.
    """
    limit = trainer[key]
    n_limited = min(n_batches, limit) if isinstance(limit, int) else int(n_batches * limit)
    if n_limited == 0:
        raise UserError(f"trainer.{key}={limit}: none of {counted(n_batches, 'minibatch')}")
    return n_limited


def steps_per_epoch(trainer: dict[str, Any], n_batches: int) -> int:
    """The optimizer steps of an epoch with `n_batches` minibatches."""
    n_accumulated: int = trainer["accumulate_grad_batches"]
    return -(-limited_batches(trainer, n_batches) // n_accumulated)


def epochs_to_train(config: Config) -> int:
    """The epochs of a whole training that is not stopped: of a refit, fewer than are planned."""
    n_planned: int = config["trainer"]["max_epochs"]
    return min(config["refit"], n_planned) if is_refit(config) else n_planned


def planned_steps(
    trainer: dict[str, Any], n_batches: int, n_epochs: int = 0, n_steps: int = 0
) -> int:
    """The optimizer steps of a whole training.

    Args:
        trainer: the config of the trainer.
        n_batches: the minibatches of an epoch.
        n_epochs: the epochs that a resumed training has behind it.
        n_steps: the steps of these epochs.

    Raises:
        UserError: The training has no planned end.
    """
    n_per_epoch = steps_per_epoch(trainer, n_batches)
    ends: list[int] = []
    if trainer["max_epochs"] not in (None, -1):
        ends.append(n_steps + (trainer["max_epochs"] - n_epochs) * n_per_epoch)
    if trainer["max_steps"] != -1:
        ends.append(int(trainer["max_steps"]))
    if not ends:
        raise UserError("trainer.max_epochs=-1: give trainer.max_steps, or a number of epochs")
    return max(1, min(ends))
