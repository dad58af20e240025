"""Who is in which place of which block."""

from typing import Any

import pytest
import torch

from multilayer.lockstep.seats import Seats, compact, in_blocks
from multilayer.stacking.block import Block


class Guest:
    """Remembers where it lives."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.place: tuple[Block, int] | None = None

    def live_in(self, block: Block, k: int) -> None:
        """Take a place."""
        self.place = block, k

    def weight(self) -> float:
        """What its place in the block holds."""
        assert self.place is not None
        block, k = self.place
        return float(block.weights[k, 0])


def seats_of(numbers: list[int | None], first: int = 0) -> Seats:
    """A block whose weights are the numbers of its members; -1 where nobody is."""
    guests: list[Any] = [None if number is None else Guest(number) for number in numbers]
    own = [-1 if number is None else number for number in numbers]
    weights = torch.tensor(own, dtype=torch.float32)[:, None]
    alive = torch.tensor([number is not None for number in numbers])
    block = Block(weights, {"b": weights + 0.5}, {"m": weights * 2}, alive, alive.long())
    seats = Seats(block, guests, outputs=torch.zeros(len(numbers), 1))
    seats.settle()
    return seats


def numbers(seats: Seats) -> list[int | None]:
    """Who is where; each lives where the seats say, with its own weights, buffers and moments."""
    for k, guest in seats.taken():
        assert guest.place[0] is seats.block  # type: ignore[attr-defined]
        assert guest.place[1] == k  # type: ignore[attr-defined]
        number = guest.number  # type: ignore[attr-defined]
        assert [float(each[k].flatten()[0]) for each in seats.block.tensors()] == [
            number, number + 0.5, number * 2, 1, 1,
        ]  # fmt: skip
    return [None if each is None else each.number for each in seats.members]  # type: ignore[attr-defined]


def test_free_places_do_what_the_first_that_is_taken_does() -> None:
    """So that a block has one shape, whoever has left."""
    seats = seats_of([None, 5, None, 7])
    assert [k for k, _ in seats.taken()] == [1, 3]
    assert seats.free() == [0, 2]
    assert [each.number for each in seats.everyone()] == [5, 5, 5, 7]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4]),
        ([1, None, 3, 4], [1, None, 3, 4]),
        ([None, 2, None, 4], [2, 4]),
        ([None, 2, 3, None, None], [2, 3, None]),
        ([None, None, None, None, 5], [5]),
        ([1, None], [1]),
        ([1], [1]),
    ],
)
def test_a_block_is_halved_while_half_of_it_is_free(
    before: list[int | None], after: list[int | None]
) -> None:
    """Those that stay take their weights, buffers and moments along."""
    seats = seats_of(before)
    seats.shrink()
    assert numbers(seats) == after
    assert len(seats.block) == len(after)
    assert (seats.outputs is None) == (len(after) < len(before))  # they had the old shape


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ([[1, None], [3, 4]], [[1, None], [3, 4]]),
        ([[1, None], [None, 4]], [[1, 4]]),
        ([[1, None], [3, None], [5, 6]], [[1, 5], [3, 6]]),
        ([[None, 2], [None, 4], [5, None]], [[5, 2], [None, 4]]),
        ([[1, None, None], [None, 4, None], [7, None, None]], [[1, 7, 4]]),
    ],
)
def test_members_of_the_last_block_fill_places_that_are_free(
    before: list[list[int | None]], after: list[list[int | None]]
) -> None:
    """Where that empties it, and again until it does not."""
    every = [seats_of(each) for each in before]
    compact(every)
    assert [numbers(seats) for seats in every] == after


@pytest.mark.parametrize(
    ("n", "most", "expected"),
    [
        (1, 16, [[0]]),
        (4, 2, [[0, 1], [2, 3]]),
        (5, 2, [[0, 1], [2, 3], [4, None]]),
        (5, 4, [[0, 1, 2], [3, 4, None]]),
    ],
)
def test_members_are_cut_into_equal_blocks(n: int, most: int, expected: list[Any]) -> None:
    """In their order; the last one is filled up."""
    assert in_blocks(list(range(n)), most) == expected  # type: ignore[arg-type]
