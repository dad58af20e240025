"""The jobs of a sweep, from the words of its command to its ledger."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from multilayer.composing.job_configs import folder_of, plain_job
from multilayer.core.errors import UserError, first_line, raise_all
from multilayer.sweeps import Ledger, NewJob

Words = Sequence[str]
"""The overrides of a job."""


@dataclass(frozen=True)
class SweepJobs:
    """All jobs of a command.

    Attributes:
        sweep: The sweep's folder.
        words: The overrides of each.
        configs: Of each, as Hydra composes it.
        described: Each as the ledger knows it.
    """

    sweep: Path
    words: Sequence[Words]
    configs: Sequence[DictConfig]
    described: Sequence[NewJob]

    @classmethod
    def compose(
        cls, loader: ConfigLoader, master: DictConfig, words: Sequence[Words]
    ) -> "SweepJobs":
        """Compose jobs; nothing is written.

        Args:
            loader: Composes their configs.
            master: The config of the sweep.
            words: The overrides of each.

        Raises:
            UserError: Some have no config; each problem is said once.
        """
        configs, described, problems = [], [], []
        for each in words:
            try:
                config = loader.load_sweep_config(master, list(each))
                # A reference to the job's number is the same for all: it is not known yet, and
                # where a job stands in a command does not make it another one.
                job = plain_job(config, 0)
            except (HydraException, OmegaConfBaseException, UserError) as error:
                problems.append(f"a job of the sweep: {first_line(error)}")
                continue
            configs.append(config)
            described.append(NewJob(job.config, job.overrides))
        raise_all(list(dict.fromkeys(problems)))
        return cls(sweep_folder(master.hydra), words, configs, described)

    def register(self, ledger: Ledger) -> list[int]:
        """Register the jobs in the ledger of their sweep; returns their numbers.

        Raises:
            UserError: They are another sweep's, two have the same folder, or the folder of one is
                not free; nothing was written.
        """
        first = self.described[0].config
        judged_by = {key: first[key] for key in ("monitor", "mode")}
        return ledger.register(self.described, self._new_subdir, command=judged_by)

    def subdir(self, index: int, number: int) -> str:
        """The folder that the config of a job names, relative to the sweep's."""
        return os.path.relpath(folder_of(self.configs[index], number), self.sweep)

    def _new_subdir(self, index: int, number: int) -> str:
        """The folder of a job that is new to the sweep."""
        subdir = self.subdir(index, number)
        if (self.sweep / subdir / "manifest.json").exists():
            raise UserError(
                f"{self.sweep / subdir} holds a run already, which is not of this sweep's ledger: "
                "choose another folder, as hydra.sweep.dir=FOLDER"
            )
        return subdir


def sweep_folder(hydra: DictConfig) -> Path:
    """The folder of a sweep, from Hydra's node of its config or of a job's."""
    return Path(hydra.runtime.cwd, hydra.sweep.dir)
