"""When a stack's step is compiled and when that is used, by counts of its steps.

Neither a clock nor what was compiled before decides it: compiling changes the last digits.
"""

from typing import TYPE_CHECKING

from multilayer.training.runtime import autocast_of

if TYPE_CHECKING:
    from multilayer.lockstep.stack import Stack


def compile_in_time(stack: "Stack", first: int) -> None:
    """Compile the steps of a stack if that pays, and use those that are due; see `StepRunner`.

    Members that go on from checkpoints use them from the same step on as those before.

    Args:
        stack: before some minibatches of an epoch.
        first: the number of the first of them.
    """
    runner, block = stack.runner, stack.blocks()[0].block
    n_planned = max(each.max_epochs for each in stack.members()) * stack.n_batches
    with autocast_of(stack.precision, stack.device):
        for i in (0, stack.n_batches - 1):  # the last one may be smaller
            n_rows = min(stack.batch_size, stack.n_rows - i * stack.batch_size)
            n_before = runner.n_not_compiled(block, n_rows, n_planned, len(stack.slots))
            runner.prepare(
                block,
                stack.features,
                stack.target,
                n_rows,
                _n_steps_left(stack, n_rows),
                stack.reshaped_at + n_before,
            )
    runner.use_compiled(n_steps_done(stack) + first)


def n_steps_done(stack: "Stack") -> int:
    """The steps in the whole epochs of the member that has come furthest."""
    return max(each.epoch for each in stack.members()) * stack.n_batches


def _n_steps_left(stack: "Stack", n_rows: int) -> int:
    """The steps of blocks with minibatches of `n_rows`, until the end of the training."""
    n_full = stack.n_rows // stack.batch_size
    n_an_epoch = n_full if n_rows == stack.batch_size else 1
    n_epochs = max(each.max_epochs - each.epoch for each in stack.members())
    size = len(stack.slots[0].members)
    return n_an_epoch * (n_epochs * len(stack.slots) + stack.n_epochs_waiting // size)
