"""What one command does of a sweep: its jobs are registered, and those that are open trained."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig
from rich.table import Table

from multilayer.cli.changes import find_changes
from multilayer.cli.choice_keys import fit_to_choices
from multilayer.cli.open_jobs import train_open_jobs
from multilayer.composing.sweep_jobs import SweepJobs, Words
from multilayer.core.errors import JobsFailedError, RefusedError, UserError
from multilayer.core.files import remove_leftovers, write_text
from multilayer.core.text import as_override, counted, name_jobs
from multilayer.reports.summary import SweepFolder
from multilayer.runs.config import sweep_as_yaml
from multilayer.runs.console import console, format_number, print_table
from multilayer.runs.manifest import ENDED
from multilayer.sweeps import Job, Ledger, Session

_COMMAND = "multirun.yaml"
"""The file of the latest command of a sweep."""

_TRAINED = "to train"
_RETRIED = "failed, to try again"
_REDONE = "changed, to train again"


class GridSweep:
    """One command's sweep.

    Args:
        context: Hydra's, of the command.
        master: The config of the sweep.
        launcher: Trains jobs: ours, or one of Hydra's.
        max_batch_size: How many jobs the launcher is given at a time; None for all.
    """

    def __init__(
        self,
        context: HydraContext,
        master: DictConfig,
        launcher: Launcher,
        max_batch_size: int | None,
    ) -> None:
        self.context = context
        self.master = master
        self.launcher = launcher
        self.max_batch_size = max_batch_size
        self.options = master.sweep

    def run(self, words: Sequence[Words]) -> list[JobReturn]:
        """Train the jobs with these overrides, as far as they are not done.

        Returns:
            What the launcher returned of those that it trained.

        Raises:
            UserError: It is another sweep than that of the folder, a job has no config, or the
                folder cannot be written; nothing has begun.
            RefusedError: No worker can be started; the folder is as it was.
            JobsFailedError: Jobs have failed, or have not begun since too many had failed.
        """
        SweepFolder.path = None  # an earlier sweep's, until this one is accepted
        given = [[word for word in each if not word.startswith("sweep.")] for each in words]
        loader: Any = self.context.config_loader
        own, notes = fit_to_choices(loader, self.master.hydra.job.config_name, given)
        jobs = SweepJobs.compose(loader, self.master, own)
        for note in notes:
            console().print(f"sweep: {note}")
        if self.options.dry_run:
            self._print_plan(jobs)
            return []
        with _leaving_nothing_if_refused(jobs.sweep):
            return self._train(jobs, own)

    def _train(self, jobs: SweepJobs, words: Sequence[Words]) -> list[JobReturn]:
        """Register the jobs of the command, and train those that are open; see `run`."""
        numbers = jobs.register(Ledger(jobs.sweep))
        SweepFolder.path = jobs.sweep
        self._write_command(jobs.sweep)
        session = Session.of(jobs.sweep)
        assert session is not None, "registering has begun a ledger"
        session.ledger.refresh()
        fates = self._fates(jobs, numbers, session.ledger)
        _print_start(fates.values())
        session.worker.reopen(n for n, fate in fates.items() if fate in (_RETRIED, _REDONE))
        session.allow_failures(self.options.max_failures)
        loader: Any = self.context.config_loader
        loader.max_failures = session.max_failures  # for processes that a launcher starts
        jobs.keep_folders(loader, session.ledger.jobs, numbers)
        words_of = {number: words[index] for index, number in enumerate(numbers)}
        try:
            returns = list(train_open_jobs(words_of, self.launcher, session, self.max_batch_size))
        except KeyboardInterrupt as interrupt:
            # A run's own hint would have the sweep's jobs go on from this one.
            interrupt.__notes__ = [_how_to_go_on(session.ledger, numbers)]
            raise
        _check_ends(session, numbers, self.options.max_failures)
        return returns

    def _fates(self, jobs: SweepJobs, numbers: Sequence[int], ledger: Ledger) -> dict[int, str]:
        """What this command does with each job, after saying what has changed since it ended."""
        index_of = {number: index for index, number in enumerate(numbers)}
        ended = [n for n in numbers if n in ledger.jobs and ledger.jobs[n].state in ENDED]
        changes = find_changes(
            {n: ledger.sweep / ledger.jobs[n].subdir for n in ended},
            {n: jobs.described[index_of[n]].config for n in ended},
        )
        redo = self.options.redo == "changed"
        hint = "" if redo else "; sweep.redo=changed trains such jobs again"
        for change, changed in changes.items():
            out = console()
            were = "was" if len(changed) == 1 else "were"
            out.print(f"sweep: {name_jobs(sorted(changed))} {were} trained with {change}{hint}")
        redone = set[int]().union(*changes.values()) if redo else set[int]()
        return {
            n: _REDONE if n in redone else _fate(ledger.jobs.get(n), self.options.retry)
            for n in numbers
        }

    def _print_plan(self, jobs: SweepJobs) -> None:
        """Print the jobs of the command, and what would become of each."""
        ledger = Ledger(jobs.sweep, touches=False)
        numbers = ledger.preview(jobs.described)
        fates = self._fates(jobs, numbers, ledger)
        shared = set.intersection(*map(set, jobs.words)) if jobs.words[1:] else set()
        table = Table("job", "varied", "would be", "value", "folder", header_style="bold")
        for index, number in enumerate(numbers):
            job = ledger.jobs.get(number)
            subdir = job.subdir if job else jobs.subdir(index, number)
            table.add_row(
                str(number),
                " ".join(word for word in jobs.words[index] if word not in shared),
                fates[number],
                format_number(job.value) if job else "-",
                os.path.relpath(jobs.sweep / subdir),
            )
        print_table(console(), table)

    def _write_command(self, sweep: Path) -> None:
        """Write the latest command of the sweep, as Hydra's own sweeper does, but whole."""
        write_text(sweep / _COMMAND, sweep_as_yaml(self.master))
        remove_leftovers(sweep, below=False)


@contextmanager
def _leaving_nothing_if_refused(sweep: Path) -> Iterator[None]:
    """Remove a new sweep, and the folders made for it, if its jobs are refused; see `run`."""
    is_new = not (Ledger(sweep).exists() or (sweep / _COMMAND).exists())
    missing = [each for each in (sweep, *sweep.parents) if not each.exists()]
    try:
        yield
    except RefusedError:
        session = Session.of(sweep)
        with suppress(OSError):  # what cannot be removed stays, and is a sweep that has not begun
            if is_new and session is not None and session.withdraw():
                SweepFolder.path = None
                (sweep / _COMMAND).unlink()
                for folder in missing:
                    folder.rmdir()
        raise


def _print_start(fates: Collection[str]) -> None:
    """Say what becomes of the jobs of a sweep that goes on; nothing of a new one."""
    counts = Counter(fates)
    if set(counts) != {_TRAINED}:
        words = ", ".join(f"{count} {fate}" for fate, count in counts.items())
        console().print(f"sweep: {counted(len(fates), 'job')}: {words}")


def _fate(job: Job | None, retry: str) -> str:
    """What a command does with a job; None is one that is new."""
    if job is None or job.state == "waiting":
        return _TRAINED
    if job.state == "interrupted":
        return "interrupted, to go on"
    if job.state == "running":
        return f"running on {job.host}, to wait for"
    if job.state == "failed":
        return _RETRIED if retry == "failed" else "failed, left so"
    return job.state


def _how_to_go_on(ledger: Ledger, numbers: Sequence[int]) -> str:
    """What to do after an interrupt, which a reader of the ledger need not know."""
    ledger.refresh()
    n_open = sum(not ledger.jobs[n].attempts.by_number for n in numbers)
    begun = f"{_not_begun(n_open, len(numbers))}; " if n_open else ""
    return f"{begun}to go on: the same command with {_folder_word(ledger.sweep)}"


def _not_begun(n: int, n_jobs: int) -> str:
    """How many jobs have not begun.

    >>> _not_begun(1, 3)
    '1 of 3 jobs has not begun'
    """
    return f"{n} of {counted(n_jobs, 'job')} {'has' if n == 1 else 'have'} not begun"


def _folder_word(sweep: Path) -> str:
    """The override that names the folder of a sweep."""
    return as_override("hydra.sweep.dir", os.path.relpath(sweep))


def _check_ends(session: Session, numbers: Sequence[int], max_failures: int | None) -> None:
    """Raise `JobsFailedError` if jobs have failed, or have not begun.

    Args:
        session: This process in the ledger.
        numbers: The jobs of the command.
        max_failures: How many of them could fail before no further one began.

    Raises:
        UserError: The ends of jobs could not be recorded; each has said why.
    """
    if held := sorted(session.worker.held):
        raise UserError(
            f"the ledger does not know how {name_jobs(held)} ended: give the same command "
            f"again once {session.ledger.folder} can be written"
        )
    states = [session.ledger.jobs[number].state for number in numbers]
    n_open = sum(state in ("waiting", "interrupted") for state in states)
    if n_open and session.is_over():
        console().print(
            f"sweep: sweep.max_failures={max_failures}: {_not_begun(n_open, len(numbers))}; "
            f"to go on: the same command with {_folder_word(session.ledger.sweep)}"
        )
    if n_open or "failed" in states:
        raise JobsFailedError
