"""A sweep as the report sees it: its runs, what varied, and which runs are missing or broken."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any

from multilayer.core.errors import UserError, did_you_mean
from multilayer.core.metric_names import MORE_IS_BETTER
from multilayer.reports.comparability import cautions, losses_vary, metric_of_any_loss
from multilayer.reports.hyperparameters import REPLICATES, Level, Setting, as_level, make_setting
from multilayer.reports.runs import (
    STATUSES,
    SweepRun,
    config_at,
    config_problem,
    count_jobs,
    is_job_number,
    place,
    read_folders,
    varied,
)
from multilayer.reports.stalled import LONG, silent_seconds

RATE = "optimizer.lr"


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep folder, and the metric that they are compared by.

    runs: those that can be read, in the order of their numbers.
    broken: why the others cannot be, by their name.
    n_planned: how many runs it was to have; None where only a sweeper knew.
    metric, mode: what is compared, and whether `min` or `max` of it is best.
    settings: what varied, but for the seed.
    levels: by the key of a setting, its level in each run.
    replicate_keys: what varied that nobody tunes, as the seed; replicates: its values in each run.
    reported: as `levels`, of what no override says and yet differs: a found learning rate.
    cautions: what must be known before the configs are compared.
    silent: by the name of a run that says it is running, the seconds since it wrote something.
    """

    folder: Path
    runs: list[SweepRun]
    broken: dict[str, str]
    n_planned: int | None
    metric: str
    mode: str
    settings: list[Setting]
    levels: dict[str, list[Level]]
    replicate_keys: tuple[str, ...]
    replicates: list[tuple[Any, ...]]
    reported: dict[str, list[Level]]
    cautions: list[str]
    silent: dict[str, float]

    @property
    def sign(self) -> int:
        """What a metric is multiplied by, so that less of it is better."""
        return 1 if self.mode == "min" else -1

    @property
    def repeat(self) -> str:
        """What a repetition of a config is called."""
        return "fold" if self.replicate_keys == ("data.fold",) else "seed"

    @property
    def running(self) -> list[str]:
        """The runs that are running, as far as one can see."""
        return [name for name, seconds in self.silent.items() if seconds < LONG]

    @property
    def killed(self) -> dict[str, float]:
        """The runs that were likely killed, and for how many seconds they were silent."""
        return {name: seconds for name, seconds in self.silent.items() if seconds >= LONG}

    @cached_property
    def numbers(self) -> set[int] | None:
        """The numbers of the runs that left a folder; None where some have another name."""
        names = {run.name for run in self.runs} | set(self.broken)
        return {int(name) for name in names} if all(map(is_job_number, names)) else None

    @property
    def n_missing(self) -> int:
        """How many runs left no folder."""
        if self.numbers is None:
            return max(0, (self.n_planned or 0) - len(self.runs) - len(self.broken))
        n_runs = self.n_planned or 1 + max(self.numbers)
        return n_runs - sum(number < n_runs for number in self.numbers)

    def missing(self, limit: int) -> list[str]:
        """The first numbers of the runs that left no folder, where the runs are numbered."""
        if self.numbers is None:
            return []
        absent = (str(number) for number in count() if number not in self.numbers)
        return list(islice(absent, min(limit, self.n_missing)))

    @property
    def without_score(self) -> list[str]:
        """The runs that are done and yet have no finite number for what is compared."""
        done = [run for run in self.runs if run.status == "done"]
        return [run.name for run in done if run.metric(self.metric) is None]

    def named(self, status: str) -> list[str]:
        """The names of the runs with a status."""
        return [run.name for run in self.runs if run.status == status]

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of runs of each status, the usual ones first."""
        found = Counter(run.status for run in self.runs)
        return {name: found[name] for name in STATUSES if found[name]}


def open_sweep(folder: Path, metric: str | None = None) -> Sweep:
    """Read a sweep folder.

    metric: compare by this one; otherwise by the one that the runs monitor.

    Raises `UserError` where no run can be read, or none has the metric.
    """
    found = read_folders(folder)
    readable = [run for run in found.values() if isinstance(run, SweepRun)]
    problems = found | {run.name: config_problem(run) for run in readable}
    broken = {name: why for name, why in problems.items() if isinstance(why, str)}
    runs = sorted((run for run in readable if run.name not in broken), key=place)
    if not runs:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(broken.items())[:3])
        raise UserError(f"sweep={folder}: no run can be read ({reasons})")
    config = runs[0].config
    values = varied(runs)
    if metric is None and losses_vary(list(values)) and config["monitor"].endswith("/loss"):
        metric = metric_of_any_loss(runs)
    metric, mode = choose_metric(metric, config["monitor"], config["mode"], runs)
    settings = [make_setting(key, each) for key, each in values.items() if key not in REPLICATES]
    levels = {setting.key: [as_level(v) for v in values[setting.key]] for setting in settings}
    keys = tuple(key for key in REPLICATES if key in values)
    repeated = [[as_level(value) for value in values[key]] for key in keys]
    return Sweep(
        folder=folder,
        runs=runs,
        broken=dict(sorted(broken.items())),
        n_planned=count_jobs(folder),
        metric=metric,
        mode=mode,
        settings=settings,
        levels=levels,
        replicate_keys=keys,
        replicates=list(zip(*repeated, strict=True)) if repeated else [()] * len(runs),
        reported=found_rates(runs, levels),
        cautions=list(cautions(runs, list(values), metric)),
        silent={run.name: silent_seconds(run.folder.path) for run in runs if is_running(run)},
    )


def is_running(run: SweepRun) -> bool:
    """Whether a run says that it is running."""
    return run.status == "running"


def found_rates(runs: Sequence[SweepRun], levels: Collection[str]) -> dict[str, list[Level]]:
    """The learning rate of each run, where it differs between them and was not swept.

    Optimizers have different ones by default, and callbacks=lr_sweep finds one for each run.
    """
    if RATE in levels:
        return {}
    rates = [as_level(config_at(run, RATE)) for run in runs]
    return {RATE: rates} if len(set(rates)) > 1 else {}


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
        raise UserError(f"metric={wanted}: no such metric, {nearest_metric(wanted, known)}")
    return wanted, "max" if wanted.rpartition("/")[2] in MORE_IS_BETTER else "min"


def nearest_metric(wanted: str, known: Collection[str]) -> str:
    """A hint at the metric that was meant; of validation, if its name is not known either way."""
    of_validation = sorted(name for name in known if name.startswith("validation/"))
    name = wanted.rpartition("/")[2]
    return did_you_mean(f"validation/{name}", of_validation or known)
