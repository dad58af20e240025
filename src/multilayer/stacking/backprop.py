"""The gradient of a chain of layers, layer by layer, without a graph of all of them.

Autograd's bookkeeping is most of an eager step of few members. Here the gradient of each linear
layer's weights is written to where the optimizer reads it; autograd sees only single activations,
and losses other than the cross entropy.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from multilayer.stacking.block import Tensors
from multilayer.stacking.dropout import HashedDropout
from multilayer.stacking.layers import ELEMENTWISE, StackedLinear
from multilayer.stacking.model import StackedModel

_Back = Callable[[Tensor], Tensor]
"""The loss's gradient by a layer's outputs, to that by its inputs."""


class Chain:
    """The layers of a stack's network, one after the other.

    Args:
        model: whose network `is_chain`.
    """

    def __init__(self, model: StackedModel) -> None:
        self.model = model
        names = {id(layer): name for name, layer in model.named_modules()}
        layers = [each for each in _leaves(model.network) if not isinstance(each, nn.Identity)]
        self.layers = [(names[id(layer)], layer) for layer in layers]

    @torch.no_grad()
    def losses(
        self, tensors: Tensors, features: Tensor, target: Tensor, *, grads: Tensors
    ) -> tuple[Tensor, Tensor]:
        """The losses `(K,)` and the outputs `(K, B, ...)`.

        Args:
            tensors: the members' weights and buffers, by their names in the model.
            features: `(K, B, D)`.
            target: `(K, B)`.
            grads: the gradients of the losses by the weights are written to these, by their names.
        """
        x, backs = features.mT, list[_Back]()
        self.model.restart_dropout()
        with self.model.bound("network", tensors):
            for name, layer in self.layers:
                if isinstance(layer, StackedLinear):
                    x, back = _linear(layer, x, grads, name, is_first=not backs)
                elif backs:
                    x, back = _elementwise(layer, x)
                else:  # nothing before it is trained
                    x = layer(x)
                    continue
                backs.append(back)
        loss, output, slope = self.model.losses_and_slope(x.mT, tensors, target)
        for back in reversed(backs):
            slope = back(slope)
        return loss, output


def is_chain(model: StackedModel) -> bool:
    """Whether a network consists of linear and elementwise layers, each with its own weights."""
    if not model.is_stacked:
        return False
    layers = list(_leaves(model.network))
    weights = [each for layer in layers for each in layer.parameters()]
    return len({*map(id, weights)}) == len(weights) and all(
        type(each) is StackedLinear
        or (isinstance(each, (*ELEMENTWISE, HashedDropout)) and not getattr(each, "inplace", False))
        for each in layers
    )


def _leaves(network: nn.Module) -> Iterator[nn.Module]:
    """The layers of a network that hold no others, in their order, one as often as it is used."""
    inside = [each for each in network._modules.values() if each is not None]
    if not inside:
        yield network
    for each in inside:
        yield from _leaves(each)


def _linear(
    layer: StackedLinear, x: Tensor, grads: Tensors, name: str, *, is_first: bool
) -> tuple[Tensor, _Back]:
    """The outputs of a linear layer; its `_Back` writes the gradient of its weights to `grads`."""
    weight, bias = layer.weight, layer.bias
    y = torch.bmm(weight, x) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, x)

    def back(slope: Tensor) -> Tensor:
        if f"{name}.weight" in grads:  # it is trained
            # Written to these views, which are not contiguous, torch multiplies member by member.
            grads[f"{name}.weight"].copy_(torch.bmm(slope, x.mT))
        if f"{name}.bias" in grads:
            torch.sum(slope, dim=2, out=grads[f"{name}.bias"])
        return slope if is_first else torch.bmm(weight.mT, slope)  # the features need none

    return y, back


def _elementwise(layer: nn.Module, x: Tensor) -> tuple[Tensor, _Back]:
    """The outputs of any other layer."""
    if type(layer) is nn.ReLU:
        y = x.relu()
        return y, lambda slope: torch.ops.aten.threshold_backward(slope, y, 0)
    if isinstance(layer, HashedDropout):
        kept = layer(torch.ones_like(x))
        return x * kept, lambda slope: slope * kept
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        z = layer(x)
    return z.detach(), lambda slope: torch.autograd.grad(z, x, slope)[0]
