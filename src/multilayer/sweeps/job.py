"""A job of a sweep, and its attempts: its state follows from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Ending: TypeAlias = Literal["done", "failed", "diverged", "pruned", "interrupted"]
"""How an attempt ended; interrupted is what goes on from its last checkpoint."""

State: TypeAlias = Literal["waiting", "running"] | Ending
"""The state of a job; one whose worker died is interrupted too."""

ENDINGS = frozenset(("done", "failed", "diverged", "pruned", "interrupted"))


@dataclass(slots=True)
class WorkerInfo:
    """A process that trains jobs, as the ledger knows it.

    Attributes:
        name: Of its file in the ledger.
        host: The machine's name.
        pid: Its number there.
        parent: The worker whose process has started it; None for one that was started by hand.
        log: The file that it prints to, on its host; None if that is not known.
        is_alive: Whether it was when the ledger was last read.
        has_closed: Whether it has said that it ends.
    """

    name: str
    host: str = "?"
    pid: int = 0
    parent: str | None = None
    log: str | None = None
    is_alive: bool = True
    has_closed: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Attributes:
        state: One of `Ending`.
        value: The monitored metric; None where there is none.
        seconds: How long it took.
        error: The first line of what it failed of.

    >>> Outcome("done", value=0.25).value
    0.25
    """

    state: Ending
    value: float | None = None
    seconds: float | None = None
    error: str = ""


@dataclass(slots=True)
class Attempt:
    """One training of a job, by the worker that claimed it.

    Attributes:
        worker: Whose it is.
        claimed_at: When it was claimed, in seconds since 1970 by the worker's clock.
        ended_at: When it ended, likewise; None while it has not.
        outcome: How it ended; None while it has not, and forever if the worker died.
    """

    worker: WorkerInfo
    claimed_at: float | None = None
    ended_at: float | None = None
    outcome: Outcome | None = None


@dataclass(slots=True)
class Attempts:
    """What was tried of one job.

    Attributes:
        by_number: The attempts, counted from 1.
        reopened: The last attempt that was set aside, so that the job waits again; 0 for none.
    """

    by_number: dict[int, Attempt] = field(default_factory=dict)
    reopened: int = 0

    @property
    def count(self) -> int:
        """How many attempts there were; the next one has the number after it."""
        return max(self.by_number, default=0)

    @property
    def last(self) -> Attempt | None:
        """The one that counts."""
        return self.by_number[self.count] if self.by_number else None

    @property
    def state(self) -> State:
        """The job's state, of which nothing is stored."""
        last = self.last
        if last is None:
            return "waiting"
        if last.outcome is None:
            return "running" if last.worker.is_alive else "interrupted"
        return "waiting" if self.reopened >= self.count else last.outcome.state

    @property
    def crashed(self) -> dict[int, Attempt]:
        """The attempts, by their numbers, whose workers died without a word."""
        return {
            number: each
            for number, each in self.by_number.items()
            if each.outcome is None
            and not each.worker.has_closed
            and not (each is self.last and each.worker.is_alive)
        }


@dataclass(frozen=True, slots=True)
class Job:
    """A job of a sweep, as it was registered, and what became of it.

    Attributes:
        number: Its number in the sweep, for good: `hydra.job.num`.
        identity: See `identity.identity`.
        overrides: What its config is composed from, without secrets.
        subdir: Its run folder, relative to the sweep's.
        attempts: What was tried of it.

    >>> Job(0, "3f", ("seed=0",), "0", Attempts()).state
    'waiting'
    """

    number: int
    identity: str
    overrides: tuple[str, ...]
    subdir: str
    attempts: Attempts

    @property
    def state(self) -> State:
        """Waiting, running, or how its last attempt ended."""
        return self.attempts.state

    @property
    def is_open(self) -> bool:
        """Whether a worker may claim it."""
        return self.state in ("waiting", "interrupted")

    @property
    def outcome(self) -> Outcome | None:
        """How its last attempt ended; None while it has not, or where it is to be done again."""
        last = self.attempts.last
        return None if last is None or self.state == "waiting" else last.outcome

    @property
    def value(self) -> float | None:
        """The monitored metric of a job that has ended."""
        return self.outcome.value if self.outcome else None

    @property
    def error(self) -> str:
        """The first line of what it failed of."""
        return self.outcome.error if self.outcome else ""

    @property
    def host(self) -> str | None:
        """Where it was last trained."""
        return self.attempts.last.worker.host if self.attempts.last else None


def count_states(jobs: Mapping[int, Job]) -> dict[State, int]:
    """How many jobs there are of each state."""
    counts: dict[State, int] = {}
    for job in jobs.values():
        counts[job.state] = counts.get(job.state, 0) + 1
    return counts
