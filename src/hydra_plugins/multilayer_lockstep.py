"""Where Hydra looks for launchers; it imports this at every start, so that it imports little."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
    """

    def __init__(self, max_members: int | None = None) -> None:
        self.max_members = max_members

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before the sweep.

        Raises `UserError` for a bound that no stack can keep.
        """
        most = self.max_members
        if most is not None and (not isinstance(most, int) or most < 1):
            raise UserError(
                f"hydra.launcher.max_members={most}: must be a whole number of at least 1, or null "
                "for what fits into memory"
            )
        self.context = hydra_context
        self.task = task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        """Called by a sweeper without a ledger; returns what came of each job, in their order."""
        return self.launch_numbered(dict(enumerate(job_overrides, initial_job_idx)), None)

    def launch_numbered(
        self, job_overrides: Mapping[int, Sequence[str]], session: "Session | None"
    ) -> list[JobReturn]:
        """Run jobs, by their numbers, as far as they are this process's; returns what came of each.

        session: takes them, and records how they end.
        """
        with gc_paused():
            from multilayer.lockstep.launcher import Launch

        launch = Launch(self.context, self.task, self.config, self.max_members, session)
        return launch.run(job_overrides)
