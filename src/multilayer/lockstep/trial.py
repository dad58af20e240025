"""Whether networks that should stack do so, tried on two rows before anything is written."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from multilayer.errors import first_line
from multilayer.lockstep.block import Step, make_block
from multilayer.lockstep.optimizers import stack_optimizer
from multilayer.lockstep.template import Template
from multilayer.losses import BinaryCrossEntropy, CrossEntropy
from multilayer.modules import SupervisedModule
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
            mine = any(
                isinstance(layer, kind) and attribute == taken for kind, taken in TAKEN_FROM_EACH
            )
            plain = isinstance(value, bool | int | float | str | tuple | None)
            if plain and not mine and vars(its).get(attribute) != value:
                where = f"{name} " if name else ""
                raise CannotStackError(
                    f"the networks differ in {where}{type(layer).__name__}.{attribute}"
                )


def try_step(modules: Sequence[SupervisedModule], features: Tensor, target: Tensor) -> None:
    """The losses and gradients of the first members for two rows."""
    template = Template(modules)
    block = make_block(template, modules, range(len(modules)))
    step = Step(template, stack_optimizer([torch.optim.SGD(modules[0].parameters(), lr=0.0)]), ())
    n = len(modules)
    weights = block.weights.requires_grad_()
    keys = torch.zeros(n, 2, dtype=torch.int32, device=features.device)
    rows = features.expand(n, *features.shape).clone()
    loss, _ = step.losses(weights, block.rest, rows, target.expand(n, -1).clone(), keys)
    torch.autograd.grad(loss.sum(), weights)
