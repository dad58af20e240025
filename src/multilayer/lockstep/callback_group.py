"""Members of a stack that have equal callbacks, which act for all of them at once."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.core.files import explain_write_error
from multilayer.lockstep.member import Member
from multilayer.lockstep.record import StackRecord
from multilayer.lockstep.restore import restore_callbacks
from multilayer.runs.manifest import without_wrong_status
from multilayer.training.epoch_callback import Callback, EpochCallback

if TYPE_CHECKING:
    from multilayer.lockstep.stack import Stack

log = logging.getLogger(__name__)


class CallbackGroup:
    """Members with their callbacks, which are the same objects for all of them.

    A member that has a callback without `PER_RUN`, whose K is 1, is a group by itself.

    Attributes:
        members: in the order of all arrays.
        callbacks: in the order in which they are called.
        takes_more: whether all of them can act for several members.
    """

    def __init__(self, member: Member) -> None:
        self.members = [member]
        self.callbacks: list[EpochCallback] = member.callbacks
        self.takes_more = all(each.acts_for_all for each in self.callbacks)
        for callback in self.callbacks:
            callback.reset()
        restore_callbacks(member)

    def call(self, stack: "Stack", hook: str) -> None:
        """Call a hook of every callback, unless all members have failed.

        What a callback of the user's own raises becomes the member's `failure`, and so do errors of
        the user's or the disk's in any other one; its later callbacks are not called.
        """
        if all(member.failure for member in self.members):
            return
        record = StackRecord(stack, self)
        for callback in self.callbacks:
            record.acting = callback.state_key
            try:
                getattr(callback, hook)(record)
            except Exception as error:
                if callback.acts_for_all and not isinstance(error, UserError | OSError):
                    raise
                for member in self.members:
                    failure = explain_write_error(error, member.run.path)
                    member.failure = member.failure or failure
                return

    def find(self, kind: type[Callback]) -> Callback | None:
        """The first callback of a class."""
        return next((each for each in self.callbacks if isinstance(each, kind)), None)

    def describe_fit(self) -> None:
        """Note in the manifests what the callbacks say of their runs."""
        for k, member in enumerate(self.members):
            member.manifest |= member.describe_fit()
            for callback in self.callbacks:
                member.manifest |= without_wrong_status(
                    callback.manifest_entries(k),
                    type(callback).__name__,
                    has_stopped=callback.state_key in member.stopped_by,
                )

    def fail(self, stack: "Stack", error: BaseException | None) -> None:
        """Have the callbacks save what there is after an error: this one, or each member's own."""
        for k, member in enumerate(self.members):
            part = self.select([k])
            record = StackRecord(stack, part)
            for callback in part.callbacks:
                try:
                    callback.on_failure(record, error or member.failure or RuntimeError())
                except Exception as raised:
                    _log_second_failure(member, raised, error or member.failure)

    def select(self, ks: Sequence[int]) -> "CallbackGroup":
        """A group of some of the members."""
        chosen = copy(self)
        chosen.members = [self.members[k] for k in ks]
        chosen.callbacks = [_selected(each, ks) for each in self.callbacks]
        return chosen

    def takes(self, other: "CallbackGroup") -> bool:
        """Whether another group has equal callbacks, which can act for the members of both."""
        mine, its = self.callbacks, other.callbacks
        if not (self.takes_more and other.takes_more) or [*map(type, mine)] != [*map(type, its)]:
            return False
        return [*map(_shared, mine)] == [*map(_shared, its)]

    def append(self, other: "CallbackGroup") -> None:
        """Take in the members of a group with equal callbacks."""
        sizes = len(self.members), len(other.members)
        pairs = zip(self.callbacks, other.callbacks, strict=True)
        self.callbacks = [_joined(mine, its, sizes) for mine, its in pairs]
        self.members = [*self.members, *other.members]


def merged(groups: Iterable[CallbackGroup]) -> list[CallbackGroup]:
    """The groups, those with equal callbacks as one."""
    found: list[CallbackGroup] = []
    for group in groups:
        same = next((each for each in found if each.takes(group)), None)
        if same is None:
            found.append(group)
        else:
            same.append(group)
    return found


def _log_second_failure(member: Member, raised: Exception, first: BaseException | None) -> None:
    """Say what a callback raised after an error, unless it is the same one again."""
    folder = member.run.path
    other = explain_write_error(raised, folder)
    if not isinstance(other, UserError):
        log.error(f"{folder} failed, and then its callbacks did", exc_info=raised)
    # A full disk is full for these too, and a folder that is gone is gone for all.
    elif str(other) != str(first) and folder.is_dir():
        log.warning(f"{folder}: {other}")


def _selected(callback: EpochCallback, ks: Sequence[int]) -> EpochCallback:
    """A callback with what it holds of some runs; itself where there is one alone."""
    if not callback.acts_for_all:
        return callback
    chosen = copy(callback)
    for name in callback.PER_RUN or ():
        setattr(chosen, name, _rows(getattr(callback, name), ks))
    return chosen


def _rows(value: Any, ks: Sequence[int]) -> Any:
    """The elements of some runs."""
    if isinstance(value, dict):
        return {name: each[list(ks)] for name, each in value.items()}
    return [value[k] for k in ks] if isinstance(value, list) else value[list(ks)]


def _joined(callback: EpochCallback, other: EpochCallback, sizes: tuple[int, int]) -> EpochCallback:
    """A callback with what two hold of their runs, of which `sizes` are the numbers."""
    joined = copy(callback)
    for name in callback.PER_RUN or ():
        mine, its = getattr(callback, name), getattr(other, name)
        if isinstance(mine, dict):
            both: Any = {key: _with_gaps(mine, its, key, sizes) for key in {**mine, **its}}
        else:
            both = [*mine, *its] if isinstance(mine, list) else np.concatenate([mine, its])
        setattr(joined, name, both)
    return joined


def _with_gaps(
    mine: Mapping[str, Tensor], its: Mapping[str, Tensor], key: str, sizes: tuple[int, int]
) -> Tensor:
    """The tensors `(K, ...)` of both under a name; one that has none gets the first of the other.

    What all runs share, such as their preprocessing, is then theirs.
    """
    first = (mine if key in mine else its)[key][:1]
    parts = (
        own.get(key, first.expand(n, *first.shape[1:]))
        for own, n in zip((mine, its), sizes, strict=True)
    )
    return torch.cat([*parts])


def _shared(callback: EpochCallback) -> dict[str, Any]:
    """The attributes that all runs share; private ones, such as clocks, do not count."""
    per_run = callback.PER_RUN or ()
    return {
        name: value
        for name, value in vars(callback).items()
        if name not in per_run and not name.startswith("_")
    }
