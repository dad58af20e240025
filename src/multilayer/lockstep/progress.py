"""One progress bar for a whole sweep."""

from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, TaskID

from multilayer.callbacks.best_weights import Mode, is_better, worst
from multilayer.lockstep.member import Member
from multilayer.lockstep.stack import Stack
from multilayer.runs.console import SECONDS_BETWEEN_LINES, progress_bar


class SweepProgress:
    """A bar over all runs: how many train at the moment, the best so far, and the time left.

    Where the output is no terminal, it is a line every ten seconds instead.

    Args:
        n_runs: the runs that train in stacks.
        shown: whether anything is shown.
    """

    def __init__(self, n_runs: int, *, shown: bool = True) -> None:
        self.n_runs = n_runs
        self.shown = shown
        self.n_ended = 0
        self.monitor = ""
        self.best: float | None = None
        self.console = Console(stderr=True, markup=False)
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.last_line = monotonic()

    def __enter__(self) -> Self:
        if self.shown and self.console.is_terminal:
            self.bar = progress_bar("runs", self.console)
            self.task = self.bar.add_task("sweep", total=self.n_runs, words="")
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def end_epoch(self, stack: Stack, monitor: str, mode: Mode) -> None:
        """Show what an epoch of a stack brought, by the metric that its runs are judged by."""
        self._note_best(stack, monitor, mode)
        members = stack.members()
        is_due = monotonic() - self.last_line > SECONDS_BETWEEN_LINES
        if self.bar is not None:
            begun = sum(member.epoch / member.max_epochs for member in members)
            words = self._words(members)
            n_done = self.n_ended + begun
            self.bar.update(self.task, completed=n_done, total=self.n_runs, words=words)
        elif self.shown and is_due:
            line = f"{self.n_ended} of {self.n_runs} runs ended  {self._words(members)}"
            self.console.print(line, soft_wrap=True)
            self.last_line = monotonic()

    def end_runs(self, n_runs: int) -> None:
        """Count runs that have ended, those that failed included."""
        self.n_ended += n_runs
        if self.bar is not None:
            self.bar.update(self.task, completed=self.n_ended, total=self.n_runs)

    def say(self, words: str) -> None:
        """A line for the user, above the bar."""
        if self.shown:
            self.console.print(f"lockstep: {words}", soft_wrap=True, highlight=False)

    def _note_best(self, stack: Stack, monitor: str, mode: Mode) -> None:
        """Remember the best value of the first stack's metric; others may be judged by another."""
        self.monitor = self.monitor or monitor
        if monitor != self.monitor:
            return
        values = [each.metrics[monitor] for each in stack.members() if monitor in each.metrics]
        for value in values:
            if is_better(value, worst(mode) if self.best is None else self.best, mode):
                self.best = value

    def _words(self, members: Sequence[Member]) -> str:
        """How the members stand, in a few words."""
        best = "" if self.best is None else f"  best {self.monitor} {self.best:#.4g}"
        epoch = max((member.epoch for member in members), default=0)
        return f"epoch {epoch}  {len(members)} training{best}"
