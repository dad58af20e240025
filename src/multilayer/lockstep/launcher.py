"""What Hydra's launcher does: from lists of overrides to stacks, and back to Hydra's results."""

import gc
import os
import sys
from collections.abc import Sequence
from traceback import clear_frames
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from multilayer.composing.job_configs import refer_to
from multilayer.core.errors import UserError, print_failure, raise_all
from multilayer.data import Dataset
from multilayer.lockstep.compose import JobComposer
from multilayer.lockstep.plan import Job, Plan, in_numbers, make_plan, stacks_in_words
from multilayer.lockstep.progress import SweepProgress
from multilayer.lockstep.train import Outcome, prepare_jobs, train_together
from multilayer.runs.config import problems_with
from multilayer.runs.console import console
from multilayer.runs.folder import record_failure
from multilayer.stacking.compat import CannotStackError, check_stackable, group_compatible
from multilayer.training.result import Result, objective
from multilayer.training.runtime import quiet_lightning


class Launch:
    """One call of the launcher.

    max_members: bounds a stack; None for what fits into the memory of the device.
    """

    def __init__(
        self,
        context: HydraContext,
        task: TaskFunction,
        config: DictConfig,
        max_members: int | None,
    ) -> None:
        self.context = context
        self.task = task
        self.composer = JobComposer(context.config_loader, config)
        self.max_members = max_members
        self.composed: dict[int, DictConfig] = {}
        self.returns: dict[int, JobReturn] = {}

    def run(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Train all jobs; returns what came of each, in their order."""
        quiet_lightning()
        if os.getcwd() not in sys.path:  # where a project's own networks and data are
            sys.path.append(os.getcwd())
        numbered = dict(enumerate(job_overrides, first))
        composed = [self.compose(number, overrides) for number, overrides in numbered.items()]
        jobs = [job for job in composed if job is not None]
        plan = make_plan(jobs, self.max_members)
        console().print(plan.in_words())
        for job, error in plan.broken:
            self.fail(job, error)
        report(plan.broken)
        self.train_stacks(plan)
        for job, _ in plan.alone:
            self.returns[job.number] = self.run_alone(job)
        return [self.returns[number] for number in numbered]

    def train_stacks(self, plan: Plan) -> None:
        """Train one stack after the other; what does not stack after all is left to train alone."""
        with SweepProgress(sum(len(jobs) for jobs, _ in plan.stacks)) as progress:
            for jobs, data in plan.stacks:
                gc.collect()  # the stack before is a circle of references
                self.train_planned(plan, jobs, data, progress)

    def train_planned(
        self, plan: Plan, jobs: Sequence[Job], data: Dataset, progress: SweepProgress
    ) -> None:
        """Train jobs that were to be one stack: as several where their networks differ."""
        ready, broken = prepare_jobs(jobs, data)
        for job, error in broken:
            self.fail(job, error)
        report(broken)
        progress.end_stack(len(broken))
        groups, difference = group_compatible([training.module for _, training in ready])
        if difference:
            words = stacks_in_words([len(group) for group in groups])
            console().print(f"lockstep: the networks differ in {difference}: {words}")
        for group in groups:
            stack = [ready[i][0] for i in group]
            trainings = [ready[i][1] for i in group]
            try:
                check_stackable([training.module for training in trainings], data)
            except CannotStackError as error:
                alone = [(job, str(error)) for job in stack]
                plan.alone.extend(alone)
                progress.n_runs -= len(alone)
                console().print(Plan([], alone, []).reasons())
                continue
            for job in stack:
                self.begin(job)
            outcomes = list(zip(stack, train_together(trainings, progress), strict=True))
            progress.end_stack(len(stack))
            report(outcomes)
            for job, outcome in outcomes:
                self.note(job, outcome)

    def compose(self, number: int, overrides: Sequence[str]) -> Job | None:
        """A job that can be trained; None for another one, which is then said and noted."""
        try:
            job, self.composed[number] = self.composer.compose(number, overrides)
        except UserError as error:
            self.refuse(number, overrides, error)
            return None
        try:
            raise_all(problems_with("train", job.config, in_sweep=True))
        except UserError as error:
            self.fail(job, error)
            report([(job, error)])
            return None
        return job

    def refuse(self, number: int, overrides: Sequence[str], error: UserError) -> None:
        """Note a job that has no config."""
        print_failure(error, number)
        self.returns[number] = JobReturn(
            overrides=list(overrides), status=JobStatus.FAILED, _return_value=error
        )

    def begin(self, job: Job) -> None:
        """Tell Hydra's callbacks that a job begins."""
        refer_to(self.composed[job.number])
        self.context.callbacks.on_job_start(self.composed[job.number], task_function=self.task)

    def fail(self, job: Job, error: Exception) -> None:
        """Leave the folder of a job that could not begin, and note it."""
        self.begin(job)
        record_failure(job.folder, job.config, job.overrides, error)
        self.note(job, error)

    def note(self, job: Job, outcome: Outcome) -> None:
        """Note how a job of a stack ended."""
        value: Any = outcome
        if isinstance(outcome, Result):
            value = objective(job.config["monitor"], outcome.metrics)
        config = self.composed[job.number]
        returned = JobReturn(
            overrides=list(job.overrides),
            cfg=config,
            working_dir=str(job.folder),
            status=JobStatus.COMPLETED if isinstance(outcome, Result) else JobStatus.FAILED,
            _return_value=value,
        )
        self.returns[job.number] = returned
        self.context.callbacks.on_job_end(config, job_return=returned)

    def run_alone(self, job: Job) -> JobReturn:
        """Run a job as Hydra's basic launcher does, through Lightning's engine."""
        config = self.composed[job.number]
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


def report(ended: Sequence[tuple[Job, Outcome]]) -> None:
    """Print each error once, with the jobs that it ended."""
    failures = {job.number: error for job, error in ended if isinstance(error, Exception)}
    messages = {number: _message_of(error) for number, error in failures.items()}
    for message in dict.fromkeys(messages.values()):
        numbers = [number for number, other in messages.items() if other == message]
        print_failure(failures[numbers[0]], in_numbers(numbers))
        for number in numbers:
            vars(failures[number])["was_printed"] = True
            clear_frames(failures[number].__traceback__)  # which hold the whole stack
