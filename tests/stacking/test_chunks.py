"""A stack cut into blocks, and an epoch into calls."""

import pytest
import torch

from multilayer.stacking.chunks import chunk_rows, epoch_chunks, in_blocks


@pytest.mark.parametrize(
    ("n_rows", "expected"),
    [
        (1, [(0, 1)]),
        (3, [(0, 1)]),
        (4, [(0, 1), (1, 2)]),
        (3 * 32, [(0, 32)]),
        (3 * 32 + 2, [(0, 32), (32, 33)]),
        (3 * 33, [(0, 32), (32, 33)]),
        (3 * 65 + 1, [(0, 32), (32, 64), (64, 65), (65, 66)]),
    ],
)
def test_calls_have_at_most_32_minibatches_of_one_size(
    n_rows: int, expected: list[tuple[int, int]]
) -> None:
    """Of three rows; a smaller last minibatch is a call by itself."""
    assert epoch_chunks(n_rows, batch_size=3) == expected


def test_rows_of_a_call_are_its_part_of_each_members_order() -> None:
    """The second and third minibatch of two rows, and a last one of one row."""
    order = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0]])
    rows = chunk_rows(order, 1, 3, batch_size=2)
    assert rows.tolist() == [[[2, 3], [4, 3]], [[4, 5], [2, 1]]]
    assert rows.is_contiguous()
    assert chunk_rows(order, 3, 4, batch_size=2).tolist() == [[[6], [0]]]


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
