"""The sweeps below a folder, by their ledgers: how far each is, and its best job."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from time import time

from rich.table import Table

from multilayer.core.errors import UserError
from multilayer.core.text import name_jobs
from multilayer.runs.console import console, format_number, print_table
from multilayer.sweeps import Job, Ledger
from multilayer.sweeps.job import State, count_states

_STATES: tuple[State, ...] = (
    *("done", "running", "failed", "diverged", "pruned", "interrupted", "waiting"),
)
"""The states in the order of their columns."""

_ALWAYS = ("done", "running", "failed")
"""Those that have a column even where there are no such jobs."""


_MAX_BEST = 3
"""Jobs that tie for the best and are named."""

_DEFAULT_FOLDER = "sweeps"
"""That of `conf/sweeps.yaml`."""


@dataclass(frozen=True)
class SweepRow:
    """A sweep, as its ledger has it.

    Attributes:
        folder: The sweep's.
        counts: How many jobs there are of each state.
        best: The jobs with the best value, several where they tie; none where none has one.
        last: When a job last began or ended, in seconds since 1970; None before the first.
        problem: Why the ledger cannot be read.
    """

    folder: Path
    counts: Mapping[State, int] = field(default_factory=dict)
    best: Sequence[Job] = ()
    last: float | None = None
    problem: str | None = None


def list_sweeps(folder: Path) -> list[SweepRow]:
    """The sweeps below a folder that have a ledger, by their names.

    Raises:
        UserError: There is no such folder.
    """
    if not folder.is_dir():
        if str(folder) == _DEFAULT_FOLDER:
            raise UserError(f"there is no folder {folder} here; name one: multilayer sweeps FOLDER")
        raise UserError(f"folder={folder}: no such folder")
    return [_read(each) for each in sorted(_find(folder))]


def print_sweeps(rows: Sequence[SweepRow]) -> None:
    """Print a row for each sweep, and which ledgers cannot be read."""
    found = {state for row in rows for state in row.counts if row.counts[state]}
    shown = [state for state in _STATES if state in found.union(_ALWAYS)]
    table = Table("sweep", *shown, "best", "last", header_style="bold")
    for row in rows:
        if row.problem is None:
            counts = [str(row.counts.get(state) or "") for state in shown]
            table.add_row(os.path.relpath(row.folder), *counts, _describe(row.best), _ago(row.last))
    out = console()
    if table.rows:
        print_table(out, table)
    for row in rows:
        if row.problem is not None:
            out.print(row.problem, style="red")


def _describe(best: Sequence[Job]) -> str:
    """The best value, and the jobs that have it, or the first of many."""
    if not best:
        return ""
    n_more = len(best) - _MAX_BEST
    more = f" and {n_more} more" if n_more > 0 else ""
    jobs = name_jobs(job.number for job in best[:_MAX_BEST])
    return f"{format_number(best[0].value)} ({jobs}{more})"


def _find(folder: Path) -> Iterator[Path]:
    """The folders with a ledger, from one downward; there is none within a sweep or a run."""
    if (folder / "ledger" / "jobs").is_dir():
        yield folder
    elif not (folder / "manifest.json").exists():
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from _find(Path(entry.path))


def _read(folder: Path) -> SweepRow:
    """What the ledger of a sweep says now."""
    ledger = Ledger(folder)
    try:
        ledger.refresh()
    except UserError as error:
        return SweepRow(folder, problem=str(error))
    ended = [
        job
        for job in ledger.jobs.values()
        if job.state != "pruned" and job.value is not None and isfinite(job.value)
    ]
    # The first command says by what the sweep's jobs are judged.
    choose = max if ledger.commands and ledger.commands[0].get("mode") == "max" else min
    best = choose((job.value for job in ended if job.value is not None), default=None)
    attempts = [each for job in ledger.jobs.values() for each in job.attempts.by_number.values()]
    times = [at for each in attempts for at in (each.claimed_at, each.ended_at) if at is not None]
    return SweepRow(
        folder,
        counts=count_states(ledger.jobs),
        best=[job for job in ended if job.value == best],
        last=max(times, default=None),
    )


def _ago(at: float | None) -> str:
    """How long ago something was, in the largest unit that fits.

    >>> _ago(time() - 7300), _ago(None)
    ('2 h ago', '')
    """
    if at is None:
        return ""
    seconds = max(0.0, time() - at)
    for unit, size in (("days", 172800), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // (86400 if unit == 'days' else size))} {unit} ago"
    return f"{int(seconds)} s ago"
