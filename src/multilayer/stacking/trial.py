"""Whether networks that are alike can be a stack, tried on two rows before anything is written."""

import random
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from multilayer.core.errors import first_line
from multilayer.stacking.block import Step, make_block
from multilayer.stacking.compat import difference
from multilayer.stacking.model import Template
from multilayer.stacking.optimizers import stack_optimizer

if TYPE_CHECKING:  # a stack needs torch alone
    from multilayer.data import DataModule
    from multilayer.training.module import SupervisedModule


class CannotStackError(Exception):
    """Jobs that were to be one stack have to train alone; the message says why."""


def try_step(modules: Sequence["SupervisedModule"], data: "DataModule") -> None:
    """Take a step of the first two with two rows, which changes no weights.

    Raises `CannotStackError` where a stack computes something else than the modules by themselves,
    or cannot compute it: a network may do what `torch.func.vmap` cannot.
    """
    try:
        compare(modules[:2], *_two_rows(data, modules[0].device))
    except CannotStackError:
        raise
    except Exception as error:  # anything, from the user's own network; alone it says so again
        raise CannotStackError(
            f"torch.func.vmap cannot run the network: {first_line(error)}"
        ) from error


def _two_rows(data: "DataModule", device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows to try a network on."""
    features, target = data.split_tensors("train", at_most=2)
    return features.to(device), target.to(device)


def freeze_unused(modules: Sequence["SupervisedModule"], data: "DataModule") -> None:
    """Freeze what gets no gradient in networks that are alike; torch's optimizers pass over it."""
    features, target = _two_rows(data, modules[0].device)
    own = deepcopy(modules[0]).train()
    own.loss_of(own.output(features), target).backward()  # type: ignore[no-untyped-call]
    unused = [name for name, each in own.named_parameters() if each.grad is None]
    for module in modules:
        for name in unused:
            module.get_parameter(name).requires_grad_(False)


def compare(modules: Sequence["SupervisedModule"], features: Tensor, target: Tensor) -> None:
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
    rows, targets = features.expand(n, *features.shape).clone(), target.expand(n, -1).clone()
    before_step = _random_states()
    step(block, rows, targets, numbers, keys)
    if _random_states() != before_step:
        raise CannotStackError(
            "the network draws random numbers otherwise than by nn.Dropout, 1d, 2d or 3d"
        )
    for k, module in enumerate(modules):
        _check_state(
            module, features, {name: (before[name][k], block.rest[name][k]) for name in before}
        )
    template.eval()
    losses, _ = step.losses(block.weights, before, rows, targets, keys)
    for loss, module in zip(losses, modules, strict=True):
        own = deepcopy(module).eval()
        expected = own.loss_of(own.output(features), target)
        if not torch.allclose(loss, expected.float(), rtol=1e-3, atol=1e-5, equal_nan=True):
            raise CannotStackError("torch.func.vmap computes another loss for the network")


def _random_states() -> tuple[object, ...]:
    """Where torch's, numpy's and Python's generators are."""
    return bytes(torch.get_rng_state().numpy()), str(np.random.get_state()), random.getstate()


def _check_state(
    module: "SupervisedModule", features: Tensor, stacked: Mapping[str, tuple[Tensor, Tensor]]
) -> None:
    """Raise `CannotStackError` where a step changes in a module what a stack does not see.

    stacked: the module's buffers before and after a step of the stack.
    """
    before, after = deepcopy(module).train(), deepcopy(module).train()
    unlike = difference(before, after)
    if unlike:
        raise CannotStackError(f"{unlike} cannot be compared with that of other members")
    after.network(features)
    changed = difference(before, after)
    if changed:
        raise CannotStackError(f"a step changes {changed}")
    for name, value in after.named_buffers():
        if name not in stacked:
            continue
        first, last = stacked[name]
        if not torch.equal(value, first) and torch.equal(last, first):
            raise CannotStackError(f"the network replaces its buffer {name}")
