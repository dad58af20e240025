"""Where Hydra looks for launchers; it imports this at every start, so that it imports little."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from multilayer.core.errors import UserError
from multilayer.training.runtime import gc_paused

if TYPE_CHECKING:
    from multilayer.sweeps import Session


class LockstepLauncher(Launcher):
    """`hydra/launcher=lockstep`: trains the jobs of a sweep together; see `multilayer.lockstep`.

    max_members: bounds a stack; None for what fits into the memory of the device.
    stack: whether jobs train together at all.
    workers: the engine and the number of the processes that train, such as `local:2`; None for this
        process alone.
    options: of each engine, by its name.
    """

    def __init__(
        self,
        max_members: int | None = None,
        stack: bool = True,
        workers: str | None = None,
        **options: Mapping[str, Any],
    ) -> None:
        self.max_members = max_members
        self.stack = stack
        self.workers = workers
        self.options = options
        self.n_sharing = 1

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before the sweep.

        Raises `UserError` for values that cannot be.
        """
        most = self.max_members
        if most is not None and (not isinstance(most, int) or most < 1):
            raise UserError(
                f"hydra.launcher.max_members={most}: must be a whole number of at least 1, or null "
                "for what fits into memory"
            )
        if not isinstance(self.stack, bool):
            raise UserError(f"hydra.launcher.stack={self.stack}: must be true or false")
        self.context = hydra_context
        self.task = task_function
        self.config = config
        if self.workers is not None:
            from multilayer.workers.engine import make_engine

            self.engine = make_engine(self.workers, self.options)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        """Called by a sweeper without a ledger; returns what came of each job, in their order."""
        if self.workers is not None:
            raise UserError(f"hydra.launcher.workers={self.workers}: needs hydra/sweeper=grid")
        return self.launch_numbered(dict(enumerate(job_overrides, initial_job_idx)), None)

    def launch_numbered(
        self, job_overrides: Mapping[int, Sequence[str]], session: "Session | None"
    ) -> list[JobReturn]:
        """Run jobs, by their numbers, as far as they are this process's; returns what came of each.

        session: takes them, and records how they end.
        """
        if self.workers is not None and session is not None:
            from multilayer.workers.crew import Crew

            Crew(self.engine, self.config, session).train(job_overrides)
            return []  # whose processes they were has told Hydra's callbacks
        with gc_paused():
            from multilayer.lockstep.launcher import Launch
            from multilayer.lockstep.plan import make_plan

        plan = partial(
            make_plan, max_members=self.max_members, stack=self.stack, n_sharing=self.n_sharing
        )
        launch = Launch(self.context, self.task, self.config, plan, session)
        return launch.run(job_overrides)
