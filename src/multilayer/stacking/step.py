"""The training step of a block: all of its members at once, each on its own rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from multilayer.stacking.backprop import Chain, is_chain
from multilayer.stacking.block import Block, Layout, Tensors
from multilayer.stacking.dropout import HashedDropout
from multilayer.stacking.model import StackedModel
from multilayer.stacking.stacked_optimizer import StackedOptimizer

_BLOCK_SIZE = 16
"""Members a block, at most: enough to keep Python out of the way."""

_BLOCK_SIZE_ON_A_GPU = 4096
"""The same on a GPU, where a step takes as long for many members as for a few: each operation is
started by itself."""

_BLOCK_BYTES = 2**23
"""Bytes of weights a block, at most: few enough for the processor's cache, and for a step to take
little more memory."""

_KEY_STEP = 0x3C6EF372
"""Between the keys of two dropout layers, far apart in both halves of a key."""


class Step:
    """The training step of a block.

    Args:
        model: the members' network.
        optimizer: what trains it.
        clips: whether gradients are clipped by their norm.

    Attributes:
        coefficient_names: what the optimizer's update multiplies with, and "clip" if it clips.
    """

    def __init__(
        self, model: StackedModel, optimizer: StackedOptimizer, *, clips: bool = False
    ) -> None:
        self.model = model
        self.layout = Layout(model)
        self.optimizer = optimizer
        self.coefficient_names = optimizer.coefficient_names() + ("clip",) * clips
        self.traced = False
        self.chain = Chain(model) if is_chain(model) else None
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

    def most_members(self, device: torch.device) -> int:
        """How many members a block may have on a device."""
        if device.type != "cpu":
            return _BLOCK_SIZE_ON_A_GPU
        return max(1, min(_BLOCK_SIZE, _BLOCK_BYTES // (4 * sum(self.layout.sizes))))

    def __call__(
        self,
        block: Block,
        out: Tensor,
        features: Tensor,
        target: Tensor,
        numbers: Tensor,
        keys: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Train each member on its own minibatch; `block.take_over` ends the step.

        All but the weights changes in place; the optimizer's state of a member that diverges goes
        on changing until `block.reset_state`. Whether new weights are finite is known when all of
        them are worked out, so they are written elsewhere: in place it took two passes more.

        Args:
            block: the members.
            out: the new weights are written to it, `(K, P)`; those of members that are not `alive`
                afterwards mean nothing.
            features: `(K, B, D)`.
            target: `(K, B)`.
            numbers: `(n_numbers, K)`, in the order of `coefficient_names`.
            keys: `(K, 2)` int32, for dropout.

        Returns:
            The losses `(K,)`, NaN for members that have left, and the outputs `(K, B, ...)`.
        """
        before = {name: block.rest[name].clone() for name in self.running}
        loss, output, grad = self.losses_and_grad(block, features, target, keys)
        with torch.no_grad():
            columns = numbers.unsqueeze(2).unbind()  # (n_numbers, K) -> (K, 1) each
            n = dict(zip(self.coefficient_names, columns, strict=True))
            if "clip" in n:
                norm = torch.linalg.vector_norm(grad, dim=1)
                grad = grad * (n["clip"] / (norm.unsqueeze(1) + 1e-6)).clamp_max(1)  # as in torch
            update = self.optimizer.step if self.traced else self.optimizer.step_eagerly
            update(out, block.weights, grad, list(block.state.values()), n)
            losses = torch.where(block.alive, loss, torch.nan)
            # Where a gradient is not finite, the new weights are not either.
            block.alive.logical_and_(loss.isfinite() & self.is_finite(out))
            for name in self.running:
                block.rest[name].copy_(_where(block.alive, block.rest[name], before[name]))
            block.n_steps.add_(block.alive)
        return losses, output

    def losses_and_grad(
        self, block: Block, features: Tensor, target: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The losses, the outputs and the gradient of the losses `(K, P)`; see `__call__`."""
        is_autocast = torch.is_autocast_enabled(features.device.type)
        if self.chain and not self.traced and not is_autocast:
            tensors = self.tensors(block.weights, block.rest) | self.own_keys(keys)
            grad = torch.empty_like(block.weights)
            grads = self.layout.split(grad)
            return *self.chain.losses(tensors, features, target, grads=grads), grad
        leaf = block.weights.detach().requires_grad_()
        loss, output = self.losses(leaf, block.rest, features, target, keys)
        (grad,) = torch.autograd.grad(loss.sum(), leaf)
        return loss.detach(), output.detach(), grad

    @torch.no_grad()
    def evaluate(self, block: Block, features: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The losses `(K,)` and outputs `(K, N, ...)` of rows that all members share.

        Args:
            block: the members.
            features: `(N, D)`.
            target: `(N,)`.
        """
        shared = [rows.expand(len(block), *rows.shape) for rows in (features, target)]
        self.model.eval()
        try:
            found: tuple[Tensor, Tensor] = self.model(
                self.tensors(block.weights, block.rest), *shared
            )
        finally:
            self.model.train()
        return found

    def coefficients(
        self,
        groups: Sequence[Sequence[Mapping[str, Any]]],
        clips: Sequence[float] | None,
        n_done: Tensor,
        n: int,
    ) -> Tensor:
        """What each member's update multiplies with in its next n steps, `(n, n_numbers, K)`.

        Args:
            groups: the members' parameter groups in each step, or once for all of them.
            clips: each member's largest norm of a gradient; None where none is clipped.
            n_done: the steps that each member has behind it, `(K,)` int64 on the CPU.
            n: how many steps.

        Returns:
            The numbers, float64 on the CPU, in the order of `coefficient_names`.
        """
        varying = {
            name: torch.tensor(
                [[own[name] for own in step] for step in groups], dtype=torch.float64
            )
            for name in self.optimizer.varying
        }
        count = n_done + torch.arange(1, n + 1)[:, None]  # (n, K)
        numbers = self.optimizer.coefficients(varying, count)
        if clips is not None:
            numbers["clip"] = torch.tensor(clips, dtype=torch.float64)
        shape = (n, len(groups[0]))
        return torch.stack([numbers[name].expand(shape) for name in self.coefficient_names], dim=1)

    def is_finite(self, tensor: Tensor) -> Tensor:
        """Whether all of a member's numbers are, `(K, P)` to `(K,)`."""
        if not self.traced and tensor.device.type == "cpu":  # the largest takes ten times as long
            is_sum_finite = tensor.sum(dim=1).isfinite()  # then so are all; but a sum can overflow
            if is_sum_finite.all():
                return is_sum_finite
        # Not `(tensor * 0).sum(dim=1) == 0`: the compiler takes any number times 0 for 0.
        return tensor.abs().amax(dim=1) < torch.inf

    def losses(
        self, weights: Tensor, rest: Tensors, features: Tensor, target: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The losses `(K,)` and outputs `(K, B, ...)` of the members in training; see `__call__`.

        Args:
            weights: `(K, P)`.
            rest: `(K, ...)` each.
            features: `(K, B, D)`.
            target: `(K, B)`.
            keys: `(K, 2)` int32.
        """
        tensors = self.tensors(weights, rest) | self.own_keys(keys)
        found: tuple[Tensor, Tensor] = self.model(tensors, features, target)
        return found

    def own_keys(self, keys: Tensor) -> Tensors:
        """Each layer's own keys, `(K, 2)`, without which all would drop the same places."""
        return {name: keys + i * _KEY_STEP for i, name in enumerate(self.key_names)}

    def tensors(self, weights: Tensor, rest: Tensors) -> Tensors:
        """All weights and buffers of the members, `(K, ...)`, by their names in the model."""
        return {**self.layout.split(weights), **rest}


def _where(alive: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` `(K, ...)` of members that are alive, and `old` of the others."""
    return torch.where(alive.view(-1, *(1,) * (new.ndim - 1)), new, old)
