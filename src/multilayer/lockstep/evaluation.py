"""The loss and metrics of members, all of a block at once."""

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from multilayer.data import Dataset, Minibatches
from multilayer.data.split import Split
from multilayer.lockstep.member import Member
from multilayer.lockstep.slots import BlockSlots
from multilayer.nn.losses import is_plain, total_weight
from multilayer.runs.folder import Metrics
from multilayer.stacking.block import Block
from multilayer.stacking.step import Step
from multilayer.stacking.workers import Workers
from multilayer.training.epoch_outputs import weighted_mean
from multilayer.training.task_model import TaskModel


def evaluate_members(
    workers: Workers, blocks: Sequence[BlockSlots[Member]], members: Sequence[Member], data: Dataset
) -> list[Metrics]:
    """The loss and metrics of each split for members in their slots; none of failed ones.

    The data is what all members share: each one's own copy would move the rows to a GPU again.
    """
    found: dict[Member, Metrics] = {member: {} for member in members}

    def evaluate(step: Step, slots: BlockSlots[Member]) -> None:
        some = [(k, each) for k, each in slots.occupied() if each in found and not each.failure]
        block = slots.block.only([k for k, _ in some])
        task_model = task_model_of_all([each for _, each in some])
        for split in get_args(Split):
            minibatches = data.minibatches(split, block.alive.device)
            values = evaluate_block(step, block, minibatches, task_model)
            values = task_model.tested(values) if split == "test" else values
            for name, value in values.items():
                for (_, member), number in zip(some, value.tolist(), strict=True):
                    found[member].setdefault(split, {})[name] = number

    left = {member for member in members if not member.failure}
    workers.for_each_block(evaluate, [each for each in blocks if left.intersection(each.members)])
    return [found[member] for member in members]


def evaluate_block(
    step: Step, block: Block, minibatches: Minibatches, task_model: TaskModel
) -> dict[str, Tensor]:
    """The loss and metrics of a block over rows that its members share, `(K,)` each.

    The task model is that of `task_model_of_all`. Where there are no rows, there are no metrics.
    """
    losses, outputs, targets = [], [], []
    for features, target in minibatches:
        loss, output = step.evaluate(block, features.to(block.weights.dtype), target)
        losses.append(loss)
        outputs.append(output)
        targets.append(target)
    if not losses:
        return {}
    sizes = [len(target) for target in targets]
    whole = torch.cat(targets)
    whole = whole.expand(len(block), *whole.shape)
    return summarize(task_model, torch.stack(losses), sizes, torch.cat(outputs, dim=1), whole)


def summarize(
    task_model: TaskModel, losses: Tensor, sizes: Sequence[int], outputs: Tensor, target: Tensor
) -> dict[str, Tensor]:
    """The loss and every metric, `(K,)` each.

    Args:
        task_model: that of `task_model_of_all`.
        losses: `(n_minibatches, K)`, over minibatches of `sizes` rows.
        sizes: the rows of each.
        outputs: `(K, N, ...)`.
        target: `(K, N)`.
    """
    parts = target.split_with_sizes(list(sizes), dim=1)
    weights = torch.stack([total_weight(task_model.loss, part) for part in parts])
    loss = weighted_mean(losses, weights)
    return {"loss": loss, **task_model.metrics_of_outputs(outputs, target, loss)}


def task_model_of_all(members: Sequence[Member]) -> TaskModel:
    """A member's, whose metrics are right for all: it takes no loss for a plain one that is not."""
    task_models = [each.task_model for each in members]
    return next((each for each in task_models if not is_plain(each.loss)), task_models[0])
