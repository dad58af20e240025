"""Whether networks that should stack do so, tried on two rows before anything is written."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from multilayer.errors import first_line
from multilayer.lockstep.block import Step, make_block
from multilayer.lockstep.optimizers import stack_optimizer
from multilayer.lockstep.template import Template
from multilayer.losses import BinaryCrossEntropy, CrossEntropy
from multilayer.modules import SupervisedModule, squeeze_single
from multilayer.train import Training

# What a template takes from each member; any other attribute it has from the first one.
TAKEN_FROM_EACH: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.Dropout, "p"),
    (CrossEntropy, "label_smoothing"),
    (BinaryCrossEntropy, "label_smoothing"),
)


class CannotStackError(Exception):
    """Jobs that were to be one stack have to train alone; the message says why."""


def alike(trainings: Sequence[Training]) -> tuple[list[list[Training]], str | None]:
    """Group runs by their networks; returns the groups, and the first difference if there is one.

    Jobs whose configs may stack can have networks that may not: one of the user's own may keep its
    dropout rate to itself, or have a layer only where there is dropout.
    """
    groups: list[list[Training]] = []
    first_difference = None
    for training in trainings:
        for group in groups:
            found = difference(group[0].module, training.module)
            if found is None:
                group.append(training)
                break
            first_difference = first_difference or found
        else:
            groups.append([training])
    return groups, first_difference


def difference(first: nn.Module, other: nn.Module) -> str | None:
    """In what two modules differ beside what a stack holds for each; None where in nothing."""
    layers, others = (
        {
            name: layer
            for name, layer in module.named_modules()
            if name.startswith(("network", "loss"))
        }
        for module in (first, other)
    )
    if {name: type(own) for name, own in layers.items()} != {
        name: type(own) for name, own in others.items()
    }:
        return "the networks differ in their layers"
    tensors, its_tensors = (shapes(module) for module in (first, other))
    if tensors != its_tensors:
        return "the networks differ in the shapes of their weights"
    for name, layer in layers.items():
        its = others[name]
        for attribute, value in vars(layer).items():
            mine = (type(layer), attribute) in TAKEN_FROM_EACH
            if is_plain(value) and not mine and vars(its).get(attribute) != value:
                where = " ".join([*name.split(".")[1:], type(layer).__name__])
                return f"the networks differ in {where}.{attribute}"
    return None


def shapes(module: nn.Module) -> dict[str, tuple[torch.Size, bool]]:
    """The shape of each parameter and buffer, and whether it is trained."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: (tensor.shape, tensor.requires_grad) for name, tensor in tensors}


def is_plain(value: Any) -> bool:
    """Whether a value is a number, a text or the like, or consists of such.

    >>> is_plain([0.1, {"a": None}]), is_plain([torch.nn.ReLU()])
    (True, False)
    """
    if isinstance(value, dict):
        return all(map(is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return isinstance(value, bool | int | float | str | None)


def try_step(trainings: Sequence[Training]) -> None:
    """Take a step of the first two with two rows, which changes no weights.

    Freezes in all of them the parameters that get no gradient: torch's optimizers pass over such.

    Raises `CannotStackError` where a stack computes something else than the modules by themselves,
    or cannot compute it: a network may do what `torch.func.vmap` cannot.
    """
    modules = [training.module for training in trainings[:2]]
    device = modules[0].device
    features, target = (each[:2].to(device) for each in trainings[0].data.splits["train"])
    try:
        unused = without_gradient(modules[0], features, target)
        for training in trainings:
            for name in unused:
                training.module.get_parameter(name).requires_grad_(False)
        compare(modules, features, target)
    except CannotStackError:
        raise
    except Exception as error:  # anything, from the user's own network; alone it says so again
        raise CannotStackError(
            f"torch.func.vmap cannot run the network: {first_line(error)}"
        ) from error


def without_gradient(module: SupervisedModule, features: Tensor, target: Tensor) -> list[str]:
    """The names of the parameters that would be trained and that the loss does not depend on."""
    own = deepcopy(module).train()
    own.loss(squeeze_single(own.network(features)), target).backward()
    trained = [(name, each) for name, each in own.named_parameters() if each.requires_grad]
    return [name for name, each in trained if each.grad is None]


def compare(modules: Sequence[SupervisedModule], features: Tensor, target: Tensor) -> None:
    """Raise `CannotStackError` where a stack computes something else than the modules alone."""
    template = Template(modules)
    optimizer = stack_optimizer(
        [torch.optim.SGD(module.parameters(), lr=0.0) for module in modules]
    )
    block = make_block(template, modules, range(len(modules)))
    step = Step(template, optimizer, optimizer.number_names())
    before = {name: value.clone() for name, value in block.rest.items()}
    n, device = len(modules), features.device
    keys = torch.zeros(n, 2, dtype=torch.int32, device=device)
    numbers = torch.zeros(len(step.number_names), n, device=device)
    rows = features.expand(n, *features.shape).clone()
    step(block, rows, target.expand(n, -1).clone(), numbers, keys)
    for k, module in enumerate(modules):
        own = deepcopy(module).train()
        own.network(features)
        buffers = {name: value for name, value in own.named_buffers() if name in before}
        for name, value in buffers.items():
            changes = not torch.equal(value, before[name][k])
            if changes and torch.equal(block.rest[name][k], before[name][k]):
                raise CannotStackError(f"the network replaces its buffer {name}")
    template.eval()
    block.rest = before
    losses, _ = step.losses(block.weights, block.rest, rows, target.expand(n, -1).clone(), keys)
    for loss, module in zip(losses, modules, strict=True):
        own = deepcopy(module).eval()
        expected = own.loss(squeeze_single(own.network(features)), target)
        if not torch.allclose(loss, expected.float(), rtol=1e-3, atol=1e-5, equal_nan=True):
            raise CannotStackError("torch.func.vmap computes another loss for the network")
