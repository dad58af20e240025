"""How many CPU threads torch uses for a run."""

import torch
from torch import nn

# Parameters times rows of a minibatch: below this a step takes a few milliseconds, and threads
# that wait for each other cost more than they bring. On a machine with other work they cost a
# hundred times more: 96 ms a step against 0.6 ms (64-128-64-10, 64 rows, 2 busy cores).
SMALL_STEP = 50_000_000

TORCHS_OWN = torch.get_num_threads()


def set_threads(choice: int | str, network: nn.Module, n_rows: int) -> int:
    """Use `choice` threads for minibatches of `n_rows`; returns their number.

    "auto" is one where the steps are small, and as many as torch would use otherwise. Sums depend
    in their last digit on the number, so that who evaluates a run uses as many as its training.
    """
    if choice == "auto":
        choice = 1 if n_parameters(network) * n_rows < SMALL_STEP else TORCHS_OWN
    torch.set_num_threads(int(choice))
    return int(choice)


def n_parameters(network: nn.Module) -> int:
    """The number of weights and biases that are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
