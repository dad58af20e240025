"""Who is in which place of which block, and how they move together when some have left."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

import torch
from torch import Tensor

from multilayer.lockstep.member import Member
from multilayer.stacking.block import Block


@dataclass
class Seats:
    """A block, and who is in its places: a member, or None where one has left.

    order: the rows of an epoch, `(K, n_rows)`.
    losses: of the minibatches of this epoch so far, `(S, K)` each.
    outputs: of the rows of an epoch, `(K, n_rows, ...)`. It stays from epoch to epoch: made anew
        each time between the larger tensors of a step, such leave holes in the memory.
    validation: the losses `(K,)` and outputs `(K, N, ...)` of this epoch's validation minibatches.
    """

    block: Block
    members: list[Member | None]
    order: Tensor = field(default_factory=lambda: torch.empty(0))
    losses: list[Tensor] = field(default_factory=list)
    outputs: Tensor | None = None
    validation: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def taken(self) -> list[tuple[int, Member]]:
        """The places that are taken, and by whom."""
        return [(k, member) for k, member in enumerate(self.members) if member is not None]

    def free(self) -> list[int]:
        """The places where nobody is."""
        return [k for k, member in enumerate(self.members) if member is None]

    def everyone(self) -> list[Member]:
        """A member for each place; a free one does what the first one does."""
        first = self.taken()[0][1]
        return [member or first for member in self.members]

    def settle(self) -> None:
        """Let every member live in its place."""
        for k, member in self.taken():
            member.live_in(self.block, k)

    def move_in(self, k: int, other: "Seats", place: int) -> None:
        """Take the member at `place` of other seats into place `k`."""
        self.block.move(other.block, place, k)
        self.members[k] = other.members[place]
        other.members[place] = None

    def shrink(self) -> None:
        """Halve the block while half of its places are free."""
        size, n_taken = len(self.members), len(self.taken())
        while n_taken <= size // 2:
            size = ceil(size / 2)
        if size < len(self.members):
            chosen = [k for k, _ in self.taken()] + self.free()
            self.block = self.block.only(chosen[:size])
            self.members = [self.members[k] for k in chosen[:size]]
            self.outputs = None
            self.settle()


def in_blocks(members: Sequence[Member], most: int) -> list[list[Member | None]]:
    """The members in blocks of equal size, at most so many; None fills up the last one."""
    n_blocks = ceil(len(members) / most)
    size = ceil(len(members) / n_blocks)
    padded = [*members, *[None] * (n_blocks * size - len(members))]
    return [padded[start : start + size] for start in range(0, len(padded), size)]


def compact(every: list[Seats]) -> None:
    """Move members out of the last block into places that became free, if that empties it."""
    while len(every) > 1:
        last, others = every[-1], every[:-1]
        free = [(seats, k) for seats in others for k in seats.free()]
        if len(free) < len(last.taken()):
            break
        for (seats, k), (place, member) in zip(free, last.taken(), strict=False):
            seats.move_in(k, last, place)
            member.live_in(seats.block, k)
        every.pop()
    if len(every) == 1:
        every[0].shrink()
