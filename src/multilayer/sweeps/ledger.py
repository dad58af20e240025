"""The ledger of a sweep: files in its folder, read and written by many processes on many hosts.

    ledger/jobs/0.jsonl        jobs that were registered together, from number 0 on
    ledger/workers/NAME.jsonl  what a worker claimed, and how it ended; touched as its heartbeat
    ledger/claims/000/7.1      the claim on the first attempt of job 7
    ledger/clock               what a reader touches to learn the file system's time

Nothing in it is changed, or removed once a job has begun: files are created exclusively, and lines
appended to a file by the one process whose it is. Neither needs a lock, which shared folders of
clusters do not have.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from sys import intern
from threading import RLock
from time import sleep, time
from typing import Any

from multilayer.core.errors import UserError, raise_all
from multilayer.core.files import refusing
from multilayer.core.text import counted
from multilayer.runs.config import Config, mask_overrides
from multilayer.sweeps.claims import Claims
from multilayer.sweeps.compatibility import BatchValues, conflicts
from multilayer.sweeps.identity import Values, identity_of, values_that_matter
from multilayer.sweeps.job import ENDINGS, Attempt, Attempts, Job, Outcome, WorkerInfo
from multilayer.sweeps.journal import (
    VERSION,
    Line,
    check_version,
    damaged,
    encode,
    parse,
    publish,
    writing,
)
from multilayer.sweeps.roster import Roster
from multilayer.sweeps.worker import Worker, read_outcome

BEAT_SECONDS = 5.0
"""How often a worker shows that it lives."""

DEAD_AFTER = 60.0
"""Seconds without that after which a worker counts as dead: a network's file system may show the
time of a file half a minute late, and Python's threads wait while a large package is imported."""

_MOMENT = 0.02
"""Seconds until jobs that another process has registered are looked for; NFS may show them late."""


@dataclass(frozen=True)
class NewJob:
    """A job to be registered.

    Attributes:
        config: As `multilayer.runs.config.to_plain` gives it.
        overrides: What it is composed from.

    >>> NewJob({"seed": 3}, ["seed=3"]).overrides
    ['seed=3']
    """

    config: Config
    overrides: Sequence[str]


@dataclass(frozen=True)
class _Described:
    """What the ledger needs to know of the jobs of a command."""

    values: list[Values]
    identities: list[str]

    @classmethod
    def of(cls, jobs: Sequence[NewJob]) -> "_Described":
        """It, for some jobs."""
        values = [values_that_matter(job.config) for job in jobs]
        return cls(values, [identity_of(each) for each in values])


class Ledger:
    """The ledger of a sweep, as it was when it was last read: see `refresh`.

    Nothing is read or written before it is asked for.

    Args:
        sweep: The sweep's folder.
        dead_after: Seconds after which a worker that has not shown that it lives counts as dead;
            the same for all that open the ledger.
        touches: Whether a file may be touched, if nothing else is written, to learn the time by the
            file system's clock; else it is this machine's.

    Attributes:
        jobs: By their numbers.
        commands: What was noted with jobs that were registered together, in their order.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as sweep:
    ...     Ledger(sweep).register([NewJob({"seed": n}, [f"seed={n}"]) for n in (1, 2)])
    [0, 1]
    """

    def __init__(
        self, sweep: str | Path, *, dead_after: float = DEAD_AFTER, touches: bool = True
    ) -> None:
        self.sweep = Path(sweep)
        self.folder = self.sweep / "ledger"
        self.dead_after = dead_after
        self.jobs: dict[int, Job] = {}
        self.commands: list[Line] = []
        self._claims = Claims(self.folder / "claims")
        self._attempts: defaultdict[int, Attempts] = defaultdict(Attempts)
        self._numbers: defaultdict[str, list[int]] = defaultdict(list)
        self._batches: list[Path] = []
        self._roster = Roster(self.folder, dead_after, touches=touches)
        self._lock = RLock()

    def exists(self) -> bool:
        """Whether the sweep has a ledger; those of earlier versions have none."""
        return self._batch_file(0).exists()

    # Registering ----------------------------------------------------------------------------------

    def preview(self, jobs: Sequence[NewJob]) -> list[int]:
        """The numbers that `register` would give, while nothing is written.

        Raises:
            UserError: They are another sweep's jobs; or the ledger cannot be read.
        """
        return self._number(_Described.of(jobs))[0]

    def register(
        self,
        jobs: Sequence[NewJob],
        subdir_of: Callable[[int, int], str] = lambda _, number: str(number),
        *,
        command: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """The numbers of jobs; those that the sweep does not have are added to it, all or none.

        A job has the number of the first one with the same identity; if several are the same, each
        has its own.

        Args:
            jobs: All jobs of a command.
            subdir_of: The run folder, relative to the sweep's, of a job with an index in `jobs` and
                a number.
            command: What else is to be known of the jobs that are new, as plain data; see
                `commands`.

        Returns:
            The number of each.

        Raises:
            UserError: They are another sweep's jobs, and nothing was written; or the ledger cannot
                be read or written.
        """
        described = _Described.of(jobs)
        while True:
            numbers, new = self._number(described)
            if not new:
                return numbers
            subdirs = self._check_subdirs({numbers[i]: subdir_of(i, numbers[i]) for i in new})
            lines = [
                {
                    "identity": described.identities[i],
                    "overrides": mask_overrides(jobs[i].overrides),
                    "subdir": subdirs[numbers[i]],
                }
                for i in new
            ]
            values = BatchValues.of([described.values[i] for i in new])
            if self._add_batch(lines, values, command or {}):
                self.refresh()
                return numbers
            sleep(_MOMENT)

    def _number(self, jobs: "_Described") -> tuple[list[int], list[int]]:
        """The number of each job as of now, and the indices of those that are new."""
        self.refresh()
        seen: Counter[str] = Counter()
        numbers: list[int] = []
        new: list[int] = []
        for index, identity in enumerate(jobs.identities):
            known = self._numbers.get(identity, [])
            if seen[identity] < len(known):
                numbers.append(known[seen[identity]])
            else:
                numbers.append(len(self.jobs) + len(new))
                new.append(index)
            seen[identity] += 1
        if new:
            problems = conflicts(self._read_values(), BatchValues.of(jobs.values))
            head = (
                f"{self.sweep} holds another sweep: choose another folder, as "
                "hydra.sweep.dir=FOLDER, or go on with that one by the values of its jobs"
            )
            raise_all([head, *problems] if problems else [])
        return numbers, new

    def _check_subdirs(self, subdirs: dict[int, str]) -> dict[int, str]:
        """The folders of new jobs by number; each is below the sweep's, and no other job's."""
        known = {job.subdir: number for number, job in self.jobs.items()}
        for number, subdir in subdirs.items():
            first = known.setdefault(_checked_subdir(subdir), number)
            if first != number:
                raise UserError(f"{subdir} is job {first}'s: give each its hydra.sweep.subdir")
        return subdirs

    def _add_batch(
        self, lines: Sequence[Line], values: BatchValues, command: Mapping[str, Any]
    ) -> bool:
        """Add jobs after those that are known; false if another process has added some by now."""
        for name in ("jobs", "workers", "claims"):
            with writing(self.folder / name):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        head = {
            "ledger": VERSION,
            "first": len(self.jobs),
            "count": len(lines),
            "command": command,
            "shared": values.shared,
        }
        own = [line | {"own": each} for line, each in zip(lines, values.own, strict=True)]
        return publish(self._batch_file(len(self.jobs)), encode([head, *own]))

    def _batch_file(self, first: int) -> Path:
        """The file of the jobs from a number on."""
        return self.folder / "jobs" / f"{first}.jsonl"

    def _read_values(self) -> list[BatchValues]:
        """The values of all jobs; they are not kept in memory."""
        batches = []
        for path in self._batches:
            head, *lines = _read_batch(path)
            batches.append(BatchValues(head["shared"], [line["own"] for line in lines]))
        return batches

    # Reading --------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read what was added since the last time, and find out which workers are dead.

        Raises:
            UserError: A file cannot be read, is damaged, or is of a later version; the message
                names it and the line.
        """
        with self._lock:
            while (path := self._batch_file(len(self.jobs))).exists():
                self._read_jobs(path)
            for worker, path, number, line in self._roster.read():
                try:
                    self._apply(worker, line)
                except (LookupError, TypeError, ValueError) as error:
                    raise damaged(path, number, "is damaged: not of a ledger") from error

    def _read_jobs(self, path: Path) -> None:
        """Read jobs that were registered together."""
        first = len(self.jobs)
        lines = _read_batch(path)
        if lines[0]["first"] != first:
            raise damaged(path, 1, f"is damaged: not the head of the jobs from {first} on")
        for number, line in enumerate(lines[1:], first):
            try:
                overrides = tuple(map(intern, line["overrides"]))
                subdir = _checked_subdir(line["subdir"])
                job = Job(number, line["identity"], overrides, subdir, self._attempts[number])
                self._numbers[job.identity].append(number)
            except (LookupError, TypeError, ValueError) as error:
                raise damaged(path, number - first + 2, "is damaged: not a job") from error
            self.jobs[number] = job
        self._batches.append(path)
        self.commands.append(lines[0]["command"])

    def _apply(self, worker: WorkerInfo, line: Line) -> None:
        """Take in what a worker has written; the order of the workers' files does not matter."""
        if "ended" in line:
            number, attempt = line["ended"]
            if line["state"] not in ENDINGS:
                raise ValueError(line["state"])
            self.note_end(number, attempt, read_outcome(line), worker, float(line["at"]))
        elif "claimed" in line:
            for number, attempt in line["claimed"]:
                self._attempt(number, attempt, worker).claimed_at = float(line["at"])
        else:
            for number, attempt in line["reopened"]:
                self.note_reopened(number, attempt)

    def _attempt(self, number: int, attempt: int, worker: WorkerInfo) -> Attempt:
        """An attempt of a worker, which is noted if it is new."""
        if type(number) is not int or type(attempt) is not int:
            raise TypeError("not a whole number")
        known = self._attempts[number].by_number.get(attempt)
        if known is None or known.worker is not worker:
            known = self._attempts[number].by_number[attempt] = Attempt(worker)
        return known

    # What workers do ------------------------------------------------------------------------------

    def worker(self, *, beat_seconds: float = BEAT_SECONDS, parent: str | None = None) -> Worker:
        """A new worker of the sweep, which is this process or a thread of it; see `Worker`."""
        return Worker(self, beat_seconds=beat_seconds, parent=parent)

    def worker_file(self, name: str) -> Path:
        """The file of a worker."""
        return self._roster.file(name)

    def watch(self, name: str) -> Callable[[], bool]:
        """What finds out whether one worker is alive, without reading the rest of the ledger.

        Raises:
            UserError: When it is called: the worker's file cannot be read.
        """
        roster = Roster(self.folder, self.dead_after, only=name)

        def is_alive() -> bool:
            for _ in roster.read():
                pass
            return roster.workers[name].is_alive

        return is_alive

    def note_worker(self, worker: WorkerInfo) -> None:
        """Know a worker of this process."""
        with self._lock:
            self._roster.workers[worker.name] = worker

    def claim(self, number: int, worker: WorkerInfo) -> int | None:
        """Claim the next attempt of a job for a worker.

        Returns:
            The attempt's number; None if the job is not open, or another worker was quicker: that
            is then known of the job.
        """
        job = self.jobs[number]
        attempt = job.attempts.count + 1  # before it is looked whether the job is open: a thread
        if not job.is_open:  # may claim it in between
            return None
        if self._claims.take(number, attempt, worker.name):
            self._attempt(number, attempt, worker).claimed_at = time()
            return attempt
        owner = self._claims.owner(number, attempt)
        if attempt not in job.attempts.by_number:
            found = self._roster.owner(owner, self._claims.path(number, attempt))
            self._attempt(number, attempt, found)
        return None

    def is_claimed(self, number: int, attempt: int) -> bool:
        """Whether some worker has claimed an attempt of a job, as of now."""
        return self._claims.is_taken(number, attempt)

    def claimed_at(self, number: int, attempt: int) -> float:
        """When an attempt was claimed, by the clock of the file system, in seconds since 1970."""
        return self._claims.path(number, attempt).stat().st_mtime

    def note_end(
        self, number: int, attempt: int, outcome: Outcome, worker: WorkerInfo, at: float
    ) -> None:
        """Know how an attempt ended."""
        known = self._attempt(number, attempt, worker)
        known.outcome, known.ended_at = outcome, at

    def note_reopened(self, number: int, attempt: int) -> None:
        """Know that the attempts of a job up to one are set aside."""
        attempts = self._attempts[number]
        attempts.reopened = max(attempts.reopened, attempt)


def _read_batch(path: Path) -> list[Line]:
    """The lines of jobs that were registered together; the first one is their head."""
    with refusing(path, "is damaged"):
        content = path.read_bytes()
    lines = parse(path, content)
    if not lines:
        raise damaged(path, 1, "is damaged: it is empty")
    check_version(path, lines[0])
    try:
        count, first = (lines[0][key] for key in ("count", "first"))
        parts = [lines[0][key] for key in ("command", "shared")]
        if type(first) is not int or not all(isinstance(part, dict) for part in parts):
            raise TypeError("of another type")
    except (LookupError, TypeError) as error:
        raise damaged(path, 1, "is damaged: not the head of a list of jobs") from error
    if count != len(lines) - 1 or not content.endswith(b"\n"):
        raise damaged(
            path, len(lines), f"is damaged: the last of {counted(count, 'job')} is missing"
        )
    return lines


def _checked_subdir(subdir: str) -> str:
    """The folder of a run, which is to be below the sweep's: who reads a ledger writes there."""
    path = PurePath(subdir)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(f"hydra.sweep.subdir={subdir}: must lead into a folder of the sweep's")
    return subdir
