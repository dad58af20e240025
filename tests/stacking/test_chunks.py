"""A stack cut into blocks, and an epoch into calls."""

import pytest
import torch

from multilayer.stacking.chunks import chunk_rows, epoch_chunks, in_blocks


@pytest.mark.parametrize(
    ("n_rows", "expected"),
    [
        (1, [(0, 1)]),
        (3, [(0, 1)]),
        (4, [(0, 2)]),
        (3 * 32, [(0, 32)]),
        (3 * 32 + 2, [(0, 32), (32, 33)]),
        (3 * 33, [(0, 32), (32, 33)]),
        (3 * 65 + 1, [(0, 32), (32, 64), (64, 66)]),
    ],
)
def test_calls_have_at_most_32_minibatches(n_rows: int, expected: list[tuple[int, int]]) -> None:
    """Of three rows; the last minibatch may be smaller."""
    assert epoch_chunks(n_rows, batch_size=3) == expected


def test_rows_of_a_call_are_its_part_of_each_members_order() -> None:
    """The second to fourth minibatch of two rows, of which the last one has one row."""
    order = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0]])
    (full, rows), (last, rest) = chunk_rows(order, 1, 4, batch_size=2)
    assert ([*range(9)][full], [*range(9)][last]) == ([0, 1], [2])
    assert rows.tolist() == [[[2, 3], [4, 3]], [[4, 5], [2, 1]]]
    assert rest.tolist() == [[[6], [0]]]
    assert rows.is_contiguous()
    assert rest.is_contiguous()
    ((_, only),) = chunk_rows(order, 0, 1, batch_size=2)
    assert only.tolist() == [[[0, 1], [6, 5]]]
    ((own, only),) = chunk_rows(order, 3, 4, batch_size=2)
    assert [*range(9)][own] == [0]
    assert only.tolist() == [[[6], [0]]]


@pytest.mark.parametrize(
    ("n", "most", "expected"),
    [
        (1, 16, [[0]]),
        (4, 2, [[0, 1], [2, 3]]),
        (5, 2, [[0, 1], [2, 3], [4, None]]),
        (5, 4, [[0, 1, 2], [3, 4, None]]),
    ],
)
def test_members_are_cut_into_equal_blocks(
    n: int, most: int, expected: list[list[int | None]]
) -> None:
    """In their order; the last one is filled up."""
    assert in_blocks(range(n), most) == expected
