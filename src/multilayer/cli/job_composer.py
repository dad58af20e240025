"""Composing the jobs of a sweep, which differ in a few values, without starting over for each."""

from collections.abc import Sequence
from copy import deepcopy

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from multilayer.cli.resumed_config import ConfigLoader


class JobComposer(ConfigLoader):
    """Hydra's loader, but jobs that choose the same files share the reading and merging of them.

    Hydra takes 0.1 s to compose a job, and does it twice: the sweeper to check it, and the
    launcher. Here a job that differs from another in values alone takes 0.01 s, once.
    """

    def __init__(self, loader: ConfigLoaderImpl) -> None:
        super().__init__(loader.get_search_path())
        self.bases: dict[tuple[str, ...], DictConfig] = {}
        self.jobs: dict[tuple[str, ...], DictConfig] = {}
        self.groups: dict[str, bool] = {}

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: Sequence[str]
    ) -> DictConfig:
        """The config of a job."""
        words = tuple(sweep_overrides)
        if words in self.jobs:
            return self.jobs.pop(words)
        parsed = OverridesParser.create(config_loader=self).parse_overrides(list(words))
        if any(override.key_or_group == "resume" for override in parsed):
            return super().load_sweep_config(master_config, list(words))
        values = [override for override in parsed if self.is_value(override)]
        rest = tuple(str(item.input_line) for item in parsed if item not in values)
        if rest not in self.bases:
            self.bases[rest] = super().load_sweep_config(master_config, list(rest))
        config = deepcopy(self.bases[rest])
        self._apply_overrides_to_config(values, config)
        of_task = [override for override in parsed if not override.is_hydra_override()]
        config.hydra.overrides.task = [override.input_line for override in of_task]
        names = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=of_task,
            exclude_keys=names.exclude_keys,
            item_sep=names.item_sep,
            kv_sep=names.kv_sep,
        )
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        self.jobs[words] = config
        return config

    def is_value(self, override: Override) -> bool:
        """Whether an override sets a value in the composed config and does nothing else."""
        plain = not (override.is_add() or override.is_force_add() or override.is_delete())
        return plain and not override.is_hydra_override() and not self.is_group(override)

    def is_group(self, override: Override) -> bool:
        """Whether an override chooses from a config group."""
        key = override.key_or_group
        if key not in self.groups:
            self.groups[key] = bool(self.get_group_options(key))
        return self.groups[key]
