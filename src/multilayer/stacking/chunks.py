"""A stack cut into blocks, and an epoch into calls for each block."""

from collections.abc import Sequence
from math import ceil
from typing import TypeVar

from torch import Tensor

Member = TypeVar("Member")

_MINIBATCHES_A_CALL = 32
"""Minibatches that a block trains on before the next block's turn."""


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
    """The minibatches, all of one size, of each call: the first, and the end.

    A smaller last one is a call of its own.

    >>> epoch_chunks(5, batch_size=2)
    [(0, 2), (2, 3)]
    """
    n_full, rest = divmod(n_rows, batch_size)
    starts = range(0, n_full, _MINIBATCHES_A_CALL)
    full = [(start, min(start + _MINIBATCHES_A_CALL, n_full)) for start in starts]
    return [*full, (n_full, n_full + 1)] if rest else full


def chunk_rows(order: Tensor, first: int, end: int, batch_size: int) -> Tensor:
    """The rows `(S, K, B)` of a call's minibatches, from the order of an epoch `(K, n_rows)`."""
    rows = order[:, first * batch_size : end * batch_size]
    return rows.view(len(order), end - first, -1).transpose(0, 1).contiguous()
