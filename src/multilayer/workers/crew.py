"""Having the jobs of a sweep trained by workers, and waiting for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from omegaconf import DictConfig

from multilayer.composing.sweep_jobs import describe_command, launcher_words
from multilayer.core.errors import RefusedError, UserError, print_failure
from multilayer.core.text import counted, name_jobs, override_word
from multilayer.runs.config import MASK, mask_overrides
from multilayer.runs.console import RunsProgress, console
from multilayer.sweeps import Job, Outcome, Session
from multilayer.sweeps.journal import writing
from multilayer.sweeps.ledger import DEAD_AFTER
from multilayer.workers.engine import Engine

_POLL_SECONDS = 0.5
"""How often it is looked how far the workers are."""

_MOST_RESTARTS = 3
"""How often workers that have died are started again without any job having ended in between; those
that are left then go on without them."""

_MOST_DEATHS = 3
"""Workers that die of a job without getting any further, after which it is not trained again."""

_SECONDS_TO_END = 10.0
"""How long a worker may take to end once there are no jobs left."""


@dataclass
class Crew:
    """The workers of a sweep that this process has started.

    A worker that dies is replaced while there are jobs to train. A job that workers die of again
    and again, by a signal of the system's or with their hosts, is recorded as failed.

    Args:
        engine: Starts and ends them.
        master: The config of the sweep.
        session: This process in the ledger of the sweep.
    """

    engine: Engine
    master: DictConfig
    session: Session
    _overrides: list[str] = field(default_factory=list)
    _read_at: float = field(default_factory=monotonic)
    _has_started: bool = False

    @property
    def command(self) -> list[str]:
        """What each worker runs."""
        described = describe_command(self.master)
        folder = described["config_dir"]
        return [
            *(sys.executable, "-m", "multilayer", "work"),
            *(["--config-dir", folder] if folder else []),
            override_word("sweep", str(self.session.ledger.sweep.absolute())),
            override_word("n_workers", self.engine.n),
            override_word("max_failures", self.session.max_failures),
            "trust=true",  # what the jobs name comes from this command
            override_word("parent", self.session.worker.info.name),
            override_word("overrides", self._overrides),
            *described["hydra"],
            *launcher_words(described),
        ]

    def train(self, words_of: Mapping[int, Sequence[str]]) -> None:
        """Wait until the workers have ended jobs, and end the workers.

        Args:
            words_of: The overrides of the jobs, by their numbers.

        Raises:
            RefusedError: No worker can be started.
            UserError: The workers die again and again.
        """
        numbers = list(words_of)
        self._overrides = self._unrecorded(words_of)
        self._check(numbers)
        logs = self.session.ledger.folder / "logs"
        with writing(logs):
            logs.mkdir(exist_ok=True)
        self.session.worker.begin()  # workers look whether it lives
        console().print(f"{counted(self.engine.n, 'worker')}; logs: {os.path.relpath(logs)}")
        try:
            with RunsProgress(len(numbers)) as progress:
                self._wait(numbers, logs, progress)
            self._let_end()
        finally:
            self.engine.stop()

    def _unrecorded(self, words_of: Mapping[int, Sequence[str]]) -> list[str]:
        """The words of all jobs that the ledger does not have for each.

        A job of before comes out the same by other words, where defaults have changed since.
        """
        jobs = self.session.ledger.jobs
        masked = [mask_overrides(words) for words in words_of.values()]
        shared = [word for word in masked[0] if all(word in words for words in masked)]
        return [word for word in shared if any(word not in jobs[n].overrides for n in words_of)]

    def _check(self, numbers: Sequence[int]) -> None:
        """Raise `RefusedError` if jobs have secrets, which the ledger does not tell the workers."""
        words = [(f"job {n}: ", self.session.ledger.jobs[n].overrides) for n in numbers]
        words.append(("", (*self._overrides, *describe_command(self.master)["hydra"])))
        for whose, overrides in words:
            for word in overrides:
                if MASK in word:
                    raise RefusedError(
                        f"{whose}{word}: the ledger records no secrets, so that workers do not "
                        "know it: give it as a reference to the environment, '${oc.env:NAME}'"
                    )

    def _wait(self, numbers: Sequence[int], logs: Path, progress: RunsProgress) -> None:
        """Start workers as long as there are open jobs, until none is open and none is trained."""
        ledger = self.session.ledger
        left, n_starts, n_deaths_before = set(numbers), 0, 0
        while True:
            # Before the ledger is read: who has ended has recorded before what it did.
            n_alive = self.engine.n_alive()
            self._refresh()
            n_deaths = sum(map(self._end_if_deadly, left))
            if n_deaths > n_deaths_before:  # those are bounded for each job
                n_starts = min(n_starts, 1)
            n_deaths_before = n_deaths
            ended = [n for n in left if ledger.jobs[n].outcome and not ledger.jobs[n].is_open]
            if ended:
                left -= set(ended)
                n_starts = min(n_starts, 1)
                self._report([ledger.jobs[n] for n in sorted(ended)])
            n_open = sum(ledger.jobs[n].is_open for n in left)
            words = describe_workers(n_alive, self.engine.n_waiting(), self.engine.waits)
            progress.show(len(numbers) - len(left), words)
            if not left or (self.session.is_over() and n_open == len(left)):
                return
            n_missing = min(self.engine.n, n_open) - n_alive
            if n_missing > 0 and not self.session.is_over():
                if n_starts <= _MOST_RESTARTS:
                    self._start(n_missing, logs, is_needed=not n_alive)
                elif not n_alive:
                    raise UserError(self._died(logs))
                n_starts += 1
            sleep(_POLL_SECONDS)

    def _end_if_deadly(self, number: int) -> int:
        """Record a job as failed if workers die of it; returns how many have.

        Where it has got further in between, it may come to its end after all.
        """
        deaths = self.session.deaths(number)
        if len(deaths) < _MOST_DEATHS or not self.session.ledger.jobs[number].is_open:
            return len(deaths)
        attempts = sorted(deaths)
        if not self.session.has_got_on(number, attempts[-_MOST_DEATHS]):
            last = deaths[attempts[-1]].worker
            how = last.log and self.engine.how_ended(last.log)
            log = last.log or self.session.ledger.folder / "logs"
            error = (
                f"its process died {len(deaths)} times{f', by {how} at last' if how else ''}; "
                f"what it printed: {os.path.relpath(log)}"
            )
            self.session.worker.claim([number])
            self.session.record({number: Outcome("failed", error=error)})
        return len(deaths)

    def _start(self, n: int, logs: Path, *, is_needed: bool) -> None:
        """Start workers; if there are others, which go on with the jobs, it may fail.

        Raises:
            RefusedError: None can be started, and none has been before.
            UserError: There are no others, and none can be started.
        """
        try:
            self.engine.start(self.command, Path.cwd(), logs, n)
        except UserError as error:
            if not is_needed:
                print_failure(error)
            elif self._has_started:
                raise
            else:
                raise RefusedError(str(error)) from error
        else:
            self._has_started = True

    def _refresh(self) -> None:
        """Read the ledger; a shared folder that cannot be read for a moment is no reason to end.

        Raises:
            UserError: It could not be read for a minute.
        """
        try:
            self.session.ledger.refresh()
        except UserError:
            if monotonic() - self._read_at > DEAD_AFTER:
                raise
        else:
            self._read_at = monotonic()

    def _let_end(self) -> None:
        """Give workers that have nothing to do any more the time to end by themselves."""
        end = monotonic() + _SECONDS_TO_END
        while self.engine.n_alive() and monotonic() < end:
            sleep(_POLL_SECONDS / 5)

    def _report(self, ended: Sequence[Job]) -> None:
        """Say which jobs have failed, and where they are."""
        for job in ended:
            if job.state == "failed":
                error = UserError(job.error)
                folder = self.session.folder(job.number)
                if folder.exists():  # else its process died before it wrote anything
                    error.add_note(f"run folder: {os.path.relpath(folder)}")
                print_failure(error, name_jobs([job.number]))

    def _died(self, logs: Path) -> str:
        """The message for workers that die again and again."""
        words = self.engine.last_words()
        said = f": {words}" if words else ""
        return (
            f"the workers end before they have trained a job{said}\nlogs: {os.path.relpath(logs)}"
        )


def describe_workers(n_alive: int, n_waiting: int, where: str) -> str:
    """How many workers there are, and how many of them do not run yet.

    >>> describe_workers(32, 30, "in Slurm's queue")
    "2 of 32 workers run, 30 wait in Slurm's queue"
    """
    if not n_waiting:
        return counted(n_alive, "worker")
    n, wait = n_alive - n_waiting, "waits" if n_waiting == 1 else "wait"
    run = "runs" if n == 1 else "run"
    return f"{n} of {counted(n_alive, 'worker')} {run}, {n_waiting} {wait} {where}"
