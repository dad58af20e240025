"""What Hydra's launcher does: from lists of overrides to stacks, and back to Hydra's results."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from traceback import clear_frames
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.errors import HydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from multilayer.composing.job_configs import Job, plain_job, refer_to
from multilayer.composing.sweep_jobs import trusts_working_folder
from multilayer.core.errors import (
    UserError,
    first_line,
    interrupt_behind,
    listed,
    print_failure,
    raise_all,
)
from multilayer.core.text import name_jobs
from multilayer.lockstep.plan import Plan, make_plan
from multilayer.lockstep.progress import SweepProgress
from multilayer.lockstep.refits import train_jobs_and_refits
from multilayer.lockstep.train import Hooks, Outcome
from multilayer.runs.config import problems_with
from multilayer.runs.console import console
from multilayer.runs.folder import Result, objective, record_failure
from multilayer.sweeps import Session, outcome_of
from multilayer.training.resume import config_to_go_on
from multilayer.training.runtime import quiet_lightning


class Launch:
    """One call of the launcher.

    plan: groups jobs by what trains together.
    session: takes jobs from the sweep's ledger; None where all are this process's.
    """

    def __init__(
        self,
        context: HydraContext,
        task: TaskFunction,
        config: DictConfig,
        plan: Callable[[Sequence[Job]], Plan] = make_plan,
        session: Session | None = None,
    ) -> None:
        self.context = context
        self.task = task
        self.config = config
        self.plan = plan
        self.session = session
        self.folders: dict[Path, int] = {}
        self.begun: set[int] = set()
        self.returns: dict[int, JobReturn] = {}

    def run(self, job_overrides: Mapping[int, Sequence[str]]) -> list[JobReturn]:
        """Train jobs, by their numbers; returns what came of each that has begun."""
        quiet_lightning()
        here = os.getcwd()  # where a project's own networks and data are
        if here not in sys.path and trusts_working_folder(self.config.hydra):
            sys.path.append(here)
        composed = [self.check(number, overrides) for number, overrides in job_overrides.items()]
        jobs = [job for job in composed if job is not None]
        plan = self.plan(jobs)
        console().print(plan.describe())
        self.fail(plan.invalid)
        self.train_stacks(plan)
        for job, _ in plan.sequential:
            if self.take([job]):
                self.returns[job.number] = self.run_alone(job)
        return [self.returns[number] for number in job_overrides if number in self.returns]

    def take(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of some jobs that are to be trained now, or to go on; see `Session.take`."""
        if self.session is None:
            return list(jobs)
        taken = set(self.session.take([job.number for job in jobs]))
        return [self.going_on(job) for job in jobs if job.number in taken]

    def going_on(self, job: Job) -> Job:
        """A job that was taken; one that was interrupted goes on in its folder."""
        if self.session is None or not self.session.goes_on(job.number):
            return job
        return replace(job, config=config_to_go_on(job.config, job.folder))

    def train_stacks(self, plan: Plan) -> None:
        """Train one stack after the other; what does not stack after all is left to train alone."""
        with SweepProgress(sum(len(each.jobs) for each in plan.stacks)) as progress:

            def leave_alone(jobs: Sequence[Job], reason: str) -> None:
                refused = [(job, reason) for job in jobs]
                plan.sequential.extend(refused)
                progress.n_runs -= len(refused)
                console().print(Plan([], refused, []).reasons())

            def say(words: str) -> None:
                console().print(f"lockstep: {words}")

            hooks = Hooks(self.end, leave_alone, say, self.take, self.begin, self.written)
            for stack in plan.stacks:
                train_jobs_and_refits(stack, progress, hooks)

    def check(self, number: int, overrides: Sequence[str]) -> Job | None:
        """A job that can be trained; None for another one, which is then said and noted."""
        try:
            job = self.compose(number, overrides)
        except UserError as error:
            self.refuse(number, overrides, error)
            return None
        try:
            raise_all(problems_with("train", job.config, in_sweep=True))
        except UserError as error:
            self.fail([(job, error)])
            return None
        return job

    def compose(self, number: int, overrides: Sequence[str]) -> Job:
        """A job, which is not checked, from the overrides that the sweeper gives it.

        Raises:
            UserError: The overrides are wrong, a reference cannot be resolved, or another job has
                the folder.
        """
        try:
            config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            job = plain_job(config, number)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(first_line(error)) from error
        first = self.folders.setdefault(job.folder, number)
        if first != number:
            raise UserError(f"{job.folder} is job {first}'s: give each its hydra.sweep.subdir")
        return job

    def refuse(self, number: int, overrides: Sequence[str], error: UserError) -> None:
        """Note a job that has no config."""
        print_failure(error, name_jobs([number]))
        self.returns[number] = JobReturn(
            overrides=list(overrides), status=JobStatus.FAILED, _return_value=error
        )

    def fail(self, jobs: Sequence[tuple[Job, Exception]]) -> None:
        """End jobs that cannot be trained."""
        taken = {job.number for job in self.take([job for job, _ in jobs])}
        self.end([(job, error) for job, error in jobs if job.number in taken])

    def begin(self, job: Job) -> None:
        """Tell Hydra's callbacks that a job begins."""
        refer_to(job.hydra_config)
        self.begun.add(job.number)
        self.context.callbacks.on_job_start(job.hydra_config, task_function=self.task)

    def written(self, job: Job, result: Result) -> None:
        """Record the end of a run at once: what kills the sweep later does not undo it."""
        if self.session is not None:
            self.session.record({job.number: outcome_of(job.config["monitor"], result)})

    def end(self, ended: Sequence[tuple[Job, Outcome]]) -> None:
        """Say which jobs have failed, leave a folder of each, and record how all ended."""
        if not ended:
            return
        for _, outcome in ended:
            if isinstance(outcome, Exception) and (interrupt := interrupt_behind(outcome)):
                raise interrupt from None
        if self.session is not None:
            self.session.worker.end_if_lost()  # a job may have failed of that
        _print_failures(ended)
        for job, outcome in ended:
            if isinstance(outcome, Exception) and job.number not in self.begun:
                self.begin(job)
                record_failure(job.folder, job.config, job.overrides, outcome)
        if self.session is not None:  # who waits for it finds the folder then
            self.session.record(
                {job.number: outcome_of(job.config["monitor"], each) for job, each in ended}
            )
        for job, outcome in ended:
            self.note(job, outcome)

    def note(self, job: Job, outcome: Outcome) -> None:
        """Tell Hydra how a job ended."""
        value: Any = outcome
        if isinstance(outcome, Result):
            value = objective(job.config["monitor"], outcome.metrics)
        returned = JobReturn(
            overrides=list(job.overrides),
            cfg=job.hydra_config,
            working_dir=str(job.folder),
            status=JobStatus.COMPLETED if isinstance(outcome, Result) else JobStatus.FAILED,
            _return_value=value,
        )
        self.returns[job.number] = returned
        self.context.callbacks.on_job_end(job.hydra_config, job_return=returned)

    def run_alone(self, job: Job) -> JobReturn:
        """Run a job as Hydra's basic launcher does, through Lightning's engine."""
        config: Any = job.hydra_config
        config.engine = "lightning"
        return run_job(
            hydra_context=self.context,
            task_function=self.task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


def _message_of(error: Exception) -> object:
    """What makes two errors one for the user: the words, or of a failure the error itself."""
    return str(error) if isinstance(error, UserError) else error


def _print_failures(ended: Sequence[tuple[Job, Outcome]]) -> None:
    """Print each error once, with the jobs that it ended, and where they are."""
    failures = [(job, error) for job, error in ended if isinstance(error, Exception)]
    for message in dict.fromkeys(_message_of(error) for _, error in failures):
        same = [(job, error) for job, error in failures if _message_of(error) == message]
        folders = [os.path.relpath(job.folder) for job, _ in same]
        first = same[0][1]
        first.add_note(f"run folder: {listed(folders, 3)}")
        print_failure(first, name_jobs(job.number for job, _ in same))
        for _, error in same:
            vars(error)["was_printed"] = True
            clear_frames(error.__traceback__)  # which hold the whole stack
