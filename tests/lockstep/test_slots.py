"""Who is in which slot of which block."""

from typing import Any

import pytest
import torch
from torch import nn

from multilayer.lockstep.slots import BlockSlots, compact
from multilayer.stacking.block import Block


class Guest:
    """Has a network of one weight and one buffer."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.task_model = nn.Module()
        self.task_model.w = nn.Parameter(torch.empty(1))
        self.task_model.register_buffer("b", torch.empty(1))
        self.slots: BlockSlots | None = None
        self.k = -1


class OneWeight:
    """The layout of such a network."""

    def split(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """All of it."""
        return {"w": flat}


def slots_of(numbers: list[int | None]) -> BlockSlots:
    """A block whose weights are the numbers of its members; -1 where nobody is."""
    guests: list[Any] = [None if number is None else Guest(number) for number in numbers]
    own = [-1 if number is None else number for number in numbers]
    weights = torch.tensor(own, dtype=torch.float32)[:, None]
    alive = torch.tensor([number is not None for number in numbers])
    block = Block(weights, {"b": weights + 0.5}, {"m": weights * 2}, alive, alive.long())
    layout: Any = OneWeight()
    return BlockSlots(block, guests, layout, outputs=torch.zeros(len(numbers), 1))


def numbers(slots: BlockSlots) -> list[int | None]:
    """Who is where; each lives where the slots say, with its own weights, buffers and moments."""
    guests: list[Any] = slots.members
    for k, guest in enumerate(guests):
        if guest is None:
            continue
        assert (guest.slots, guest.k) == (slots, k)
        number = guest.number
        assert [float(each[k].flatten()[0]) for each in slots.block.tensors()] == [
            number, number + 0.5, number * 2, 1, 1,
        ]  # fmt: skip
        assert guest.task_model.w.data_ptr() == slots.block.weights[k].data_ptr()
        assert guest.task_model.b.data_ptr() == slots.block.rest["b"][k].data_ptr()
    return [None if each is None else each.number for each in guests]


def test_free_slots_do_what_the_first_that_is_taken_does() -> None:
    """So that a block has one shape, whoever has left."""
    slots = slots_of([None, 5, None, 7])
    assert [k for k, _ in slots.occupied()] == [1, 3]
    assert slots.free() == [0, 2]
    assert [each.number for each in slots.members_or_filler()] == [5, 5, 5, 7]  # type: ignore[attr-defined]


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
    slots = slots_of(before)
    slots.shrink()
    assert numbers(slots) == after
    assert len(slots.block) == len(after)
    assert (slots.outputs is None) == (len(after) < len(before))  # they had the old shape


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
def test_members_of_the_last_block_fill_slots_that_are_free(
    before: list[list[int | None]], after: list[list[int | None]]
) -> None:
    """Where that empties it, and again until it does not."""
    every = [slots_of(each) for each in before]
    compact(every)
    assert [numbers(slots) for slots in every] == after
