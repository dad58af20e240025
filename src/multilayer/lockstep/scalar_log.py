"""What the members of a stack log, handed to their loggers in batches."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from functools import partial
from time import monotonic, time

import numpy as np
import torch

from multilayer.core.metric_names import is_undefined
from multilayer.lockstep.member import Member
from multilayer.lockstep.slots import BlockSlots
from multilayer.lockstep.writer import Writer
from multilayer.training.epoch_callback import Values
from multilayer.training.event_file import EventFile
from multilayer.training.trackers import end_run

_SECONDS_BETWEEN_FLUSHES = 2.0

_Row = tuple[int, float, int, tuple[str, ...], tuple[float, ...]]
"""The step, the time in seconds since 1970, the epoch, the names and the values."""


class ScalarLog:
    """Collects scalars of all members, and has the thread that writes hand them to the loggers.

    Args:
        writer: the thread.
    """

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.rows: dict[Member, list[_Row]] = defaultdict(list)
        self.flushed = monotonic()

    def add(self, members: Sequence[Member], values: Mapping[str, Values], steps: Values) -> None:
        """Add scalars `(K,)` of some members, at their steps `(K,)`."""
        now, names = time(), tuple(values)
        columns = [each.tolist() for each in values.values()]
        rows = zip(members, steps.tolist(), zip(*columns, strict=True), strict=True)
        for member, step, row in rows:
            if member.loggers:
                self.rows[member].append((step, now, member.epoch, names, row))

    def begin(self, member: Member) -> None:
        """Have the event file of a run that begins made.

        The experiment of any other logger is there afterwards: callbacks ask for it as well, and
        if two threads made it, what one of them logs would be lost.
        """
        begun = self.writer.submit(member, partial(_hand_over, member, []))
        if not all(isinstance(each, EventFile) for each in member.loggers):
            wait([begun])

    def add_steps(self, slots: BlockSlots[Member], first: int, n_batches: int, every: int) -> None:
        """Add the loss of a minibatch now and then, as a run that trains alone does.

        Args:
            slots: a block at an epoch's end.
            first: the first minibatch of the epoch whose loss is known.
            n_batches: the minibatches of an epoch.
            every: the steps from one that is logged to the next.
        """
        losses: Values | None = None
        for k, member in slots.occupied():
            before = member.epoch * n_batches
            for i in range(first + -(before + first + 1) % every, n_batches, every):
                losses = torch.cat(slots.losses).cpu().numpy() if losses is None else losses
                values = {"train/loss_step": losses[i - first, k : k + 1].astype(np.float64)}
                self.add([member], values, np.array([before + i]))

    def flush_now_and_then(self) -> None:
        """Hand over what there is, if it is time again."""
        if monotonic() - self.flushed >= _SECONDS_BETWEEN_FLUSHES:
            for member in list(self.rows):
                self.flush(member)
            self.flushed = monotonic()

    def flush(self, member: Member) -> None:
        """Hand over what there is of a member."""
        self.writer.submit(member, partial(_hand_over, member, self.rows.pop(member, [])))

    def finish(self, member: Member, status: str) -> None:
        """Hand over all of a member that ends; its loggers are told "success" or "failed"."""
        self.writer.submit(member, partial(_hand_over, member, self.rows.pop(member, []), status))


def _hand_over(member: Member, rows: Sequence[_Row], status: str = "") -> None:
    """Have the loggers of a member write rows; they end if there is a status."""
    for logger in member.loggers:
        if not isinstance(logger, EventFile):
            getattr(logger, "experiment", None)
        for step, seconds, epoch, names, row in rows:
            values = {
                name: value
                for name, value in zip(names, row, strict=True)
                if not is_undefined(name, value)
            }
            if isinstance(logger, EventFile):
                logger.add_scalars_of_step(values, step, seconds)
            else:  # some show the epoch, which Lightning adds too
                logger.log_metrics({**values, "epoch": epoch}, step)
        if isinstance(logger, EventFile):
            logger.flush()
        else:
            logger.save()
            if status:
                logger.finalize(status)
                end_run(logger)
