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


def try_to_stack(trainings: Sequence[Training]) -> None:
    """Raise `CannotStackError` where the networks differ in more than a stack can hold.

    A network may keep its dropout rate to itself, or do what `torch.func.vmap` cannot.
    """
    modules = [training.module for training in trainings]
    for module in modules[1:]:
        for name in ("network", "loss"):
            check_alike(getattr(modules[0], name), getattr(module, name))
    features, target = (each[:2] for each in trainings[0].data.splits["train"])
    try:
        try_step(modules[:2], features.to(modules[0].device), target.to(modules[0].device))
    except CannotStackError:
        raise
    except Exception as error:  # anything, from the user's own network; alone it says so again
        raise CannotStackError(
            f"torch.func.vmap cannot run the network: {first_line(error)}"
        ) from error


def check_alike(first: nn.Module, other: nn.Module) -> None:
    """Raise `CannotStackError` where two networks have layers of other kinds or numbers."""
    layers, others = dict(first.named_modules()), dict(other.named_modules())
    if {name: type(own) for name, own in layers.items()} != {
        name: type(own) for name, own in others.items()
    }:
        raise CannotStackError("the networks differ in their layers")
    for name, layer in layers.items():
        its = others[name]
        for attribute, value in vars(layer).items():
            mine = (type(layer), attribute) in TAKEN_FROM_EACH
            if is_plain(value) and not mine and vars(its).get(attribute) != value:
                where = f"{name} " if name else ""
                raise CannotStackError(
                    f"the networks differ in {where}{type(layer).__name__}.{attribute}"
                )


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


def try_step(modules: Sequence[SupervisedModule], features: Tensor, target: Tensor) -> None:
    """Take a step with two rows that changes no weights.

    Raises `CannotStackError` where it computes something else than the modules by themselves.
    """
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
