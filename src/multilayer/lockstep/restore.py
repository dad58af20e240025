"""Members that go on from checkpoints, whichever engine wrote these."""

from collections.abc import Iterator, Mapping
from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.core.files import refusing
from multilayer.stacking.block import Block, Layout
from multilayer.stacking.dropout import draw_keys
from multilayer.stacking.optimizers import stack_optimizer
from multilayer.training.components import optimizer_class
from multilayer.training.epoch_outputs import UNFINISHED_EPOCH, EpochOutputs
from multilayer.training.loss import n_outputs_for
from multilayer.training.resume import DAMAGE, Resumed
from multilayer.training.resume_checks import (
    check_same_data,
    misfits,
    state_misfits,
    with_floats,
)
from multilayer.training.steps import limited_batches

if TYPE_CHECKING:
    from multilayer.lockstep.member import Member
    from multilayer.lockstep.slots import BlockSlots

_NETWORK = "network."


def restore(member: "Member", resumed: Resumed) -> None:
    """Make a member, newly built, that of a checkpoint; nothing is written.

    Its callbacks and its slot take up their parts of the checkpoint later: see
    `restore_callbacks`, `restore_slot` and `restore_epoch`.

    Raises:
        UserError: The checkpoint is of other data, or does not fit the member.
    """
    path, checkpoint = resumed.path, resumed.checkpoint
    check_same_data(resumed, member.task_model.metadata)
    if problem := next(_misfits(member, checkpoint), None):
        raise UserError(f"resume: {path} holds no training that fits this one: {problem}")
    with refusing(path, "holds no training that can go on", RuntimeError, *DAMAGE):
        weights = checkpoint["state_dict"].items()
        own = {
            name.removeprefix(_NETWORK): value
            for name, value in weights
            if name.startswith(_NETWORK)
        }
        member.task_model.network.load_state_dict(own)
        (schedule,), (optimizer,) = checkpoint["lr_schedulers"], checkpoint["optimizer_states"]
        member.schedule.load_state(schedule, optimizer["param_groups"][0], resumed.n_steps)
        if UNFINISHED_EPOCH in checkpoint:
            _check_epoch(member, resumed)
        for callback in member.callbacks:
            if state := checkpoint["callbacks"].get(callback.state_key):
                copy(callback).load_state_dict(deepcopy(state))
    member.resumed = resumed
    member.epoch = resumed.n_epochs
    member.step = member.n_steps_before = resumed.n_steps
    member.n_within = resumed.n_steps_within or 0
    if UNFINISHED_EPOCH not in checkpoint:
        member.n_unmeasured = member.n_within
    draw_keys(member.dropout_keys, member.step)  # those of the steps before
    n_batches = limited_batches(member.config["trainer"], len(member.minibatches))
    # A stack counts the steps of a member that diverges up to that.
    member.has_diverged = resumed.n_steps < member.epoch * n_batches
    member.has_ended = resumed.has_ended or member.has_diverged


def restore_callbacks(member: "Member") -> None:
    """Have the callbacks of a member go on with their states in its checkpoint, if it has one."""
    if member.resumed is None:
        return
    states = member.resumed.checkpoint["callbacks"]
    for callback in member.callbacks:
        if state := states.get(callback.state_key):
            callback.load_state_dict(_on_device(state, member.task_model.device))


def restore_slot(member: "Member", block: Block, k: int, layout: Layout) -> None:
    """Put the optimizer's state in a member's checkpoint, if it has one, into its slot.

    Args:
        member: whose.
        block: with the slot.
        k: its number.
        layout: of the block's weights.
    """
    if member.resumed is None:
        return
    block.n_steps[k] = member.step
    (optimizer,) = member.resumed.checkpoint["optimizer_states"]
    names = [f"{_NETWORK}{name}" for name, _ in member.task_model.network.named_parameters()]
    for key, values in block.state.items():
        for name, mine in layout.split(values[k]).items():
            own = optimizer["state"].get(names.index(name), {}).get(key)
            if own is not None:  # torch has no momentum where it is 0
                mine.copy_(own)


def restore_epoch(slots: "BlockSlots[Member]", n_rows: int) -> None:
    """Take up the losses and outputs of an epoch that members go on within.

    Args:
        slots: whose members have as many minibatches of it behind them.
        n_rows: of an epoch.
    """
    for k, member in slots.occupied():
        assert member.resumed is not None, "its first epoch has not begun"
        epoch = _epoch_of(member.resumed, slots.block.weights.device)
        losses, outputs = torch.stack(epoch.losses), torch.cat(epoch.outputs)
        if len(losses) < member.n_within:  # some were packed into their mean
            losses = epoch.mean_loss().expand(member.n_within)
        if not slots.losses:
            slots.losses = [losses.new_zeros(member.n_within, len(slots.members))]
        slots.losses[0][:, k] = losses
        if slots.outputs is None:
            slots.outputs = outputs.new_zeros(len(slots.members), n_rows, *outputs.shape[1:])
        slots.outputs[k, : len(outputs)] = outputs


def _epoch_of(resumed: Resumed, device: torch.device) -> EpochOutputs:
    """The outputs of the epoch that a checkpoint interrupts."""
    epoch = EpochOutputs()
    epoch.load_state_dict(resumed.checkpoint[UNFINISHED_EPOCH], device)
    return epoch


def _check_epoch(member: "Member", resumed: Resumed) -> None:
    """Raise an error unless the outputs of an unfinished epoch fit the member's minibatches."""
    task_model, minibatches = member.task_model, member.minibatches
    epoch = _epoch_of(resumed, task_model.device)
    task_model.summarize(epoch)
    n_within = resumed.n_steps_within or 0
    n_rows = min(n_within * minibatches.batch_size, minibatches.n_rows)
    n_outputs = n_outputs_for(member.config, member.data.columns)
    expected = (n_rows, n_outputs) if n_outputs > 1 else (n_rows,)
    found = torch.cat(epoch.outputs).shape
    if found != expected or len(epoch.losses) > n_within:
        raise ValueError(f"the epoch's outputs have the shape {tuple(found)}, not {expected}")


def _misfits(member: "Member", checkpoint: dict[str, Any]) -> Iterator[str]:
    """Each reason why a member cannot go on from a checkpoint."""
    schedule, task_model = member.schedule, member.task_model
    group = with_floats(schedule.optimizer.param_groups[0])
    parameters = dict(task_model.network.named_parameters())
    group["params"] = [*range(len(parameters))]
    optimizer = {"state": {}, "param_groups": [group]}
    yield from misfits("checkpoint", checkpoint, {"optimizer_states": [optimizer]})
    callbacks = {each.state_key: each.state_dict() for each in member.callbacks}
    yield from state_misfits(checkpoint, task_model.state_dict(), callbacks, schedule.scheduler)
    (stored,) = checkpoint["optimizer_states"]
    if stored["param_groups"][0]["params"] != group["params"]:
        yield "optimizer_states.param_groups.params: other weights"
    kind = optimizer_class(schedule.optimizer)
    names = stack_optimizer(kind, [schedule.group]).state_names
    fresh = [dict.fromkeys(names, value.detach()) for value in parameters.values()]
    for index, state in stored["state"].items():
        if index not in group["params"]:
            yield f"optimizer_states.state.{index} is of no weight"
        elif state != {}:
            yield from misfits(f"optimizer_states.{index}", state, fresh[index])
    if names and not any(stored["state"].values()):
        yield f"optimizer_states hold no {names[0]}"


def _on_device(value: Any, device: torch.device) -> Any:
    """Plain data whose tensors are on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _on_device(each, device) for key, each in value.items()}
    return value
