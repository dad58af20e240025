"""The one network through which all members of a stack go, and the layers it is made of.

The weights that are in it do not matter: each call brings those of the members. A few layers are
replaced by others that compute the same, in a way that is faster for a stack or that takes a
number of each member's own.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from multilayer.nn.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    binary_cross_entropy,
    squeeze_single,
    target_for,
)
from multilayer.stacking.dropout import HashedChannelDropout, HashedDropout, StackedLayer

if TYPE_CHECKING:  # a stack needs torch alone
    from multilayer.training.module import SupervisedModule


class StackedModel(nn.Module):
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
        other = LAYER_CONVERSIONS.get(type(layer))
        if other:
            other.take_over(layer, [own[name] for own in layers])
    return shared


class _ColumnLinear(StackedLayer, nn.Linear):
    """`nn.Linear` that computes a column a row: `(W x')'` for `x W'`.

    The gradient of the stacked weights `(K, n_outputs, n_features)` then comes out in their own
    layout. As torch computes it, it is transposed, and every later step reads it across.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., n_features)` to `(..., n_outputs)`."""
        columns = torch.matmul(self.weight, x.mT)  # (B, n_features) -> (n_outputs, B)
        return columns.mT if self.bias is None else (columns + self.bias[:, None]).mT


class _SoftmaxCrossEntropy(StackedLayer, CrossEntropy):
    """`CrossEntropy` over `(B, n_classes)`, by products instead of look-ups.

    Looking up the target's logit makes a scatter of the gradient, which does not vectorise. Its
    `label_smoothing` is a buffer, each member's own.
    """

    per_member_attr = "label_smoothing"

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


class _SmoothedBinaryCrossEntropy(StackedLayer, BinaryCrossEntropy):
    """`BinaryCrossEntropy` whose `label_smoothing` is a buffer, each member's own."""

    per_member_attr = "label_smoothing"

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


LAYER_CONVERSIONS: dict[type[nn.Module], type[StackedLayer]] = {
    nn.Linear: _ColumnLinear,
    nn.Dropout: HashedDropout,
    nn.Dropout1d: HashedChannelDropout,
    nn.Dropout2d: HashedChannelDropout,
    nn.Dropout3d: HashedChannelDropout,
    CrossEntropy: _SoftmaxCrossEntropy,
    BinaryCrossEntropy: _SmoothedBinaryCrossEntropy,
}
"""What a layer becomes. Subclasses stay as they are."""
