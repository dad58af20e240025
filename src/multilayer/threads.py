"""How many CPU threads torch uses for a run."""

from collections.abc import Sequence
from statistics import median

import torch
from torch import nn

# Parameters times rows of a minibatch: below this a step takes a few milliseconds, and threads
# that wait for each other cost more than they bring. On a machine with other work they cost a
# hundred times more: 96 ms a step against 0.6 ms (64-128-64-10, 64 rows, 2 busy cores).
SMALL_STEP = 50_000_000

MEMBERS_WORTH_THREADS = 4

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


class ThreadTrial:
    """Finds out by trial which number of CPU threads is faster, and looks again now and then.

    Two threads on two idle cores are 1.7 times as fast as one for a stack of 16 small networks.
    Beside one other busy process they take twice the time of one: each operation ends with a wait
    for the slower of them. Which of the two it is changes while a training lasts.

    >>> trial = ThreadTrial([1, 2])
    >>> for _ in range(6):
    ...     trial.note(trial.choose(), seconds=2.0 / trial.choose())
    >>> trial.choose()
    2
    """

    TRIALS = 3
    CALLS_BETWEEN = 200

    def __init__(self, candidates: Sequence[int]) -> None:
        self.seconds: dict[int, list[float]] = {n: [] for n in candidates}
        self.n_calls = 0

    def choose(self) -> int:
        """The number for the next piece of work."""
        least_tried = min(self.seconds, key=lambda n: len(self.seconds[n]))
        if len(self.seconds[least_tried]) < self.TRIALS:
            return least_tried
        return min(self.seconds, key=lambda n: median(self.seconds[n]))

    def note(self, n_threads: int, seconds: float) -> None:
        """Remember how long a piece of work took; all pieces are alike."""
        self.seconds[n_threads].append(seconds)
        self.n_calls += 1
        if self.n_calls % self.CALLS_BETWEEN == 0:
            self.start_over()

    def start_over(self) -> None:
        """Forget what was found, for the work has changed, or may have."""
        self.seconds = {n: [] for n in self.seconds}


def thread_counts(choice: int | str, device: torch.device, n_members: int) -> list[int]:
    """The numbers of threads to be tried for a stack: what the user says, else one and all."""
    if choice != "auto":
        return [int(choice)]
    # A block of few members is one small matrix product after the other.
    worth_it = device.type == "cpu" and n_members >= MEMBERS_WORTH_THREADS
    return sorted({1, TORCHS_OWN}) if worth_it else [1]
