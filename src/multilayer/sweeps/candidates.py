"""The configs that a sweep compares, each with the runs that differ in the seed alone."""

import shlex
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import yaml

from multilayer.sweeps.folding import Fold, fold
from multilayer.sweeps.reading import SweepRun, key_and_word
from multilayer.sweeps.settings import REPLICATES, Level, word
from multilayer.sweeps.sweep import Sweep


@dataclass(frozen=True)
class Candidate:
    """A config of a sweep.

    choice: the level of each setting.
    scores: the compared metric of the runs that are done, by seed; runs that share a seed too
        are averaged.
    """

    choice: dict[str, Level]
    runs: list[SweepRun]
    scores: dict[tuple[Any, ...], float]

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
    def done(self) -> list[SweepRun]:
        """Its runs that are done."""
        return [run for run in self.runs if run.status == "done"]

    def metric(self, name: str) -> Fold | None:
        """Any final metric over the runs that are done."""
        values = (run.metric(name) for run in self.done)
        return fold([value for value in values if value is not None])

    def states(self) -> str:
        """How its runs ended: `done`, or each status with its number.

        A run that is neither done nor diverged counts for nothing in the ranking.
        """
        counts: dict[str, int] = defaultdict(int)
        for run in self.runs:
            counts[run.status] += 1
        if len(counts) == 1:
            return next(iter(counts))
        return ", ".join(f"{n} of {len(self.runs)} {name}" for name, n in sorted(counts.items()))

    def words(self) -> str:
        """Its settings as overrides, in which it differs from the others."""
        return " ".join(f"{key}={word(level)}" for key, level in self.choice.items())


def make_candidates(sweep: Sweep) -> list[Candidate]:
    """The configs, best first; those with a diverged run after the others, those without one last.

    A config that diverges for some seeds is not to be relied on, however good the rest are.
    """
    groups: dict[tuple[Level, ...], list[int]] = defaultdict(list)
    for index in range(len(sweep.runs)):
        groups[tuple(levels[index] for levels in sweep.levels.values())].append(index)
    candidates = [make_candidate(sweep, choice, each) for choice, each in groups.items()]
    return sorted(
        candidates,
        key=lambda it: (
            it.score is None,
            it.count("diverged") > 0,
            np.nan_to_num(sweep.sign * it.mean),
        ),
    )


def make_candidate(sweep: Sweep, choice: tuple[Level, ...], indices: list[int]) -> Candidate:
    """One config from the places of its runs in the sweep."""
    by_seed: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for index in indices:
        run = sweep.runs[index]
        value = run.metric(sweep.metric)
        if run.status == "done" and value is not None:
            by_seed[sweep.replicates[index]].append(value)
    scores = {seed: float(np.mean(values)) for seed, values in by_seed.items()}
    runs = [sweep.runs[index] for index in indices]
    return Candidate(dict(zip(sweep.levels, choice, strict=True)), runs, scores)


def command_of(candidate: Candidate, sweep: Sweep, *more: str) -> str:
    """The command that trains a config alone, but for the seed; `more` overrides go to its end."""
    overrides = [
        override
        for override in candidate.runs[0].manifest["overrides"]
        if key_and_word(override)[0] not in REPLICATES
    ]
    if not any(word.startswith("-m") for word in more) and is_sweep_by_itself(sweep):
        overrides.append("hydra.mode=RUN")
    return shlex.join(["multilayer", "train", *overrides, *more])


def is_sweep_by_itself(sweep: Sweep) -> bool:
    """Whether a file among the overrides starts a sweep without -m, as `sweep=learning_rates`."""
    try:
        noted = yaml.safe_load((sweep.folder / "multirun.yaml").read_text())
        return "hydra.mode=MULTIRUN" not in noted["hydra"]["overrides"]["hydra"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return False
