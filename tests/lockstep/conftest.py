"""Training the same jobs as one stack and one by one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from multilayer.cli.tasks import train
from multilayer.composing.job_configs import Job
from multilayer.lockstep.plan import StackPlan, make_plan
from multilayer.lockstep.progress import SweepProgress
from multilayer.lockstep.train import Hooks, Outcome, train_jobs
from multilayer.runs.folder import Result
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
    (stack,) = plan.stacks
    assert len(stack.jobs) == len(jobs), plan
    ended = train_plan(stack)
    assert all(isinstance(result, Result) for result in ended), ended
    return ended  # type: ignore[return-value]


def train_plan(plan: StackPlan) -> list[Outcome]:
    """What comes of each job, in their order."""
    ended: dict[int, Outcome] = {}

    def end(some: Sequence[tuple[Job, Outcome]]) -> None:
        ended.update({job.number: outcome for job, outcome in some})

    def refuse(jobs: Sequence[Job], reason: str) -> None:
        pytest.fail(reason)

    with SweepProgress(len(plan.jobs), shown=False) as progress:
        hooks = Hooks(
            end=end,
            alone=refuse,
            say=progress.say,
        )
        train_jobs(plan, progress, hooks)
    return [ended[job.number] for job in plan.jobs]


def train_one_by_one(jobs: list[Job]) -> list[Result]:
    """Each as the basic launcher trains it, in a folder beside."""
    return [
        train(job.config, job.folder.parent.parent / "alone" / str(job.number), job.overrides)
        for job in jobs
    ]
