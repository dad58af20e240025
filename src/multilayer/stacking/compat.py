"""Which networks can be a stack: alike in all but what it holds for each member, and tried.

Jobs whose configs may stack can have networks that may not. One of a user's own may keep a rate to
itself, draw a mask when it is built, or have a layer only where there is dropout. It may also do
what `torch.func.vmap` cannot: a step on two rows shows that before anything is written.
"""

import random
import weakref
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations
from torch.optim import SGD

from multilayer.core.errors import first_line
from multilayer.stacking.block import make_block
from multilayer.stacking.layers import per_member_attr
from multilayer.stacking.model import StackedModel
from multilayer.stacking.optimizers import stack_optimizer
from multilayer.stacking.step import Step

if TYPE_CHECKING:  # a stack needs torch alone
    from multilayer.data import Dataset
    from multilayer.training.task_model import TaskModel

_TENSORS_AND_LAYERS = ("_parameters", "_buffers", "_modules")
"""What a module keeps these in: they are compared by their names, kinds and shapes."""

_MISSING = object()

Names = dict[int, str]


def group_compatible(modules: Sequence[nn.Module]) -> tuple[list[list[int]], str | None]:
    """Group modules whose networks and losses are alike.

    Returns the groups, as positions, and where there are several the first difference, in words.
    """
    groups: list[list[int]] = []
    first_difference = None
    for position, module in enumerate(modules):
        for group in groups:
            found = difference(modules[group[0]], module)
            if found is None:
                group.append(position)
                break
            first_difference = first_difference or found
        else:
            groups.append([position])
    return groups, first_difference


def difference(first: nn.Module, other: nn.Module, *, in_all: bool = False) -> str | None:
    """In what the networks and losses of two modules differ; None where they are alike.

    Args:
        first: with `network` and `loss`.
        other: likewise.
        in_all: whether also in the numbers of which each member has its own.
    """
    layers, others = parts(first), parts(other)
    kinds, other_kinds = (
        {name: type_before_parametrizations(layer) for name, layer in each.items()}
        for each in (layers, others)
    )
    if kinds != other_kinds:
        return "their layers"
    if shapes(first) != shapes(other):
        return "the shapes of their weights"
    names, other_names = _names_of(first), _names_of(other)
    for name, layer in layers.items():
        own = per_member_attr(layer)
        mine, its = vars(layer), vars(others[name])
        for attribute in dict.fromkeys([*mine, *its]):
            is_own = attribute == own and not in_all
            if attribute in _TENSORS_AND_LAYERS or is_own:
                continue
            pair = mine.get(attribute, _MISSING), its.get(attribute, _MISSING)
            if not _are_equal(*pair, names, other_names):
                return " ".join([*name.split(".")[1:], f"{type(layer).__name__}.{attribute}"])
    return None


def parts(module: nn.Module) -> dict[str, nn.Module]:
    """The network and the loss of a module, with all their layers."""
    parts = [(name, module.get_submodule(name)) for name in ("network", "loss")]
    return {
        name: layer for prefix, part in parts for name, layer in part.named_modules(prefix=prefix)
    }


def _names_of(module: nn.Module) -> Names:
    """The names of all layers, parameters and buffers, by their identity."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {id(each): name for name, each in [*module.named_modules(), *tensors]}


def shapes(module: nn.Module) -> dict[str, tuple[torch.Size, bool]]:
    """The shape of each parameter and buffer, and whether it is trained."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {
        name: (tensor.shape, tensor.requires_grad)
        for name, tensor in tensors
        if name.startswith(("network.", "loss."))
    }


def _are_equal(mine: Any, its: Any, names: Names, other_names: Names) -> bool:
    """Whether two values that networks keep are equal; those that cannot be compared are not."""
    try:
        return same(mine, its, names, other_names)
    except Exception:  # an object of the user's own may raise anything
        return False


def same(mine: Any, its: Any, names: Names, other_names: Names) -> bool:
    """Whether two values that networks keep are equal.

    Args:
        mine: the value of one.
        its: the value of the other.
        names: of what is compared by itself, or is being compared, by identity.
        other_names: likewise of the other network.

    >>> same([0.1, {"a": None}], [0.1, {"a": None}], {}, {})
    True
    >>> same([torch.zeros(2)], [torch.ones(2)], {}, {})
    False
    """
    if id(mine) in names or id(its) in other_names:
        return names.get(id(mine)) == other_names.get(id(its))
    if mine is its:
        return True
    if type(mine) is not type(its):
        return False
    if isinstance(mine, Tensor):
        return torch.equal(mine, its)
    if isinstance(mine, np.ndarray):
        return bool(np.array_equal(mine, its))
    if isinstance(mine, list | tuple):
        pairs = zip(mine, its, strict=False)
        return len(mine) == len(its) and all(same(*pair, names, other_names) for pair in pairs)
    if isinstance(mine, OrderedDict) and all(isinstance(key, int) for key in mine):
        # torch's hooks, whose keys count all hooks that there ever were.
        return same(list(mine.values()), list(its.values()), names, other_names)
    if isinstance(mine, dict):
        return mine.keys() == its.keys() and all(
            same(value, its[key], names, other_names) for key, value in mine.items()
        )
    if isinstance(mine, weakref.ReferenceType):
        return same(mine(), its(), names, other_names)
    inside, its_inside = _what_is_inside(mine), _what_is_inside(its)
    if inside is None:
        return bool(mine == its)
    names[id(mine)] = other_names[id(its)] = f"object {len(names)}"  # they may refer to themselves
    return same(inside, its_inside, names, other_names)


def _what_is_inside(value: Any) -> Any:
    """What makes a function or an object what it is; None where it has no parts."""
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return value.__code__, value.__defaults__, value.__kwdefaults__, cells
    if isinstance(value, partial):
        return value.func, value.args, value.keywords
    if isinstance(value, deque | set | frozenset):
        return sorted(value, key=repr) if isinstance(value, set | frozenset) else list(value)
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    if slots:
        return {name: getattr(value, name, None) for name in slots}
    return getattr(value, "__dict__", None)


_STANDING_STILL = {
    **dict.fromkeys(("lr", "weight_decay", "momentum", "dampening"), 0.0),
    **dict.fromkeys(("nesterov", "maximize"), False),
}
"""The parameter group of an SGD that changes no weights."""


class CannotStackError(Exception):
    """Jobs that were to be one stack have to train alone; the message says why."""


def check_stackable(modules: Sequence["TaskModel"], data: "Dataset") -> None:
    """Take a step of the first two with two rows, which changes no weights.

    Raises `CannotStackError` where a stack computes something else than the modules by themselves,
    or cannot compute it: a network may do what `torch.func.vmap` cannot.
    """
    try:
        compare(modules[:2], *_two_rows(data, modules[0]))
    except CannotStackError:
        raise
    except Exception as error:  # anything, from the user's own network; alone it says so again
        raise CannotStackError(
            f"torch.func.vmap cannot run the network: {first_line(error)}"
        ) from error


def _two_rows(data: "Dataset", task_model: "TaskModel") -> tuple[Tensor, Tensor]:
    """Rows to try a network on, as a step takes them."""
    features, target = data.split_tensors("train", at_most=2)
    return features.to(task_model.device, task_model.dtype), target.to(task_model.device)


def freeze_unused_parameters(modules: Sequence["TaskModel"], data: "Dataset") -> list[str]:
    """Freeze what gets no gradient in networks that are alike; torch's optimizers pass over it.

    Returns the names of what is frozen now.
    """
    features, target = _two_rows(data, modules[0])
    own = deepcopy(modules[0]).train()
    own.loss_of(own.output(features), target).backward()  # type: ignore[no-untyped-call]
    unused = [name for name, each in own.named_parameters() if each.grad is None]
    for module in modules:
        freeze(module, unused)
    return unused


def freeze(module: nn.Module, names: Sequence[str]) -> None:
    """Freeze the parameters of these names, as far as a module has them."""
    for name, parameter in module.named_parameters():
        if name in names:
            parameter.requires_grad_(False)


def compare(modules: Sequence["TaskModel"], features: Tensor, target: Tensor) -> None:
    """Raise `CannotStackError` where a stack computes something else than the modules alone."""
    model = StackedModel(modules)
    optimizer = stack_optimizer(SGD, [_STANDING_STILL])
    block = make_block(model, modules, range(len(modules)))
    step = Step(model, optimizer)
    before = {name: value.clone() for name, value in block.rest.items()}
    n, device = len(modules), features.device
    keys = torch.zeros(n, 2, dtype=torch.int32, device=device)
    numbers = torch.zeros(len(step.coefficient_names), n, device=device)
    rows, targets = (
        features.expand(n, *features.shape).clone(),
        target.expand(n, *target.shape).clone(),
    )
    before_step = _random_states()
    step(block, torch.empty_like(block.weights), rows, targets, numbers, keys)
    if _random_states() != before_step:
        raise CannotStackError(
            "the network draws random numbers otherwise than by nn.Dropout, 1d, 2d or 3d"
        )
    for k, module in enumerate(modules):
        buffers = {name: (before[name][k], block.rest[name][k]) for name in before}
        _check_state(module, features, target, buffers)
    model.eval()
    losses, _ = step.losses(block.weights, before, rows, targets, keys)
    for loss, module in zip(losses, modules, strict=True):
        own = deepcopy(module).eval()
        expected = own.loss_of(own.output(features), target)
        if not torch.allclose(loss.float(), expected.float(), rtol=1e-3, atol=1e-5, equal_nan=True):
            raise CannotStackError("torch.func.vmap computes another loss for the network")


def _random_states() -> tuple[object, ...]:
    """Where torch's, numpy's and Python's generators are."""
    return bytes(torch.get_rng_state().numpy()), str(np.random.get_state()), random.getstate()


def _check_state(
    module: "TaskModel",
    features: Tensor,
    target: Tensor,
    stacked: Mapping[str, tuple[Tensor, Tensor]],
) -> None:
    """Raise `CannotStackError` where a step changes in a module what a stack does not see.

    Args:
        module: trained by itself.
        features: of a minibatch, `(B, D)`.
        target: of it, `(B,)`.
        stacked: the module's buffers before and after a step of the stack.
    """
    before, after = deepcopy(module).train(), deepcopy(module).train()
    unlike = difference(before, after)
    if unlike:
        raise CannotStackError(f"{unlike} cannot be compared with that of other members")
    after.loss_of(after.output(features), target)
    changed = difference(before, after)
    if changed:
        raise CannotStackError(f"a step changes {changed}")
    for name, value in after.named_buffers():
        if name not in stacked:
            continue
        first, last = stacked[name]
        if not torch.equal(value, first) and torch.equal(last, first):
            raise CannotStackError(f"the network replaces its buffer {name}")
