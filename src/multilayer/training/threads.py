"""How many CPU threads torch uses for a run."""

import torch
from torch import nn

# Parameters times rows of a minibatch: below this a step takes a few milliseconds, and threads
# that wait for each other cost more than they bring. On a machine with other work they cost a
# hundred times more: 96 ms a step against 0.6 ms (64-128-64-10, 64 rows, 2 busy cores).
SMALL_STEP = 50_000_000

# The same of a block of a stack, for each thread: its members are divided among them. Two threads
# are no faster than one below 8 million, and 1.5 times as fast at 18 (2 idle cores, 64-128-64-10).
WORK_A_THREAD = 6_000_000

# A block of fewer is one small matrix product after the other, as a single network is.
MEMBERS_WORTH_THREADS = 4

TORCHS_OWN = torch.get_num_threads()


def set_threads(choice: int | str, network: nn.Module, n_rows: int) -> int:
    """Use `choice` threads for minibatches of `n_rows`; returns their number.

    Sums depend in their last digit on the number, so that who evaluates a run uses as many as its
    training.
    """
    n_threads = threads_of_step(choice, n_parameters(network) * n_rows)
    torch.set_num_threads(n_threads)
    return n_threads


def set_recorded_threads(n_threads: int) -> None:
    """Use as many threads as a training did, as far as this machine has them.

    More threads than cores wait for each other: a run from a machine of 64 cores would be
    evaluated a hundred times slower on one of 4.
    """
    torch.set_num_threads(min(n_threads, TORCHS_OWN))


def threads_of_step(choice: int | str, work: int, n_members: int = 1) -> int:
    """How many threads a training step uses: `choice`, or for "auto" by the step's size alone.

    Which number is faster depends on what else the machine does, too. Were it found by trial, the
    same command would give other last digits each time.

    work: parameters times rows of a minibatch, of all members together.

    >>> threads_of_step("auto", 17_226 * 64), threads_of_step(3, 17_226 * 64)
    (1, 3)
    """
    if choice != "auto":
        return int(choice)
    if n_members < MEMBERS_WORTH_THREADS:
        return 1 if work < SMALL_STEP else TORCHS_OWN
    return min(TORCHS_OWN, max(1, work // WORK_A_THREAD))


def n_parameters(network: nn.Module) -> int:
    """The number of weights and biases that are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
