"""A sweep: which folder is one, its runs, what varied between them, and which are missing."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from time import time
from typing import Any

from multilayer.core.errors import UserError, did_you_mean
from multilayer.core.metric_names import more_is_better
from multilayer.core.text import counted, sanitize
from multilayer.reports.hyperparameters import SEED_KEYS, Hyperparameter, Value
from multilayer.reports.planned_jobs import count_jobs, hydra_settings, read_jobs
from multilayer.reports.runs import (
    Curves,
    SweepRun,
    final_metrics,
    problem,
    read_curves,
    read_run,
    varied,
)
from multilayer.runs.folder import RunFolder

Seed = tuple[Value, ...]

_STALL_SECONDS = 3600.0
"""A run writes every few seconds; one that is silent for longer than this was likely killed."""


_LEARNING_RATE = "optimizer.lr"

_LOSS_INDEPENDENT = ("validation/accuracy", "validation/rmse")
"""Metrics that mean the same whichever loss was trained: of classification, and of regression."""

_RUN_FILES = ("manifest.json", "config.yaml")
"""Files of which one is in each run folder, finished or not."""

_TIME = re.compile(r"\d\d-\d\d-\d\d(-\d+)?")
"""The name of a single run's folder."""


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep folder, and the metric by which they are compared.

    Attributes:
        folder: The sweep folder.
        runs: The runs that can be read, in the order of their numbers.
        broken: Why the others cannot be read, by name.
        n_planned: How many runs there were to be; None where only the sweeper knew.
        metric: The metric that is compared, as `validation/loss`.
        mode: Whether the `min` or the `max` of it is best.
        hyperparameters: What varied, without the seeds.
        seed_keys: Those of `SEED_KEYS` that varied.
        derived: Keys that no override sets and whose values yet differ, as that of a learning rate
            that was found.
        warnings: What a reader must know before comparing the configs.
        silent: By the name of a run whose status is running, the seconds since it wrote something.
    """

    folder: Path
    runs: list[SweepRun]
    broken: dict[str, str]
    n_planned: int | None
    metric: str
    mode: str
    hyperparameters: list[Hyperparameter]
    seed_keys: tuple[str, ...]
    derived: tuple[str, ...]
    warnings: list[str]
    silent: dict[str, float]

    @property
    def sign(self) -> int:
        """The factor by which a metric is multiplied so that less is better."""
        return 1 if self.mode == "min" else -1

    def seed_of(self, run: SweepRun) -> Seed:
        """The values of what repeats a config."""
        return tuple(run.value(key) for key in self.seed_keys)

    @cached_property
    def metric_names(self) -> list[str]:
        """Every final metric that some run has."""
        return final_metrics(self.runs)

    @property
    def seed_word(self) -> str:
        """What a repetition of a config is called: a seed or a fold."""
        return "fold" if self.seed_keys == ("data.fold",) else "seed"

    @cached_property
    def curves(self) -> dict[str, Curves]:
        """By the name of a run that has them: its losses and the compared metric of each epoch."""
        shown = ("loss", self.metric.rpartition("/")[2])
        names = {f"{split}/{name}" for split in ("train", "validation") for name in shown}
        names.add(self.metric)
        found = {run.name: read_curves(run.folder.history_file, names) for run in self.runs}
        return {name: curves for name, curves in found.items() if curves}

    @property
    def starts_by_itself(self) -> bool:
        """Whether a config group among the overrides starts it without -m, as `sweep=...`."""
        try:
            return "hydra.mode=MULTIRUN" not in hydra_settings(self.folder)["overrides"]["hydra"]
        except (LookupError, TypeError):
            return False

    @property
    def running(self) -> list[str]:
        """The runs that still train, as far as one can tell."""
        return [name for name, seconds in self.silent.items() if seconds < _STALL_SECONDS]

    @property
    def stalled(self) -> dict[str, float]:
        """The runs that were likely killed, and for how many seconds they have been silent."""
        return {name: each for name, each in self.silent.items() if each >= _STALL_SECONDS}

    def missing(self, limit: int) -> tuple[int, list[str]]:
        """How many runs left no folder, and the first of their numbers if runs are numbered."""
        names = {run.name for run in self.runs} | set(self.broken)
        if not all(map(_is_job_number, names)):
            return max(0, (self.n_planned or 0) - len(names)), []
        numbers = set(map(int, names))
        n_runs = self.n_planned or 1 + max(numbers)
        n = n_runs - sum(number < n_runs for number in numbers)
        absent = (str(number) for number in count() if number not in numbers)
        return n, list(islice(absent, min(limit, n)))


def open_sweep(folder: Path, metric: str | None = None) -> Sweep:
    """Read a sweep folder.

    Args:
        folder: The folder.
        metric: Compare by this one; by default, by the one that the runs monitor.

    Raises:
        UserError: No run can be read, or none has the metric.
    """
    found = _read_folders(folder)
    broken = {name: reason for name, run in found.items() if (reason := problem(run))}
    runs = [run for run in found.values() if isinstance(run, SweepRun) and run.name not in broken]
    if not runs:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(broken.items())[:3])
        raise UserError(f"sweep={folder}: no run can be read ({reasons})")
    return Sweep(
        folder=folder,
        runs=runs,
        broken=dict(sorted(broken.items())),
        n_planned=count_jobs(folder),
        silent=_silent(folder, runs),
        **what_is_compared(runs, metric),
    )


def what_is_compared(runs: Sequence[SweepRun], metric: str | None) -> dict[str, Any]:
    """The attributes of a `Sweep` that follow from its runs, and from the metric that is wanted."""
    varying = varied(runs)
    losses = [key for key in varying if key == "loss" or key.startswith("loss.")]
    metric, mode = _choose_metric(metric, runs, are_comparable=not losses)
    # Optimizers have different defaults, and callbacks=lr_sweep finds one for each run.
    rates = {run.value(_LEARNING_RATE) for run in runs}
    return {
        "metric": metric,
        "mode": mode,
        "hyperparameters": [
            Hyperparameter.from_runs(key, each)
            for key, each in varying.items()
            if key not in SEED_KEYS
        ],
        "seed_keys": tuple(key for key in SEED_KEYS if key in varying),
        "derived": (_LEARNING_RATE,) if len(rates) > 1 and _LEARNING_RATE not in varying else (),
        "warnings": list(_comparability_warnings(losses, metric)),
    }


def _silent(sweep: Path, runs: Sequence[SweepRun]) -> dict[str, float]:
    """The seconds since runs that still train have written; none of those known to be alive."""
    alive = {sweep / job.subdir for job in read_jobs(sweep) if job.state == "running"}
    return {
        run.name: 0.0 if run.folder.path in alive else _silent_seconds(run)
        for run in runs
        if run.status == "running"
    }


def _silent_seconds(run: SweepRun) -> float:
    """The time since anything was written in a run folder, or in the folders in it."""
    folder = run.folder.path
    paths = [folder, *folder.glob("*"), *folder.glob("*/*")]
    return time() - max(map(_written_at, paths))


def _written_at(path: Path) -> float:
    """When a file was written, in seconds since 1970; 0 where it has just been removed."""
    try:
        return path.lstat().st_mtime  # of a link itself, which may lead nowhere
    except OSError:
        return 0.0


def _comparability_warnings(losses: Sequence[str], metric: str) -> Iterator[str]:
    """What a reader must know before any ranking; `losses` varied, which change what a loss is."""
    if losses:
        which = f"{', '.join(losses)} varied, so that the losses of different configs are not"
        if metric.endswith("/loss"):
            yield f"{which} comparable, and yet {metric} ranks them: compare by another metric"
        else:
            yield f"{which} comparable; the configs are ranked by {metric}"


def _choose_metric(
    wanted: str | None, runs: Sequence[SweepRun], *, are_comparable: bool
) -> tuple[str, str]:
    """The metric to compare by, and its mode.

    It is the monitored one unless another is wanted, or losses are not comparable.

    Raises:
        UserError: No run has the metric, or it is of the test split, by which nothing is chosen.
    """
    monitor, mode = runs[0].config["monitor"], runs[0].config["mode"]
    if wanted is None and not are_comparable and monitor.endswith("/loss"):
        for name in _LOSS_INDEPENDENT[::-1]:
            wanted = name if any(run.metric(name) is not None for run in runs) else wanted
    if wanted is None or wanted == monitor:
        return monitor, mode
    known = [name for name in final_metrics(runs) if name.startswith(("validation/", "train/"))]
    known = known or [monitor]
    if wanted.startswith("test/"):
        hint = did_you_mean(wanted.replace("test/", "validation/", 1), known)
        why = "what is chosen by the test split is no longer tested by it"
        raise UserError(f"metric={wanted}: {why}; {hint}")
    name = wanted.rpartition("/")[2]
    if wanted not in known:
        of_validation = [each for each in known if each.startswith("validation/")]
        hint = did_you_mean(f"validation/{name}", of_validation or known)
        raise UserError(f"metric={wanted}: no such metric, {hint}")
    is_more = more_is_better(name)
    if is_more is None:
        raise UserError(f"metric={wanted}: it is not known whether more of it is better, or less")
    return wanted, "max" if is_more else "min"


def read_sweep(sweep: Path) -> list[SweepRun]:
    """The runs that have begun and can be read, in the order of their job numbers."""
    return [each for each in _read_folders(sweep).values() if isinstance(each, SweepRun)]


def _read_folders(sweep: Path) -> dict[str, SweepRun | str]:
    """Each run that has begun by name, in the order of job numbers, or why it cannot be read.

    Where folders share a name, their parent's is put before it.
    """
    jobs = {sweep / job.subdir: job for job in read_jobs(sweep)}
    begun = sorted(_run_folders(sweep, jobs))
    n_of_name = Counter(path.name for path in begun)
    found: dict[str, SweepRun | str] = {}
    for path in begun:
        is_number = _is_job_number(path.name) and n_of_name[path.name] == 1
        own = path.name if is_number else path.relative_to(sweep).as_posix()
        name = sanitize(own, keep="")
        run = found[name] = read_run(RunFolder(path), name)
        job = jobs.get(path)
        if isinstance(run, SweepRun) and job and run.status == "running" != job.state:
            reason = job.error or "its process has ended"
            status = "failed" if job.state == "failed" else "interrupted"
            run.manifest.update(status=status, stop_reason=reason)
    return dict(sorted(found.items(), key=lambda item: _job_order(item[0])))


def _run_folders(sweep: Path, jobs: Collection[Path]) -> list[Path]:
    """The run folders of a sweep.

    They may lie deeper, and at different depths, as with
    `hydra.sweep.subdir='${hydra.job.override_dirname}'` where a value is a path.

    Args:
        sweep: The sweep.
        jobs: The folders of the jobs in its ledger; others that lie deeper are no runs of it.
    """
    is_deep = (sweep / "multirun.yaml").is_file()
    found = []
    for path in _folders_in(sweep):
        if path.name != "ledger":  # which keeps what earlier attempts have left
            below = _runs_from(path, is_deep)
            found += [each for each in below if each == path or not jobs or each in jobs]
    return found


def _runs_from(path: Path, is_deep: bool) -> Iterator[Path]:
    """A folder if a run is in it, or else those in it; none is within a run or another sweep."""
    if any((path / name).is_file() for name in _RUN_FILES):
        yield path
    elif is_deep and not path.is_symlink() and not (path / "multirun.yaml").exists():
        for each in _folders_in(path):
            yield from _runs_from(each, is_deep)


def _folders_in(folder: Path) -> list[Path]:
    """The folders in a folder; none in one that cannot be read, or is removed meanwhile."""
    try:
        return [path for path in folder.iterdir() if path.is_dir()]
    except OSError:
        return []


def _job_order(name: str) -> tuple[int, str]:
    """Sorts runs by job number, then those with another name."""
    return (int(name), "") if _is_job_number(name) else (2**63, name)


def _is_job_number(name: str) -> bool:
    """Whether a folder's name is the number of a job.

    >>> _is_job_number("12"), _is_job_number("²"), _is_job_number("012"), _is_job_number("9" * 200)
    (True, False, False, False)
    """
    return re.fullmatch("0|[1-9][0-9]{0,8}", name) is not None


def find_sweep(sweep: str | Path) -> Path:
    """The folder that `sweep` names.

    Raises:
        UserError: It is no sweep folder, or holds no runs. The message names a sweep nearby.

    >>> find_sweep("no/such")
    Traceback (most recent call last):
    multilayer.core.errors.UserError: sweep=no/such: no such folder
    """
    path = Path(sweep)
    if not path.is_dir():
        what = " is a file: expected the folder of a sweep" if path.exists() else ": no such folder"
        raise UserError(f"sweep={sweep}{what}")
    if (path / "multirun.yaml").is_file() and not _with_manifests(path):
        planned = count_jobs(path)
        none = f"0 of {counted(planned, 'run')}" if planned else "0 runs"
        raise UserError(f"sweep={sweep}: {none} {'has' if planned == 1 else 'have'} begun")
    reason = _why_no_sweep(path)
    if reason:
        raise UserError(f"sweep={sweep} is not a sweep folder: {reason}")
    return path


def _with_manifests(sweep: Path) -> list[Path]:
    """The run folders of a sweep that have a manifest."""
    jobs = {sweep / job.subdir for job in read_jobs(sweep)}
    return [each for each in _run_folders(sweep, jobs) if (each / "manifest.json").is_file()]


def _nearby_sweep(path: Path) -> str:
    """A hint at the sweep that holds this run, or at the latest sweep in this folder."""
    if (path / "manifest.json").is_file():
        above = "" if _why_no_sweep(path.parent) else f"; did you mean {path.parent}?"
        return f", and this is a single run{above}"
    below = sorted(path.glob("*/*/manifest.json"), key=_written_at)
    folders = dict.fromkeys(file.parent.parent for file in reversed(below))
    near = next((folder for folder in folders if not _why_no_sweep(folder)), None)
    return f"; did you mean {near}?" if near else ""


def _why_no_sweep(path: Path) -> str | None:
    """Why a folder is no sweep; None if it is one.

    It has Hydra's multirun.yaml; or its runs are numbered, or have the same keys among their
    overrides, and little else is there.
    """
    if (path / "multirun.yaml").is_file():
        return None
    names = [each.name for each in _with_manifests(path)]
    if not names:
        return f"expected folders of runs, each with a manifest.json{_nearby_sweep(path)}"
    if all(_TIME.fullmatch(name) for name in names):
        return f"its runs ({len(names)}) are single ones of a day, which nobody meant to compare"
    others = [each for each in path.iterdir() if each.is_dir() and each.name != "figures"]
    if 2 * len(names) < len(others):
        return f"only {len(names)} of the {len(others)} folders in it hold a run"
    if all(map(_is_job_number, names)):
        return None
    keys = [frozenset(run.overrides) for run in read_sweep(path)]
    if len(keys) > 1 and len(set(keys)) == 1 and keys[0]:
        return None
    return "it has no multirun.yaml, and its runs are not numbered and share no overrides"
