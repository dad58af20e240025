"""Members of a stack that have equal callbacks, which act for all of them at once."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.core.files import explain_write_error
from multilayer.lockstep.interrupts import raise_interrupts
from multilayer.lockstep.member import Member
from multilayer.lockstep.record import StackRecord
from multilayer.training.epoch_callback import Callback, EpochCallback

if TYPE_CHECKING:
    from multilayer.lockstep.stack import Stack

log = logging.getLogger(__name__)


class CallbackGroup:
    """Members with their callbacks.

    A callback of whose class `PER_RUN` is said is one object for all of them; of any other each
    member has its own.

    Attributes:
        members: in the order of all arrays.
        callbacks: one for all members, or a list with one for each.
    """

    def __init__(self, member: Member) -> None:
        self.members = [member]
        self.callbacks: list[EpochCallback | list[EpochCallback]] = [
            each if each.acts_for_all else [each] for each in member.callbacks
        ]
        for callback in member.callbacks:
            callback.reset()

    def call(self, stack: "Stack", hook: str, *arguments: Any) -> None:
        """Call a hook of every callback.

        What a member's own callback raises becomes its `failure`, and its later ones are not
        called. An error of the user's or the disk's in one for all members is all of theirs.
        """
        if not self.members:
            return
        record = StackRecord(stack, self, self.members)
        for callback in self.callbacks:
            if isinstance(callback, EpochCallback):
                try:
                    getattr(callback, hook)(record, *arguments)
                except (UserError, OSError) as error:
                    for member in self.members:
                        failure = explain_write_error(error, member.run.path)
                        member.failure = member.failure or failure
                    return
                continue
            for k, (member, own) in enumerate(zip(self.members, callback, strict=True)):
                if member.failure is None:
                    _guarded(member, getattr(own, hook), record.of(k), *arguments)
                if hook == "on_fit_start":  # which may take long, and nobody is within an epoch
                    raise_interrupts()

    def find(self, kind: type[Callback], members: Sequence[Member]) -> Callback | None:
        """The first callback of a class, with what it holds of these members."""
        k = self.members.index(members[0])
        for callback in self.callbacks:
            first = callback if isinstance(callback, EpochCallback) else callback[k]
            if isinstance(first, kind):
                if first is callback and len(members) < len(self.members):
                    return _selected(first, [self.members.index(each) for each in members])
                return first
        return None

    def of(self, member: Member) -> Iterator[tuple[EpochCallback, int]]:
        """Each callback of a member, and its place in it."""
        k = self.members.index(member)
        for callback in self.callbacks:
            yield (callback, k) if isinstance(callback, EpochCallback) else (callback[k], 0)

    def describe_fit(self) -> None:
        """Note in the manifests what the callbacks say of their runs."""
        for member in self.members:
            member.manifest |= member.describe_fit()
            for callback, k in self.of(member):
                member.manifest |= callback.manifest_entries(k)

    def fail(self, stack: "Stack", error: BaseException | None) -> None:
        """Have the callbacks save what there is after an error: this one, or each member's own."""
        for k, member in enumerate(self.members):
            part = self.select([k])
            record = StackRecord(stack, part, part.members)
            for callback, _ in part.of(member):
                try:
                    callback.on_failure(record, error or member.failure or RuntimeError())
                except Exception as raised:
                    _log_second_failure(member, raised, error or member.failure)

    def keep(self, ks: Sequence[int]) -> None:
        """Let the other members go."""
        vars(self).update(vars(self.select(ks)))

    def select(self, ks: Sequence[int]) -> "CallbackGroup":
        """A group of some of the members."""
        chosen = copy(self)
        chosen.members = [self.members[k] for k in ks]
        chosen.callbacks = [
            _selected(each, ks) if isinstance(each, EpochCallback) else [each[k] for k in ks]
            for each in self.callbacks
        ]
        return chosen

    def takes(self, other: "CallbackGroup") -> bool:
        """Whether another group has equal callbacks."""
        pairs = zip(self.callbacks, other.callbacks, strict=False)
        return len(self.callbacks) == len(other.callbacks) and all(
            _are_equal(mine, its) for mine, its in pairs
        )

    def append(self, other: "CallbackGroup") -> None:
        """Take in the members of a group with equal callbacks."""
        sizes = len(self.members), len(other.members)
        self.callbacks = [
            _joined(mine, its, sizes)
            if isinstance(mine, EpochCallback) and isinstance(its, EpochCallback)
            else [*mine, *its]  # type: ignore[misc]
            for mine, its in zip(self.callbacks, other.callbacks, strict=True)
        ]
        self.members = [*self.members, *other.members]


def group_members(members: Sequence[Member]) -> list[CallbackGroup]:
    """Members grouped by equal callbacks."""
    groups: list[CallbackGroup] = []
    for member in members:
        own = CallbackGroup(member)
        same = next((each for each in groups if each.takes(own)), None)
        if same is None:
            groups.append(own)
        else:
            same.append(own)
    return groups


def _guarded(member: Member, call: Callable[..., Any], *arguments: Any) -> None:
    """Call what is a member's own; what it raises becomes the member's failure."""
    try:
        call(*arguments)
    except Exception as error:
        member.failure = explain_write_error(error, member.run.path)


def _log_second_failure(member: Member, raised: Exception, first: BaseException | None) -> None:
    """Say what a callback raised after an error, unless it is the same one again."""
    folder = member.run.path
    other = explain_write_error(raised, folder)
    if not isinstance(other, UserError):
        log.error(f"{folder} failed, and then its callbacks did", exc_info=raised)
    # A full disk is full for these too, and a folder that is gone is gone for all.
    elif str(other) != str(first) and folder.is_dir():
        log.warning(f"{folder}: {other}")


def _selected(callback: Callback, ks: Sequence[int]) -> Callback:
    """A callback with what it holds of some runs."""
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


def _are_equal(mine: Any, its: Any) -> bool:
    """Whether two callbacks are equal, apart from what they hold of their runs."""
    first, other = (each[0] if isinstance(each, list) else each for each in (mine, its))
    if type(first) is not type(other) or isinstance(mine, list) != isinstance(its, list):
        return False
    if isinstance(mine, list):
        return True
    return _shared(first) == _shared(other)


def _shared(callback: EpochCallback) -> dict[str, Any]:
    """The attributes that all runs share; private ones, such as clocks, do not count."""
    per_run = callback.PER_RUN or ()
    return {
        name: value
        for name, value in vars(callback).items()
        if name not in per_run and not name.startswith("_")
    }
