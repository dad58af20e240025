"""How the states in a checkpoint fit those of a training that is to take them up; torch alone.

Whoever made the checkpoint, nothing is taken up before its types and shapes are those expected.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from multilayer.core.errors import UserError
from multilayer.training.resume import Resumed

_COMPATIBLE_TYPES: dict[type, tuple[type, ...]] = {
    float: (int, float),
    list: (list, tuple),
    tuple: (list, tuple),
}
"""The types that can replace a value in a state; for other types, only their own."""


def check_same_data(resumed: Resumed, metadata: dict[str, Any]) -> None:
    """Raise `UserError` if a checkpoint was trained on other data, or with another loss.

    Args:
        resumed: the checkpoint.
        metadata: of the task model that is to go on from it.
    """
    theirs = resumed.checkpoint["multilayer"]
    if theirs["data_fingerprint"] != metadata["data_fingerprint"]:
        raise UserError(f"resume: {resumed.path} was trained on other data; give it as it was")
    if theirs["config"]["loss"] != metadata["config"]["loss"]:
        raise UserError(f"loss.class_weights: {resumed.path} has others; leave them as they were")


def with_floats(state: dict[str, Any]) -> dict[str, Any]:
    """A state in which a whole number may become a fraction, such as seconds or a rate of 0."""
    return {key: float(value) if type(value) is int else value for key, value in state.items()}


def state_misfits(
    checkpoint: dict[str, Any],
    weights: dict[str, Tensor],
    callbacks: dict[str, dict[str, Any]],
    schedule: Any,
) -> Iterator[str]:
    """Where the weights and the states of callbacks and schedule differ from fresh ones.

    Args:
        checkpoint: what was read.
        weights: of the module that is to go on.
        callbacks: their states, by their keys; those without one in the checkpoint begin anew.
        schedule: one of torch's.
    """
    known = {key: callbacks[key] for key in callbacks if key in checkpoint["callbacks"]}
    parts = {"state_dict": weights, "callbacks": known, "lr_schedulers": [schedule.state_dict()]}
    yield from misfits("checkpoint", checkpoint, parts)
    for name in checkpoint["lr_schedulers"][0]:
        if callable(getattr(schedule, str(name), None)):
            yield f"lr_schedulers.{name} would take the place of a function"
    best = checkpoint["callbacks"].get("BestWeights", {}).get("weights")
    yield from misfits("BestWeights.weights", best, weights if best else None)


def misfits(key: str, stored: Any, fresh: Any) -> Iterator[str]:
    """Where a stored state differs from a fresh one in type or shape; it may hold more.

    A value that is None or an empty list in the fresh one may be anything. The precision of tensors
    may differ.

    >>> import torch
    >>> list(misfits("a", {"n": 3, "w": torch.zeros(2)}, {"n": 0, "w": torch.ones(2)}))
    []
    >>> list(misfits("a", {"n": "x", "m": 1}, {"n": 0, "m": 0}))
    ['a.n is no int']
    """
    if isinstance(fresh, dict) and isinstance(stored, dict):
        for name, value in fresh.items():
            if name in stored:
                yield from misfits(f"{key}.{name}", stored[name], value)
            else:
                yield f"{key}.{name} is missing"
    elif isinstance(fresh, list | tuple) and isinstance(stored, list | tuple) and fresh:
        if len(stored) != len(fresh):
            yield f"{key} has the length {len(stored)}, not {len(fresh)}"
        for index, pair in enumerate(zip(stored, fresh, strict=False)):
            yield from misfits(f"{key}.{index}", *pair)
    elif fresh is not None and not isinstance(
        stored, _COMPATIBLE_TYPES.get(type(fresh), type(fresh))
    ):
        yield f"{key} is no {type(fresh).__name__}"
    elif isinstance(fresh, Tensor) and _layout(stored) != _layout(fresh):
        yield f"{key} has the shape {tuple(stored.shape)}, not {tuple(fresh.shape)}"
    elif type(fresh) is int and stored < 0 <= fresh:
        yield f"{key} is below 0"


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    """The properties in which a stored tensor must agree with a fresh one."""
    return tensor.shape, tensor.layout, tensor.is_floating_point()
