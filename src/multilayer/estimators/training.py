"""Training estimators' networks in stacks, one or many, by the steps that sweeps train with."""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from multilayer.estimators.objective import LINKS, PenalizedStep, WeightedModel
from multilayer.estimators.trainee import OPTIMIZERS, Trainee
from multilayer.lockstep.slots import BlockSlots, compact
from multilayer.stacking.chunks import chunk_rows, epoch_chunks, in_blocks
from multilayer.stacking.optimizers import stack_optimizer
from multilayer.stacking.runner import StepRunner, take_rows
from multilayer.stacking.step import Step
from multilayer.training.runtime import using_threads

_CPU = torch.device("cpu")


def train_stack(
    trainees: Sequence[Trainee], features: Tensor, target: Tensor, n_threads: int | str = "auto"
) -> None:
    """Train networks of one shape together until the last one is done.

    Their weights, `progress` and `optimizer_state` are afterwards those of the end.

    Args:
        trainees: alike in what `stack_key` says.
        features: `(N, D)`; the rows of the trainees are numbers of these.
        target: `(N, T + 1)`.
        n_threads: the CPU threads, or "auto".
    """
    stack = _Stack(trainees, features, target, n_threads)
    while any(slots.occupied() for slots in stack.slots):
        stack.train_epoch()
        stack.end_epoch()


def stack_key(trainee: Trainee) -> Hashable:
    """What is the same for all trainees of a stack; the numbers that are left may differ."""
    network, chosen = trainee.task_model.network, trainee.chosen
    layers = tuple((name, type(layer).__name__) for name, layer in network.named_modules())
    shapes = tuple((tuple(each.shape), each.dtype) for each in network.state_dict().values())
    rows = len(trainee.train), len(trainee.validation), chosen.batch_size
    return layers, shapes, trainee.link, rows, chosen.solver, chosen.group.get("nesterov")


class _Stack:
    """Trainees in blocks; see `train_stack`."""

    def __init__(
        self, trainees: Sequence[Trainee], features: Tensor, target: Tensor, n_threads: int | str
    ) -> None:
        first = trainees[0]
        self.features, self.target = features, target
        self.n_rows, self.batch_size = len(first.train), first.chosen.batch_size
        groups = [each.chosen.group for each in trainees]
        model = WeightedModel([each.task_model for each in trainees], LINKS[first.link])
        optimizer = stack_optimizer(OPTIMIZERS[first.chosen.solver], groups)
        penalizes = any(each.chosen.alpha for each in trainees)
        self.step = PenalizedStep(model, optimizer, penalizes=penalizes)
        self.runner = StepRunner(self.step, choice=False, threads=n_threads, device=_CPU)
        size = self.runner.block_size(len(trainees))
        places = in_blocks(range(len(trainees)), size)
        self.slots = [self._slots_of(trainees, some) for some in places]
        self._share_threads()

    def _slots_of(
        self, trainees: Sequence[Trainee], places: Sequence[int | None]
    ) -> BlockSlots[Trainee]:
        """The block of some trainees; the places of None hold copies, so all have one shape."""
        taken = [place for place in places if place is not None]
        mine = [trainees[place] for place in taken]
        block = self.step.block_of(
            [each.task_model for each in mine],
            taken,
            [each.chosen.alpha for each in mine],
            [each.chosen.group for each in mine],
        )
        for k, each in enumerate(mine):
            block.n_steps[k] = each.step
            for name, value in each.optimizer_state.items():
                block.state[name][k] = torch.from_numpy(value)
        if len(taken) < len(places):
            block = block.only([*range(len(taken)), *[0] * (len(places) - len(taken))])
        members = [None if place is None else trainees[place] for place in places]
        return BlockSlots(block, members, self.step.layout)

    def _share_threads(self) -> None:
        """Share the CPU's threads out to the blocks."""
        self.runner.share_threads(self.slots[0].block, len(self.slots), self.batch_size)

    def _blocks(self) -> list[BlockSlots[Trainee]]:
        """The blocks that somebody is in."""
        return [slots for slots in self.slots if slots.occupied()]

    def train_epoch(self) -> None:
        """Train every member on its own minibatches."""
        blocks = self._blocks()
        for slots in blocks:
            slots.begin_epoch(self.n_rows)
        self.runner.workers.for_each_block(self._train, blocks)

    def _train(self, step: Step, slots: BlockSlots[Trainee]) -> None:
        """Train the members of a block for an epoch."""
        assert isinstance(step, PenalizedStep)
        members, block = slots.members_or_filler(), slots.block
        n_threads = self.runner.workers.n_threads
        if self.runner.workers.n_at_once == 1:
            n_threads = self.runner.n_threads(block, (len(block), self.batch_size))
        with using_threads(n_threads):
            for first, end in epoch_chunks(self.n_rows, self.batch_size):
                n = end - first
                groups = [each.groups(first, end) for each in members]
                n_done = torch.tensor([each.step for each in members]) + first
                numbers = step.coefficients([*zip(*groups, strict=True)], None, n_done, n)
                numbers = numbers.to(block.weights)
                keys = torch.zeros(n, len(members), 2, dtype=torch.int32)
                if step.key_names:
                    keys = slots.dropout_keys(n)
                for own, rows in chunk_rows(slots.order, first, end, self.batch_size):
                    inputs = rows, numbers[own], keys[own]
                    losses = step.train(block, self.features, self.target, *inputs)
                    slots.losses.append(losses)

    def end_epoch(self) -> None:
        """Note each member's loss and score, and let those leave that are done."""
        blocks = self._blocks()
        scores = self.runner.workers.for_each_block(self._scores, blocks)
        sizes = self._sizes().to(self.target)
        for slots, score in zip(blocks, scores, strict=True):
            losses = (torch.cat(slots.losses) * sizes).sum(dim=0) / self.n_rows
            slots.end_steps()
            means = losses.tolist()
            for k, member in slots.occupied():
                member.end_epoch(means[k], None if score is None else score[k])
                if member.is_done():
                    self._leave(slots, k, member)
        if self._blocks() and compact(self.slots):
            self._share_threads()

    def _sizes(self) -> Tensor:
        """The rows of each minibatch of an epoch, `(n_batches, 1)`."""
        starts = torch.arange(0, self.n_rows, self.batch_size)
        return (self.n_rows - starts).clamp_max(self.batch_size).unsqueeze(1)

    def _scores(self, step: Step, slots: BlockSlots[Trainee]) -> list[float] | None:
        """The members' scores of their own validation rows; None where there are none."""
        members = slots.members_or_filler()
        if not len(members[0].validation):
            return None
        rows = torch.from_numpy(np.stack([each.validation for each in members]))
        assert isinstance(step, PenalizedStep)
        mine = take_rows(self.features, rows), take_rows(self.target, rows)
        return step.scores(slots.block, *mine).tolist()

    def _leave(self, slots: BlockSlots[Trainee], k: int, member: Trainee) -> None:
        """Have a member leave with its weights, those of the best score where there are scores."""
        weights = member.best or {name: each.clone() for name, each in member.weights().items()}
        member.task_model.network.load_state_dict(weights, assign=True)
        state = slots.block.state
        member.optimizer_state = {name: each[k].numpy().copy() for name, each in state.items()}
        member.slots, slots.members[k] = None, None
