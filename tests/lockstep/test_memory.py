"""What is set apart from Python's garbage collector while a stack is trained."""

import gc

import pytest

from multilayer.training.runtime import ready_memory


@pytest.mark.parametrize("by_command", [True, False])
def test_what_was_imported_is_set_apart_within_it(by_command: bool) -> None:
    """And afterwards only where a command did so before: else stacks would never be freed."""
    gc.unfreeze()
    try:
        if by_command:
            gc.freeze()
        with ready_memory():
            assert gc.get_freeze_count() > 0
        assert (gc.get_freeze_count() > 0) == by_command
    finally:
        gc.freeze()  # as tests/conftest.py does
