"""The jobs of a sweep, from the words of its command to its ledger."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from multilayer.composing.job_configs import folder_of, plain_job
from multilayer.core.errors import UserError, first_line, raise_all
from multilayer.core.text import override_word
from multilayer.runs.config import mask_overrides
from multilayer.sweeps import Job, Ledger, NewJob

Words = Sequence[str]
"""The overrides of a job."""


@dataclass(frozen=True)
class SweepJobs:
    """All jobs of a command.

    Attributes:
        sweep: The sweep's folder.
        master: The config of the sweep.
        words: The overrides of each.
        configs: Of each, as Hydra composes it.
        described: Each as the ledger knows it.
    """

    sweep: Path
    master: DictConfig
    words: Sequence[Words]
    configs: Sequence[DictConfig]
    described: Sequence[NewJob]
    _subdirs: dict[tuple[int, int], str] = field(default_factory=dict)

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
            described.append(NewJob(job.config, list(each)))
        raise_all(list(dict.fromkeys(problems)))
        if not described:
            raise UserError("the sweep has no jobs: a range or a list of values is empty")
        return cls(sweep_folder(master.hydra), master, words, configs, described)

    def register(self, ledger: Ledger) -> list[int]:
        """Register the jobs in the ledger of their sweep; returns their numbers.

        Raises:
            UserError: They are another sweep's, two have the same folder, or the folder of one is
                not free; nothing was written.
        """
        first = self.described[0].config
        judged_by = {key: first[key] for key in ("monitor", "mode")}
        command = judged_by | describe_command(self.master)
        return ledger.register(self.described, self._new_subdir, command=command)

    def subdir(self, index: int, number: int) -> str:
        """The folder that the config of a job names, relative to the sweep's."""
        if (index, number) not in self._subdirs:  # which takes 2 ms to find
            folder = folder_of(self.configs[index], number)
            self._subdirs[index, number] = os.path.relpath(folder, self.sweep)
        return self._subdirs[index, number]

    def keep_folders(self, loader: Any, known: Mapping[int, Job], numbers: Sequence[int]) -> None:
        """Let the configs of open jobs name the folders that they had first.

        Args:
            loader: Ours, which composes them.
            known: The jobs of the ledger.
            numbers: The number of each job.
        """
        for index, number in enumerate(numbers):
            job = known[number]
            if job.is_open and self.subdir(index, number) != job.subdir:
                loader.subdirs[tuple(self.words[index])] = job.subdir

    def _new_subdir(self, index: int, number: int) -> str:
        """The folder of a job that is new to the sweep."""
        subdir = self.subdir(index, number)
        if (self.sweep / subdir / "manifest.json").exists():
            raise UserError(
                f"{self.sweep / subdir} holds a run already, which is not of this sweep's ledger: "
                "choose another folder, as hydra.sweep.dir=FOLDER"
            )
        return subdir


_OF_THE_SWEEP = ("hydra/launcher", "hydra/sweeper", "hydra.launcher", "hydra.sweeper")
"""Hydra's keys that say who trains the jobs, and not how they are composed."""


_OF_LAUNCHER = ("stack", "max_members")
"""The options of our launcher that hold for workers, too."""


def describe_command(master: DictConfig) -> dict[str, Any]:
    """What a worker needs to know of a sweep's command to compose its jobs and train them.

    Args:
        master: The config of the sweep.

    Returns:
        The working folder; the folder of `--config-dir`, or None; Hydra's own overrides, without
        secrets; whether jobs train in stacks, and the most members of one. As plain data.
    """
    launcher = master.hydra.launcher
    is_ours = "stack" in launcher
    overrides: Any = OmegaConf.to_container(master.hydra.overrides.hydra, resolve=False)
    return {
        "folder": master.hydra.runtime.cwd,
        "config_dir": config_dir_of(master.hydra),
        "hydra": mask_overrides([word for word in overrides if _is_kept(word)]),
        "stack": bool(is_ours and launcher.stack),
        "max_members": launcher.max_members if is_ours else None,
    }


def launcher_words(command: Mapping[str, Any]) -> list[str]:
    """The overrides by which the launcher of a worker trains as that of a command described."""
    return [override_word(f"hydra.launcher.{key}", command[key]) for key in _OF_LAUNCHER]


def config_dir_of(hydra: DictConfig) -> str | None:
    """The folder of `--config-dir`."""
    sources = hydra.runtime.config_sources
    return next((each.path for each in sources if each.provider == "command-line"), None)


def _is_kept(word: str) -> bool:
    """Whether an override of Hydra's is to hold for a worker, too."""
    key = key_of(word)
    is_of_the_sweep = any(f"{key}.".startswith(f"{each}.") for each in _OF_THE_SWEEP)
    return not is_of_the_sweep and key not in ("hydra.mode", "hydra.sweep.dir")


def key_of(word: str) -> str:
    """The key of an override.

    >>> key_of("+hydra.job.env_set.A=1")
    'hydra.job.env_set.A'
    """
    return word.lstrip("+~").partition("=")[0]


def trusts_working_folder(hydra: DictConfig) -> bool:
    """Whether modules may come from the working folder, as for all jobs but a stranger's."""
    return bool(hydra.sweeper.get("trust", True))


def keeps_ledger(hydra: DictConfig) -> bool:
    """Whether the sweeper is ours, which keeps a ledger, and writes the sweep's own file itself."""
    return str(hydra.sweeper._target_).startswith("hydra_plugins.multilayer_")


def sweep_folder(hydra: DictConfig) -> Path:
    """The folder of a sweep, from Hydra's node of its config or of a job's."""
    return Path(hydra.runtime.cwd, hydra.sweep.dir)
