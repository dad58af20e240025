"""The configs that a sweep compares: each is the runs that differ in their seeds alone.

A metric over these has a mean, a standard deviation and a bootstrap interval.
"""

import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from multilayer.core.config_problems import has_class
from multilayer.core.text import counted
from multilayer.reports.hyperparameters import Hyperparameter, Value, format_value, is_number
from multilayer.reports.planned_jobs import words_of_folders
from multilayer.reports.runs import SweepRun
from multilayer.reports.sweep import Seed, Sweep

N_RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class SeedStats:
    """A metric over `n` seeds.

    Attributes:
        mean: The mean.
        std: The sample standard deviation; None for one seed.
        n: The number of seeds.
        low: The lower end of the 95 % bootstrap interval of the mean; it takes three seeds.
        high: The upper end.
    """

    mean: float
    std: float | None = None
    n: int = 1
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> "SeedStats | None":
        """The statistics of the value of each seed; None without values.

        Two seeds have no interval: its ends would be the two values. The interval is the percentile
        bootstrap (Efron 1979). With few seeds it is too narrow: of normal values it holds the true
        mean in 75 % of cases for 3 seeds, 84 % for 5, 90 % for 10.

        `scipy.stats.bootstrap` draws the same resamples, but takes ten times as long per call; a
        report makes thousands.

        >>> SeedStats.of([1.0, 3.0]).mean, SeedStats.of([5.0])
        (2.0, SeedStats(mean=5.0, std=None, n=1, low=None, high=None))
        """
        sample, n = np.array(values, dtype=float), len(values)
        if n < 2:
            return cls(float(sample[0])) if n else None
        mean, std = float(sample.mean()), float(sample.std(ddof=1))
        if n == 2:
            return cls(mean, std, n)
        means = np.sort(sample[_resamples(n)].mean(axis=1))
        n_outside = round(N_RESAMPLES * (1 - CONFIDENCE) / 2)  # at each end
        return cls(mean, std, n, float(means[n_outside]), float(means[-1 - n_outside]))


@cache
def _resamples(n: int) -> NDArray[np.int64]:
    """Indices of resamples, `(N_RESAMPLES, n)`: always the same, so that reports agree."""
    return np.random.default_rng(0).integers(n, size=(N_RESAMPLES, n))


@dataclass(frozen=True)
class ConfigResult:
    """What a config of a sweep achieved over its seeds.

    Attributes:
        values: The value of each hyperparameter, by key.
        runs: Its runs.
        scores: The compared metric of the runs that are done, by seed. Runs of one seed are
            averaged.
        stats: Each final metric over these seeds.
        n_expected: How many seeds most configs have done.
        derived: What no override sets and yet differs between configs, as a learning rate that was
            found: a number, or a range over the runs.

    >>> ConfigResult({"optimizer.lr": 0.1}, runs=[], scores={(0,): 0.25, (1,): 0.75}).mean
    0.5
    """

    values: dict[str, Value]
    runs: list[SweepRun]
    scores: dict[Seed, float]
    stats: dict[str, SeedStats] = field(default_factory=dict)
    n_expected: int = 0
    derived: dict[str, str] = field(default_factory=dict)

    @cached_property
    def score(self) -> SeedStats | None:
        """The compared metric over seeds; None where no run is done."""
        return SeedStats.of(list(self.scores.values()))

    @property
    def mean(self) -> float:
        """The mean of the compared metric over seeds; NaN where no run is done."""
        return self.score.mean if self.score else float("nan")

    @property
    def n_diverged(self) -> int:
        """How many of its runs diverged."""
        return sum(run.status == "diverged" for run in self.runs)

    @property
    def is_valid(self) -> bool:
        """Whether it has a score, and no seed diverged."""
        return self.score is not None and not self.n_diverged

    @property
    def is_complete(self) -> bool:
        """Whether it has as many seeds as most; a mean of fewer is more a matter of luck."""
        return len(self.scores) >= self.n_expected

    @property
    def done(self) -> list[SweepRun]:
        """Its runs that are done."""
        return [run for run in self.runs if run.status == "done"]

    @property
    def seconds(self) -> float | None:
        """The mean time of training over the runs that are done, as far as it is known."""
        known = [run.seconds for run in self.done if run.seconds is not None]
        return sum(known) / len(known) if known else None

    @property
    def status_text(self) -> str:
        """How its runs ended: `done`, or each status with its number.

        A run that is neither done nor diverged counts for nothing in the ranking.
        """
        counts = Counter(run.status for run in self.runs)
        if len(counts) > 1:
            n_runs = len(self.runs)
            return ", ".join(f"{n} of {n_runs} {name}" for name, n in sorted(counts.items()))
        (status,) = counts
        is_short = status == "done" and not self.is_complete
        return status + (
            f", {len(self.scores)} of {counted(self.n_expected, 'seed')}" if is_short else ""
        )

    def position(self, swept: Hyperparameter) -> float:
        """Where it is on the axis of a hyperparameter."""
        return swept.axis_position(self.values[swept.key])

    def describe(self) -> str:
        """Its values as overrides."""
        return " ".join(f"{key}={format_value(value)}" for key, value in self.values.items())


Configs = Sequence[ConfigResult]
"""Configs, best first."""


def rank_configs(sweep: Sweep) -> list[ConfigResult]:
    """The configs, best first; those with fewer seeds, a diverged run, or no score come last.

    A config that diverges for some seeds cannot be relied on, however good the rest are; nor can a
    mean of fewer seeds than the others have.
    """
    groups: dict[tuple[Value, ...], list[SweepRun]] = defaultdict(list)
    for run in sweep.runs:
        groups[tuple(run.value(each.key) for each in sweep.hyperparameters)].append(run)
    found = [_config_result(sweep, runs) for runs in groups.values()]
    n_seeds = [len(config.scores) for config in found if config.is_valid]
    usual = int(np.median(n_seeds)) if n_seeds else 0
    return sorted(
        (replace(config, n_expected=usual) for config in found),
        key=lambda config: (
            config.score is None,
            config.n_diverged > 0,
            not config.is_complete,
            np.nan_to_num(sweep.sign * config.mean),
        ),
    )


def _config_result(sweep: Sweep, runs: list[SweepRun]) -> ConfigResult:
    """One config, from its runs."""
    done = [(run, sweep.seed_of(run)) for run in runs if run.status == "done"]
    scores = {name: _by_seed(done, name) for name in [*sweep.metric_names, sweep.metric]}
    stats = {name: SeedStats.of(list(each.values())) for name, each in scores.items()}
    return ConfigResult(
        values={each.key: runs[0].value(each.key) for each in sweep.hyperparameters},
        runs=runs,
        scores=scores[sweep.metric],
        stats={name: each for name, each in stats.items() if each},
        derived={key: format_range([run.value(key) for run in runs]) for key in sweep.derived},
    )


def _by_seed(runs: Sequence[tuple[SweepRun, Seed]], name: str) -> dict[Seed, float]:
    """A final metric by seed; runs of one seed are averaged."""
    values: dict[Seed, list[float]] = defaultdict(list)
    for run, seed in runs:
        value = run.metric(name)
        if value is not None:
            values[seed].append(value)
    return {seed: sum(each) / len(each) for seed, each in values.items()}


def format_range(values: Sequence[Value]) -> str:
    """The only number among values, or the lowest and the highest.

    >>> format_range([0.1, 0.1]), format_range([0.3, 0.1])
    ('0.1', '0.1 to 0.3')
    """
    distinct = sorted({value for value in values if is_number(value)})  # type: ignore[type-var]
    ends = dict.fromkeys([*distinct[:1], *distinct[-1:]])
    return " to ".join(format_value(value) for value in ends) or "-"


def format_number(value: float | None) -> str:
    """A number with four digits, as the report writes it.

    >>> format_number(0.34220001), format_number(1234567.0), format_number(None)
    ('0.3422', '1.235e+06', '-')
    """
    return "-" if value is None else f"{value:.4g}"


def tied_best(configs: Configs) -> Configs:
    """The best config and those that are as good to the last digit; none where none is valid."""
    best = configs[0]
    if not best.is_valid:
        return []
    able = [config for config in configs if config.is_valid]
    return [
        config
        for config in able
        if config.mean == best.mean and config.is_complete == best.is_complete
    ]


def best_command(configs: Configs, sweep: Sweep) -> str | None:
    """The command that trains the best config; None where no config is valid."""
    return _command_of(configs[0], sweep) if configs[0].is_valid else None


def _command_of(config: ConfigResult, sweep: Sweep) -> str:
    """The command that trains a config, without the seeds that were swept."""
    overrides = config.runs[0].overrides_without(sweep.seed_keys)
    finds_lr = has_class(config.runs[0].config.get("callbacks"), ".LearningRateSweep")
    if not finds_lr:  # which refuses a given one
        found = config.derived.items()
        overrides += [f"{key}={value}" for key, value in found if _is_one_number(value)]
    if sweep.starts_by_itself:
        overrides.append("hydra.mode=RUN")
    return shlex.join(["multilayer", "train", *words_of_folders(sweep.folder), *overrides])


def _is_one_number(text: str) -> bool:
    """Whether a text is a number rather than a range.

    >>> _is_one_number("1e-05"), _is_one_number("0.1 to 0.3"), _is_one_number("-")
    (True, False, False)
    """
    return text != "-" and " to " not in text
