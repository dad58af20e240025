"""Whether the training that a checkpoint holds can be taken up, seen before it is.

Shapes are compared with care: a fused optimizer writes past the end of a state that is too short.
"""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from multilayer.errors import UserError
from multilayer.modules import SupervisedModule


def check_training_state(
    checkpoint: dict[str, Any], module: SupervisedModule, trainer: pl.Trainer
) -> None:
    """Raise `UserError` where a training cannot go on from what a checkpoint holds."""
    problem = next(filter(None, problems(checkpoint, module, trainer)), None)
    if problem:
        raise UserError(f"resume: the checkpoint holds no training that fits this one: {problem}")


def problems(
    checkpoint: dict[str, Any], module: SupervisedModule, trainer: pl.Trainer
) -> Iterator[str | None]:
    """What does not fit, one after the other."""
    parts: dict[str, Any] = {"state_dict": {}, "loops": {"fit_loop": {}}, "callbacks": {}}
    yield dict_difference("checkpoint", checkpoint, parts)
    weights = module.state_dict()
    yield difference("state_dict", checkpoint["state_dict"], weights)
    yield difference(
        "loops.fit_loop", checkpoint["loops"]["fit_loop"], trainer.fit_loop.state_dict()
    )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        key = f"callbacks.{callback.state_key}"
        stored = checkpoint["callbacks"].get(callback.state_key)
        if stored is not None:
            yield difference(key, stored, callback.state_dict())
            if isinstance(stored, dict) and stored.get("weights", {}) != {}:
                yield difference(f"{key}.weights", stored["weights"], weights)
    made: Any = module.configure_optimizers()
    optimizer = only(checkpoint.get("optimizer_states"))
    yield dict_difference("optimizer_states", optimizer, {"state": {}, "param_groups": []})
    yield from problems_of_optimizer(optimizer, state_after_a_step(module))
    if isinstance(made, dict):
        schedule = made["lr_scheduler"]["scheduler"]
        stored = only(checkpoint.get("lr_schedulers"))
        yield difference("lr_schedulers", stored, schedule.state_dict())
        for name in stored:
            if callable(getattr(schedule, str(name), None)):
                yield f"lr_schedulers.{name} would take the place of a function"


def only(states: Any) -> Any:
    """The one state in a list; None where it is no list of one."""
    return states[0] if isinstance(states, list) and len(states) == 1 else None


def problems_of_optimizer(stored: dict[str, Any], fresh: Any) -> Iterator[str | None]:
    """What does not fit in an optimizer's state; a parameter without one has not moved yet."""
    if fresh is None:
        return
    key = "optimizer_states"
    groups = stored["param_groups"]
    if len(groups) != len(fresh["param_groups"]):
        yield f"{key}.param_groups: other groups of weights"
    for group, like in zip(groups, fresh["param_groups"], strict=False):
        # A schedule makes 0.0 of `optimizer.lr=0`.
        numbers = {name: float(each) if type(each) is int else each for name, each in like.items()}
        yield difference(f"{key}.param_groups", group, numbers)
        if group["params"] != like["params"]:
            yield f"{key}.param_groups.params: other weights"
    known = {index for group in fresh["param_groups"] for index in group["params"]}
    for index, state in stored["state"].items():
        if index not in known:
            yield f"{key}.state.{index} is of no weight"
        # Without momentum, for example, nothing is gathered, and what was is not used.
        if state != {} and index in fresh["state"]:
            yield difference(f"{key}.state.{index}", state, fresh["state"][index])


def state_after_a_step(module: SupervisedModule) -> Any:
    """The state of the module's optimizer for its weights; None for one that wants a closure."""
    parameters = [nn.Parameter(torch.zeros_like(each)) for each in module.network.parameters()]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    assert module.make_optimizer is not None, "a module to be trained has an optimizer"
    optimizer: Any = module.make_optimizer(parameters)
    try:
        optimizer.step()
    except TypeError:
        return None
    return optimizer.state_dict()


def difference(key: str, stored: Any, fresh: Any) -> str | None:
    """Where a state is of another kind or shape than a fresh one, in words.

    What is None or empty in the fresh one may be anything.

    >>> difference("a", {"n": 3, "w": torch.zeros(2)}, {"n": 0, "w": torch.ones(2)})
    >>> difference("a", {"n": "x"}, {"n": 0})
    'a.n is no int'
    """
    match fresh:
        case None:
            return None
        case Tensor():
            return tensor_difference(key, stored, fresh)
        case dict():
            return dict_difference(key, stored, fresh)
        case bool():
            fits = isinstance(stored, bool)
        case int():
            fits = isinstance(stored, int) and not (stored < 0 <= fresh)
        case float():
            fits = isinstance(stored, int | float)
        case list() | tuple():
            fits = isinstance(stored, list | tuple)
        case _:
            fits = isinstance(stored, type(fresh))
    return None if fits else f"{key} is no {type(fresh).__name__}"


def dict_difference(key: str, stored: Any, fresh: dict[Any, Any]) -> str | None:
    """As `difference`, for dicts; there may be more in the stored one."""
    if not isinstance(stored, dict):
        return f"{key} is no dict"
    for name, value in fresh.items():
        if name not in stored:
            return f"{key}.{name} is missing"
        found = difference(f"{key}.{name}", stored[name], value)
        if found:
            return found
    return None


def tensor_difference(key: str, stored: Any, fresh: Tensor) -> str | None:
    """As `difference`, for tensors; the precision may be another."""
    if not isinstance(stored, Tensor) or stored.layout != torch.strided:
        return f"{key} is no tensor"
    if stored.shape != fresh.shape or stored.is_floating_point() != fresh.is_floating_point():
        return f"{key} has the shape {tuple(stored.shape)}, not {tuple(fresh.shape)}"
    return None
