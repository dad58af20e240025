"""Kills and interrupts at random moments, and going on by the same command until it is done."""

import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from socket import gethostname
from time import monotonic, sleep

from drill.files import changed_files, finished_files, unreadable
from drill.results import compare_runs, done_attempts, not_done_once, repeated_jobs
from drill.subjects import Ended, Running, Subject, run, running

from multilayer.core.errors import UserError
from multilayer.runs.folder import RunFolder, find_state
from multilayer.sweeps import Ledger

MOST_IN_A_ROW = 2
"""Disturbances of a training; then it may come to its end. A job has failed at the third worker
that dies of it."""

_PATIENCE = 90.0
"""Seconds within which processes end whose parent is gone: they look for it now and then."""


@dataclass
class Row:
    """A line of the table.

    Attributes:
        what: What was done to what.
        moments: How often.
        n_done: How many jobs of a sweep were done at each of them.
        resumed: How often it was gone on with.
        compared: How many trainings were compared with the undisturbed one.
        problems: What was wrong, a line each.
        largest: The largest difference from the undisturbed numbers.
        skipped: Why it could not be tried; empty if it was.
        unchanged: Whether nothing was to change, rather than to end as undisturbed.
    """

    what: str
    moments: int = 0
    n_done: list[int] = field(default_factory=list)
    resumed: int = 0
    compared: int = 0
    problems: list[str] = field(default_factory=list)
    largest: float = 0.0
    skipped: str = ""
    unchanged: bool = False

    def result(self) -> str:
        """The last column."""
        if self.problems:
            return f"{len(self.problems)} PROBLEMS"
        if self.skipped:
            return f"skipped: {self.skipped}"
        if self.unchanged:
            return "refused, nothing changed"
        if not self.compared:
            return "not tried"
        return f"equal to {self.largest:.0e}" if self.largest else "equal to the bit"

    def note(self, where: str, problems: list[str]) -> None:
        """Add what is wrong."""
        self.problems += [f"{where}: {problem}" for problem in problems]


class Drill:
    """What is done to one subject.

    Args:
        subject: What is disturbed.
        folder: Where, which must be empty.
        seed: Of the random moments.

    Attributes:
        whole: The folder of the undisturbed training.
        seconds: How long that took.
    """

    def __init__(self, subject: Subject, folder: Path, seed: int) -> None:
        self.subject = subject
        self.folder = folder
        self.random = Random(f"{seed} {subject.name}")  # noqa: S311 - no secret
        self.whole = folder / "undisturbed" / "train"
        self.seconds = 0.0
        self._n_folders = 0

    def train_undisturbed(self) -> None:
        """Train what the others are compared with, by one process.

        Raises:
            RuntimeError: That fails.
        """
        self.whole.parent.mkdir(parents=True)
        ended = run(self.subject.in_one_process.command(self.whole), self.whole.parent)
        if ended.code != 0:
            raise RuntimeError(f"{self.subject.name}, undisturbed:\n{ended.last_words}")
        self.seconds = ended.seconds

    def new_folder(self) -> Path:
        """A folder, not yet there, for one training; where its command runs is above it."""
        self._n_folders += 1
        folder = self.folder / str(self._n_folders) / "train"
        folder.parent.mkdir(parents=True)
        return folder

    def kill(self, moments: int) -> Row:
        """Kill the command at random moments."""
        return self._disturb(Row(f"SIGKILL, {self.subject.name}"), moments, self._kill_once)

    def interrupt(self, moments: int, number: signal.Signals) -> Row:
        """Send the command a signal that it saves its work upon."""

        def once(command: Running, folder: Path) -> list[str]:
            command.send(number)
            return interrupt_problems(command.end(), number, self.subject.run_folders(folder))

        return self._disturb(Row(f"{number.name}, {self.subject.name}"), moments, once)

    def _kill_once(self, command: Running, folder: Path) -> list[str]:
        """Kill the command; what it has started is to end by itself."""
        command.send(signal.SIGKILL)
        command.process.wait()
        deadline = monotonic() + _PATIENCE
        while self.subject.workers and (pids := worker_pids(folder)):
            if monotonic() > deadline:
                return [f"its processes {pids} still run after {_PATIENCE:g} s"]
            sleep(0.2)
        return []

    def _disturb(
        self, row: Row, moments: int, disturb: Callable[[Running, Path], list[str]]
    ) -> Row:
        """Disturb trainings as often as that, each until it is done."""
        while row.moments < moments:
            folder = self.new_folder()
            self._disturb_one(row, min(MOST_IN_A_ROW, moments - row.moments), folder, disturb)
            self.check_end(row, folder)
        return row

    def _disturb_one(
        self, row: Row, most: int, folder: Path, disturb: Callable[[Running, Path], list[str]]
    ) -> None:
        """Disturb one training, at most as often as that, and let it come to its end."""
        finished: dict[Path, str] = {}
        done: dict[int, int] = {}
        for n in range(most + 1):
            moment = self.random.uniform(0, self.seconds)
            with running(self.subject.command(folder), folder.parent) as command:
                if is_disturbed := n < most and not command.ends_within(moment):
                    row.moments += 1
                    row.note(f"{folder}, {moment:.2f} s", disturb(command, folder))
                    if self.subject.is_sweep:
                        row.n_done.append(len(done_attempts(folder)))
                else:
                    row.note(str(folder), end_problems(command.end()))
            row.note(str(folder), self._check_between(folder, finished, done))
            if not is_disturbed or self.is_done(folder):
                return
            finished, done = finished_files(self.subject.run_folders(folder)), done_attempts(folder)
            self.clear_begun(folder)
            row.resumed += 1

    def _check_between(
        self, folder: Path, finished: dict[Path, str], done: dict[int, int]
    ) -> list[str]:
        """What is wrong after an attempt."""
        problems = changed_files(finished) + unreadable(folder, has_ended=False)
        return problems + repeated_jobs(done, done_attempts(folder))

    def is_done(self, folder: Path) -> bool:
        """Whether it is a run that has come to its end, which does not go on."""
        return not self.subject.is_sweep and find_state(folder) == "finished"

    def clear_begun(self, folder: Path) -> None:
        """Move a single run away that was killed before its first checkpoint: it begins anew."""
        if not self.subject.is_sweep and find_state(folder) == "unfinished":
            folder.rename(self.new_folder())

    def check_end(self, row: Row, folder: Path, *, curves: bool = True) -> None:
        """Note what is wrong with a training that has come to its end; see `compare_runs`."""
        runs, expected = (self.subject.run_folders(each) for each in (folder, self.whole))
        is_exact = self.subject.is_exact
        problems, largest = compare_runs(runs, expected, is_exact=is_exact, curves=curves)
        row.compared += 1
        row.largest = max(row.largest, largest)
        problems += not_done_once(folder) + unreadable(folder, has_ended=True)
        row.note(str(folder), problems)


def end_problems(ended: Ended) -> list[str]:
    """What is wrong with the end of a command that nothing has disturbed."""
    return [] if ended.code == 0 else [f"exit code {ended.code}:\n{ended.last_words}"]


def interrupt_problems(ended: Ended, number: signal.Signals, run_folders: list[Path]) -> list[str]:
    """What is wrong with the end of a command that a signal has interrupted."""
    problems = []
    if ended.code == 0:  # it came to its end before it got the signal
        return []
    if not _was_starting(ended):
        if ended.code != 128 + number:
            problems.append(f"exit code {ended.code}, not {128 + number}")
        if run_folders and "interrupted" not in ended.last_words:
            problems.append("the last lines do not say that it was interrupted")
        if "Traceback" in ended.said:
            problems.append("a traceback")
    problems = [f"{problem}:\n{ended.last_words}" for problem in problems]
    for folder in run_folders:
        with suppress(UserError):  # a damaged manifest is found when all files are read
            manifest = RunFolder(folder).read_manifest()
            status, steps = manifest["status"], manifest["steps"]
            if status not in ("interrupted", "done"):
                problems.append(f"{folder}: its manifest says {status}")
            elif steps and not (folder / "checkpoints" / "last.ckpt").exists():
                problems.append(f"{folder}: no checkpoint after {steps} steps")
    return problems


def _was_starting(ended: Ended) -> bool:
    """Whether the signal came before Python had come to the command, which takes some 0.1 s.

    SIGTERM ends Python silently then, and Ctrl-C with a traceback, and with exit code 1 as long as
    Python has not come to the module that it is to run.
    """
    is_of_python = ended.said.endswith("KeyboardInterrupt\n") and ", in command\n" not in ended.said
    return is_of_python or not ended.said


def worker_pids(sweep: Path) -> list[int]:
    """The processes that work on a sweep, by its ledger, and still run on this machine."""
    ledger = Ledger(sweep)
    ledger.refresh()
    attempts = [job.attempts.last for job in ledger.jobs.values()]
    workers = {each.worker.name: each.worker for each in attempts if each is not None}
    here = [each for each in workers.values() if each.host == gethostname()]
    return sorted({each.pid for each in here if each.is_alive and each.pid})
