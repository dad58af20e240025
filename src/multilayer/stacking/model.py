"""The one network through which all members of a stack go, with its loss.

The weights that are in it do not matter: each call brings those of the members.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from multilayer.stacking.dropout import HashedDropout
from multilayer.stacking.layers import (
    LAYER_CONVERSIONS,
    STACKED_LAYERS,
    STACKED_LOSSES,
    Conversions,
    StackedCrossEntropy,
    all_stacked,
)

if TYPE_CHECKING:  # a stack needs torch alone
    from multilayer.training.task_model import TaskModel

Tensors = Mapping[str, Tensor]


class StackedModel(nn.Module):
    """A network with its loss, as the members of a stack share it.

    Rows of all members go through a network in one call if each of its layers can compute so; any
    other network, and a loss of a user's own, runs by `torch.func.vmap`.

    Args:
        modules: the members' own; they differ in weights, dropout rates and label smoothing alone.
    """

    def __init__(self, modules: Sequence["TaskModel"]) -> None:
        super().__init__()
        networks, losses = ([getattr(each, name) for each in modules] for name in _PARTS)
        self.is_stacked = all_stacked(networks[0])
        conversions = STACKED_LAYERS if self.is_stacked else LAYER_CONVERSIONS
        self.network = _shared_module(networks, conversions)
        self.loss = _shared_module(losses, STACKED_LOSSES)
        if type(self.loss) in STACKED_LOSSES.values():
            self.loss.to(torch.promote_types(modules[0].dtype, torch.float32))
        self._dropouts = [each for each in self.modules() if isinstance(each, HashedDropout)]
        self._places = {name: _places(getattr(self, name), name) for name in _PARTS}

    def forward(self, tensors: Tensors, features: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The members' losses of a minibatch, and their networks' outputs.

        Args:
            tensors: their weights and buffers, `(K, ...)`, by the names in this module.
            features: of each member's rows, `(K, B, D)`.
            target: of its rows, `(K, B)`.

        Returns:
            The losses `(K,)`, and the outputs `(K, B, ...)`; both float32 or wider.
        """
        self.restart_dropout()
        if self.is_stacked:
            with self.bound("network", tensors):
                output = self.network(features.mT).mT
        else:
            output = _by_member(self.network)(_within(tensors, "network"), features)
        return self.losses_of(output, tensors, target)

    def losses_of(self, output: Tensor, tensors: Tensors, target: Tensor) -> tuple[Tensor, Tensor]:
        """The same, from what the members' networks give, `(K, B, n_outputs)`."""
        output = widened(output)
        if output.ndim == 3 and output.shape[2] == 1:
            output = output.squeeze(2)
        wanted = target.to(output.dtype) if output.ndim == 2 else target
        if type(self.loss) in STACKED_LOSSES.values():
            with self.bound("loss", tensors):
                return self.loss(output, wanted), output
        return _by_member(self.loss)(_within(tensors, "loss"), output, wanted), output

    def losses_and_slope(
        self, output: Tensor, tensors: Tensors, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same, and the gradient of the losses by what the network gives, `(K, C, B)`."""
        if isinstance(self.loss, StackedCrossEntropy):
            wide = widened(output)
            with self.bound("loss", tensors):
                loss, slope = self.loss.with_slope(wide, target)
            return loss, wide, slope.to(output.dtype)
        with torch.enable_grad():
            x = output.mT.detach().requires_grad_()
            loss, output = self.losses_of(x.mT, tensors, target)
            (slope,) = torch.autograd.grad(loss.sum(), x)
        return loss.detach(), output.detach(), slope

    def restart_dropout(self) -> None:
        """Let each layer's masks begin anew."""
        for layer in self._dropouts:
            layer.n_calls = 0

    @contextmanager
    def bound(self, part: str, tensors: Tensors) -> Iterator[None]:
        """Put tensors in their places in a part whose layers compute for all members.

        `functional_call` does so for any module; a third of a single member's step went into it.
        """
        places = self._places[part]
        own = [place[key] for place, key, _ in places]
        try:
            for place, key, name in places:
                place[key] = tensors[name]
            yield
        finally:
            for (place, key, _), tensor in zip(places, own, strict=True):
                place[key] = tensor


def widened(output: Tensor) -> Tensor:
    """A network's output, as float32 where it is of fewer digits: a loss would have three."""
    return output.to(torch.promote_types(output.dtype, torch.float32))


_PARTS = ("network", "loss")


def _places(module: nn.Module, part: str) -> list[tuple[Any, str, str]]:
    """Where each tensor of a module lies: in which of torch's dicts, by which key, and its name.

    One that layers share has several places.
    """
    tensors = [*module.named_parameters(), *module.named_buffers()]
    names = {id(tensor): f"{part}.{name}" for name, tensor in tensors}
    return [
        (own, key, names[id(tensor)])
        for layer in module.modules()
        for own in (layer._parameters, layer._buffers)
        for key, tensor in own.items()
        if tensor is not None
    ]


def _within(tensors: Tensors, part: str) -> dict[str, Tensor]:
    """The tensors of a part of a module, by their names in it."""
    prefix = f"{part}."
    return {
        name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)
    }


def _by_member(module: nn.Module) -> Any:
    """A function of tensors and inputs `(K, ...)` that calls a module for each member."""

    def call(own: Tensors, *inputs: Tensor) -> Tensor:
        found: Tensor = functional_call(module, dict(own), inputs)
        return found

    return vmap(call, randomness="different")


def _shared_module(modules: Sequence[nn.Module], conversions: Conversions) -> nn.Module:
    """One module for all members: a copy of the first one's, some layers of which become others.

    They become so in place: what refers to a layer twice, such as a list or a bound method,
    still refers to it.
    """
    shared = deepcopy(modules[0])
    layers = [dict(module.named_modules()) for module in modules]
    for name, layer in list(shared.named_modules()):
        other = conversions.get(type(layer))
        if other and other.supports(layer):
            other.take_over(layer, [own[name] for own in layers])
    return shared
