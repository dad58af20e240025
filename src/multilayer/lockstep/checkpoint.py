"""The checkpoint of a member, as a Trainer would have written it.

The run can then be resumed by a Trainer. tests/lockstep/test_checkpoint.py compares with what one
writes.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multilayer.lockstep.member import Member
from multilayer.lockstep.schedule import Moves
from multilayer.nn.losses import total_weight
from multilayer.stacking.optimizers import counts_steps
from multilayer.training.components import optimizer_class
from multilayer.training.epoch_outputs import UNFINISHED_EPOCH, EpochOutputs

if TYPE_CHECKING:
    from multilayer.lockstep.stack import Stack

_NAMES = ("ready", "completed", "started", "processed")
"""What Lightning counts of an epoch, a minibatch or a step."""


def resumable_checkpoint(
    stack: "Stack", member: Member, callbacks: Mapping[str, Any]
) -> dict[str, Any]:
    """All that a run needs to be resumed.

    Args:
        stack: the stack.
        member: one that has a slot.
        callbacks: the states of its callbacks, by their keys.
    """
    return weights_checkpoint(stack, member, member.task_model.state_dict()) | {
        **_unfinished_epoch(stack, member),
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
    n_within = _n_within(stack, member)
    progress = _Progress(
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
        **_lightning_entries(progress, loader),
        "state_dict": _copied(weights),
        **member.task_model.checkpoint_entries(),
    }


def _n_within(stack: "Stack", member: Member) -> int:
    """The minibatches of an unfinished epoch that a member was trained on."""
    return 0 if stack.ends_epoch else member.step - member.epoch * stack.n_batches


def _unfinished_epoch(stack: "Stack", member: Member) -> dict[str, Any]:
    """The outputs of an unfinished epoch; nothing where those of some minibatches are lost."""
    n_within, slots = _n_within(stack, member), member.slots
    if not n_within or stack.n_unmeasured or sum(map(len, slots.losses)) < n_within:
        return {}
    epoch = EpochOutputs()
    rows = slice(0, n_within * stack.batch_size)
    target, output = stack.rows.target[slots.order[member.k, rows]], slots.outputs[member.k, rows]
    losses = torch.cat(slots.losses)[:n_within, member.k]
    targets, outputs = (torch.split(each, stack.batch_size) for each in (target, output))
    for loss, output, target in zip(losses, outputs, targets, strict=True):
        epoch.add(loss, output, target, total_weight(member.task_model.loss, target))
    return {UNFINISHED_EPOCH: epoch.state_dict(n_within)}


def _optimizer_state(stack: "Stack", member: Member) -> dict[str, Any]:
    """The state of the member's optimizer, had it taken the steps.

    It is of the parameters that have had a gradient.
    """
    names = [f"network.{name}" for name, _ in member.task_model.network.named_parameters()]
    parts = {
        key: stack.step.layout.split(each[member.k])
        for key, each in member.slots.block.state.items()
    }
    has_count = counts_steps(optimizer_class(member.schedule.optimizer))
    state: dict[int, dict[str, Tensor]] = {}
    for i, name in enumerate(names):
        own = {key: each[name].clone() for key, each in parts.items() if name in each}
        if own and has_count:
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


@dataclass(frozen=True)
class _Progress:
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


def _lightning_entries(progress: _Progress, loader: dict[str, int]) -> dict[str, Any]:
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


def _fit_loop(progress: _Progress, loader: dict[str, int]) -> dict[str, Any]:
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
        | {"is_last_batch": validated > 0},
        "epoch_progress": epochs,
    }


def _evaluation_loop(n: int) -> dict[str, Any]:
    """The state of a loop that evaluates."""
    return {"state_dict": {}, "batch_progress": _counts(n, n) | {"is_last_batch": False}}


def _counts(total: int, current: int, names: tuple[str, ...] = _NAMES) -> dict[str, dict[str, int]]:
    """A progress of Lightning's whose counts are all the same."""
    return {"total": dict.fromkeys(names, total), "current": dict.fromkeys(names, current)}
