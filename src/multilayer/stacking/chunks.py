"""A stack cut into blocks, and an epoch into calls for each block."""

from collections.abc import Sequence
from math import ceil
from typing import TypeVar

from torch import Tensor

Member = TypeVar("Member")

_MINIBATCHES_A_CALL = 32
"""Minibatches that all blocks train on before they wait for each other, and for an interrupt."""


def in_blocks(members: Sequence[Member], most: int) -> list[list[Member | None]]:
    """The members in blocks of equal size, no larger than `most`; None fills up the last one.

    >>> in_blocks([1, 2, 3, 4, 5], most=2)
    [[1, 2], [3, 4], [5, None]]
    """
    n_blocks = ceil(len(members) / most)
    size = ceil(len(members) / n_blocks)
    padded = [*members, *[None] * (n_blocks * size - len(members))]
    return [padded[start : start + size] for start in range(0, len(padded), size)]


def epoch_chunks(n_rows: int, batch_size: int) -> list[tuple[int, int]]:
    """The minibatches of each call: the first, and the end.

    >>> epoch_chunks(5, batch_size=2)
    [(0, 3)]
    """
    n = ceil(n_rows / batch_size)
    starts = range(0, n, _MINIBATCHES_A_CALL)
    return [(start, min(start + _MINIBATCHES_A_CALL, n)) for start in starts]


def chunk_rows(order: Tensor, first: int, end: int, batch_size: int) -> list[tuple[slice, Tensor]]:
    """The rows of a call's minibatches, from the order of an epoch `(K, n_rows)`.

    Returns:
        Those of equal minibatches together: their numbers within the call, and `(S, K, B)`. A
        smaller last one is apart.
    """
    rows = order[:, first * batch_size : end * batch_size]
    n_full, rest = divmod(rows.shape[1], batch_size)
    parts = rows.split_with_sizes([n_full * batch_size, rest], dim=1)
    shapes = (n_full, batch_size), (1, rest)
    steps = slice(0, n_full), slice(n_full, n_full + 1)
    return [
        (own, part.view(len(order), *shape).transpose(0, 1).contiguous())
        for own, part, shape in zip(steps, parts, shapes, strict=True)
        if part.numel()
    ]
