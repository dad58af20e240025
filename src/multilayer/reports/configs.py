"""The configs that a sweep compares, each with the runs that differ in the seed alone."""

import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from multilayer.core.schema import finds_rate
from multilayer.reports.hyperparameters import Level, is_number, word
from multilayer.reports.runs import SweepRun, key_and_word, noted_by_hydra
from multilayer.reports.seed_stats import Fold, fold
from multilayer.reports.sweep import Sweep


@dataclass(frozen=True)
class Candidate:
    """A config of a sweep.

    choice: the level of each setting.
    scores: the compared metric of the runs that are done, by seed; runs that share a seed too
        are averaged.
    seeds: of each of the runs.
    n_expected: the seeds that most configs have done.
    reported: what no override says and yet differs between configs, as a found learning rate.
    """

    choice: dict[str, Level]
    runs: list[SweepRun]
    scores: dict[tuple[Any, ...], float]
    seeds: list[tuple[Any, ...]] = field(default_factory=list)
    n_expected: int = 0
    reported: dict[str, str] = field(default_factory=dict)

    @cached_property
    def score(self) -> Fold | None:
        """The compared metric over seeds; None where no run is done."""
        return fold(list(self.scores.values()))

    @property
    def mean(self) -> float:
        """The mean of the compared metric over seeds; NaN where no run is done."""
        return self.score.mean if self.score else float("nan")

    def count(self, status: str) -> int:
        """How many of its runs have a status."""
        return sum(run.status == status for run in self.runs)

    @property
    def is_sound(self) -> bool:
        """Whether it has a score, and no seed has diverged."""
        return self.score is not None and not self.count("diverged")

    @property
    def is_complete(self) -> bool:
        """Whether it has as many seeds as most; a mean of fewer is the luckier one."""
        return len(self.scores) >= self.n_expected

    @property
    def done(self) -> list[SweepRun]:
        """Its runs that are done."""
        return [run for run in self.runs if run.status == "done"]

    @cached_property
    def folds(self) -> dict[str, Fold | None]:
        """The final metrics that were asked for, folded once."""
        return {}

    def metric(self, name: str) -> Fold | None:
        """Any final metric over the seeds that are done."""
        if name not in self.folds:
            self.folds[name] = fold(list(by_seed(self.runs, self.seeds, name).values()))
        return self.folds[name]

    def states(self) -> str:
        """How its runs ended: `done`, or each status with its number.

        A run that is neither done nor diverged counts for nothing in the ranking.
        """
        counts: dict[str, int] = defaultdict(int)
        for run in self.runs:
            counts[run.status] += 1
        n_runs = len(self.runs)
        words = [f"{n} of {n_runs} {name}" for name, n in sorted(counts.items())]
        if len(counts) == 1:
            words = list(counts)
        if not self.is_complete and words == ["done"]:
            words.append(f"{len(self.scores)} of {self.n_expected} seeds")
        return ", ".join(words)

    def words(self) -> str:
        """Its settings as overrides, in which it differs from the others."""
        return " ".join(f"{key}={word(level)}" for key, level in self.choice.items())


def make_candidates(sweep: Sweep) -> list[Candidate]:
    """The configs, best first; then those with fewer seeds, with a diverged run, and without score.

    A config that diverges for some seeds is not to be relied on, however good the rest are; nor
    is a mean of fewer seeds than the others have.
    """
    groups: dict[tuple[Level, ...], list[int]] = defaultdict(list)
    for index in range(len(sweep.runs)):
        groups[tuple(levels[index] for levels in sweep.levels.values())].append(index)
    found = [make_candidate(sweep, choice, each) for choice, each in groups.items()]
    n_seeds = [len(it.scores) for it in found if it.is_sound]
    usual = int(np.median(n_seeds)) if n_seeds else 0
    return sorted(
        (replace(it, n_expected=usual) for it in found),
        key=lambda it: (
            it.score is None,
            it.count("diverged") > 0,
            not it.is_complete,
            np.nan_to_num(sweep.sign * it.mean),
        ),
    )


def make_candidate(sweep: Sweep, choice: tuple[Level, ...], indices: list[int]) -> Candidate:
    """One config from the places of its runs in the sweep."""
    runs = [sweep.runs[index] for index in indices]
    seeds = [sweep.replicates[index] for index in indices]
    return Candidate(
        choice=dict(zip(sweep.levels, choice, strict=True)),
        runs=runs,
        scores=by_seed(runs, seeds, sweep.metric),
        seeds=seeds,
        reported={
            key: as_range([levels[index] for index in indices])
            for key, levels in sweep.reported.items()
        },
    )


def by_seed(
    runs: Sequence[SweepRun], seeds: Sequence[tuple[Any, ...]], name: str
) -> dict[tuple[Any, ...], float]:
    """A final metric by seed, over the runs that are done; those of one seed are averaged."""
    values: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for run, seed in zip(runs, seeds, strict=True):
        value = run.metric(name)
        if run.status == "done" and value is not None:
            values[seed].append(value)
    return {seed: sum(each) / len(each) for seed, each in values.items()}


def as_range(levels: Sequence[Level]) -> str:
    """A number, or from which to which.

    >>> as_range([0.1, 0.1]), as_range([0.3, 0.1])
    ('0.1', '0.1 to 0.3')
    """
    different = sorted({level for level in levels if is_number(level)})  # type: ignore[type-var]
    ends = dict.fromkeys([*different[:1], *different[-1:]])
    return " to ".join(word(level) for level in ends) or "-"


def command_of(candidate: Candidate, sweep: Sweep) -> str:
    """The command that trains a config alone, but for the seeds that were swept."""
    overrides = [
        override
        for override in candidate.runs[0].manifest["overrides"]
        if key_and_word(override)[0] not in sweep.replicate_keys
    ]
    if not finds_rate(candidate.runs[0].config.get("callbacks")):  # beside it none may be named
        reported = candidate.reported.items()
        overrides += [f"{key}={value}" for key, value in reported if is_one_number(value)]
    if is_sweep_by_itself(sweep):
        overrides.append("hydra.mode=RUN")
    return shlex.join(["multilayer", "train", *overrides])


def is_one_number(text: str) -> bool:
    """Whether it is a number and no range.

    >>> is_one_number("1e-05"), is_one_number("0.1 to 0.3"), is_one_number("-")
    (True, False, False)
    """
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_sweep_by_itself(sweep: Sweep) -> bool:
    """Whether a file among the overrides starts a sweep without -m, as `sweep=learning_rates`."""
    try:
        return "hydra.mode=MULTIRUN" not in noted_by_hydra(sweep.folder)["overrides"]["hydra"]
    except (LookupError, TypeError):
        return False
