"""What a training that goes on loads: its checkpoint, with the numbers that its config now says."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from math import isclose
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import LearningRateFinder, WeightAveraging
from pytorch_lightning.loops.loop import _Loop
from torch.optim.lr_scheduler import ReduceLROnPlateau

from multilayer.build import has, make_optimizer
from multilayer.errors import UserError
from multilayer.modules import SupervisedModule
from multilayer.resumption import CUTS_EPOCHS, Resumed
from multilayer.runs.checkpoint_file import CheckpointFiles
from multilayer.runs.training_state import check_training_state

Config = dict[str, Any]

SETS_LENGTH = ("trainer.max_epochs", "trainer.max_steps", *CUTS_EPOCHS)
"""What the length of a schedule follows from, where it has one."""

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
    checkpoint |= with_new_numbers(resumed, config, module)
    search_no_more(config, trainer)
    check_still_averaged(resumed, trainer)
    try:
        check_training_state(checkpoint, module, trainer)
    except UserError as error:
        changed = ", ".join(sorted(key for key in resumed.changed if key.startswith("optimizer.")))
        if changed and "optimizer_states" in str(error):
            raise UserError(f"{changed}: leave it as it was; {error}") from error
        raise
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


def search_no_more(config: Config, trainer: pl.Trainer) -> None:
    """Leave the rate that was found before the training began: the checkpoint has it.

    Raises `UserError` for a batch size that was found: no checkpoint has that.
    """
    for name, node in config["callbacks"].items():
        if node and str(node["_target_"]).endswith(".BatchSizeFinder"):
            raise UserError(
                f"callbacks.{name}: a batch size is searched before a training begins; give "
                f"~callbacks.{name} and the size that was found as data.batch_size=SIZE"
            )
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:] = [each for each in callbacks if not isinstance(each, LearningRateFinder)]


def check_still_averaged(resumed: Resumed, trainer: pl.Trainer) -> None:
    """Raise `UserError` where averaged weights would be trained on: they are the checkpoint's."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    if "current_model_state" not in resumed.checkpoint or has(callbacks, WeightAveraging):
        return
    names = [
        f"callbacks.{name}"
        for name, node in resumed.before["callbacks"].items()
        if node and node["_target_"].endswith("WeightAveraging")
    ]
    raise UserError(
        f"{', '.join(names) or 'callbacks'}: {resumed.path} holds averaged weights, which only the "
        "callback that averaged them can go on from; keep it"
    )


def with_new_numbers(resumed: Resumed, config: Config, module: SupervisedModule) -> dict[str, Any]:
    """The states of optimizer and schedule with the numbers that the config says otherwise now.

    All else stays as it is in the checkpoint: a callback may have moved it. Where the schedule, its
    rate or its length is another, it is gone through anew up to here. One that follows a metric
    keeps what it has seen, and the share of the rate that it has come down to.

    Raises `UserError`.
    """
    made: Any = module.configure_optimizers()
    (saved,), (schedule_state,) = (
        resumed.checkpoint["optimizer_states"],
        resumed.checkpoint["lr_schedulers"],
    )
    was, now = (plain_groups(each, module) for each in (resumed.before, config))
    if not len(saved["param_groups"]) == len(was) == len(now):
        raise UserError("optimizer: it has other groups of weights than the run to go on from")
    groups = [
        old | {key: value for key, value in new.items() if value != before.get(key)}
        for old, before, new in zip(saved["param_groups"], was, now, strict=True)
    ]
    if is_other_schedule(resumed, config):
        check_rate_is_known(resumed, saved["param_groups"], module)
        schedule_state = at_this_step(made["lr_scheduler"]["scheduler"], resumed, config)
        for group, new, scheduled in zip(groups, now, made["optimizer"].param_groups, strict=True):
            cycled = {"momentum", "betas"} if "base_momentum" in group else set()
            group |= {
                key: value
                for key, value in scheduled.items()
                if key != "params" and (key in {"lr", *cycled} or value != new.get(key))
            }
    return {
        "optimizer_states": [{**saved, "param_groups": deepcopy(groups)}],
        "lr_schedulers": [schedule_state],
    }


def plain_groups(config: Config, module: SupervisedModule) -> list[dict[str, Any]]:
    """The groups of an optimizer as the config says, before any schedule; without the weights."""
    groups = make_optimizer(config)(module.network.parameters()).param_groups
    return [{key: value for key, value in each.items() if key != "params"} for each in groups]


def is_other_schedule(resumed: Resumed, config: Config) -> bool:
    """Whether the rates of a schedule are others than they were, by the config."""
    has_length = {"n_steps", "n_epochs"} & {str(each) for each in config["scheduler"].values()}
    keys = ("optimizer.lr", "scheduler", *(SETS_LENGTH if has_length else ()))
    return resumed.has_changed(keys)


def check_rate_is_known(
    resumed: Resumed, groups: Sequence[dict[str, Any]], module: SupervisedModule
) -> None:
    """Raise `UserError` where a callback set a rate that a new schedule would forget.

    Only a constant schedule leaves such a rate as it is.
    """
    scheduler, rate = resumed.before["scheduler"], resumed.before["optimizer"].get("lr")
    is_constant = scheduler["_target_"].endswith(".ConstantLR") and scheduler.get("factor") == 1
    moved = [group["lr"] for group in groups if rate and not isclose(group["lr"], rate)]
    if is_constant and moved and not resumed.has_changed(["optimizer.lr"]):
        raise UserError(
            f"scheduler: a callback changed the rate from optimizer.lr={rate} to {moved[0]:.6g}; "
            f"give the one to start from, as optimizer.lr={moved[0]:.6g}"
        )


def at_this_step(schedule: Any, resumed: Resumed, config: Config) -> dict[str, Any]:
    """The state of a schedule after what was trained; its optimizer gets the rates.

    Raises `UserError` where it is shorter.
    """
    if not isinstance(schedule, ReduceLROnPlateau):
        by_step = config["scheduler"]["interval"] == "step"
        go_through(schedule, resumed.n_steps if by_step else resumed.n_epochs)
    elif resumed.before["scheduler"]["_target_"] == config["scheduler"]["_target_"]:
        return follow(schedule, resumed)
    state: dict[str, Any] = schedule.state_dict()
    return state


def go_through(schedule: Any, n: int) -> None:
    """Move a schedule on `n` times.

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


def follow(schedule: ReduceLROnPlateau, resumed: Resumed) -> dict[str, Any]:
    """The state of a schedule that follows a metric, after what it has seen; sets its rates."""
    (saved,), (optimizer,) = (
        resumed.checkpoint["lr_schedulers"],
        resumed.checkpoint["optimizer_states"],
    )
    rate_before = resumed.before["optimizer"].get("lr")
    ours = schedule.optimizer.param_groups
    for new, old, least in zip(ours, optimizer["param_groups"], schedule.min_lrs, strict=True):
        share = old["lr"] / rate_before if rate_before else 1.0
        if resumed.has_changed(["optimizer.lr"]):
            share = min(share, 1.0)  # it only comes down: beyond that, a callback set it
        new["lr"] = max(new["lr"] * share, least)
    seen = {key: saved[key] for key in COUNTED if key in saved}
    return {**schedule.state_dict(), **seen, "_last_lr": [group["lr"] for group in ours]}
