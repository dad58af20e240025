"""Training the same jobs as one stack and one by one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from multilayer.cli.main import train
from multilayer.lockstep.plan import Job, make_plan
from multilayer.lockstep.progress import SweepProgress
from multilayer.lockstep.train import prepare_jobs, train_together
from multilayer.stacking.compat import check_stackable
from multilayer.training.result import Result
from multilayer.training.runtime import quiet_lightning

from ..trained import config_of

MakeJobs = Callable[..., list[Job]]


@pytest.fixture
def jobs(tmp_path: Path) -> MakeJobs:
    """Jobs from what they share, and what each has of its own."""

    def make(shared: list[str], own: list[list[str]], folder: str = "stack") -> list[Job]:
        made = []
        for number, overrides in enumerate(own):
            words = [*shared, *overrides]
            made.append(Job(number, config_of(*words), tmp_path / folder / str(number), words))
        return made

    return make


def train_stacked(jobs: list[Job]) -> list[Result]:
    """As one stack."""
    quiet_lightning()
    plan = make_plan(jobs)
    ((stack, data),) = plan.stacks
    assert len(stack) == len(jobs), plan
    ready, broken = prepare_jobs(stack, data)
    assert not broken, broken
    trainings = [training for _, training in ready]
    check_stackable([training.module for training in trainings], trainings[0].data)
    with SweepProgress(len(jobs)) as progress:
        results = train_together(trainings, progress)
    assert all(isinstance(result, Result) for result in results), results
    return results  # type: ignore[return-value]


def train_one_by_one(jobs: list[Job]) -> list[Result]:
    """Each as the basic launcher trains it, in a folder beside."""
    return [
        train(job.config, job.folder.parent.parent / "alone" / str(job.number), job.overrides)
        for job in jobs
    ]
