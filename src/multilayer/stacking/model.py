"""The one network through which all members of a stack go, and the layers it is made of.

The weights that are in it do not matter: each call brings those of the members. A few layers are
replaced by others that compute the same, in a way that is faster for a stack or that takes a
number of each member's own.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from multilayer.nn.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    binary_cross_entropy,
    squeeze_single,
    target_for,
)

if TYPE_CHECKING:  # a stack needs torch alone
    from multilayer.training.module import SupervisedModule


class Template(nn.Module):
    """A network with its loss, as the members of a stack share it.

    modules: the members' own; they differ in weights, dropout rates and label smoothing alone.
    """

    def __init__(self, modules: Sequence["SupervisedModule"]) -> None:
        super().__init__()
        self.network = _shared_module([module.network for module in modules])
        self.loss = _shared_module([module.loss for module in modules])

    def forward(self, features: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a minibatch, and the network's output."""
        for layer in self.modules():
            if isinstance(layer, HashedDropout):
                layer.n_calls = 0
        output = squeeze_single(self.network(features))
        return self.loss(output, target_for(output, target)), output


def _shared_module(modules: Sequence[nn.Module]) -> nn.Module:
    """One module for all members: a copy of the first one's, some layers of which become others.

    They become so in place: what refers to a layer twice, from a list or by a bound method, say,
    still refers to it.
    """
    shared = deepcopy(modules[0])
    layers = [dict(module.named_modules()) for module in modules]
    for name, layer in list(shared.named_modules()):
        other = TAKEN_OVER.get(type(layer))
        if other:
            other.take_over(layer, [own[name] for own in layers])
    return shared


_CALL_STEP = 0x27D4EB2F
"""Between the keys of two uses of a dropout layer."""


class _TakesOver(nn.Module):
    """A layer that another one becomes.

    own_number: the attribute of that other one which each member has its own of.
    """

    own_number: str | None = None

    @classmethod
    def take_over(cls, layer: nn.Module, layers: Sequence[Any]) -> None:
        """Make a layer one of these, in place, given that layer of every member."""
        layer.__class__ = cls


class _ColumnLinear(_TakesOver, nn.Linear):
    """`nn.Linear` that computes a column a row: `(W x')'` for `x W'`.

    The gradient of the stacked weights `(K, n_outputs, n_features)` then comes out in their own
    layout. As torch computes it, it is transposed, and every later step reads it across.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., n_features)` to `(..., n_outputs)`."""
        columns = torch.matmul(self.weight, x.mT)  # (B, n_features) -> (n_outputs, B)
        return columns.mT if self.bias is None else (columns + self.bias[:, None]).mT


class HashedDropout(_TakesOver, nn.Dropout):
    """`nn.Dropout` whose mask is a hash of a key and the place in the minibatch.

    A member's masks thus depend on its own key alone, not on who else is in the stack, and they
    cost a few integer operations, which compile to vector instructions; a random number generator
    inside a compiled step costs several times the step.

    Its buffers are each member's own: `threshold` (int32, what a hash must reach to be kept),
    `scale`, and `key`, two int32 that change every step. `n_calls` counts its uses in a step: each
    has a mask of its own.
    """

    threshold: Tensor
    scale: Tensor
    key: Tensor
    n_calls = 0
    own_number = "p"

    @classmethod
    def take_over(cls, layer: nn.Module, layers: Sequence[Any]) -> None:
        """Make a dropout layer one of these; where no member drops anything out, an identity."""
        rates = torch.tensor([layer.p for layer in layers], dtype=torch.float64)
        if not rates.any():
            layer.__class__ = nn.Identity
            return
        layer.__class__ = cls
        threshold = (rates * 2**32 - 2**31).round().clamp(max=2**31 - 1)
        layer.register_buffer("threshold", threshold.int())
        layer.register_buffer("scale", torch.where(rates < 1, 1 / (1 - rates), 0.0).float())
        layer.register_buffer("key", torch.zeros(len(layers), 2, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """Set a share of `x` to 0 and scale up the rest, in training."""
        if not self.training:
            return x
        key = self.key + self.n_calls * _CALL_STEP
        self.n_calls += 1
        return x * (hashed(self.dropped(x), key) >= self.threshold) * self.scale

    def dropped(self, x: Tensor) -> Tensor:
        """A tensor of the shape of the mask."""
        return x


class _HashedChannelDropout(HashedDropout):
    """`nn.Dropout1d`, `2d` or `3d` so: whole channels are dropped.

    n_inside: the dimensions of a channel. As in torch, an input of one dimension fewer has no
        minibatch, but for 2d.
    """

    n_inside: int

    @classmethod
    def take_over(cls, layer: nn.Module, layers: Sequence[Any]) -> None:
        """Make a dropout layer one of these."""
        n_inside = 1 if isinstance(layer, nn.Dropout1d) else 2 + isinstance(layer, nn.Dropout3d)
        super().take_over(layer, layers)
        vars(layer)["n_inside"] = n_inside

    def dropped(self, x: Tensor) -> Tensor:
        """One number a channel, `(B, C, 1, ...)`."""
        n = 2 if self.n_inside == 2 else x.ndim - self.n_inside
        return x.flatten(n)[..., 0].view(*x.shape[:n], *[1] * (x.ndim - n))


def key_generator(seed: int) -> np.random.Generator:
    """What the keys of a run's dropout are drawn from."""
    return np.random.default_rng((seed, 1))


def draw_keys(generator: np.random.Generator, n: int) -> Tensor:
    """The keys of the next n steps' dropout, `(n, 2)` int32."""
    return torch.from_numpy(generator.integers(-(2**31), 2**31, size=(n, 2), dtype=np.int32))


def hashed(like: Tensor, key: Tensor) -> Tensor:
    """Uniform int32 in the shape of `like`, from a key of two int32.

    Two rounds of xor-shift and multiply, as in the integer hashes of Wellons (hash-prospector,
    2018), with the key in the counter and in the first multiplier.
    """
    places = torch.arange(like.numel(), dtype=torch.int32, device=like.device).view(like.shape)
    bits = places * (0x9E3779B1 - 2**32) + key[0]  # numbers above 2**31 as signed ones
    bits = (bits ^ (bits >> 16 & 0xFFFF)) * (key[1] | 1)
    return (bits ^ (bits >> 15 & 0x1FFFF)) * (0x846CA68B - 2**32)


class _SoftmaxCrossEntropy(_TakesOver, CrossEntropy):
    """`CrossEntropy` over `(B, n_classes)`, by products instead of look-ups.

    Looking up the target's logit makes a scatter of the gradient, which does not vectorise. Its
    `label_smoothing` is a buffer, each member's own.
    """

    own_number = "label_smoothing"

    @classmethod
    def take_over(cls, layer: nn.Module, layers: Sequence[Any]) -> None:
        """Make a cross entropy one of these."""
        _smooth_each(layer, layers)
        layer.__class__ = cls

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean loss, a scalar, weighted by class as torch does."""
        n_classes = logits.shape[1]
        hot = (target[:, None] == torch.arange(n_classes, device=target.device)).to(logits.dtype)
        wanted = hot + self.label_smoothing * (1 / n_classes - hot)
        log_likelihood = wanted * logits.log_softmax(dim=1)
        if self.weight is None:
            return -log_likelihood.sum() / len(target)
        return -(log_likelihood * self.weight).sum() / (hot * self.weight).sum()


class _SmoothedBinaryCrossEntropy(_TakesOver, BinaryCrossEntropy):
    """`BinaryCrossEntropy` whose `label_smoothing` is a buffer, each member's own."""

    own_number = "label_smoothing"

    @classmethod
    def take_over(cls, layer: nn.Module, layers: Sequence[Any]) -> None:
        """Make a binary cross entropy one of these."""
        _smooth_each(layer, layers)
        layer.__class__ = cls

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Map logits and target `(B,)` to the mean loss."""
        return binary_cross_entropy(logits, target, self.label_smoothing, self.weight)


def _smooth_each(layer: nn.Module, layers: Sequence[Any]) -> None:
    """Give a loss each member's label smoothing, as a buffer."""
    del layer.label_smoothing
    layer.register_buffer("label_smoothing", torch.tensor([own.label_smoothing for own in layers]))


TAKEN_OVER: dict[type[nn.Module], type[_TakesOver]] = {
    nn.Linear: _ColumnLinear,
    nn.Dropout: HashedDropout,
    nn.Dropout1d: _HashedChannelDropout,
    nn.Dropout2d: _HashedChannelDropout,
    nn.Dropout3d: _HashedChannelDropout,
    CrossEntropy: _SoftmaxCrossEntropy,
    BinaryCrossEntropy: _SmoothedBinaryCrossEntropy,
}
"""What a layer becomes. Subclasses stay as they are."""
