"""Loading a checkpoint into a training that resumes, after checking that it fits.

Shapes are compared first: a fused optimizer writes past the end of a state that is too short.
"""

import warnings
from collections.abc import Iterator, Sequence
from copy import copy, deepcopy
from math import ceil, isclose
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.loops.fit_loop import _FitLoop
from pytorch_lightning.loops.loop import _Loop
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from multilayer.core.errors import UserError
from multilayer.core.files import refusing
from multilayer.training.components import make_optimizer, make_scheduler
from multilayer.training.epoch_outputs import UNFINISHED_EPOCH, EpochOutputs
from multilayer.training.lightning_adapter import CheckpointFiles, unwrapped_callbacks
from multilayer.training.loggers import TensorBoard
from multilayer.training.module import MakeScheduler, SupervisedModule
from multilayer.training.resume import DAMAGE, Resumed, config_changes
from multilayer.training.resume_checks import (
    check_same_data,
    misfits,
    state_misfits,
    with_floats,
)
from multilayer.training.steps import planned_steps

if TYPE_CHECKING:
    from multilayer.training.run import Training

_Groups = list[dict[str, Any]]


class _CheckedCheckpoint(CheckpointFiles):
    """Gives Lightning a checkpoint that has already been read, checked and adapted."""

    def __init__(self, checkpoint: dict[str, Any]) -> None:
        self.checkpoint = checkpoint

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The checkpoint, whatever the path."""
        return self.checkpoint


class _EndedLoop(_FitLoop):
    """Trains no epoch, but calls the hooks around them, which Lightning's own loop would skip.

    It takes the place of a trainer's loop whose training has ended.
    """

    skip = False
    done = True


def load_resumed(training: "Training", resumed: Resumed) -> None:
    """Make a training resume from a checkpoint, with what has changed in the config.

    Raises:
        UserError: The data have changed, or the training cannot resume with the new config.
    """
    module, trainer = training.module, training.trainer
    changed = [key for key, *_ in config_changes(resumed.before, training.config)]
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    known = {callback.state_key for callback in callbacks}
    states = resumed.checkpoint["callbacks"]
    checkpoint = resumed.checkpoint | {
        "callbacks": {key: state for key, state in states.items() if key in known}
    }
    check_same_data(resumed, module.metadata)
    averages = any(isinstance(each, WeightAveraging) for each in callbacks)
    if "current_model_state" in checkpoint and not averages:
        raise UserError(
            f"{_changed_keys('callbacks', changed)}: {resumed.path} holds averaged weights, which "
            "only the callback that averaged them can go on from; keep it"
        )
    schedule = make_scheduler(resumed.before, n_steps=100)
    problem = next(_training_misfits(checkpoint, module, trainer, schedule), None)
    if problem:
        key = _changed_keys("optimizer", changed) if "optimizer_states" in problem else "resume"
        hint = "" if key in ("resume", "optimizer") else "; leave it as it was"
        raise UserError(
            f"{key}: {resumed.path} holds no training that fits this one: {problem}{hint}"
        )
    checkpoint |= _updated_states(training, resumed, changed)
    with refusing(resumed.path, "holds no training that can go on", RuntimeError, *DAMAGE):
        _try_to_load(checkpoint, module, trainer)
    del checkpoint["loops"]
    trainer.strategy.checkpoint_io = _CheckedCheckpoint(checkpoint)
    trainer.fit_loop.load_state_dict(resumed.loops)
    if resumed.in_place:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoard):
                # Lightning does not begin an epoch twice, and what was logged at its start stays.
                logger.n_steps_before = resumed.n_steps + (resumed.n_steps_within == 0)
    if resumed.has_ended:
        trainer.fit_loop.__class__ = _EndedLoop
        epochs: Any = trainer.fit_loop.epoch_progress.current
        epochs.completed = epochs.processed
    if resumed.n_steps_within is None:
        # Lightning treats every training with `max_steps` as interrupted within an epoch, and would
        # count one more epoch in which nothing is trained.
        _Loop.restarting.fset(trainer.fit_loop, False)  # type: ignore[attr-defined]


def _changed_keys(group: str, changed: Sequence[str]) -> str:
    """The keys of a group that have changed, or the name of the group if none has."""
    return ", ".join(key for key in changed if key.startswith(f"{group}.")) or group


def _updated_states(
    training: "Training", resumed: Resumed, changed: Sequence[str]
) -> dict[str, Any]:
    """The states of optimizer and schedule, updated with what has changed in the config.

    The schedules of both configs are run up to this point. Values on which they agree stay as they
    are in the checkpoint: a callback may have changed them, and a schedule that follows a metric
    has counted.

    Raises:
        UserError: A learning rate that a callback has changed would be lost.
    """
    if not any(key.startswith(("optimizer", "scheduler", "trainer", "data")) for key in changed):
        return {}
    (saved,), (seen,) = resumed.checkpoint["optimizer_states"], resumed.checkpoint["lr_schedulers"]
    configs = (resumed.before, training.config)
    was, now = (_planned_schedule(config, training, resumed) for config in configs)
    per_group = (saved["param_groups"], _hyperparameters(was), _hyperparameters(now))
    groups = [old | _updates(*both) for old, *both in zip(*per_group, strict=True)]
    before, after = was.state_dict(), now.state_dict()
    is_given, is_same_kind = "optimizer.lr" in changed, type(was) is type(now)
    if not (is_same_kind and isinstance(now, ReduceLROnPlateau)):
        if before != after and not is_given:
            _check_lr_unmoved(resumed, *per_group[:2])
    elif is_given:
        for group, old, first, new in zip(groups, *per_group, strict=True):
            share = old["lr"] / first["lr"] if first["lr"] else 1.0
            group["lr"] = new["lr"] * min(share, 1.0)  # beyond that, a callback set it
    state = seen | _updates(before, after) if is_same_kind else after
    return {"optimizer_states": [{**saved, "param_groups": groups}], "lr_schedulers": [state]}


def _planned_schedule(config: dict[str, Any], training: "Training", resumed: Resumed) -> Any:
    """The schedule of a config after the steps so far, with its optimizer.

    Raises:
        UserError: It ends before that.
    """
    rows = training.data.train_minibatches()
    sizes = {"full": rows.n_rows, "auto": rows.batch_size}
    size = config["data"].get("batch_size", "auto")
    n_batches = ceil(rows.n_rows / sizes.get(size, size))
    n_steps = planned_steps(config["trainer"], n_batches, *resumed.n_done)
    optimizer = make_optimizer(config)(training.module.network.parameters())
    schedule = make_scheduler(config, n_steps=n_steps)(optimizer)
    by_step = config["scheduler"]["interval"] == "step"
    n_moves = resumed.n_steps if by_step else resumed.n_epochs
    with warnings.catch_warnings():
        # No optimizer step is needed in between.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        try:
            for _ in range(0 if isinstance(schedule, ReduceLROnPlateau) else n_moves):
                schedule.step()
        except ValueError as error:
            raise UserError(f"scheduler: it ends before step {n_moves}: {error}") from error
    return schedule


def _hyperparameters(schedule: Any) -> _Groups:
    """The parameter groups of a schedule's optimizer, without the weights."""
    groups = schedule.optimizer.param_groups
    return [{key: value for key, value in each.items() if key != "params"} for each in groups]


def _updates(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The items that are new or have changed."""
    return {key: after[key] for key in after if key not in before or after[key] != before[key]}


def _check_lr_unmoved(resumed: Resumed, saved: _Groups, was: _Groups) -> None:
    """Raise `UserError` if a new schedule would undo a callback's change of the learning rate."""
    for found, expected in zip(saved, was, strict=True):
        if not isclose(found["lr"], expected["lr"], rel_tol=1e-6):
            share = found["lr"] / expected["lr"] if expected["lr"] else 1.0
            start = share * resumed.before["optimizer"].get("lr", expected["lr"])
            raise UserError(
                f"scheduler: the rate in {resumed.path} is {found['lr']:.6g}, and not the "
                f"{expected['lr']:.6g} of its schedule; give the one from which the schedule is to "
                f"start, as optimizer.lr={start:.6g}"
            )


def _training_misfits(
    checkpoint: dict[str, Any],
    module: SupervisedModule,
    trainer: pl.Trainer,
    make_scheduler: MakeScheduler,
) -> Iterator[str]:
    """Each reason why a training cannot resume from a checkpoint.

    Args:
        checkpoint: what was read.
        module: the module, newly built.
        trainer: the trainer.
        make_scheduler: makes a schedule of the kind that the checkpoint has.
    """
    optimizer = _optimizer_after_step(module)
    schedule = make_scheduler(optimizer)
    fresh = optimizer.state_dict()
    known = {each.state_key: each.state_dict() for each in trainer.callbacks}  # type: ignore[attr-defined]
    if "Timer" in known:
        known["Timer"] = {key: with_floats(value) for key, value in known["Timer"].items()}
    loop = trainer.fit_loop.state_dict()
    loop["state_dict"]["combined_loader"] = [{"n_given": 0, "epoch": 0, "batch_size": 1}]
    parts = {
        "loops": {"fit_loop": loop},
        "optimizer_states": [{"state": {}, "param_groups": fresh["param_groups"]}],
    }
    if "current_model_state" in checkpoint:
        parts |= {"current_model_state": module.state_dict(), "averaging_state": {}}
    yield from misfits("checkpoint", checkpoint, parts)
    yield from state_misfits(checkpoint, module.state_dict(), known, schedule)
    yield from _optimizer_misfits(checkpoint["optimizer_states"][0], fresh)


def _try_to_load(checkpoint: dict[str, Any], module: SupervisedModule, trainer: pl.Trainer) -> None:
    """Load a checkpoint of the right structure as Lightning will, and take a step with copies.

    Whatever a library raises for a value is raised here, before anything is written.
    """
    module.load_state_dict(checkpoint["state_dict"])
    if "current_model_state" in checkpoint:
        averaged = {f"module.{name}": value for name, value in checkpoint["state_dict"].items()}
        AveragedModel(module).load_state_dict(averaged | checkpoint["averaging_state"])
        module.load_state_dict(checkpoint["current_model_state"])
    if unfinished := checkpoint.get(UNFINISHED_EPOCH):
        epoch = EpochOutputs()
        epoch.load_state_dict(unfinished, module.device)
        module.summarize(epoch)
    for callback in unwrapped_callbacks(trainer):
        if state := checkpoint["callbacks"].get(callback.state_key):
            copy(callback).load_state_dict(deepcopy(state))
    optimizer = _optimizer_after_step(module)
    assert module.make_scheduler is not None, "a run has a schedule"
    schedule = module.make_scheduler(optimizer)
    optimizer.load_state_dict(deepcopy(checkpoint["optimizer_states"][0]))
    schedule.load_state_dict(deepcopy(checkpoint["lr_schedulers"][0]))
    for parameter in optimizer.param_groups[0]["params"]:
        if parameter not in optimizer.state:  # it had no gradient
            parameter.grad = None
    optimizer.step(lambda: 0.0)
    if isinstance(schedule, ReduceLROnPlateau):
        schedule.step(0.0)
    else:
        schedule.step()


def _optimizer_after_step(module: SupervisedModule) -> torch.optim.Optimizer:
    """The module's optimizer, for weights of zeros, after one step."""
    parameters = [nn.Parameter(torch.zeros_like(each)) for each in module.network.parameters()]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    assert module.make_optimizer is not None, "a module to be trained has an optimizer"
    optimizer = module.make_optimizer(parameters)
    optimizer.step(lambda: 0.0)
    for group in optimizer.param_groups:
        group.update(with_floats(group))
    return optimizer


def _optimizer_misfits(stored: dict[str, Any], fresh: dict[str, Any]) -> Iterator[str]:
    """The misfits of an optimizer's state; a weight without a state has not been updated yet."""
    weights, known = ([each["params"] for each in one["param_groups"]] for one in (stored, fresh))
    if weights != known:
        yield "optimizer_states.param_groups.params: other weights"
    for index, state in stored["state"].items():
        if not any(index in each for each in known):
            yield f"optimizer_states.state.{index} is of no weight"
        # Without momentum, for example, there is no state, and a stored one is not used.
        elif state != {}:
            yield from misfits(f"optimizer_states.{index}", state, fresh["state"].get(index))
