"""Whether new jobs are of the same sweep as those that it has: by the values of their configs."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from multilayer.sweeps.identity import LATER_KEYS, Values

_ABSENT = "none"
"""Stands for the value of a key that a config does not have."""


@dataclass(frozen=True)
class BatchValues:
    """The values of jobs that were registered together; see `identity.values_that_matter`.

    Attributes:
        shared: What all of them have in common.
        own: The other values of each.
    """

    shared: Values
    own: Sequence[Values]

    @classmethod
    def of(cls, jobs: Sequence[Values]) -> "BatchValues":
        """The values of jobs, taken apart."""
        first = dict(jobs[0])
        for values in jobs[1:]:
            differing = [key for key, value in first.items() if _differs(values, key, value)]
            for key in differing:
                del first[key]
        own = [{key: value for key, value in each.items() if key not in first} for each in jobs]
        return cls(first, own)


def _differs(values: Values, key: str, value: object) -> bool:
    """Whether a config has another value at a key; True is not 1."""
    other = values.get(key, _ABSENT)
    return other is not value and (other != value or type(other) is not type(value))


def conflicts(old: Iterable[BatchValues], new: BatchValues) -> list[str]:
    """Why new jobs are not of the sweep that has the old ones: a line for each key.

    A key is an axis of the sweep if its value differs between its jobs, and else fixed. New jobs
    may add values to an axis, and make an axis of a fixed key; but a key that was fixed, and is
    fixed in the new jobs too, must have the same value.

    Examples:
        >>> old = BatchValues.of([{"lr": 1, "seed": 0}, {"lr": 2, "seed": 0}])
        >>> conflicts([old], BatchValues.of([{"lr": 3, "seed": 0}, {"lr": 3, "seed": 1}]))
        []
        >>> conflicts([old], BatchValues.of([{"lr": 1, "seed": 1}]))
        ['seed=1: the jobs of this sweep have seed=0']
    """
    batches = list(old)
    if not batches:
        return []
    keys = {key for each in [*batches, new] for one in [each.shared, *each.own] for key in one}
    before, now = _distinct(batches, keys), _distinct([new], keys)
    problems = []
    for key in sorted(keys):
        if len(before[key]) > 1 or len(now[key]) > 1 or before[key] == now[key]:
            continue
        (was,), (is_now,) = before[key], now[key]
        target = f"{key.rpartition('.')[0]}._target_"
        if key != target and len(before[target] | now[target]) > 1:
            is_axis = len(before[target]) > 1 or len(now[target]) > 1
            if not is_axis or _ABSENT in (was, is_now):
                continue  # the class itself is in conflict, or those of the axis have other keys
        problems.append(f"{key}={is_now}: the jobs of this sweep have {key}={was}")
    return problems


def _distinct(batches: Iterable[BatchValues], keys: Iterable[str]) -> defaultdict[str, set[str]]:
    """The values of each key, as text."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for batch in batches:
        varied = {key for own in batch.own for key in own}
        for key in keys:
            absent = LATER_KEYS.get(key, _ABSENT)
            if key in varied:
                found[key] |= {_as_text(own.get(key, absent)) for own in batch.own}
            else:
                found[key].add(_as_text(batch.shared.get(key, absent)))
    return found


def _as_text(value: object) -> str:
    """A value as a command line has it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
