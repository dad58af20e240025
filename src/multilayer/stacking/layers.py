"""Layers that compute for K members at once, and what each layer of a network becomes.

A network made of such layers needs no `torch.func.vmap`: a stack's rows go through each layer in
one call. Activations are then `(K, D, B)`, the features of a member's rows in columns, so that the
gradient of its weights `(n_outputs, n_features)` comes out in their own layout.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from multilayer.nn.embeddings import PLRMLP, CategoryEmbeddings, NumberEmbeddings
from multilayer.nn.losses import BinaryCrossEntropy, CrossEntropy, WeightedLoss
from multilayer.nn.mlp import ACTIVATIONS, MLP, DenseLayer, Perceptron
from multilayer.stacking.dropout import HashedChannelDropout, HashedDropout, StackedLayer

_CONTAINERS = (nn.Sequential, nn.ParameterList, DenseLayer, Perceptron, MLP, PLRMLP)
"""Modules that only call their layers, whatever the shape of what goes through."""

ELEMENTWISE = (*ACTIVATIONS.values(), nn.ReLU6, nn.CELU, nn.Hardtanh, nn.Hardswish, nn.Softsign)
"""Layers that map each value by itself."""


class StackedLinear(StackedLayer, nn.Linear):
    """`nn.Linear` with weights `(K, n_outputs, n_features)`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(K, n_features, B)` to `(K, n_outputs, B)`."""
        product = torch.bmm(self.weight, x)  # not `baddbmm`, of which no compiler makes one kernel
        return product if self.bias is None else product + self.bias.unsqueeze(2)


class _StackedBatchNorm(StackedLayer, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over the features of all members, as if they were one layer's."""

    @classmethod
    def supports(cls, layer: Any) -> bool:
        """Whether it keeps an exponential average; torch counts the steps of any other."""
        return layer.track_running_stats and layer.momentum is not None

    def forward(self, x: Tensor) -> Tensor:
        """Map `(K, D, B)` to the same shape."""
        if self.training:
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        running: Any = (self.running_mean, self.running_var)
        mean, variance = (each.view(-1) for each in running)
        weight, bias = (
            None if each is None else each.reshape(-1) for each in (self.weight, self.bias)
        )
        flat = F.batch_norm(
            x.reshape(1, -1, x.shape[2]),  # (K, D, B) -> (1, K * D, B)
            mean,  # which it changes in place
            variance,
            weight,
            bias,
            training=self.training,
            momentum=self.momentum,  # type: ignore[arg-type]  # see `supports`
            eps=self.eps,
        )
        return flat.view(x.shape)


class _StackedLayerNorm(StackedLayer, nn.LayerNorm):
    """`nn.LayerNorm` over the features of each row."""

    @classmethod
    def supports(cls, layer: Any) -> bool:
        """Whether it normalizes rows of features, which are one dimension."""
        return len(layer.normalized_shape) == 1

    def forward(self, x: Tensor) -> Tensor:
        """Map `(K, D, B)` to the same shape."""
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        normalized = (x - mean) * (variance + self.eps).rsqrt()
        if self.weight is not None:
            normalized = normalized * self.weight.unsqueeze(2)
        return normalized if self.bias is None else normalized + self.bias.unsqueeze(2)


class _StackedCategoryEmbeddings(StackedLayer, CategoryEmbeddings):
    """`CategoryEmbeddings` with vectors `(K, n_labels, width)`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(K, n_numbers + sum(sizes), B)` to `(K, n_features, B)`."""
        numbers, *one_hot = torch.split(x, self.sizes, dim=1)
        embedded = [
            torch.bmm(own.mT, part) for part, own in zip(one_hot, self.vectors, strict=True)
        ]
        return torch.cat([numbers, *embedded], dim=1)


class _StackedNumberEmbeddings(StackedLayer, NumberEmbeddings):
    """`NumberEmbeddings` with frequencies `(K, n_numbers, n_frequencies)`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(K, n_features, B)` to `(K, n_numbers * d_embedding + the rest, B)`."""
        inside: Any = self.embeddings
        numbers, rest = x[:, : self.n_numbers], x[:, self.n_numbers :]
        # (K, n, 1, B) * (K, n, k, 1) -> (K, n, k, B)
        angles = 2 * torch.pi * inside.periodic.weight.unsqueeze(3) * numbers.unsqueeze(2)
        waves = torch.cat([angles.cos(), angles.sin()], dim=2)
        weight, bias = inside.linear.weight, inside.linear.bias
        if isinstance(inside.linear, nn.Linear):  # one for all numbers, (K, d, 2k)
            weight, bias = weight.unsqueeze(1), bias.unsqueeze(1)
        else:  # (K, n, 2k, d)
            weight = weight.mT
        vectors = torch.matmul(weight, waves) + bias.unsqueeze(3)  # (K, n, d, B)
        return torch.cat([inside.activation(vectors).flatten(1, 2), rest], dim=1)


class _StackedSmoothing(StackedLayer):
    """A loss whose `label_smoothing` is a buffer `(K,)`, each member's own."""

    per_member_attr = "label_smoothing"
    label_smoothing: Any  # of the loss a number, here a tensor

    @classmethod
    def take_over(cls, layer: nn.Module, layers: Sequence[Any]) -> None:
        """Make a cross entropy one of these."""
        numbers = [own.label_smoothing for own in layers]
        smoothing = torch.tensor(numbers, dtype=torch.float64)  # until the network's is known
        del layer.label_smoothing
        layer.register_buffer("label_smoothing", smoothing)
        super().take_over(layer, layers)


class StackedCrossEntropy(_StackedSmoothing, CrossEntropy):
    """`CrossEntropy` of each member, by products instead of look-ups.

    Looking up the target's logit makes a scatter of the gradient, which does not vectorize.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Map `(K, B, n_classes)` and `(K, B)` to the mean losses `(K,)`, weighted as torch's.

        With `reduction="none"` to the losses of rows `(K, B)`.
        """
        wanted, total = self._wanted(logits, target)
        if self.reduction == "none":
            return -(wanted * logits.mT.log_softmax(dim=1)).sum(dim=1)
        return -(wanted * logits.mT.log_softmax(dim=1)).sum(dim=(1, 2)) / total

    def with_slope(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The losses, and their gradient by the logits, `(K, n_classes, B)`."""
        wanted, total = self._wanted(logits, target)
        log_softmax = logits.mT.log_softmax(dim=1)
        loss = -(wanted * log_softmax).sum(dim=(1, 2)) / total
        slope = log_softmax.exp_().mul_(wanted.sum(dim=1, keepdim=True)).sub_(wanted)
        return loss, slope.div_(total.view(-1, 1, 1) if isinstance(total, Tensor) else total)

    def _wanted(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor | int]:
        """The weight of each log likelihood, `(K, n_classes, B)`, and what their sum is over."""
        n_classes = logits.shape[2]
        classes = torch.arange(n_classes, device=target.device).unsqueeze(1)
        # In here (K, n_classes, B): across a few classes torch's softmax is far slower.
        hot = (target.unsqueeze(1) == classes).to(logits.dtype)
        smoothing = self.label_smoothing.to(logits.dtype)[:, None, None]
        wanted = hot + smoothing * (1 / n_classes - hot)
        if self.weight is None:
            return wanted, target.shape[1]
        weight = self.weight.unsqueeze(2)  # (K, n_classes, 1)
        return wanted * weight, (hot * weight).sum(dim=(1, 2))


class _StackedBinaryCrossEntropy(_StackedSmoothing, BinaryCrossEntropy):
    """`BinaryCrossEntropy` of each member."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Map logits and targets `(K, B)` to the mean losses `(K,)`, weighted as torch's.

        With `reduction="none"` to the losses of rows `(K, B)`.
        """
        smoothing = self.label_smoothing.to(logits.dtype).unsqueeze(1)
        wanted = target.to(logits.dtype) * (1 - smoothing) + smoothing / 2
        if self.weight is None:
            rows = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
            return rows if self.reduction == "none" else rows.mean(dim=1)
        of_zero, of_one = self.weight.unsqueeze(2).unbind(1)  # (K, 2) -> (K, 1) each
        loss: Tensor = of_one * wanted * F.softplus(-logits)
        loss = loss + of_zero * (1 - wanted) * F.softplus(logits)
        if self.reduction == "none":
            return loss
        return loss.sum(dim=1) / self.weight.gather(1, target.long()).sum(dim=1)


class _StackedWeightedLoss(StackedLayer, WeightedLoss):
    """`WeightedLoss` of each member, whose loss is one of those above."""

    @classmethod
    def supports(cls, layer: Any) -> bool:
        """Whether its loss computes for all members at once; any other runs by `vmap` with it."""
        return type(layer.loss) in STACKED_LOSSES


class _ColumnLinear(StackedLayer, nn.Linear):
    """`nn.Linear` in a network that runs by `vmap`: it computes a column a row, `(W x')'`.

    As torch computes it, the gradient of the stacked weights is transposed, and every later step
    reads it across.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., n_features)` to `(..., n_outputs)`."""
        columns = torch.matmul(self.weight, x.mT)  # (B, n_features) -> (n_outputs, B)
        return columns.mT if self.bias is None else (columns + self.bias[:, None]).mT


Conversions = dict[type[nn.Module], type[StackedLayer]]

STACKED_LAYERS: Conversions = {
    nn.Linear: StackedLinear,
    nn.BatchNorm1d: _StackedBatchNorm,
    nn.LayerNorm: _StackedLayerNorm,
    nn.Dropout: HashedDropout,
    CategoryEmbeddings: _StackedCategoryEmbeddings,
    NumberEmbeddings: _StackedNumberEmbeddings,
}
"""What a layer becomes in a network of which every layer can; subclasses stay as they are."""

STACKED_LOSSES: Conversions = {
    CrossEntropy: StackedCrossEntropy,
    BinaryCrossEntropy: _StackedBinaryCrossEntropy,
    WeightedLoss: _StackedWeightedLoss,
}
"""What a loss becomes; any other runs by `vmap`."""

LAYER_CONVERSIONS: Conversions = {
    nn.Linear: _ColumnLinear,
    nn.Dropout: HashedDropout,
    nn.Dropout1d: HashedChannelDropout,
    nn.Dropout2d: HashedChannelDropout,
    nn.Dropout3d: HashedChannelDropout,
}
"""What a layer becomes in any other network, which runs by `vmap`."""


def per_member_attr(layer: nn.Module) -> str | None:
    """The attribute of a layer or a loss that each member has its own value of, if there is one."""
    found = {**LAYER_CONVERSIONS, **STACKED_LOSSES}.get(type(layer), StackedLayer)
    return found.per_member_attr


def all_stacked(network: nn.Module) -> bool:
    """Whether every layer of a network computes for K members at once, once it is converted.

    >>> all_stacked(MLP(4, 3)), all_stacked(nn.Sequential(nn.Conv1d(1, 1, 1)))
    (True, False)
    """
    kind, is_own = type(network), "forward" in vars(network) or _has_hooks(network)
    if is_own:
        return False
    if kind in STACKED_LAYERS:
        return STACKED_LAYERS[kind].supports(network)
    return kind in ELEMENTWISE or (
        kind in _CONTAINERS and all(map(all_stacked, network.children()))
    )


def _has_hooks(layer: nn.Module) -> bool:
    """Whether something watches or changes what goes through a layer."""
    return any(hooks for name, hooks in vars(layer).items() if name.endswith("_hooks"))
