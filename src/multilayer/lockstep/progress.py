"""How far the stacks of a sweep are."""

from collections.abc import Sequence

from multilayer.callbacks.best_weights import Mode, is_better, worst
from multilayer.lockstep.member import Member
from multilayer.lockstep.stack import Stack
from multilayer.runs.console import RunsProgress


class SweepProgress(RunsProgress):
    """A bar over all runs: how many train at the moment, the best so far, and the time left.

    Args:
        n_runs: the runs that train in stacks.
        shown: whether anything is shown.
    """

    def __init__(self, n_runs: int, *, shown: bool = True) -> None:
        super().__init__(n_runs, shown=shown)
        self.n_ended = 0
        self.monitor = ""
        self.best: float | None = None

    def end_epoch(self, stack: Stack, monitor: str, mode: Mode) -> None:
        """Show what an epoch of a stack brought, by the metric that its runs are judged by."""
        self._note_best(stack, monitor, mode)
        members = stack.members()
        begun = sum(member.epoch / member.max_epochs for member in members)
        self.show(self.n_ended, self._words(members), begun)

    def end_runs(self, n_runs: int) -> None:
        """Count runs that have ended, those that failed included."""
        self.n_ended += n_runs

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
