"""How many CPU threads torch uses for a run."""

from typing import Any

import torch
from torch import nn

# Parameters times rows of a minibatch: below this a step takes a few milliseconds, and threads
# that wait for each other cost more than they bring. On a machine with other work they cost a
# hundred times more: 96 ms a step against 0.6 ms (64-128-64-10, 64 rows, 2 busy cores).
SMALL_STEP = 50_000_000

TORCHS_OWN = torch.get_num_threads()


def set_threads(choice: int | str, network: nn.Module, batch_size: Any) -> None:
    """Use `choice` threads; "auto" is one where the steps are small, and torch's own otherwise.

    Sums depend in their last digit on the number of threads: who evaluates a run must choose as
    its training did.
    """
    if choice == "auto":
        small = batch_size != "full" and n_parameters(network) * batch_size < SMALL_STEP
        choice = 1 if small else TORCHS_OWN
    torch.set_num_threads(int(choice))


def n_parameters(network: nn.Module) -> int:
    """The number of weights and biases that are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
