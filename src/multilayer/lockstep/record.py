"""What callbacks are told of the members of a stack, and what they may do to them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from multilayer.core.metric_names import NEEDED
from multilayer.lockstep.checkpoint import resumable_checkpoint, weights_checkpoint
from multilayer.lockstep.schedule import Schedule
from multilayer.lockstep.slots import BlockSlots, bind, named_tensors
from multilayer.runs.checkpoint import write_checkpoint
from multilayer.training.components import stand_in_optimizer, with_lr
from multilayer.training.epoch_callback import Callback, Record, Values
from multilayer.training.event_file import EventFile
from multilayer.training.instantiate import if_imported
from multilayer.training.task_model import TaskModel

if TYPE_CHECKING:
    from multilayer.lockstep.callback_group import CallbackGroup
    from multilayer.lockstep.member import Member
    from multilayer.lockstep.stack import Stack


_Index = slice | Tensor


class StackRecord(Record):
    """Some members of a stack, as they are at the moment.

    Args:
        stack: the stack.
        group: the members, with their callbacks.
    """

    is_resumed = False
    n_processes = 1
    writes_files = True
    shows_progress = False  # a stack has one progress bar for all

    def __init__(self, stack: "Stack", group: "CallbackGroup") -> None:
        self.stack, self.group = stack, group
        members = self.members = group.members
        self.epoch = np.array([each.epoch + stack.in_epoch for each in members])
        self.step = np.array([each.step for each in members])
        now = stack.now()
        self.seconds = np.array([now - (each.started or now) for each in members])
        optimizer = type(members[0].schedule.optimizer).__name__
        self.rates = {f"lr-{optimizer}": np.array([each.lr for each in members])}
        self.log_every_n_steps = stack.log_every
        self.data, self.device = members[0].data, stack.device
        self.trainer_config = members[0].config["trainer"]
        self.acting = ""  # the state key of the callback that is called

    # What callbacks may change ----------------------------------------------------------------

    @cached_property
    def metrics(self) -> dict[str, Values]:  # type: ignore[override]
        """NaN where a run has none; worked out again after something was logged."""
        names = dict.fromkeys(name for each in self.members for name in each.metrics)
        return {
            name: np.array([each.metrics.get(name, np.nan) for each in self.members])
            for name in names
        }

    @property
    def measured(self) -> dict[str, Values]:  # type: ignore[override]
        """Those of this epoch's validation, and what callbacks have logged in it."""
        found = {}
        for name, values in self.metrics.items():
            there = np.array([name in each.measured for each in self.members])
            if NEEDED.keys() & name.split("/"):
                there &= ~np.isnan(values)
            if there.any():
                found[name] = there
        return found

    def has(self, name: str) -> Values:
        """Those of which it was measured."""
        return np.array([name in each.metrics for each in self.members])

    @property
    def min_epochs(self) -> Values:  # type: ignore[override]
        """The trainer's, unless a run is to stop at once."""
        return np.array([each.min_epochs for each in self.members])

    @property
    def is_last(self) -> Values:  # type: ignore[override]
        """Whether they leave at the end of this epoch."""
        return np.array([each.is_done(self.stack.in_epoch) for each in self.members])

    def find(self, kind: type[Callback]) -> Callback | None:
        """The callback of a class that these runs have."""
        return self.group.find(kind)

    # Weights --------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """A copy of those in place."""
        own = self.members[0].slots.views()
        kept = {
            name: (each.new_empty if name in own else each.expand)(self.n_runs, *each.shape)
            for name, each in self.members[0].task_model.state_dict().items()
        }
        self.keep_weights(kept, np.ones(self.n_runs, bool))
        return kept

    def keep_weights(self, kept: dict[str, Tensor], runs: Values) -> None:
        """Copy block by block, so that no second copy of all is made."""
        if not kept:
            kept.update(self.weights())
            return
        for slots, rows, ks in self._slots(runs):
            for name, new in slots.views().items():
                if name in kept:
                    kept[name][rows] = new[ks]

    def _slots(self, runs: Values) -> "list[tuple[BlockSlots[Member], _Index, _Index]]":
        """The blocks that some of these members are in, with their rows here and places there."""
        rows: dict[BlockSlots[Member], list[int]] = {}
        for row in np.flatnonzero(runs).tolist():
            rows.setdefault(self.members[row].slots, []).append(row)
        return [
            (slots, _index(own), _index([self.members[row].k for row in own]))
            for slots, own in rows.items()
        ]

    @contextmanager
    def inspect(
        self, weights: Mapping[str, Tensor] | None = None, k: int = 0
    ) -> Iterator[TaskModel]:
        """The member's own network."""
        task_model = self.members[k].task_model
        before = {name: each.data for name, each in named_tensors(task_model).items()}
        devices = [task_model.device] if task_model.device.type == "cuda" else []
        bind(task_model, {name: each[k] for name, each in (weights or {}).items()})
        task_model.eval()
        try:
            with torch.random.fork_rng(devices=devices):
                yield task_model
        finally:
            task_model.train()
            bind(task_model, before)

    # The optimizer --------------------------------------------------------------------------

    def optimizer(self, k: int = 0) -> Optimizer:
        """That of the member's schedule."""
        return self.members[k].schedule.optimizer

    def make_optimizer(
        self, parameters: Iterable[Tensor], *, k: int = 0, **arguments: Any
    ) -> Optimizer:
        """A stand-in, by the member's config."""
        config = self.members[k].config
        own = config | {"optimizer": config["optimizer"] | arguments}
        return stand_in_optimizer(own, list(parameters))

    def use_lr(self, lr: float, k: int = 0) -> None:
        """Give the member a schedule of its own, which the stack asks before each step."""
        member = self.members[k]
        member.config = with_lr(member.config, lr)
        member.schedule = Schedule(member.config, member.n_steps)
        metadata = member.task_model.metadata
        metadata["config"] = with_lr(metadata["config"], lr)

    # Actions --------------------------------------------------------------------------------

    def log_scalars(self, values: Mapping[str, Any], step: Values | None = None) -> None:
        """Log in every logger, and for whoever monitors."""
        vars(self).pop("metrics", None)
        arrays = {name: _as_array(value, self.n_runs) for name, value in values.items()}
        self.stack.log_scalars(self.members, arrays, self.step - 1 if step is None else step)

    def tensorboard(self, k: int = 0) -> Any:
        """The run's event file, which is like a `SummaryWriter`, or Lightning's writer."""
        lightnings = if_imported("pytorch_lightning.loggers.TensorBoardLogger")
        for each in self.members[k].loggers:
            if isinstance(each, EventFile):
                return each
            if isinstance(each, lightnings):
                return each.experiment
        return None

    def stop(self, reason: str, *, k: int | None = None, at_once: bool = False) -> None:
        """Have members leave at the end of this epoch."""
        for member in self.members if k is None else [self.members[k]]:
            member.stop_reason = reason
            member.stopped_by |= {self.acting}
            if at_once:
                member.min_epochs = 0

    def end_with(self, weights: Mapping[str, Tensor], runs: Values | None = None) -> None:
        """Copy them into the slots of members that leave."""
        for slots, rows, ks in self._slots(np.ones(self.n_runs, bool) if runs is None else runs):
            views = slots.views()
            for name, value in weights.items():
                if name in views:
                    views[name][ks] = value[rows]

    def submit(self, write: Callable[[], None], k: int = 0) -> None:
        """Write by the stack's thread."""
        self.stack.writer.submit(self.members[k], write)

    def save_checkpoint(
        self, path: Path, weights: Mapping[str, Tensor] | None = None, k: int = 0
    ) -> None:
        """Copy what the file holds, and have it written."""
        member = self.members[k]
        if weights is None:
            states = {each.state_key: each.state_dict(k) for each in self.group.callbacks}
            states = {key: state for key, state in states.items() if state}
            content = resumable_checkpoint(self.stack, member, states)
            self.stack.log.flush(member)  # a run that goes on from here has all of its curves
        else:
            own = {name: each[k] for name, each in weights.items()}
            content = weights_checkpoint(self.stack, member, own)
        n_bytes = member.task_model.dtype.itemsize * member.n_weights * (1 if weights else 4)
        self.stack.writer.submit(member, partial(write_checkpoint, content, path), n_bytes)


def _index(numbers: list[int]) -> _Index:
    """Numbers that index a tensor: as a slice, which copies once, where they follow each other."""
    first, end = numbers[0], numbers[-1] + 1
    return slice(first, end) if numbers == [*range(first, end)] else torch.tensor(numbers)


def _as_array(value: Any, n_runs: int) -> Values:
    """Values of K runs, or one for all of them, as an array `(K,)`."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    array = np.asarray(value, dtype=np.float64).reshape(-1)
    return np.broadcast_to(array, n_runs)
