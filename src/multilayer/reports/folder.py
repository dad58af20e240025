"""Which folders are sweeps, and which hold runs that have nothing to do with each other."""

import re
from pathlib import Path

from multilayer.core.errors import UserError
from multilayer.reports.runs import (
    SweepRun,
    count_jobs,
    is_job_number,
    manifests,
    read_sweep,
)
from multilayer.reports.stalled import written_at

TIME = re.compile(r"\d\d-\d\d-\d\d(-\d+)?")
"""What the folder of a single run is called."""


def find_sweep(sweep: str | Path) -> Path:
    """The folder that `sweep` names.

    Raises `UserError` where it is none, or holds no runs; names one that does nearby.
    """
    path = Path(sweep)
    if not path.exists():
        raise UserError(f"sweep={sweep}: no such folder")
    if not path.is_dir():
        raise UserError(f"sweep={sweep} is a file: expected the folder of a sweep")
    has_runs = bool(manifests(path))
    if (path / "multirun.yaml").is_file():
        if not has_runs:
            planned = count_jobs(path)
            of_all = f" of {planned}" if planned else ""
            raise UserError(f"sweep={sweep}: 0{of_all} runs have begun")
        return path
    if not has_runs:
        raise UserError(
            f"sweep={sweep} is not a sweep folder: expected folders with manifest.json in it"
            + hint_at_sweep(path)
        )
    reason = why_no_sweep(path)
    if reason:
        raise UserError(f"sweep={sweep} is not a sweep folder: {reason}")
    return path


def hint_at_sweep(path: Path) -> str:
    """Name the sweep above, for who gave a run, or the latest below, for who gave all sweeps."""
    if (path / "manifest.json").is_file():
        above = f"; did you mean {path.parent}?" if is_sweep(path.parent) else ""
        return f", and this is a single run{above}"
    below = sorted(path.glob("*/*/manifest.json"), key=written_at)
    folders = dict.fromkeys(file.parent.parent for file in reversed(below))
    near = next((folder for folder in folders if is_sweep(folder)), None)
    return f"; did you mean {near}?" if near else ""


def is_sweep(path: Path) -> bool:
    """Whether the runs in a folder are those of one sweep."""
    return (path / "multirun.yaml").is_file() or why_no_sweep(path) is None


def why_no_sweep(path: Path) -> str | None:
    """Why the runs in a folder without Hydra's multirun.yaml are none; None where they are one.

    Its runs are numbered, or have the same keys among their overrides, and little else is there.
    """
    names = [file.parent.name for file in manifests(path)]
    if all(TIME.fullmatch(name) for name in names):
        return f"its runs ({len(names)}) are single ones of a day, which nobody meant to compare"
    others = [it for it in path.iterdir() if it.is_dir() and it.name != "figures"]
    if 2 * len(names) < len(others):
        return f"only {len(names)} of the {len(others)} folders in it hold a run"
    if all(map(is_job_number, names)) or share_overrides(read_sweep(path)):
        return None
    return "it has no multirun.yaml, and its runs are not numbered and share no overrides"


def share_overrides(runs: list[SweepRun]) -> bool:
    """Whether there are several runs, whose overrides have the same keys."""
    keys = {frozenset(run.words) for run in runs}
    return len(runs) > 1 and len(keys) == 1 and keys != {frozenset()}
