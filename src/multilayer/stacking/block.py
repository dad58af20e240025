"""Some members of a stack, side by side in memory, and their training step.

A stack is cut into blocks of equal size. A step of a block touches little memory, which stays in
the processor's cache for many steps; all blocks share one compiled step; and their temporary
memory is that of one block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from multilayer.stacking.dropout import HashedDropout
from multilayer.stacking.model import StackedModel
from multilayer.stacking.optimizers import StackedOptimizer

if TYPE_CHECKING:  # a stack needs torch alone
    from multilayer.training.module import SupervisedModule

Tensors = dict[str, Tensor]

BLOCK_SIZE = 16
"""Members a block, at most: enough to keep Python out of the way."""

_BLOCK_BYTES = 2**23
"""Bytes of weights a block, at most: few enough for the processor's cache, and for little to be
needed beside them while a step lasts."""

_KEY_STEP = 0x3C6EF372
"""Between the keys of two dropout layers, far apart in both halves of a key."""


@dataclass
class Block:
    """The tensors of K members. What trains changes them in place.

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
    modules: Sequence["SupervisedModule"],
    places: Sequence[int],
    optimizer: StackedOptimizer | None = None,
    groups: Sequence[Mapping[str, Any]] = (),
) -> Block:
    """The block of some members.

    places: which of the members of `model` they are.
    optimizer, groups: what the optimizer will remember; none where nothing is trained.
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


class Step:
    """The training step of a block.

    coefficient_names: what the optimizer's update multiplies with, and "clip" where gradients are
        clipped by their norm.
    """

    def __init__(
        self, model: StackedModel, optimizer: StackedOptimizer, coefficient_names: Sequence[str]
    ) -> None:
        self.model = model
        self.layout = Layout(model)
        self.optimizer = optimizer
        self.coefficient_names = tuple(coefficient_names)
        self.traced = False
        self.key_names = [
            f"{name}.key"
            for name, layer in model.named_modules()
            if isinstance(layer, HashedDropout)
        ]
        self.running = [  # the statistics of normalisation layers, which a step changes
            name
            for name, _ in model.network.named_buffers(prefix="network")
            if not isinstance(model.get_submodule(name.rpartition(".")[0]), HashedDropout)
        ]

    def most_members(self) -> int:
        """How many members a block may have."""
        return max(1, min(BLOCK_SIZE, _BLOCK_BYTES // (4 * sum(self.layout.sizes))))

    def __call__(
        self, block: Block, features: Tensor, target: Tensor, numbers: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Train each member on its own minibatch, in place.

        features: `(K, B, D)`. target: `(K, B)`.
        numbers: `(n_numbers, K)`, in the order of `coefficient_names`.
        keys: `(K, 2)` int32, for dropout.

        Returns the losses `(K,)`, NaN for members that have left, and the outputs `(K, B, ...)`.
        """
        before = {name: block.rest[name].clone() for name in self.running}
        leaf = block.weights.detach().requires_grad_()
        loss, output = self.losses(leaf, block.rest, features, target, keys)
        (grad,) = torch.autograd.grad(loss.sum(), leaf)
        with torch.no_grad():
            alive = block.alive & loss.isfinite() & is_finite(grad)
            columns = numbers.unsqueeze(2).unbind()  # (n_numbers, K) -> (K, 1) each
            n = dict(zip(self.coefficient_names, columns, strict=True))
            grad = where_alive(self.mask(alive), grad, 0.0)
            if "clip" in n:
                norm = torch.linalg.vector_norm(grad, dim=1)
                grad = grad * (n["clip"] / (norm.unsqueeze(1) + 1e-6)).clamp_max(1)  # as in torch
            change = self.optimizer.update(block.weights, grad, list(block.state.values()), n)
            alive &= is_finite(change)
            mask = self.mask(alive)
            block.weights.sub_(where_alive(mask, change, 0.0))
            for name in self.running:
                block.rest[name].copy_(where_alive(mask, block.rest[name], before[name]))
            losses = torch.where(block.alive, loss.detach(), torch.nan)
            block.alive.copy_(alive)
            block.n_steps.add_(alive)
        return losses, output.detach()

    @torch.no_grad()
    def evaluate(self, block: Block, features: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The losses `(K,)` and outputs `(K, N, ...)` of rows that all members share."""

        def member(own: Tensors) -> tuple[Tensor, Tensor]:
            found: tuple[Tensor, Tensor] = functional_call(self.model, own, (features, target))
            return found

        self.model.eval()
        loss, output = vmap(member)({**self.layout.split(block.weights), **block.rest})
        self.model.train()
        return loss, output

    def coefficients(
        self,
        groups: Sequence[Sequence[Mapping[str, Any]]],
        clips: Sequence[float] | None,
        n_done: int,
        n: int,
    ) -> Tensor:
        """What each member's update multiplies with in the next n steps, `(n, n_numbers, K)`.

        groups: the members' parameter groups in each step, or once for all of them.
        clips: each member's largest norm of a gradient; None where none is clipped.
        n_done: the steps before.
        """
        varying = {
            name: torch.tensor(
                [[own[name] for own in step] for step in groups], dtype=torch.float64
            )
            for name in self.optimizer.varying
        }
        count = torch.arange(n_done + 1, n_done + n + 1)[:, None]
        numbers = self.optimizer.coefficients(varying, count)
        if clips is not None:
            numbers["clip"] = torch.tensor(clips, dtype=torch.float64)
        shape = (n, len(groups[0]))
        return torch.stack([numbers[name].expand(shape) for name in self.coefficient_names], dim=1)

    def mask(self, alive: Tensor) -> Tensor | None:
        """Which members are to change; None for all, where that is known.

        Eagerly a mask costs as much as the update; traced, it costs nothing.
        """
        return None if not self.traced and bool(alive.all()) else alive

    def losses(
        self, weights: Tensor, rest: Tensors, features: Tensor, target: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The losses `(K,)` and outputs `(K, B, ...)` of the members."""

        def member(
            params: Tensors, rest: Tensors, features: Tensor, target: Tensor, key: Tensor
        ) -> tuple[Tensor, Tensor]:
            # Each layer has a key of its own, or all of them would drop the same places.
            keys = {name: key + i * _KEY_STEP for i, name in enumerate(self.key_names)}
            own = {**params, **rest, **keys}
            found: tuple[Tensor, Tensor] = functional_call(self.model, own, (features, target))
            return found

        run = vmap(member, randomness="different")
        loss, output = run(self.layout.split(weights), rest, features, target, keys)
        return loss.float(), output


def is_finite(tensor: Tensor) -> Tensor:
    """Whether all of a member's numbers are, `(K, P)` to `(K,)`."""
    largest: Tensor = torch.linalg.vector_norm(tensor, ord=torch.inf, dim=1)
    return largest.isfinite()


def where_alive(mask: Tensor | None, new: Tensor, old: Tensor | float) -> Tensor:
    """`new` where the member's mask is true, and `old` elsewhere; no mask is true for all."""
    if mask is None:
        return new
    return torch.where(mask.view(-1, *(1,) * (new.ndim - 1)), new, old)
