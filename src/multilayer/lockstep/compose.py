"""Makes jobs of a sweep from their overrides."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from multilayer.composing.job_configs import Job, plain_job
from multilayer.core.errors import UserError, first_line


class JobComposer:
    """Makes jobs from their overrides, each with a folder of its own.

    Args:
        loader: Hydra's loader of configs.
        master: The config of the sweep.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader = loader
        self._master = master
        self._folders: dict[Path, int] = {}

    def compose(self, number: int, overrides: Sequence[str]) -> Job:
        """Make a job, which is not checked, from the overrides that the sweeper gives it.

        Raises:
            UserError: The overrides are wrong, a reference cannot be resolved, or another job has
                the folder.
        """
        try:
            job = plain_job(self._loader.load_sweep_config(self._master, list(overrides)), number)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(first_line(error)) from error
        first = self._folders.setdefault(job.folder, number)
        if first != number:
            raise UserError(f"{job.folder} is job {first}'s: give each its hydra.sweep.subdir")
        return job
