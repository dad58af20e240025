"""Dropout in a stack: each member's masks follow from its own keys, not from who else is there."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_CALL_STEP = 0x27D4EB2F
"""Between the keys of two uses of a dropout layer."""


class StackedLayer(nn.Module):
    """A layer that another one becomes in a stack.

    Attributes:
        per_member_attr: the attribute of that other one which each member has its own value of.
    """

    per_member_attr: str | None = None

    @classmethod
    def supports(cls, layer: Any) -> bool:
        """Whether a layer can become one of these."""
        return True

    @classmethod
    def take_over(cls, layer: nn.Module, layers: Sequence[Any]) -> None:
        """Make a layer one of these, in place, given that layer of every member."""
        layer.__class__ = cls


class HashedDropout(StackedLayer, nn.Dropout):
    """`nn.Dropout` whose mask is a hash of a key and the place in the minibatch.

    A member's masks thus depend on its own key alone, not on who else is in the stack, and they
    cost a few integer operations, which compile to vector instructions; a random number generator
    inside a compiled step costs several times the step.

    Its buffers are each member's own: `threshold` (int32, what a hash must reach to be kept),
    `scale`, and `key`, two int32 that change every step. They are `(K,)` and `(K, 2)` if rows of K
    members go through at once, and one member's within `vmap`. `n_calls` counts its uses in a step:
    each has its own mask.
    """

    threshold: Tensor
    scale: Tensor
    key: Tensor
    n_calls = 0
    per_member_attr = "p"

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
        shape = self.mask_shape(x.shape[key.ndim - 1 :])
        kept = hashed(shape, key) >= _spread(self.threshold, shape)
        return x * kept * _spread(self.scale, shape)

    def mask_shape(self, shape: Sequence[int]) -> Sequence[int]:
        """The shape of a member's mask for an input of some shape."""
        return shape


class HashedChannelDropout(HashedDropout):
    """`nn.Dropout1d`, `2d` or `3d` so: whole channels are dropped.

    Attributes:
        n_inside: the dimensions of a channel. As in torch, an input of one dimension fewer has no
            minibatch, except in 2d.
    """

    n_inside: int

    @classmethod
    def take_over(cls, layer: nn.Module, layers: Sequence[Any]) -> None:
        """Make a dropout layer one of these."""
        n_inside = 1 if isinstance(layer, nn.Dropout1d) else 2 + isinstance(layer, nn.Dropout3d)
        super().take_over(layer, layers)
        vars(layer)["n_inside"] = n_inside

    def mask_shape(self, shape: Sequence[int]) -> Sequence[int]:
        """One number a channel, `(B, C, 1, ...)`."""
        n = 2 if self.n_inside == 2 else len(shape) - self.n_inside
        return *shape[:n], *[1] * (len(shape) - n)


def key_generator(seed: int) -> np.random.Generator:
    """What the keys of a run's dropout are drawn from."""
    return np.random.default_rng((seed, 1))


def draw_keys(generator: np.random.Generator, n: int) -> Tensor:
    """The keys of the next n steps' dropout, `(n, 2)` int32."""
    return torch.from_numpy(generator.integers(-(2**31), 2**31, size=(n, 2), dtype=np.int32))


def hashed(shape: Sequence[int], key: Tensor) -> Tensor:
    """Uniform int32 of a shape, from keys of two int32, `(..., 2)` to `(..., *shape)`.

    Two rounds of xor-shift and multiply, as in the integer hashes of Wellons (hash-prospector,
    2018), with the key in the counter and in the first multiplier.
    """
    places = torch.arange(prod(shape), dtype=torch.int32, device=key.device).view(*shape)
    first, second = (_spread(part, shape) for part in key.unbind(-1))
    bits = places * (0x9E3779B1 - 2**32) + first  # numbers above 2**31 as signed ones
    bits = (bits ^ (bits >> 16 & 0xFFFF)) * (second | 1)
    return (bits ^ (bits >> 15 & 0x1FFFF)) * (0x846CA68B - 2**32)


def _spread(numbers: Tensor, shape: Sequence[int]) -> Tensor:
    """Numbers `(...)` as `(..., 1, 1)`, a 1 for each dimension of a shape."""
    return numbers[(..., *[None] * len(shape))]
