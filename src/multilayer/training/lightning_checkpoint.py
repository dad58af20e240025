"""Lightning's part of a checkpoint, for runs that no Trainer trains.

A run of a stack can then be resumed by a Trainer. tests/training/test_lightning_checkpoint.py
compares with what a Trainer writes.
"""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

Moves = Literal["step", "epoch", "metric"]
"""What moves a schedule."""

_NAMES = ("ready", "completed", "started", "processed")


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        epoch: the whole epochs that it has trained, the one that ends now included.
        step: the optimizer steps so far.
        n_batches: the minibatches of an epoch.
        n_within: the minibatches of an unfinished epoch; 0 between epochs.
        n_validation: the minibatches of a validation.
        ends_epoch: whether an epoch ends now: its last hooks are being called.
        moves: what moves the schedule.
    """

    epoch: int
    step: int
    n_batches: int
    n_within: int
    n_validation: int
    ends_epoch: bool
    moves: Moves


def lightning_entries(progress: Progress, loader: dict[str, int]) -> dict[str, Any]:
    """What a `pytorch_lightning.Trainer` writes besides weights, optimizers and callbacks.

    Args:
        progress: how far the run has come.
        loader: the state of the training minibatches.
    """
    return {
        "epoch": progress.epoch - progress.ends_epoch,
        "global_step": progress.step,
        "pytorch-lightning_version": _lightning_version(),
        "loops": {
            "fit_loop": _fit_loop(progress, loader),
            **{name: _evaluation_loop(0) for name in ("validate_loop", "test_loop")},
            "predict_loop": {"state_dict": {}, "batch_progress": _counts(0, 0)},
        },
    }


@cache
def _lightning_version() -> str:
    """The version whose structure this is."""
    return version("pytorch-lightning")


def _fit_loop(progress: Progress, loader: dict[str, int]) -> dict[str, Any]:
    """The state of a Trainer's `fit_loop`."""
    within, step, whole = progress.n_within, progress.step, progress.epoch
    current = within or (progress.n_batches if whole else 0)
    ended = not within and whole > 0
    optimizer = {
        "step": _counts(step, current, _NAMES[:2]),
        "zero_grad": _counts(step, current, _NAMES[:3]),
    }
    moves = {
        "step": (step, current),
        "epoch": (whole, int(ended)),
        "metric": (0, 0),  # the module moves it, not Lightning
    }[progress.moves]
    epochs = _counts(whole + (within > 0), whole + (within > 0))
    for counts in epochs.values():
        counts["completed"] = whole - progress.ends_epoch
        counts["processed"] = whole
    validated = progress.n_validation if whole else 0
    return {
        "state_dict": {"combined_loader": [loader]},
        "epoch_loop.state_dict": {"_batches_that_stepped": step},
        "epoch_loop.batch_progress": _counts(step, current) | {"is_last_batch": ended},
        "epoch_loop.scheduler_progress": _counts(*moves, _NAMES[:2]),
        "epoch_loop.automatic_optimization.state_dict": {},
        "epoch_loop.automatic_optimization.optim_progress": {"optimizer": optimizer},
        "epoch_loop.manual_optimization.state_dict": {},
        "epoch_loop.manual_optimization.optim_step_progress": _counts(0, 0, _NAMES[:2]),
        "epoch_loop.val_loop.state_dict": {},
        # A new epoch sets the total to 0, and leaves the rest as it was.
        "epoch_loop.val_loop.batch_progress": _counts(validated * ended, validated)
        | {"is_last_batch": whole > 0},
        "epoch_progress": epochs,
    }


def _evaluation_loop(n: int) -> dict[str, Any]:
    """The state of a loop that evaluates."""
    return {"state_dict": {}, "batch_progress": _counts(n, n) | {"is_last_batch": False}}


def _counts(total: int, current: int, names: tuple[str, ...] = _NAMES) -> dict[str, dict[str, int]]:
    """A progress of Lightning's whose counts are all the same."""
    return {"total": dict.fromkeys(names, total), "current": dict.fromkeys(names, current)}
