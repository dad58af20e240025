"""Some members of a stack, side by side in memory, and their training steps.

A stack is cut into blocks of equal size. A step of a block touches little memory, which stays in
the processor's cache for many steps; all blocks share one compiled step; and their temporary
memory is that of one block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from multilayer.lockstep.optimizers import StackedOptimizer, per_member
from multilayer.lockstep.template import HashedDropout, Template
from multilayer.modules import SupervisedModule

Tensors = dict[str, Tensor]


@dataclass
class Block:
    """The tensors of K members, each `(K, ...)`. What trains changes them in place.

    params: what is trained, by its name in the members' modules.
    rest: frozen parameters, buffers, dropout rates and the like.
    state: what the optimizer remembers of each of `params`.
    alive: bool, false from the step on whose loss or gradient was not finite.
    n_steps: int64, the steps taken while alive.
    """

    params: Tensors
    rest: Tensors
    state: dict[str, Tensors]
    alive: Tensor
    n_steps: Tensor

    def __len__(self) -> int:
        return len(self.alive)

    @property
    def dtype(self) -> torch.dtype:
        """That of the parameters."""
        return next(iter(self.params.values())).dtype

    def tensors(self) -> list[Tensor]:
        """All of them, in a fixed order."""
        states = [tensor for tensors in self.state.values() for tensor in tensors.values()]
        return [*self.params.values(), *self.rest.values(), *states, self.alive, self.n_steps]

    def move(self, source: "Block", k: int, place: int) -> None:
        """Copy member `k` of another block to a place in this one."""
        for mine, other in zip(self.tensors(), source.tensors(), strict=True):
            mine[place].copy_(other[k])

    def only(self, places: Sequence[int]) -> "Block":
        """A smaller block of some of its members."""
        index = torch.tensor(places, device=self.alive.device)
        return self.with_tensors([tensor[index] for tensor in self.tensors()])

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Block":
        """A block of other tensors, in the order of `tensors()`."""
        rest = iter(tensors)
        return Block(
            {name: next(rest) for name in self.params},
            {name: next(rest) for name in self.rest},
            {name: {key: next(rest) for key in own} for name, own in self.state.items()},
            next(rest),
            next(rest),
        )


def make_block(
    template: Template,
    modules: Sequence[SupervisedModule],
    places: Sequence[int],
    optimizer: StackedOptimizer | None = None,
    groups: Sequence[Mapping[str, Any]] = (),
) -> Block:
    """The block of some members.

    places: which of the members of `template` they are.
    optimizer, groups: what the optimizer will remember; none where nothing is trained.
    """
    device = modules[0].device
    parameters = [dict(module.named_parameters()) for module in modules]
    buffers = [dict(module.named_buffers()) for module in modules]
    params, rest = {}, {}
    for name, parameter in template.named_parameters():
        stacked = torch.stack([member[name].detach() for member in parameters])
        (params if parameter.requires_grad else rest)[name] = stacked
    for name, buffer in template.named_buffers():
        if name in buffers[0]:
            rest[name] = torch.stack([member[name] for member in buffers])
        else:  # one that the template has for each member
            rest[name] = buffer[list(places)].to(device)
    state = {
        name: optimizer.initial_state(param, groups) if optimizer else {}
        for name, param in params.items()
    }
    alive = torch.ones(len(modules), dtype=torch.bool, device=device)
    return Block(params, rest, state, alive, torch.zeros_like(alive, dtype=torch.int64))


class Step:
    """The training step of a block.

    number_names: what the optimizer's update multiplies with, and "clip" where gradients are
        clipped by their norm.
    """

    def __init__(
        self,
        template: Template,
        optimizer: StackedOptimizer,
        number_names: Sequence[str],
    ) -> None:
        self.template = template
        self.optimizer = optimizer
        self.number_names = tuple(number_names)
        self.traced = False
        dropouts = [
            name for name, layer in template.named_modules() if isinstance(layer, HashedDropout)
        ]
        self.key_names = [f"{name}.key" for name in dropouts]
        buffers = dict(template.network.named_buffers())
        self.running = [
            f"network.{name}" for name in buffers if not name.endswith((".key", ".rate"))
        ]

    def __call__(
        self, block: Block, features: Tensor, target: Tensor, numbers: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Train each member on its own minibatch, in place.

        features: `(K, B, D)`. target: `(K, B)`.
        numbers: `(n_numbers, K)`, in the order of `number_names`.
        keys: `(K, 2)` int32, for dropout.

        Returns the losses `(K,)`, NaN for members that have left, and the outputs `(K, B, ...)`.
        """
        before = {name: block.rest[name].clone() for name in self.running}
        leaves = {name: param.detach().requires_grad_() for name, param in block.params.items()}
        loss, output = self.losses(leaves, block.rest, features, target, keys)
        found = torch.autograd.grad(loss.sum(), list(leaves.values()), allow_unused=True)
        with torch.no_grad():
            grads = {n: grad for n, grad in zip(leaves, found, strict=True) if grad is not None}
            norm = total_norm(list(grads.values()))
            alive = block.alive & loss.isfinite() & norm.isfinite()
            by_name = dict(zip(self.number_names, numbers.unbind(), strict=True))
            if "clip" in by_name:
                by_name["scale"] = (by_name["clip"] / (norm + 1e-6)).clamp_max(1)  # as in torch
            # Eagerly a mask costs as much as the update; traced, it costs nothing.
            mask = None if not self.traced and bool(alive.all()) else alive
            for name, grad in grads.items():
                self.update_(block, name, grad, mask, by_name)
            for name in self.running:
                block.rest[name].copy_(keep(mask, block.rest[name], before[name]))
            losses = torch.where(block.alive, loss.detach(), torch.nan)
            block.alive.copy_(alive)
            block.n_steps.add_(alive)
        return losses, output.detach()

    def losses(
        self, leaves: Tensors, rest: Tensors, features: Tensor, target: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The losses `(K,)` and outputs `(K, B, ...)` of the members."""

        def member(
            params: Tensors, rest: Tensors, features: Tensor, target: Tensor, key: Tensor
        ) -> tuple[Tensor, Tensor]:
            own = {**params, **rest, **dict.fromkeys(self.key_names, key)}
            found: tuple[Tensor, Tensor] = functional_call(self.template, own, (features, target))
            return found

        loss, output = vmap(member, randomness="different")(leaves, rest, features, target, keys)
        return loss.float(), output

    def update_(
        self, block: Block, name: str, grad: Tensor, mask: Tensor | None, numbers: Tensors
    ) -> None:
        """Change one stacked parameter and its state; members that have left keep theirs."""
        param = block.params[name]
        shaped = {key: per_member(value, param) for key, value in numbers.items()}
        grad = keep(mask, grad, 0.0)
        if "scale" in shaped:
            grad = grad * shaped["scale"]
        change = self.optimizer.change(param, grad, list(block.state[name].values()), shaped)
        param.sub_(keep(mask, change, 0.0))


def total_norm(grads: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of each member's gradient, `(K,)`."""
    norms = [torch.linalg.vector_norm(grad.flatten(1), dim=1) for grad in grads]
    return torch.linalg.vector_norm(torch.stack(norms), dim=0)


def keep(mask: Tensor | None, new: Tensor, old: Tensor | float) -> Tensor:
    """`new` where the member's mask is true, and `old` elsewhere; no mask is true for all."""
    return new if mask is None else torch.where(per_member(mask, new), new, old)
