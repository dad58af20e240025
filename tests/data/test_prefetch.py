"""Fetching ahead."""

from collections.abc import Iterator
from threading import Event

import pytest

from multilayer.data.prefetch import prefetch


def test_the_next_item_is_fetched_while_one_is_used() -> None:
    """One, and no more."""
    fetched = {number: Event() for number in range(4)}

    def items() -> Iterator[int]:
        for number, event in fetched.items():
            event.set()
            yield number

    found = prefetch(items())
    assert next(found) == 0
    assert fetched[1].wait(timeout=60)
    assert not fetched[2].is_set()
    assert list(found) == [1, 2, 3]


def test_an_error_comes_where_the_item_would_have_been() -> None:
    """After all items before it."""

    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("no third")

    found = prefetch(items())
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="no third"):
        next(found)
