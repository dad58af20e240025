"""The checkpoint of a member, as a Trainer would have written it."""

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import SGD

from multilayer.lockstep.member import Member
from multilayer.training.lightning_checkpoint import Progress, lightning_entries

if TYPE_CHECKING:
    from multilayer.lockstep.stack import Stack


def resumable_checkpoint(
    stack: "Stack", member: Member, callbacks: Mapping[str, Any]
) -> dict[str, Any]:
    """All that a run needs to be resumed.

    Args:
        stack: the stack.
        member: one that has a slot.
        callbacks: the states of its callbacks, by their keys.
    """
    return weights_checkpoint(stack, member, member.predictor.state_dict()) | {
        "callbacks": _copied(callbacks),
        "optimizer_states": [_optimizer_state(stack, member)],
        "lr_schedulers": [deepcopy(member.schedule.scheduler.state_dict())],
    }


def weights_checkpoint(
    stack: "Stack", member: Member, weights: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Some weights and what every checkpoint holds; tensors are copied, since the stack trains on.

    Without more, nothing can be resumed from it.
    """
    n_within = 0 if stack.ends_epoch else member.step - member.epoch * stack.n_batches
    progress = Progress(
        epoch=member.epoch + stack.ends_epoch,
        step=member.step,
        n_batches=stack.n_batches,
        n_within=n_within,
        n_validation=stack.n_validation_batches,
        ends_epoch=stack.ends_epoch,
        moves=member.schedule.moves,
    )
    n_given = n_within or (stack.n_batches if progress.ends_epoch else 0)
    loader = member.minibatches.state_dict() | {"n_given": n_given}
    return {
        **lightning_entries(progress, loader),
        "state_dict": _copied(weights),
        **member.predictor.checkpoint_entries(),
    }


def _optimizer_state(stack: "Stack", member: Member) -> dict[str, Any]:
    """The state of torch's optimizer, had it taken the member's steps.

    It is of the parameters that have had a gradient, and counts steps in all but SGD.
    """
    names = [f"network.{name}" for name, _ in member.predictor.network.named_parameters()]
    parts = {
        key: stack.step.layout.split(each[member.k])
        for key, each in member.slots.block.state.items()
    }
    state: dict[int, dict[str, Tensor]] = {}
    for i, name in enumerate(names):
        own = {key: each[name].clone() for key, each in parts.items() if name in each}
        if own and not isinstance(member.schedule.optimizer, SGD):
            own["step"] = torch.tensor(float(member.step))
        state |= {i: own} if own else {}
    group = member.schedule.optimizer.param_groups[0] | {"params": [*range(len(names))]}
    return {"state": state, "param_groups": [group]}


def _copied(value: Any) -> Any:
    """Plain data whose tensors are copies, each with storage of its own."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(each, dict | Tensor) for each in value):
        return [_copied(each) for each in value]
    return value
