"""A stack of members: how they go through an epoch together, and how they join and leave."""

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from multilayer.core.device import choose_device
from multilayer.lockstep.callback_group import CallbackGroup, merged
from multilayer.lockstep.compilation import compile_in_time, n_steps_done
from multilayer.lockstep.dropout import has_its_dropout, pattern_of
from multilayer.lockstep.evaluation import (
    evaluate_block,
    evaluate_members,
    summarize,
    task_model_of_all,
)
from multilayer.lockstep.member import Member
from multilayer.lockstep.restore import restore_epoch, restore_slot
from multilayer.lockstep.rows import training_rows
from multilayer.lockstep.scalar_log import ScalarLog
from multilayer.lockstep.schedule import Schedule
from multilayer.lockstep.slots import BlockSlots, compact
from multilayer.lockstep.writer import Writer
from multilayer.runs.folder import Metrics
from multilayer.stacking.block import Block, make_block
from multilayer.stacking.chunks import chunk_rows, epoch_chunks, in_blocks
from multilayer.stacking.model import StackedModel
from multilayer.stacking.optimizers import stack_optimizer
from multilayer.stacking.runner import Builds, StepRunner
from multilayer.stacking.step import Step
from multilayer.training.epoch_callback import Values
from multilayer.training.instantiate import resolve_target
from multilayer.training.interrupts import raise_interrupts
from multilayer.training.runtime import autocast_of

log = logging.getLogger(__name__)


class Stack:
    """Members that train together.

    Args:
        members: with networks of one shape and the same rows. Those that go on within an epoch have
            as many minibatches of it behind them.
        writer: writes their files.
        name: of the stack, for the manifests.
        compile_mode: whether to compile, or "auto"; see `StepRunner`.
        threads: the CPU threads, or "auto".
        n_epochs_waiting: the epochs of jobs that will take the slots of members that leave.
        ahead: what is being compiled for it; see `StepRunner`.
        say: tells the user that the step is compiled.

    Attributes:
        in_epoch: 1 between the first and the last hook of an epoch, else 0.
        ends_epoch: whether all of its steps were taken, and its hooks are being called.
        n_within: the minibatches of the epoch that were trained on before the stack began.
        n_unmeasured: those of them whose outputs are lost.
        reshaped_at: the steps that had been taken when blocks became smaller.
    """

    def __init__(
        self,
        members: Sequence[Member],
        writer: Writer,
        *,
        name: str = "",
        compile_mode: bool | str = "auto",
        threads: int | str = 1,
        n_epochs_waiting: int = 0,
        ahead: Builds | None = None,
        say: Callable[[str], None] = log.info,
    ) -> None:
        first = members[0]
        trainer = first.config["trainer"]
        self.name, self.n_members = name, len(members)
        self.writer, self.log = writer, ScalarLog(writer)
        self.device = choose_device(trainer["accelerator"])
        self.precision = str(trainer["precision"])
        self.dtype = first.task_model.dtype
        data = self.data = first.data
        self.rows = training_rows(data, trainer, self.device, self.dtype)
        self.batch_size, self.n_batches = self.rows.batch_size, self.rows.n_batches
        self.n_rows = self.rows.n_used
        self.chunks = epoch_chunks(self.n_rows, self.batch_size)
        self.validation = data.minibatches("validation", self.device)
        self.n_validation_batches = len(self.validation)
        self.log_every: int = trainer["log_every_n_steps"]
        self.in_epoch, self.ends_epoch = 0, False
        self.n_within, self.n_unmeasured = first.n_within, first.n_unmeasured
        self.n_epochs_waiting = n_epochs_waiting
        self.reshaped_at = 0
        self.seconds, self.shared_until = 0.0, perf_counter()
        self.groups: list[CallbackGroup] = []

        self.model = StackedModel([each.task_model.to(self.device) for each in members])
        self.pattern = pattern_of(self.model, first.task_model)
        kind = resolve_target("optimizer", first.config["optimizer"]["_target_"])
        self.optimizer = stack_optimizer(kind, [each.schedule.group for each in members])
        self.clips = bool(trainer["gradient_clip_val"])
        self.step = Step(self.model, self.optimizer, clips=self.clips)
        self.runner = StepRunner(
            self.step,
            choice=compile_mode,
            threads=threads,
            device=self.device,
            ahead=ahead,
            say=say,
        )
        self.slots = []
        size = self.runner.block_size(len(members))
        for some in in_blocks(range(len(members)), size):
            places = [place for place in some if place is not None]
            block = self._make_block(self.model, [members[place] for place in places], places)
            if len(places) < len(some):  # free slots hold copies: all blocks have one shape
                block = block.only([*range(len(places)), *[0] * (len(some) - len(places))])
            here = [None if place is None else members[place] for place in some]
            self.slots.append(BlockSlots(block, here, self.step.layout))
        self._share_threads()
        self._begin(members)

    def _share_threads(self) -> None:
        """Share the CPU's threads out to the blocks."""
        self.runner.share_threads(self.slots[0].block, len(self.slots), self.batch_size)

    def _make_block(
        self, model: StackedModel, members: Sequence[Member], places: Sequence[int]
    ) -> Block:
        """A block of members that begin or go on; `places` are theirs in the model."""
        groups = [each.schedule.group for each in members]
        task_models = [each.task_model for each in members]
        block = make_block(model, task_models, places, self.optimizer, groups)
        for k, member in enumerate(members):
            restore_slot(member, block, k, self.step.layout)
        return block

    def members(self) -> list[Member]:
        """The members that are training, in the order of their slots."""
        return [member for slots in self.slots for _, member in slots.occupied()]

    def now(self) -> float:
        """Seconds of a clock."""
        return perf_counter()

    # Joining and leaving --------------------------------------------------------------------

    def blocks(self) -> list[BlockSlots[Member]]:
        """The blocks that somebody is in."""
        return [slots for slots in self.slots if slots.occupied()]

    def n_free(self) -> int:
        """The number of free slots."""
        return sum(len(slots.free()) for slots in self.slots)

    def join(self, member: Member) -> None:
        """Take in a member whose network is like the others', in a free slot."""
        member.task_model.to(self.device)
        self.n_epochs_waiting -= member.max_epochs
        block = self._make_block(StackedModel([self.pattern, member.task_model]), [member], [1])
        slots = next(each for each in self.slots if each.free())
        slots.take(slots.free()[0], member, block, 0)
        self._begin([member])

    def takes(self, member: Member) -> bool:
        """Whether a member needs nothing that the stack leaves out, since nobody needed it.

        That is a term of the optimizer, or a layer of dropout.
        """
        needed = [member.schedule.group.get(name, 0) for name in self.optimizer.unused_terms]
        return not any(needed) and has_its_dropout(self.pattern, member.task_model)

    def _begin(self, members: Sequence[Member]) -> None:
        """Call the first hook of members that have got their slots."""
        schedules: dict[str, Schedule] = {}
        for member in members:
            if member.schedule.moves != "metric":
                member.schedule = schedules.setdefault(member.schedule.key, member.schedule)
            member.lr = float(member.schedule.group["lr"])
            self.log.begin(member)
            member.manifest |= {"members": self.n_members, "stack": self.name}
        begun = merged(map(CallbackGroup, members))
        for group in begun:
            group.call(self, "on_fit_start")
            raise_interrupts()  # a hook may take long, and nobody is within an epoch
        self.groups = merged([*self.groups, *begun])
        self.shared_until = perf_counter()

    def leave(self, leaving: Sequence[Member]) -> list[Metrics]:
        """End members: their last hook is called, and their networks are evaluated.

        Those that have failed by then call `on_failure` instead; their metrics are empty.
        """
        self.share_time()
        gone = set(leaving)
        staying = []
        for group in self.groups:
            ks = [k for k, member in enumerate(group.members) if member in gone]
            part = group.select([k for k in ks if group.members[k].failure is None])
            part.call(self, "on_fit_end")
            part.describe_fit()
            failed = group.select([k for k in ks if group.members[k].failure is not None])
            failed.fail(self, None)
            failed.describe_fit()
            if len(ks) < len(group.members):
                others = [k for k in range(len(group.members)) if k not in ks]
                staying.append(group.select(others) if ks else group)
        metrics = evaluate_members(self.runner.workers, self.blocks(), leaving, self.data)
        for member in leaving:
            self.log.finish(member, "failed" if member.failure else "success")
        self.groups = staying
        for slots in self.slots:
            slots.members = [None if member in gone else member for member in slots.members]
        return metrics

    def compact(self) -> None:
        """Fill slots that became free, so that an epoch costs what those cost that are left."""
        if compact(self.slots):
            self._share_threads()
            self.reshaped_at = n_steps_done(self)

    def fail(self, error: BaseException) -> None:
        """Have the callbacks of all members save what there is, after an error or an interrupt."""
        for slots in self.blocks():
            slots.end_steps()
        schedules = dict[tuple[str, int], Schedule]()
        for member in self.members():
            # A schedule moves before a call, within which an error may have come.
            if member.schedule.moves == "step" and member.schedule.n_moved != member.step:
                key = member.schedule.key, member.step
                if key not in schedules:
                    schedules[key] = Schedule(member.config, member.n_steps)
                    schedules[key].advance(member.step)
                member.schedule = schedules[key]
        self.share_time()
        for group in self.groups:
            group.fail(self, error)
            group.describe_fit()
        for member in self.members():
            self.log.finish(member, "failed")

    def share_time(self) -> None:
        """Divide the time since it was last divided equally among the members that train.

        It runs within epochs. All shares of a stack add up to its `seconds`.
        """
        now, members = perf_counter(), self.members()
        passed, self.shared_until = now - self.shared_until, now
        self.seconds += passed
        for member in members:
            member.seconds += passed / len(members)
            member.stack_seconds = self.seconds

    # An epoch -------------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """Draw each member's order of the rows, and call what looks at the begin of an epoch."""
        self.shared_until = perf_counter()
        self.in_epoch, self.ends_epoch = 1, False
        for member in self.members():
            member.started = member.started or self.shared_until
            member.lr = float(member.schedule.group["lr"])
        for member in self.members():
            member.measured.clear()
        for group in self.groups if not self.n_within else ():
            group.call(self, "on_epoch_start")
        for slots in self.blocks():
            slots.begin_epoch(self.n_rows)
            if self.n_within > self.n_unmeasured:
                restore_epoch(slots, self.n_rows)
        for member in self.members():
            member.resumed = None

    def train_epoch(self) -> None:
        """Train every member on its own minibatches."""
        for first, end in self.chunks:
            if end > self.n_within:
                compile_in_time(self, first)
                self._train(max(first, self.n_within), end)
            if end < self.n_batches:  # afterwards the epoch is measured first
                raise_interrupts()

    def _train(self, first: int, end: int) -> None:
        """Train every member on its own minibatches of these numbers."""
        n, shared = end - first, (self.rows.features, self.rows.target)
        schedules = dict.fromkeys(member.schedule for member in self.members())
        groups = {schedule: schedule.advance(n) for schedule in schedules}

        def train(step: Step, slots: BlockSlots[Member]) -> None:
            members = slots.members_or_filler()
            own = [groups[member.schedule] for member in members]
            n_groups = max(len(each) for each in own)
            steps = [[each[i % len(each)] for each in own] for i in range(n_groups)]
            n_done = torch.tensor([member.epoch * self.n_batches + first for member in members])
            clips = None
            if self.clips:
                nodes = [member.config["trainer"] for member in members]
                clips = [node["gradient_clip_val"] for node in nodes]
            numbers = step.coefficients(steps, clips, n_done, n)
            numbers = numbers.to(slots.block.weights)
            keys = torch.zeros(n, len(members), 2, dtype=torch.int32, device=self.device)
            if step.key_names:
                keys = slots.dropout_keys(n)
            for own_steps, rows in chunk_rows(slots.order, first, end, self.batch_size):
                inputs = *shared, rows, numbers[own_steps], keys[own_steps]
                losses, outputs = self.runner.run(step, slots.block, inputs)
                slots.losses.append(losses)
                start = (first + own_steps.start) * self.batch_size
                slots.keep_outputs(outputs.transpose(0, 1), start, self.n_rows)

        blocks = self.blocks()
        with autocast_of(self.precision, self.device):
            self.runner.workers.for_each_block(train, blocks)

    def end_epoch(self) -> None:
        """Validate, and call what looks at that."""
        self.ends_epoch = True
        for schedule in dict.fromkeys(member.schedule for member in self.members()):
            schedule.end_epoch()
        self._measure()
        for group in self.groups if self.n_validation_batches else ():
            group.call(self, "on_validation_end")
        for member in self.members():
            if member.schedule.moves == "metric" and member.failure is None:
                member.schedule.follow(member.metrics[member.config["monitor"]])
        for group in self.groups:
            group.call(self, "on_epoch_end")
        for member in self.members():
            member.epoch += 1
        self.in_epoch, self.ends_epoch = 0, False
        self.n_within = self.n_unmeasured = 0
        self.share_time()
        self.log.flush_now_and_then()

    def _measure(self) -> None:
        """Work out the metrics of the epoch, and log them.

        A member whose loss was not finite keeps its last finite weights. Its epoch has failed all
        the same, as it would have alone: its validation is NaN.
        """
        blocks = self.blocks()
        for slots, found in zip(
            blocks, self.runner.workers.for_each_block(self._metrics, blocks), strict=True
        ):
            self.log.add_steps(slots, self.n_unmeasured, self.n_batches, self.log_every)
            lives, ks = slots.block.alive.tolist(), [k for k, _ in slots.occupied()]
            for k, member in slots.occupied():
                member.has_diverged = not lives[k]
            slots.end_steps()
            members = [member for _, member in slots.occupied()]
            last = np.array([(member.epoch + 1) * self.n_batches - 1 for member in members])
            values = {name: each.double().cpu().numpy()[ks] for name, each in found.items()}
            self.log_scalars(members, values, last)

    def log_scalars(
        self, members: Sequence[Member], values: Mapping[str, Values], steps: Values
    ) -> None:
        """Log scalars `(K,)` of some members, at their steps `(K,)`, for whoever monitors too."""
        columns = [each.tolist() for each in values.values()]
        for member, row in zip(members, zip(*columns, strict=True), strict=True):
            member.metrics.update(zip(values, row, strict=True))
            member.measured.update(values)
        self.log.add(members, values, steps)

    def _metrics(self, step: Step, slots: BlockSlots[Member]) -> dict[str, Tensor]:
        """The loss and metrics of a block, `(K,)` each, by names such as "validation/loss".

        Training rows have the outputs with which they were trained on, unless those are lost.
        """
        assert slots.outputs is not None
        rows = [self.batch_size] * (self.n_rows // self.batch_size)
        sizes = [*rows, self.n_rows - sum(rows)][self.n_unmeasured : self.n_batches]
        start = self.n_unmeasured * self.batch_size
        target, outputs = self.rows.target[slots.order[:, start:]], slots.outputs[:, start:]
        task_model = task_model_of_all([member for _, member in slots.occupied()])
        alive = slots.block.alive
        train = summarize(task_model, torch.cat(slots.losses), sizes, outputs, target)
        minibatches = copy(self.validation)  # which counts those that it has yielded
        with autocast_of(self.precision, self.device):
            validation = evaluate_block(step, slots.block, minibatches, task_model)
        return {f"train/{name}": value for name, value in train.items()} | {
            f"validation/{name}": value.where(alive, torch.nan)
            for name, value in validation.items()
        }
