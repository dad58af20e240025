"""A stack of members: how they go through an epoch together, and how some of them leave."""

import logging
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from multilayer.data import Minibatches
from multilayer.lockstep.member import Member
from multilayer.lockstep.seats import Seats, compact, in_blocks
from multilayer.nn.losses import total_weight
from multilayer.nn.metrics import metrics_of
from multilayer.stacking.block import Block, make_block
from multilayer.stacking.chunks import chunk_rows, epoch_chunks
from multilayer.stacking.dropout import draw_keys
from multilayer.stacking.model import StackedModel
from multilayer.stacking.optimizers import group_of, stack_optimizer
from multilayer.stacking.runner import StepRunner
from multilayer.stacking.step import Step
from multilayer.training.epoch_outputs import prefix_names, weighted_mean
from multilayer.training.steps import limited_batches

log = logging.getLogger(__name__)


class Stack:
    """Members that train together.

    members: all started, on one device, with networks of one shape and the same rows.
    choice, threads: whether to compile, and how many CPU threads; see `StepRunner`.
    say: tells the user that the step is compiled.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        choice: bool | str = "auto",
        threads: int | str = 1,
        say: Callable[[str], None] = log.info,
    ) -> None:
        training = members[0].training
        trainer = training.config["trainer"]
        self.members = list(members)
        self.module = members[0].module
        self.device = self.module.device
        self.max_epochs = max(member.trainer.max_epochs or 0 for member in members)
        minibatches = training.data.train_minibatches(self.device)
        assert isinstance(minibatches, Minibatches), "the plan stacks no streamed data"
        self.features = minibatches.features.to(self.device)
        self.target = minibatches.target.to(self.device)
        features, target = training.data.split_tensors("validation")
        self.validation_rows = (features.to(self.device), target.to(self.device))
        self.batch_size = minibatches.batch_size
        self.n_batches = limited_batches(trainer, len(minibatches))
        self.n_rows = min(minibatches.n_rows, self.n_batches * self.batch_size)
        self.log_every: int = trainer["log_every_n_steps"]
        self.epoch = 0
        self.n_steps = 0
        self.seconds = 0.0
        self.shared_until = perf_counter()

        self.model = StackedModel([member.module for member in members])
        kind = type(members[0].optimizer)
        self.optimizer = stack_optimizer(kind, [group_of(member.optimizer) for member in members])
        self.clips = bool(trainer["gradient_clip_val"])
        self.coefficient_names = self.optimizer.coefficient_names() + ("clip",) * self.clips
        self.step = Step(self.model, self.optimizer, self.coefficient_names)
        self.block_size = self.step.most_members()
        self.seats = [self.seat(some) for some in in_blocks(self.members, self.block_size)]
        self.runner = StepRunner(
            self.step, choice=choice, threads=threads, device=self.device, say=say
        )

    def seat(self, members: Sequence[Member | None]) -> Seats:
        """Take members into a block of their own."""
        present = [member for member in members if member is not None]
        block = self.make_block(present, for_training=True)
        if len(present) < len(members):  # free places hold copies: all blocks have one shape
            block = block.only([*range(len(present)), *[0] * (len(members) - len(present))])
        seats = Seats(block, list(members))
        seats.settle()
        return seats

    def make_block(self, members: Sequence[Member], *, for_training: bool) -> Block:
        """A block of the members' weights, and of what their optimizers remember at the start."""
        return make_block(
            self.model,
            [member.module for member in members],
            [self.members.index(member) for member in members],
            self.optimizer if for_training else None,
            [group_of(member.optimizer) for member in members],
        )

    def alive(self) -> list[Member]:
        """The members that are still training."""
        return [member for seats in self.seats for _, member in seats.taken()]

    # An epoch -------------------------------------------------------------------------------

    def begin_epoch(self) -> list[Member]:
        """Draw each member's order of the rows; returns members that fail before it."""
        self.shared_until = perf_counter()
        for member in self.alive():
            member.begin_epoch(self.optimizer.unused_terms)
        failed = self.let_go([member for member in self.alive() if member.failure is not None])
        for seats in self.seats:
            orders = {member: member.order(self.epoch) for _, member in seats.taken()}
            rows = [orders[member][: self.n_rows] for member in seats.everyone()]
            seats.order = torch.stack(rows).to(self.device)
            seats.losses, seats.validation = [], []
        return failed

    def epoch_chunks(self) -> list[tuple[int, int]]:
        """The minibatches of an epoch that are trained in one call each: the first, and the end."""
        return epoch_chunks(self.n_rows, self.batch_size)

    def train(self, first: int, end: int) -> None:
        """Train every member on its own minibatches of these numbers, all of one size."""
        n = end - first
        for seats in self.seats:
            rows = chunk_rows(seats.order, first, end, self.batch_size)
            inputs = (
                self.features,
                self.target,
                rows,
                self.numbers(seats, n),
                self.keys(seats, n),
            )
            losses, outputs = self.runner.run(seats.block, inputs, self.n_steps_left(rows.shape[2]))
            seats.losses.append(losses)
            self.keep(seats, first, outputs.transpose(0, 1))
            self.log_steps(seats, losses)
        self.n_steps += n

    def keep(self, seats: Seats, first: int, outputs: Tensor) -> None:
        """Keep the outputs `(K, S, B, ...)` of minibatches from the first one on."""
        n_members, n, n_rows = outputs.shape[:3]
        if seats.outputs is None:
            seats.outputs = outputs.new_empty(n_members, self.n_rows, *outputs.shape[3:])
        start = first * self.batch_size
        mine = seats.outputs[:, start : start + n * n_rows]
        mine.view(n_members, n, n_rows, *outputs.shape[3:]).copy_(outputs)

    def n_steps_left(self, n_rows: int) -> int:
        """The steps of blocks with minibatches of so many rows, until the end of the training."""
        n_full = self.n_rows // self.batch_size
        n_an_epoch = n_full if n_rows == self.batch_size else 1
        return n_an_epoch * (self.max_epochs - self.epoch) * len(self.seats)

    def numbers(self, seats: Seats, n: int) -> Tensor:
        """What each member's update multiplies with, `(n, n_numbers, K)`; moves schedules on."""
        groups = [self.groups(seats)]
        if self.members[0].has_schedule("step"):
            for _, member in seats.taken():
                member.note_schedule(self.n_steps)
            for _ in range(n):
                for _, member in seats.taken():
                    member.move_schedule("step")
                groups.append(self.groups(seats))
            groups.pop()
        clips = None
        if self.clips:
            nodes = [member.training.config["trainer"] for member in seats.everyone()]
            clips = [node["gradient_clip_val"] for node in nodes]
        counts = torch.full((len(seats.block),), self.n_steps)
        numbers = self.step.coefficients(groups, clips, counts, n)
        return numbers.to(self.device, seats.block.weights.dtype)

    def groups(self, seats: Seats) -> list[dict[str, Any]]:
        """The parameter group of each place's optimizer, as it is now."""
        own = {member: group_of(member.optimizer) for _, member in seats.taken()}
        return [own[member] for member in seats.everyone()]

    def keys(self, seats: Seats, n: int) -> Tensor:
        """Each member's keys for the masks of dropout, `(n, K, 2)` int32."""
        own = {member: draw_keys(member.dropout_keys, n) for _, member in seats.taken()}
        return torch.stack([own[member] for member in seats.everyone()], dim=1).to(self.device)

    def log_steps(self, seats: Seats, losses: Tensor) -> None:
        """Log the loss of a minibatch now and then, as a run that trains alone does."""
        for i in range(len(losses)):
            if (self.n_steps + i + 1) % self.log_every == 0:
                for k, member in seats.taken():
                    member.log({"train/loss_step": float(losses[i, k])}, self.n_steps + i)

    def validate(self, features: Tensor, target: Tensor) -> None:
        """Keep the losses and outputs of a validation minibatch."""
        for seats in self.seats:
            seats.validation.append(self.step.evaluate(seats.block, features, target))

    def end_validation(self) -> None:
        """Work out the metrics of the epoch, and hand each member its own."""
        rows = [self.batch_size] * (self.n_rows // self.batch_size)
        sizes = [*rows, self.n_rows - sum(rows)][: self.n_batches]
        for seats in self.seats:
            assert seats.outputs is not None
            train = self.summarize(
                torch.cat(seats.losses),
                sizes,
                seats.outputs,
                self.target[seats.order],
            )
            losses, outputs = zip(*seats.validation, strict=True)
            n = [output.shape[1] for output in outputs]
            whole = torch.cat(outputs, dim=1)
            validation = self.summarize(
                torch.stack(losses), n, whole, self.validation_rows[1].expand(len(whole), -1)
            )
            self.hand_out(
                seats, prefix_names("train", train) | prefix_names("validation", validation)
            )

    def hand_out(self, seats: Seats, values: dict[str, Tensor]) -> None:
        """Give each member its metrics.

        One whose loss was not finite keeps its last finite weights. Its epoch has failed all the
        same, as it would have alone: its validation is NaN.
        """
        alive = seats.block.alive
        own = {
            name: value.where(alive, torch.nan) if name.startswith("validation/") else value
            for name, value in values.items()
        }
        columns = {name: value.cpu().unbind() for name, value in own.items()}
        steps, lives = seats.block.n_steps.tolist(), alive.tolist()
        for k, member in seats.taken():
            member.move_schedule("epoch")
            if not lives[k]:
                member.left_at_step = steps[k]
            mine = {name: column[k] for name, column in columns.items()}
            member.end_validation(mine, self.n_steps, self.n_batches)

    def end_epoch(self) -> list[Member]:
        """Close the epoch; returns the members that leave."""
        self.epoch += 1
        for member in self.alive():
            member.end_epoch()
        return self.let_go([member for member in self.alive() if member.is_done()])

    def count_within_epoch(self) -> None:
        """Set the counters of members in the middle of an epoch: it does not come to its end."""
        for seats in self.seats:
            steps = seats.block.n_steps.tolist()
            for k, member in seats.taken():
                member.take_schedule_back(steps[k])
                n_given = steps[k] - self.epoch * self.n_batches
                progress = member.trainer.fit_loop.epoch_progress.current
                if not progress.ready > progress.completed == self.epoch:
                    continue
                if n_given == 0:
                    member.take_back_begin()
                else:
                    member.count(steps[k], n_given, all_given=n_given == self.n_batches)

    def let_go(self, leaving: list[Member]) -> list[Member]:
        """Let members leave, with weights of their own."""
        for member in leaving:
            member.finish()
        self.share_time()
        gone = set(leaving)
        for seats in self.seats:
            seats.members = [None if member in gone else member for member in seats.members]
        self.seats = [seats for seats in self.seats if seats.taken()]
        self.compact()
        return leaving

    def share_time(self) -> None:
        """Divide the time since it was last divided equally among the members that train.

        It runs within epochs. All shares of a stack add up to its `seconds`.
        """
        now, alive = perf_counter(), self.alive()
        passed, self.shared_until = now - self.shared_until, now
        self.seconds += passed
        for member in alive:
            member.seconds += passed / len(alive)
            member.stack_seconds = self.seconds

    def compact(self) -> None:
        """Fill places that became free, so that an epoch costs what those cost that are left."""
        compact(self.seats)

    # Evaluation -----------------------------------------------------------------------------

    def evaluate(
        self, members: Sequence[Member], minibatches: Minibatches
    ) -> list[dict[str, float]]:
        """The loss and metrics of some members, as they are now, over rows that they share."""
        found = []
        for some in in_blocks(members, self.block_size):
            present = [member for member in some if member is not None]
            block = self.make_block(present, for_training=False)
            losses, outputs, targets = [], [], []
            for features, target in minibatches:
                loss, output = self.step.evaluate(block, features, target)
                losses.append(loss)
                outputs.append(output)
                targets.append(target)
            sizes = [len(target) for target in targets]
            whole = torch.cat(targets).expand(len(present), -1)
            values = self.summarize(torch.stack(losses), sizes, torch.cat(outputs, dim=1), whole)
            columns = {name: value.tolist() for name, value in values.items()}
            found += [
                {name: column[k] for name, column in columns.items()} for k in range(len(present))
            ]
        return found

    def summarize(
        self, losses: Tensor, sizes: Sequence[int], outputs: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """The loss and every metric, `(K,)` each.

        losses: `(n_minibatches, K)`, over minibatches of `sizes` rows.
        outputs: `(K, N, ...)`. target: `(K, N)`.
        """
        parts = target.split_with_sizes(list(sizes), dim=1)
        weights = torch.stack([total_weight(self.module.loss, part) for part in parts])
        predictions = self.module.predictions(outputs.float())
        metrics = metrics_of(self.module.task, predictions, self.module.targets(target))
        return {"loss": weighted_mean(losses, weights), **metrics}
