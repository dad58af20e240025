"""The refits of runs that trained as a stack, which train as another one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from multilayer.composing.job_configs import Job
from multilayer.core.errors import UserError
from multilayer.core.text import counted
from multilayer.lockstep.plan import StackPlan
from multilayer.lockstep.progress import SweepProgress
from multilayer.lockstep.train import Hooks, Outcome, train_jobs
from multilayer.runs.config import Config
from multilayer.runs.folder import Result, RunFolder
from multilayer.training.components import make_data
from multilayer.training.refit import config_of_refit, is_due, read_trained


def train_jobs_and_refits(plan: StackPlan, progress: SweepProgress, hooks: Hooks) -> None:
    """Train jobs as `train_jobs` does, and then the refits of those that are to have one.

    Such a job ends with its refit: the hooks are called with it once.
    """
    if plan.jobs[0].config["refit"] is not True:
        train_jobs(plan, progress, hooks)
        return
    refits = _Refits(hooks)
    train_jobs(
        plan,
        progress,
        replace(hooks, take=refits.take, end=refits.end_runs, written=refits.note_run),
    )
    refits.train(plan.n_slots, progress)


@dataclass
class _Refits:
    """Jobs whose own training has come to its end.

    Attributes:
        hooks: those of the jobs.
        runs: the jobs by their numbers, with how their own training ended.
        configs: of the refits.
    """

    hooks: Hooks
    runs: dict[int, tuple[Job, Result]] = field(default_factory=dict)
    configs: dict[int, Config] = field(default_factory=dict)

    def take(self, jobs: Sequence[Job]) -> list[Job]:
        """Those of some jobs whose own training is to begin or to go on."""
        return [job for job in self.hooks.take(jobs) if not self._try(self._is_trained, job)]

    def _is_trained(self, job: Job) -> bool:
        """Whether only the refit of a job is left, which is noted then."""
        trained = read_trained(job.config, RunFolder(job.folder))
        if trained is None:
            return False
        config, result = trained
        self.hooks.begin(job)
        self._note(replace(job, config=config), result)
        return True

    def _note(self, job: Job, result: Result) -> bool:
        """Note a job for its refit."""
        self.configs[job.number] = config_of_refit(job.config, RunFolder(job.folder))
        self.runs[job.number] = job, result
        return True

    def _try(self, note: Callable[..., bool], job: Job, *arguments: Result) -> bool:
        """What is said of a job, which ends if it raises an error: true."""
        try:
            return note(job, *arguments)
        except Exception as error:
            self.hooks.end([(job, error)])
            return True

    def end_runs(self, ended: Sequence[tuple[Job, Outcome]]) -> None:
        """Note the jobs that have a refit, and tell of the others."""
        others = []
        for job, outcome in ended:
            if isinstance(outcome, Result) and is_due(outcome):
                self._try(self._note, job, outcome)
            else:
                others.append((job, outcome))
        self.hooks.end(others)

    def note_run(self, job: Job, result: Result) -> None:
        """Tell that the last file of a job is written, unless those of its refit will follow."""
        if not is_due(result):
            self.hooks.written(job, result)

    def train(self, n_slots: int, progress: SweepProgress) -> None:
        """Train the refits."""
        jobs = [
            replace(job, config=self.configs[number], folder=RunFolder(job.folder).refit)
            for number, (job, _) in self.runs.items()
        ]
        if not jobs:
            return
        progress.n_runs += len(jobs)
        self.hooks.say(f"{counted(len(jobs), 'refit')}, on training and validation rows")
        try:
            data = make_data(jobs[0].config)
            data.setup()
        except Exception as error:  # such as a file that is gone
            self._end([(job, error) for job in jobs])
            return
        hooks = Hooks(self._end, self._refuse, self.hooks.say, written=self._note_refit)
        train_jobs(StackPlan(jobs, data, n_slots), progress, hooks)

    def _end(self, ended: Sequence[tuple[Job, Outcome]]) -> None:
        """Tell how jobs ended whose refits did."""
        self.hooks.end([self._whole(refit, outcome) for refit, outcome in ended])

    def _note_refit(self, refit: Job, result: Result) -> None:
        """Tell that the last file of a job is written."""
        job, first = self.runs[refit.number]
        self.hooks.written(job, replace(first, refit=result))

    def _whole(self, refit: Job, outcome: Outcome) -> tuple[Job, Outcome]:
        """A job and how it ended, by how its refit did."""
        job, first = self.runs[refit.number]
        return job, replace(first, refit=outcome) if isinstance(outcome, Result) else outcome

    def _refuse(self, jobs: Sequence[Job], reason: str) -> None:
        """End jobs whose refits do not stack, though they did."""
        error = UserError(f"refit=true: {reason}; use hydra/launcher=basic")
        self._end([(job, error) for job in jobs])
