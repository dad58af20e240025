"""Some members of a stack, side by side in memory.

A stack is cut into blocks of equal size. A step of a block touches little memory, which stays in
the processor's cache for many steps; all blocks share one compiled step; and their temporary
memory is that of one block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multilayer.stacking.model import StackedModel
from multilayer.stacking.stacked_optimizer import StackedOptimizer

if TYPE_CHECKING:  # a stack needs torch alone
    from multilayer.training.task_model import TaskModel

Tensors = dict[str, Tensor]


@dataclass
class Block:
    """The tensors of K members. What trains changes them in place.

    Attributes:
        weights: `(K, P)`, all that is trained, each parameter flattened and after the other.
        rest: frozen parameters, buffers, dropout rates and the like, each `(K, ...)`.
        state: what the optimizer remembers, each `(K, P)`.
        alive: `(K,)` bool, false from the step on whose loss or gradient was not finite.
        n_steps: `(K,)` int64, the steps taken while alive.
    """

    weights: Tensor
    rest: Tensors
    state: Tensors
    alive: Tensor
    n_steps: Tensor

    def __len__(self) -> int:
        return len(self.alive)

    def tensors(self) -> list[Tensor]:
        """All of them, in a fixed order."""
        return [self.weights, *self.rest.values(), *self.state.values(), self.alive, self.n_steps]

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Block":
        """A block of other tensors, in the order of `tensors()`."""
        each = iter(tensors)
        return Block(
            next(each),
            {name: next(each) for name in self.rest},
            {name: next(each) for name in self.state},
            next(each),
            next(each),
        )

    def take_over(self, new: Tensor) -> Tensor:
        """End a step: make new weights the block's.

        Args:
            new: `(K, P)`. Members that have diverged keep their old weights.

        Returns:
            The old weights, for the next step to write to.
        """
        if new.device.type != "cpu":  # where looking at a tensor would wait for all before it
            torch.where(self.alive.unsqueeze(1), new, self.weights, out=new)
        elif not self.alive.numpy().all():  # unlike torch's, it does not hand over to other threads
            new[~self.alive] = self.weights[~self.alive]
        old, self.weights = self.weights, new
        return old

    def reset_state(self) -> None:
        """Make the optimizer's state finite, of members that have diverged."""
        diverged = ~self.alive
        if diverged.any():
            for each in self.state.values():
                each[diverged] = each[diverged].nan_to_num(0.0, 0.0, 0.0)

    def move(self, source: "Block", k: int, place: int) -> None:
        """Copy member `k` of another block to a place in this one."""
        for mine, other in zip(self.tensors(), source.tensors(), strict=True):
            mine[place].copy_(other[k])

    def only(self, places: Sequence[int]) -> "Block":
        """A block of some of its members."""
        index = torch.tensor(places, device=self.alive.device)
        return self.with_tensors([tensor[index] for tensor in self.tensors()])


class Layout:
    """Where each parameter that is trained lies in the `(K, P)` of a block.

    >>> from torch import nn
    >>> layout = Layout(nn.Linear(3, 2))
    >>> [part.shape for part in layout.split(torch.zeros(5, 8)).values()]
    [torch.Size([5, 2, 3]), torch.Size([5, 2])]
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.shapes = {
            name: parameter.shape
            for name, parameter in module.named_parameters()
            if parameter.requires_grad and not name.startswith("loss.")  # no optimizer has those
        }
        self.sizes = [shape.numel() for shape in self.shapes.values()]

    def split(self, flat: Tensor) -> Tensors:
        """The parameters `(K, ...)` by name, as views of `(K, P)`."""
        parts = torch.split(flat, self.sizes, dim=-1)
        lead = flat.shape[:-1]
        return {
            name: part.view((*lead, *shape))
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def join(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The parameters of one member, `(P,)`."""
        return torch.cat([tensors[name].detach().flatten() for name in self.shapes])


def make_block(
    model: StackedModel,
    modules: Sequence["TaskModel"],
    places: Sequence[int],
    optimizer: StackedOptimizer | None = None,
    groups: Sequence[Mapping[str, Any]] = (),
) -> Block:
    """The block of some members.

    Args:
        model: the network of all of them.
        modules: their networks and losses.
        places: which of the members of `model` they are.
        optimizer: what will train them; None where nothing is trained.
        groups: the parameter group of each.
    """
    device = modules[0].device
    layout = Layout(model)
    tensors = [{**dict(own.named_parameters()), **dict(own.named_buffers())} for own in modules]
    weights = torch.stack([layout.join(own) for own in tensors])
    rest = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name in layout.shapes:
            continue
        if name in tensors[0]:
            rest[name] = torch.stack([own[name].detach() for own in tensors])
        else:  # one that the model has for each member
            rest[name] = tensor[list(places)].to(device)
    alive = torch.ones(len(modules), dtype=torch.bool, device=device)
    return Block(
        weights,
        rest,
        optimizer.initial_state(weights, groups) if optimizer else {},
        alive,
        torch.zeros_like(alive, dtype=torch.int64),
    )
