"""What this process does of a sweep: the jobs that it takes, and what it records of them."""

import atexit
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from multilayer.core.errors import UserError
from multilayer.core.files import refusing, remove_leftovers
from multilayer.runs.folder import Result, RunFolder, find_state, objective
from multilayer.runs.manifest import describe_failure
from multilayer.sweeps.job import Attempt, Ending, Outcome
from multilayer.sweeps.journal import writing
from multilayer.sweeps.ledger import Ledger
from multilayer.sweeps.worker import Worker

_sessions: dict[Path, "Session"] = {}
"""Those of this process, by the folders of their sweeps."""


class Session:
    """This process as a worker of a sweep.

    Args:
        sweep: The sweep's folder.
        parent: The worker whose process has started this one; None if it was started by hand.

    Attributes:
        ledger: The sweep's.
        worker: This process, as the ledger knows it.
        max_failures: How many jobs of the sweep may have failed before no further one is taken,
            with those of earlier commands; see `allow_failures`.
        most_deaths: Jobs that more workers have died of are not taken now; see `deaths`.
    """

    def __init__(self, sweep: Path, parent: str | None = None) -> None:
        self.ledger = Ledger(sweep)
        self.worker: Worker = self.ledger.worker(parent=parent)
        self.max_failures: int | None = None
        self.most_deaths = 0

    @classmethod
    def of(cls, sweep: Path, parent: str | None = None) -> "Session | None":
        """The session of this process for a sweep; None if the sweep has no ledger."""
        if sweep not in _sessions:
            session = cls(sweep, parent)
            if not session.ledger.exists():
                return None
            _sessions[sweep] = session
        return _sessions[sweep]

    def withdraw(self) -> bool:
        """Remove the ledger, unless other jobs or processes have come to it by now.

        It is moved aside first: what another process is about to write there gives an error
        instead of getting lost.

        Returns:
            Whether it is removed.

        Raises:
            OSError: It cannot be moved or removed.
        """
        self.worker.close()
        _sessions.pop(self.ledger.sweep, None)
        folder = self.ledger.folder
        aside = folder.with_name(f".ledger.{self.worker.info.name}")
        folder.rename(aside)
        found = {
            path for name in ("jobs", "workers", "claims") for path in (aside / name).iterdir()
        }
        own = {aside / "jobs" / "0.jsonl", aside / "workers" / f"{self.worker.info.name}.jsonl"}
        if is_own := found <= own:
            shutil.rmtree(aside)
        else:
            aside.rename(folder)
        return is_own

    def take(self, numbers: Iterable[int], output_subdir: str | None = None) -> list[int]:
        """Take jobs, to train them now.

        What an earlier attempt has left of a job is moved to `ledger/attempts/`, unless it was
        interrupted and goes on: see `goes_on`. If it was killed after the run had ended, that is
        recorded, and the job is not taken.

        Args:
            numbers: Of jobs.
            output_subdir: What Hydra has written in the run folder for this attempt, which stays.

        Returns:
            Those that are to be trained: not those that have ended, that another process trains, or
            that are not to begin any more.

        Raises:
            UserError: The ledger, or a folder, cannot be written.
        """
        self.ledger.refresh()
        taken: list[int] = []
        ended: dict[int, Outcome] = {}
        for number in numbers:
            if number in self.worker.held:
                taken.append(number)
            elif self._may_begin(number) and self.worker.claim([number]):
                outcome = self._take_over(number, output_subdir)
                if outcome is None:
                    taken.append(number)
                else:
                    ended[number] = outcome
        if ended:
            self.worker.finish(ended)
        return taken

    def _may_begin(self, number: int) -> bool:
        """Whether a job may begin now, if no other process trains it."""
        return not self.is_over() and len(self.deaths(number)) <= self.most_deaths

    def deaths(self, number: int) -> dict[int, Attempt]:
        """The attempts at a job, by their numbers, in which workers of this command died.

        They are those that this process has started, or whose parent is the one of this process.
        """
        attempts = self.ledger.jobs[number].attempts
        if not attempts.by_number:
            return {}
        command, crashed = self.worker.info.parent or self.worker.info.name, attempts.crashed
        return {n: each for n, each in crashed.items() if each.worker.parent == command}

    def has_got_on(self, number: int, attempt: int) -> bool:
        """Whether a job has written a checkpoint since an attempt at it began.

        Both times are of the clock of the file system.
        """
        run = RunFolder(self.folder(number))
        times = [
            last.stat().st_mtime
            for folder in (run.path, run.refit)
            if (last := folder / "checkpoints" / "last.ckpt").exists()
        ]
        return max(times, default=0.0) > self.ledger.claimed_at(number, attempt)

    def record(self, outcomes: Mapping[int, Outcome]) -> None:
        """Record how jobs ended that this process has taken."""
        new = {n: each for n, each in outcomes.items() if n in self.worker.held}
        if new:
            self.worker.finish(new)

    def allow_failures(self, n: int | None) -> None:
        """Take no further job once n more have failed than had when the ledger was last read."""
        self.max_failures = None if n is None else n + self._n_failed()

    def is_over(self) -> bool:
        """Whether `max_failures` is reached, after which no further job begins."""
        return self.max_failures is not None and self._n_failed() >= self.max_failures

    def _n_failed(self) -> int:
        """How many jobs of the sweep have failed, and are not to be tried again."""
        return sum(job.state == "failed" for job in self.ledger.jobs.values())

    def trains_elsewhere(self, number: int) -> bool:
        """Whether another process trains a job at the moment."""
        is_running = self.ledger.jobs[number].state == "running"
        return is_running and self.was_trained_elsewhere(number)

    def was_trained_elsewhere(self, number: int) -> bool:
        """Whether the last attempt of a job is another process's."""
        last = self.ledger.jobs[number].attempts.last
        return last is not None and last.worker is not self.worker.info

    def folder(self, number: int) -> Path:
        """The run folder of a job."""
        return self.ledger.sweep / self.ledger.jobs[number].subdir

    def goes_on(self, number: int) -> bool:
        """Whether a job that was taken is a run that was interrupted and goes on in its folder."""
        is_first = self.worker.held[number] == 1  # then the folder is another run's, or none's
        return not is_first and find_state(self.folder(number)) == "resumable"

    def _take_over(self, number: int, output_subdir: str | None) -> Outcome | None:
        """Take over what the attempt before this one has left of a job; see `take`.

        Returns:
            How it ended, if it has and that was not recorded.
        """
        if self.worker.held[number] == 1:
            return None
        folder, ending = self.folder(number), self._ending_before(number)
        try:
            left = find_state(folder)
            if left == "finished" and ending == "interrupted":
                remove_leftovers(folder)
                return _read_outcome(RunFolder(folder))
        except UserError:  # what is damaged is done again
            left = "unfinished"
        if left != "none" and (left, ending) != ("resumable", "interrupted"):
            self._set_aside(number, output_subdir)
        return None

    def _ending_before(self, number: int) -> Ending:
        """How what is in a job's folder ended.

        It is of the last attempt that is known to have begun: it has ended, or has moved what was
        there. One after it was killed at once, or has gone on with it.
        """
        attempts = self.ledger.jobs[number].attempts.by_number
        for attempt in range(self.worker.held[number] - 1, 0, -1):
            known = attempts.get(attempt)
            if known is not None and known.outcome is not None:
                return known.outcome.state
            if self._aside(number, attempt - 1).exists():
                break
        return "interrupted"

    def _aside(self, number: int, attempt: int) -> Path:
        """Where what an attempt has left is moved to."""
        return self.ledger.folder / "attempts" / f"{number}.{attempt}"

    def _set_aside(self, number: int, output_subdir: str | None) -> None:
        """Move what an earlier attempt has left out of the way; nothing of it is removed."""
        folder = self.folder(number)
        aside = self._aside(number, self.worker.held[number] - 1)
        with writing(folder):
            self.worker.check(folder)
            aside.parent.mkdir(exist_ok=True)
            folder.rename(aside)
            if output_subdir is not None and (aside / output_subdir).exists():
                folder.mkdir()
                (aside / output_subdir).rename(folder / output_subdir)


def _read_outcome(run: RunFolder) -> Outcome:
    """How a run ended, by its own files.

    Raises:
        UserError: A file is damaged.
    """
    result = run.read_result()
    with refusing(run.config_file, "is damaged", LookupError, TypeError):
        return outcome_of(run.read_config()["monitor"], result)


def outcome_of(monitor: str, ended: Result | Exception) -> Outcome:
    """How a run ended, as the ledger records it.

    Args:
        monitor: The metric that is the run's value.
        ended: Its result, or what it failed of.

    >>> result = Result({"validation": {"loss": 0.25}}, {"status": "done", "fit_seconds": 1.5})
    >>> outcome_of("validation/loss", result).value
    0.25
    """
    if isinstance(ended, Exception):
        return Outcome("failed", error=describe_failure(ended)["stop_reason"])
    manifest = ended.manifest
    seconds = manifest.get("fit_seconds")
    return Outcome(manifest["status"], objective(monitor, ended.metrics), seconds)


@atexit.register  # where a launcher has started this process
def close_sessions() -> None:
    """End the sessions of this process; jobs that it still holds are interrupted."""
    while _sessions:
        with suppress(UserError):  # a full disk: that the process has ended says the same
            _sessions.popitem()[1].worker.close()
