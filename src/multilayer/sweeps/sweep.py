"""A sweep as the report sees it: its runs, what varied, and which runs are missing or broken."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from multilayer.errors import UserError, did_you_mean
from multilayer.metric_names import MORE_IS_BETTER
from multilayer.sweeps.reading import SweepRun, count_jobs, read_sweep, varied
from multilayer.sweeps.settings import REPLICATES, Level, Setting, as_level, make_setting

RUN_FILES = ("manifest.json", "config.yaml")


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep folder, and the metric that they are compared by.

    runs: those that can be read, in the order of their numbers.
    broken: why the others cannot be, by their name.
    n_planned: how many runs it was to have; None where only a sweeper knew.
    metric, mode: what is compared, and whether `min` or `max` of it is best.
    settings: what varied, but for the seed.
    levels: by the key of a setting, its level in each run.
    replicates: the seed of each run, with whatever else nobody tunes.
    """

    folder: Path
    runs: list[SweepRun]
    broken: dict[str, str]
    n_planned: int | None
    metric: str
    mode: str
    settings: list[Setting]
    levels: dict[str, list[Level]]
    replicates: list[tuple[Any, ...]]

    @property
    def sign(self) -> int:
        """What a metric is multiplied by, so that less of it is better."""
        return 1 if self.mode == "min" else -1

    @property
    def missing(self) -> list[str]:
        """The numbers of the runs that left no folder, where the runs are numbered."""
        names = {run.name for run in self.runs} | set(self.broken)
        if not all(name.isdigit() for name in names):
            return []
        n_runs = self.n_planned or 1 + max(int(name) for name in names)
        return [str(number) for number in range(n_runs) if str(number) not in names]

    @property
    def n_missing(self) -> int:
        """How many runs left no folder."""
        planned = self.n_planned or 0
        return max(len(self.missing), planned - len(self.runs) - len(self.broken))

    def named(self, status: str) -> list[str]:
        """The names of the runs with a status."""
        return [run.name for run in self.runs if run.status == status]

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of runs of each status, the usual ones first."""
        found = Counter(run.status for run in self.runs)
        order = ("done", "running", "diverged", "failed", "interrupted")
        return {name: found[name] for name in (*order, *sorted(found)) if found[name]}


def find_sweep(sweep: str | Path) -> Path:
    """The folder that `sweep` names.

    Raises `UserError` where it is none, or holds no runs; names one that does nearby.
    """
    path = Path(sweep)
    if not path.exists():
        raise UserError(f"sweep={sweep}: no such folder")
    if not path.is_dir():
        raise UserError(f"sweep={sweep} is a file: expected the folder of a sweep")
    if any(path.glob("*/manifest.json")):
        return path
    raise UserError(
        f"sweep={sweep} is not a sweep folder: expected folders with manifest.json in it"
        + hint_at_sweep(path)
    )


def hint_at_sweep(path: Path) -> str:
    """Name the sweep above, for who gave a run, or the latest below, for who gave all sweeps."""
    if (path / "manifest.json").is_file():
        return f", and this is a run; did you mean {path.parent}?"
    below = sorted(path.glob("*/*/manifest.json"), key=lambda file: file.stat().st_mtime)
    return f"; did you mean {below[-1].parent.parent}?" if below else ""


def open_sweep(folder: Path, metric: str | None = None) -> Sweep:
    """Read a sweep folder.

    metric: compare by this one; otherwise by the one that the runs monitor.

    Raises `UserError` where no run can be read, or none has the metric.
    """
    found = read_sweep(folder)
    broken = unreadable(folder, found)
    runs = [run for run in found if has_config(run, broken)]
    if not runs:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(broken.items())[:3])
        raise UserError(f"sweep={folder}: no run can be read ({reasons})")
    config = runs[0].config
    metric, mode = choose_metric(metric, config["monitor"], config["mode"], runs)
    values = varied(runs)
    settings = [make_setting(key, each) for key, each in values.items() if key not in REPLICATES]
    levels = {setting.key: [as_level(v) for v in values[setting.key]] for setting in settings}
    repeated = [values[key] for key in REPLICATES if key in values]
    return Sweep(
        folder=folder,
        runs=runs,
        broken=dict(sorted(broken.items())),
        n_planned=count_jobs(folder),
        metric=metric,
        mode=mode,
        settings=settings,
        levels=levels,
        replicates=list(zip(*repeated, strict=True)) if repeated else [()] * len(runs),
    )


def unreadable(folder: Path, found: list[SweepRun]) -> dict[str, str]:
    """The run folders that `read_sweep` left out, each with the reason."""
    begun = {path.parent.name for name in RUN_FILES for path in folder.glob(f"*/{name}")}
    reason = "manifest.json or metrics.json is missing or broken"
    return dict.fromkeys(begun - {run.name for run in found}, reason)


def has_config(run: SweepRun, broken: dict[str, str]) -> bool:
    """Whether a run's config can be read; else it is noted among the broken ones."""
    try:
        if {"monitor", "mode"} <= run.config.keys():
            return True
        broken[run.name] = "config.yaml is not that of a run"
    except (OSError, AttributeError, UnicodeDecodeError, yaml.YAMLError):
        broken[run.name] = "config.yaml is missing or broken"
    return False


def choose_metric(
    wanted: str | None, monitor: str, mode: str, runs: list[SweepRun]
) -> tuple[str, str]:
    """The metric to compare by and its mode; the test split is for no choice.

    Raises `UserError` for a metric that no run has.
    """
    if wanted is None or wanted == monitor:
        return monitor, mode
    known = {
        f"{split}/{name}"
        for run in runs
        for split in ("validation", "train")
        for name in run.metrics.get(split, {})
    } or {monitor}
    if wanted.startswith("test/"):
        near = wanted.replace("test/", "validation/", 1)
        raise UserError(
            f"metric={wanted}: what is chosen by the test split is no longer tested by it; "
            f"{did_you_mean(near, known)}"
        )
    if wanted not in known:
        near = f"validation/{wanted}"
        hint = f"did you mean {near}?" if near in known else did_you_mean(wanted, known)
        raise UserError(f"metric={wanted}: no such metric, {hint}")
    return wanted, "max" if wanted.rpartition("/")[2] in MORE_IS_BETTER else "min"
