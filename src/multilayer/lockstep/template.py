"""The one network through which all members of a stack go, and the layers it is made of.

The weights that are in it do not matter: each call brings those of the members. A few layers are
replaced by others that compute the same, in a way that is faster for a stack or that takes a
number of each member's own.
"""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from multilayer.losses import BinaryCrossEntropy, CrossEntropy, binary_cross_entropy
from multilayer.modules import SupervisedModule, squeeze_single


class Template(nn.Module):
    """A network with its loss, as the members of a stack share it.

    modules: the members' own; they differ in weights, dropout rates and label smoothing alone.
    """

    def __init__(self, modules: Sequence[SupervisedModule]) -> None:
        super().__init__()
        self.network = shared_layer([module.network for module in modules])
        self.loss = shared_layer([module.loss for module in modules])

    def forward(self, features: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a minibatch, and the network's output."""
        output = squeeze_single(self.network(features))
        return self.loss(output, target), output


def shared_layer(layers: Sequence[nn.Module]) -> nn.Module:
    """One layer for all members, from that layer of each of them."""
    kind = type(layers[0])
    if kind in REPLACEMENTS:
        return REPLACEMENTS[kind](layers)
    shared = copy(layers[0])  # which still shares these three with the original
    shared._parameters, shared._buffers = dict(shared._parameters), dict(shared._buffers)
    shared._modules = {
        name: shared_layer([layer.get_submodule(name) for layer in layers])
        for name, _ in layers[0].named_children()
    }
    return shared


class ColumnLinear(nn.Module):
    """`nn.Linear` that computes a column a row: `(W x')'` for `x W'`.

    The gradient of the stacked weights `(K, n_outputs, n_features)` then comes out in their own
    layout. As torch computes it, it is transposed, and every later step reads it across.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = layers[0].weight
        self.bias = layers[0].bias

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., n_features)` to `(..., n_outputs)`."""
        columns = torch.matmul(self.weight, x.mT)  # (B, n_features) -> (n_outputs, B)
        return columns.mT if self.bias is None else (columns + self.bias[:, None]).mT


class HashedDropout(nn.Module):
    """`nn.Dropout` whose mask is a hash of a key and the place in the minibatch.

    A member's masks thus depend on its own key alone, not on who else is in the stack, and they
    cost a few integer operations, which compile to vector instructions; a random number generator
    inside a compiled step costs several times the step.

    Its buffers are each member's own: `threshold` (int32, what a hash must reach to be kept),
    `scale`, and `key`, two int32 that change every step.
    """

    threshold: Tensor
    scale: Tensor
    key: Tensor

    def __init__(self, layers: Sequence[nn.Dropout]) -> None:
        super().__init__()
        rates = torch.tensor([layer.p for layer in layers], dtype=torch.float64)
        self.register_buffer("threshold", (rates * 2**32 - 2**31).round().int())
        self.register_buffer("scale", (1 / (1 - rates)).float())
        self.register_buffer("key", torch.zeros(len(layers), 2, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """Set a share of `x` to 0 and scale up the rest, in training."""
        if not self.training:
            return x
        return x * (hashed(x, self.key) >= self.threshold) * self.scale


def hashed(like: Tensor, key: Tensor) -> Tensor:
    """Uniform int32 in the shape of `like`, from a key of two int32.

    Two rounds of xor-shift and multiply, as in the integer hashes of Wellons (hash-prospector,
    2018), with the key in the counter and in the first multiplier.
    """
    places = torch.arange(like.numel(), dtype=torch.int32, device=like.device).view(like.shape)
    bits = places * (0x9E3779B1 - 2**32) + key[0]  # numbers above 2**31 as signed ones
    bits = (bits ^ (bits >> 16 & 0xFFFF)) * (key[1] | 1)
    return (bits ^ (bits >> 15 & 0x1FFFF)) * (0x846CA68B - 2**32)


class SmoothedLoss(nn.Module):
    """A loss for classes whose buffer `label_smoothing` is each member's own."""

    weight: Tensor | None
    label_smoothing: Tensor

    def __init__(self, layers: Sequence[CrossEntropy | BinaryCrossEntropy]) -> None:
        super().__init__()
        self.register_buffer("weight", layers[0].weight)
        smoothing = torch.tensor([layer.label_smoothing for layer in layers])
        self.register_buffer("label_smoothing", smoothing)


class SoftmaxCrossEntropy(SmoothedLoss):
    """`CrossEntropy` over `(B, n_classes)`, by products instead of look-ups.

    Looking up the target's logit makes a scatter of the gradient, which does not vectorise.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean loss, a scalar, weighted by class as torch does."""
        n_classes = logits.shape[1]
        hot = (target[:, None] == torch.arange(n_classes, device=target.device)).to(logits.dtype)
        wanted = hot + self.label_smoothing * (1 / n_classes - hot)
        log_likelihood = wanted * logits.log_softmax(dim=1)
        if self.weight is None:
            return -log_likelihood.sum() / len(target)
        return -(log_likelihood * self.weight).sum() / (hot * self.weight).sum()


class SmoothedBinaryCrossEntropy(SmoothedLoss):
    """`BinaryCrossEntropy`."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Map logits and target `(B,)` to the mean loss."""
        return binary_cross_entropy(logits, target, self.label_smoothing, self.weight)


def shared_dropout(layers: Sequence[nn.Dropout]) -> nn.Module:
    """Nothing, where no member drops anything out."""
    return HashedDropout(layers) if any(layer.p for layer in layers) else nn.Identity()


REPLACEMENTS: dict[type[nn.Module], Callable[[Sequence[Any]], nn.Module]] = {
    nn.Linear: ColumnLinear,
    nn.Dropout: shared_dropout,
    CrossEntropy: SoftmaxCrossEntropy,
    BinaryCrossEntropy: SmoothedBinaryCrossEntropy,
}
"""What replaces a layer, made from that layer of every member. Subclasses stay as they are."""
