"""One progress bar for a whole sweep."""

from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, TaskID

from multilayer.callbacks.best_weights import is_better, worst
from multilayer.callbacks.progress import SECONDS_BETWEEN_LINES, bar_of
from multilayer.lockstep.member import Member
from multilayer.lockstep.stack import Stack


class SweepProgress:
    """A bar over all runs: how many train at the moment, the best so far, and the time left.

    Where the output is no terminal, it is a line every ten seconds instead.

    n_runs: the runs that train in stacks.
    shown: whether anything is.
    """

    def __init__(self, n_runs: int, *, shown: bool = True) -> None:
        self.n_runs = n_runs
        self.shown = shown
        self.n_before = 0
        self.monitor = ""
        self.best: float | None = None
        self.console = Console(stderr=True, markup=False)
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.last_line = monotonic()

    def __enter__(self) -> Self:
        if self.shown and self.console.is_terminal:
            self.bar = bar_of("runs", self.console)
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

    def end_epoch(self, stack: Stack, leaving: list[Member]) -> None:
        """Show what an epoch of a stack brought.

        leaving: the members that ended with it.
        """
        alive = stack.alive()
        for member in [*alive, *leaving]:
            if member.failure is None:
                self.note(member)
        n_ended = self.n_before + len(stack.members) - len(alive)
        if self.bar is not None:
            begun = sum(_part_done(member) for member in alive)
            words = self.words(stack, len(alive))
            self.bar.update(self.task, completed=n_ended + begun, total=self.n_runs, words=words)
        elif self.shown and monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            line = f"{n_ended} of {self.n_runs} runs ended  {self.words(stack, len(alive))}"
            self.console.print(line, soft_wrap=True)
            self.last_line = monotonic()

    def end_stack(self, n_runs: int) -> None:
        """Count the runs of a stack that is no more, those that failed included."""
        self.n_before += n_runs
        if self.bar is not None:
            self.bar.update(self.task, completed=self.n_before, total=self.n_runs)

    def say(self, words: str) -> None:
        """A line for the user, above the bar."""
        if self.shown:
            self.console.print(f"lockstep: {words}", soft_wrap=True, highlight=False)

    def note(self, member: Member) -> None:
        """Remember the best value of the metric that the runs are judged by.

        Runs may be judged by different metrics; it is the first one's.
        """
        config = member.training.config
        self.monitor = self.monitor or config["monitor"]
        if config["monitor"] != self.monitor:
            return
        value = float(member.trainer.callback_metrics[config["monitor"]])
        best = worst(config["mode"]) if self.best is None else self.best
        if is_better(value, best, config["mode"]):
            self.best = value

    def words(self, stack: Stack, n_alive: int) -> str:
        """How the stack stands, in a few words."""
        best = "" if self.best is None else f"  best {self.monitor} {self.best:#.4g}"
        return f"epoch {stack.epoch}  {n_alive} training{best}"


def _part_done(member: Member) -> float:
    """The share of its epochs that a member has trained."""
    return member.trainer.current_epoch / (member.trainer.max_epochs or 1)
