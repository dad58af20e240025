"""What a training that goes on loads: its checkpoint, with the numbers that its config now says."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loops.loop import _Loop
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from multilayer.build import make_optimizer
from multilayer.errors import UserError
from multilayer.modules import SupervisedModule
from multilayer.resumption import CUTS_EPOCHS, Resumed
from multilayer.runs.checkpoint_file import CheckpointFiles
from multilayer.runs.training_state import check_training_state

Config = dict[str, Any]

SETS_RATE = (
    "optimizer",
    "scheduler",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.precision",
    "trainer.gradient_clip_val",
    *CUTS_EPOCHS,
)
"""What the numbers of the optimizer follow from, its rate among them."""

COUNTED = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_step_count")
"""What a schedule that follows a metric has seen; the rest is as its config says."""


class LoadedCheckpoint(CheckpointFiles):
    """Gives Lightning a checkpoint that was read, checked and adapted already."""

    def __init__(self, checkpoint: dict[str, Any]) -> None:
        self.checkpoint = checkpoint

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The checkpoint, whatever the path."""
        return self.checkpoint


def load(resumed: Resumed, config: Config, module: SupervisedModule, trainer: pl.Trainer) -> None:
    """Have a trainer go on from a checkpoint, with what has changed in the config.

    Raises:
        UserError: where the data is other data, or the optimizer cannot go on with its new numbers.
    """
    about = resumed.checkpoint["multilayer"]
    if about["data_fingerprint"] != module.about["data_fingerprint"]:
        raise UserError(f"resume: {resumed.path} was trained on other data; give it as it was")
    checkpoint = dict(resumed.checkpoint)
    known = {callback.state_key for callback in trainer.callbacks}  # type: ignore[attr-defined]
    checkpoint["callbacks"] = {
        key: state for key, state in checkpoint["callbacks"].items() if key in known
    }
    if resumed.has_changed(SETS_RATE):
        check_step(resumed.before, config)
        checkpoint |= with_new_numbers(resumed, config, module)
    check_training_state(checkpoint, module, trainer)
    trainer.strategy.checkpoint_io = LoadedCheckpoint(checkpoint)
    if resumed.n_steps_within is None:
        begin_next_epoch(trainer)


def begin_next_epoch(trainer: pl.Trainer) -> None:
    """Have the loops begin with a new epoch once they are restored.

    Lightning takes every training with `max_steps` for one that was interrupted within an epoch,
    and would count one more in which nothing is trained.
    """
    loop = trainer.fit_loop
    restore = loop.load_state_dict

    def restore_at_end_of_epoch(*args: Any) -> None:
        restore(*args)
        _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]

    vars(loop)["load_state_dict"] = restore_at_end_of_epoch


def check_step(before: Config, now: Config) -> None:
    """Raise `UserError` where the optimizer needs what it has not gathered, as for `amsgrad`."""
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.ones(1)
    old: Optimizer = make_optimizer(before)([parameter])
    old.step()
    new: Optimizer = make_optimizer(now)([parameter])
    state = old.state_dict()
    state["param_groups"] = new.state_dict()["param_groups"]
    try:
        new.load_state_dict(state)
        new.step()
    except (KeyError, IndexError, RuntimeError, TypeError) as error:
        was = before["optimizer"]
        changed = {key: each for key, each in now["optimizer"].items() if each != was.get(key)}
        keys = ", ".join(f"optimizer.{key}={value}" for key, value in changed.items())
        raise UserError(
            f"{keys}: the optimizer has not gathered what it needs for it ({error}); leave it out, "
            "or train a new run without resume"
        ) from error


def with_new_numbers(resumed: Resumed, config: Config, module: SupervisedModule) -> dict[str, Any]:
    """The states of optimizer and schedule as they would be, had the config always been so.

    The schedule is gone through anew up to here. One that follows a metric keeps what it has seen,
    and the share of the rate that it has come down to.

    Raises `UserError`.
    """
    made: Any = module.configure_optimizers()
    schedule = made["lr_scheduler"]["scheduler"]
    optimizer, checkpoint = made["optimizer"], resumed.checkpoint
    (saved,), (saved_schedule,) = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
    if len(saved["param_groups"]) != len(optimizer.param_groups):
        raise UserError("optimizer: it has other groups of weights than the run to go on from")
    if not isinstance(schedule, ReduceLROnPlateau):
        by_step = config["scheduler"]["interval"] == "step"
        go_through(schedule, resumed.n_steps if by_step else resumed.n_epochs)
        state = schedule.state_dict()
    elif resumed.before["scheduler"]["_target_"] == config["scheduler"]["_target_"]:
        state = follow(schedule, saved["param_groups"], saved_schedule, resumed.before)
    else:
        state = schedule.state_dict()
    groups = [
        old | {key: value for key, value in new.items() if key != "params"}
        for old, new in zip(saved["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {
        "optimizer_states": [{**saved, "param_groups": deepcopy(groups)}],
        "lr_schedulers": [state],
    }


def go_through(schedule: Any, n: int) -> None:
    """Move a schedule on so many times.

    Raises `UserError` where it is shorter.
    """
    with warnings.catch_warnings():
        # Nothing is learnt in between.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        try:
            for _ in range(n):
                schedule.step()
        except ValueError as error:
            raise UserError(f"scheduler: it ends before step {n}: {error}") from error


def follow(
    schedule: ReduceLROnPlateau,
    groups: Sequence[dict[str, Any]],
    saved: dict[str, Any],
    before: Config,
) -> dict[str, Any]:
    """The state of a schedule that follows a metric, after what it has seen; sets its rates."""
    rate_before = before["optimizer"].get("lr")
    ours = schedule.optimizer.param_groups
    for new, old, least in zip(ours, groups, schedule.min_lrs, strict=True):
        share = old["lr"] / rate_before if rate_before else 1.0
        new["lr"] = max(new["lr"] * share, least)
    seen = {key: saved[key] for key in COUNTED if key in saved}
    return {**schedule.state_dict(), **seen, "_last_lr": [group["lr"] for group in ours]}
