"""Whether the training that a checkpoint holds can be taken up, seen before it is.

Shapes are compared with care: a fused optimizer writes past the end of a state that is too short.
"""

from collections.abc import Iterator
from copy import copy, deepcopy
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from multilayer.training.module import MakeScheduler, SupervisedModule

KINDS: dict[type, tuple[type, ...]] = {
    float: (int, float),
    list: (list, tuple),
    tuple: (list, tuple),
}
"""What may stand for a value in a state; for other types, only they do."""


def misfits_of_training(
    checkpoint: dict[str, Any],
    module: SupervisedModule,
    trainer: pl.Trainer,
    make_scheduler: MakeScheduler,
) -> Iterator[str]:
    """Why a training cannot go on from what a checkpoint holds, one reason after the other.

    make_scheduler: makes a schedule as the checkpoint has it.
    """
    optimizer = after_a_step(module)
    schedule = make_scheduler(optimizer)
    fresh = optimizer.state_dict()
    known = {each.state_key: each.state_dict() for each in trainer.callbacks}  # type: ignore[attr-defined]
    if "Timer" in known:
        known["Timer"] = {key: with_floats(value) for key, value in known["Timer"].items()}
    loop = trainer.fit_loop.state_dict()
    loop["state_dict"]["combined_loader"] = [{"n_given": 0, "epoch": 0, "batch_size": 1}]
    parts = {
        "state_dict": module.state_dict(),
        "loops": {"fit_loop": loop},
        "callbacks": {key: known[key] for key in known if key in checkpoint["callbacks"]},
        "optimizer_states": [{"state": {}, "param_groups": fresh["param_groups"]}],
        "lr_schedulers": [schedule.state_dict()],
    }
    if "current_model_state" in checkpoint:
        parts |= {"current_model_state": module.state_dict(), "averaging_state": {}}
    yield from misfits("checkpoint", checkpoint, parts)
    for name in checkpoint["lr_schedulers"][0]:
        if callable(getattr(schedule, str(name), None)):
            yield f"lr_schedulers.{name} would take the place of a function"
    best = checkpoint["callbacks"].get("BestWeights", {}).get("weights")
    yield from misfits("BestWeights.weights", best, module.state_dict() if best else None)
    yield from misfits_of_weights(checkpoint["optimizer_states"][0], fresh)


def try_to_load(
    checkpoint: dict[str, Any],
    module: SupervisedModule,
    trainer: pl.Trainer,
    make_scheduler: MakeScheduler,
) -> None:
    """Load what fits in shape as Lightning will, and make a step with copies.

    Whatever a value of the right type makes a library raise comes up here, with nothing written.
    """
    module.load_state_dict(checkpoint["state_dict"])
    if "current_model_state" in checkpoint:
        averaged = {f"module.{name}": value for name, value in checkpoint["state_dict"].items()}
        AveragedModel(module).load_state_dict(averaged | checkpoint["averaging_state"])
        module.load_state_dict(checkpoint["current_model_state"])
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if state := checkpoint["callbacks"].get(callback.state_key):
            copy(callback).load_state_dict(deepcopy(state))
    optimizer = after_a_step(module)
    schedule = make_scheduler(optimizer)
    optimizer.load_state_dict(deepcopy(checkpoint["optimizer_states"][0]))
    schedule.load_state_dict(deepcopy(checkpoint["lr_schedulers"][0]))
    for parameter in optimizer.param_groups[0]["params"]:
        if parameter not in optimizer.state:  # it had no gradient
            parameter.grad = None
    optimizer.step(lambda: 0.0)
    if isinstance(schedule, ReduceLROnPlateau):
        schedule.step(0.0)
    else:
        schedule.step()


def with_floats(state: dict[str, Any]) -> dict[str, Any]:
    """A state whose 0 may become a 0.5: seconds, or `optimizer.lr=0` in a schedule."""
    return {key: float(value) if type(value) is int else value for key, value in state.items()}


def after_a_step(module: SupervisedModule) -> torch.optim.Optimizer:
    """The module's optimizer for other weights, of zeros, after a step."""
    parameters = [nn.Parameter(torch.zeros_like(each)) for each in module.network.parameters()]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    assert module.make_optimizer is not None, "a module to be trained has an optimizer"
    optimizer = module.make_optimizer(parameters)
    optimizer.step(lambda: 0.0)
    for group in optimizer.param_groups:
        group.update(with_floats(group))
    return optimizer


def misfits_of_weights(stored: dict[str, Any], fresh: dict[str, Any]) -> Iterator[str]:
    """What does not fit in what an optimizer gathered; a weight without it has not moved yet."""
    weights, known = ([each["params"] for each in one["param_groups"]] for one in (stored, fresh))
    if weights != known:
        yield "optimizer_states.param_groups.params: other weights"
    for index, state in stored["state"].items():
        if not any(index in each for each in known):
            yield f"optimizer_states.state.{index} is of no weight"
        # Without momentum, for example, nothing is gathered, and what was is not used.
        elif state != {}:
            yield from misfits(f"optimizer_states.{index}", state, fresh["state"].get(index))


def misfits(key: str, stored: Any, fresh: Any) -> Iterator[str]:
    """Where a state is of another kind or shape than a fresh one; there may be more in it.

    What is None or an empty list in the fresh one may be anything. The precision of a tensor may be
    another.

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
    elif fresh is not None and not isinstance(stored, KINDS.get(type(fresh), type(fresh))):
        yield f"{key} is no {type(fresh).__name__}"
    elif isinstance(fresh, Tensor) and layout(stored) != layout(fresh):
        yield f"{key} has the shape {tuple(stored.shape)}, not {tuple(fresh.shape)}"
    elif type(fresh) is int and stored < 0 <= fresh:
        yield f"{key} is below 0"


def layout(tensor: Tensor) -> tuple[Any, ...]:
    """What must be the same for one tensor to stand for another."""
    return tensor.shape, tensor.layout, tensor.is_floating_point()
