"""Hydra's loader of configs, cached, which starts from the config of a run that is resumed.

Everything that asks Hydra for a config gets the same one: a run, the jobs of a sweep by any
launcher, `--cfg job`, and the check of a command line. No torch here.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache, partial
from pathlib import Path, PurePath
from typing import Any, ClassVar

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf

from multilayer.cli.search_path import folders_of
from multilayer.composing.sweep_configs import SweepConfigs
from multilayer.composing.sweep_jobs import keeps_ledger
from multilayer.core.config_folder import conf_dir
from multilayer.core.errors import UserError, raise_all
from multilayer.runs.config import MASK, Config, map_values, mask_sweep_file, mask_value
from multilayer.runs.folder import find_last

_GROUPS = ("data", "model", "loss", "optimizer", "scheduler", "trainer", "callbacks", "logger")

_TRUSTED_REFERENCES = ('${oc.env:MLFLOW_TRACKING_URI,"sqlite:///mlflow.db"}',)
"""The references to the environment in our own config files."""


def make_hydra(search_path: Sequence[str], config_dir: Path | None = None) -> Hydra:
    """What composes configs of our groups, and after them those of other folders.

    Args:
        search_path: as in `hydra.searchpath`.
        config_dir: the folder of `--config-dir`.
    """
    path = create_config_search_path(str(conf_dir()))
    if config_dir is not None:
        _add(path, "command-line", [f"file://{config_dir}"])
    _add(path, "hydra.searchpath", search_path)
    setbase("1.3")
    CachingConfigLoader.forget_changes()
    return Hydra("multilayer", CachingConfigLoader(path))


def _add(path: ConfigSearchPath, provider: str, entries: Sequence[str]) -> None:
    """Add entries to a search path, as Hydra adds the folder of `--config-dir`."""
    for each in entries:
        path.prepend(provider, each, anchor=SearchPathQuery(provider="schema"))


class CachingConfigLoader(ConfigLoaderImpl):
    """Hydra's loader, which reads and merges the files of the same choices once.

    Hydra composes a config from its files for the check of a command line, to learn `hydra.mode`,
    for the run, and twice for each job of a sweep: for its sweeper and for its launcher. That takes
    0.1 s each time; a config that differs from an earlier one only in what is set, added or deleted
    below the choices takes 0.01 s here, and a job that differs from others in values alone 0.1 ms
    until its config is looked at.

    Where `resume` names a run, the config starts from that run's own.

    Attributes:
        further: What `hydra.searchpath` names on the command line that Hydra runs. Hydra itself
            searches it only within one composition: the choices of a group would not include
            theirs.
    """

    further: ClassVar[Sequence[str]] = ()
    _bases: ClassVar[dict[tuple[str, ...], DictConfig]] = {}
    _stamp: ClassVar[list[tuple[Path, int]]] = []

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        _add(config_search_path, "hydra.searchpath", self.further)
        super().__init__(config_search_path)
        self.is_masked = False
        self.sweep: SweepConfigs | None = None
        self.subdirs: dict[tuple[str, ...], str] = {}
        self.choices: dict[str, list[str]] = {}
        self.max_failures: int | None = None
        self.is_elsewhere = False

    def __getstate__(self) -> dict[str, Any]:
        """Called where joblib sends the loader to its processes, which compose jobs anew."""
        return vars(self) | {"sweep": None, "is_elsewhere": True}

    @classmethod
    def forget_changes(cls) -> None:
        """Read files again at the start of a command, except ours while none of them changes."""
        stamp = [(path, path.stat().st_mtime_ns) for path in sorted(conf_dir().rglob("*.yaml"))]
        ours = str(create_config_search_path(str(conf_dir())))
        kept = cls._bases.items() if stamp == cls._stamp else ()
        cls._bases = {key: base for key, base in kept if key[0] == ours and _is_ours(base)}
        cls._stamp = stamp

    def _load_configuration_impl(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Called by Hydra for each composition."""
        parsed = OverridesParser.create(config_loader=self).parse_overrides(overrides)
        if validate_sweep_overrides:
            self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
        changes = [override for override in parsed if self._changes_key(override)]
        rest = [str(override.input_line) for override in parsed if override not in changes]
        config = self._resumed(deepcopy(self._base(config_name, rest, run_mode)), parsed)
        single = [override for override in changes if not override.is_sweep_override()]
        if run_mode == RunMode.MULTIRUN:  # other choices of the sweep may have the key
            single = [
                item
                for item in single
                if item.is_hydra_override()
                or item.type != OverrideType.CHANGE
                or _has(config, item.key_or_group)
            ]
        self._apply_overrides_to_config(single, config)
        of_task = [override for override in parsed if not override.is_hydra_override()]
        of_hydra = [override for override in parsed if override.is_hydra_override()]
        config.hydra.overrides.task = [override.input_line for override in of_task]
        config.hydra.overrides.hydra = [override.input_line for override in of_hydra]
        config.hydra.runtime.cwd = os.getcwd()
        names = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=of_task,
            exclude_keys=names.exclude_keys,
            item_sep=names.item_sep,
            kv_sep=names.kv_sep,
        )
        return config

    def _base(self, config_name: str | None, choices: list[str], run_mode: RunMode) -> DictConfig:
        """What Hydra composes of choices, once."""
        key = (str(self.get_search_path()), str(config_name), *choices)
        if key not in self._bases:
            with self._files_are_read():
                self._bases[key] = super()._load_configuration_impl(
                    config_name, choices, run_mode, validate_sweep_overrides=False
                )
        return self._bases[key]

    @contextmanager
    def _files_are_read(self) -> Iterator[None]:
        """Raise `UserError` where a config file is no YAML, with its name and line."""
        try:
            yield
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            assert mark is not None, "the parser knows where it is"
            place = f"{os.path.relpath(mark.name)}, line {mark.line + 1}, column {mark.column + 1}"
            raise UserError(f"{place}: not YAML: {error.problem}") from error
        except UnicodeDecodeError as error:
            entries = [each.path for each in self.get_search_path().get_path()]
            files = [file for each in folders_of(entries) for file in each.rglob("*.yaml")]
            names = [os.path.relpath(file) for file in files if error.object in file.read_bytes()]
            raise UserError(f"{', '.join(names)}: not text in UTF-8") from error

    def _process_config_searchpath(self, *arguments: Any) -> None:
        """Called by Hydra; its entries are in the search path from the beginning."""

    def _changes_key(self, override: Override) -> bool:
        """Whether an override sets, adds or deletes a key of the composed config."""
        is_read_early = override.key_or_group in ("hydra.searchpath", "hydra.job.env_copy")
        return not is_read_early and not self.is_group(override.key_or_group)

    def get_group_options(self, group_name: str, *arguments: Any, **named: Any) -> list[str]:
        """The choices of a group; a file such as `_base` is only for other files to start from."""
        if arguments or named:
            return _visible(super().get_group_options(group_name, *arguments, **named))
        if group_name not in self.choices:  # Hydra would copy its repository to look it up
            self.choices[group_name] = _visible(self.repository.get_group_options(group_name))
        return self.choices[group_name]

    def _resumed(self, composed: DictConfig, overrides: Sequence[Override]) -> DictConfig:
        """What Hydra composed, with the config of the run that it resumes, if any."""
        run = _resumed_run(composed, overrides)
        if run is None:
            return composed
        _refuse_files_across_groups(overrides, composed)
        chosen = [item.key_or_group for item in overrides if item.key_or_group in _GROUPS]
        default = _without_hydra(self._base("train", [], RunMode.RUN)) if chosen else {}
        resumed = _resumed_config(_without_hydra(composed), run, default, chosen)
        config = OmegaConf.create({**resumed, "hydra": composed["hydra"]})
        OmegaConf.set_struct(config, True)  # as Hydra sets what it composed
        OmegaConf.set_readonly(config.hydra, False)
        return config

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Called by Hydra for each job of a sweep, first by the sweeper and then by the launcher.

        By then another sweeper than ours has written the sweep's own file. A job that was in the
        sweep before has the folder of then, whatever `hydra.sweep.subdir` says now. In a process
        that a launcher has started the config also says after how many failures no job begins.
        """
        if not self.is_masked:
            self.is_masked = True
            if not keeps_ledger(master_config.hydra):
                mask_sweep_file(Path(master_config.hydra.sweep.dir) / "multirun.yaml")
        if self.sweep is None or self.sweep.master is not master_config:
            compose = partial(super().load_sweep_config, master_config)
            self.sweep = SweepConfigs(master_config, compose, self.is_group)
        config = self.sweep.config(sweep_overrides)
        subdir = self.subdirs.get(tuple(sweep_overrides))
        if subdir is not None:
            config.hydra.sweep.subdir = subdir
        if self.is_elsewhere and "sweep" in config:
            config.sweep.max_failures = self.max_failures
        return config

    def is_group(self, key: str) -> bool:
        """Whether an override of a key makes a choice from a group."""
        return bool(self.get_group_options(key))


def _has(config: DictConfig, key: str) -> bool:
    """Whether a config has a dotted key, if only without a value."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    # A list is left to Hydra.
    return name in list(node) if isinstance(node, DictConfig) else node is not None


def _is_ours(config: DictConfig) -> bool:
    """Whether a config is of our files alone: of no other folder and no environment variable."""
    return not (config.hydra.searchpath or config.hydra.job.env_copy)


def _visible(choices: Sequence[str]) -> list[str]:
    """The choices that a user may name."""
    return [name for name in choices if not name.startswith("_")]


def _without_hydra(config: DictConfig) -> Config:
    """A config as plain data with its references, without Hydra's own node."""
    values: Any = OmegaConf.to_container(config, resolve=False)
    return {key: value for key, value in values.items() if key != "hydra"}


def _resumed_run(composed: DictConfig, overrides: Sequence[Override]) -> str | None:
    """The run that a command line resumes; of several in a sweep the first."""
    named = [item for item in overrides if item.key_or_group == "resume"]
    if not named:
        value = composed.get("resume")
    elif named[-1].is_sweep_override():
        value = next(iter(named[-1].sweep_string_iterator()))
    else:
        value = named[-1].value()
    return None if value is None else str(value)


def _refuse_files_across_groups(overrides: Sequence[Override], composed: DictConfig) -> None:
    """Raise `UserError` for files that set several groups at once: what they change is unknown."""
    raise_all(
        [
            f"{item.input_line}: resume: a run goes on with its own config; leave this out, and "
            "give what is to change as KEY=VALUE or GROUP=CHOICE"
            for item in overrides
            if not item.is_hydra_override()
            and "." not in item.key_or_group
            and (item.key_or_group not in composed or item.package is not None)
            and not item.is_delete()
        ]
    )


def _resumed_config(composed: Config, run: str, default: Config, chosen: Sequence[str]) -> Config:
    """The config of the run to resume; the values from the command line are still to be set.

    Args:
        composed: what Hydra composed of the choices, as for a new run.
        run: the folder or checkpoint to resume.
        default: what Hydra composes of an empty command line.
        chosen: the groups that the command line chooses from.

    Raises:
        UserError: where there is no such run, or its checkpoint is damaged.
    """
    last = find_last(run)
    own = map_values(_own_config(last, last.stat().st_mtime_ns), take_value)
    config = {key: own.get(key, value) for key, value in composed.items()}
    config |= {key: _after_choice(own[key], default[key], composed[key]) for key in chosen}
    # A stack cannot start in the middle; whom to trust is for the user to say, not for the run.
    said = {"resume": run, "trusted_packages": composed["trusted_packages"]}
    return config | {"engine": "lightning"} | said


@cache
def _own_config(last: Path, written: int) -> Config:
    """The config in a checkpoint; the jobs of a sweep ask for it again and again."""
    from multilayer.training.resume import read_resumed  # torch

    return read_resumed(last).before


def _after_choice(own: Any, default: Any, chosen: Any) -> Any:
    """A group of a run's config, or an object in it, after a choice was made.

    Where the choice differs from the default choice, it is used: the device by `trainer=cpu`. All
    of it is used if the classes differ, or one of the three is missing.
    """
    parts = (own, default, chosen)
    if not all(isinstance(each, dict) for each in parts):
        return chosen
    targets = {_target_of(each) for each in parts}
    if targets == {None}:
        return {key: _after_choice(own.get(key), default.get(key), chosen[key]) for key in chosen}
    said = {
        key: _after_choice(own.get(key), default.get(key), value)
        for key, value in chosen.items()
        if value != default.get(key)
    }
    return own | said if len(targets) == 1 else chosen


def _target_of(node: Config) -> Any:
    """The class of a node, which of a schedule is one level deeper."""
    schedule = node.get("scheduler")
    return (schedule if isinstance(schedule, dict) else node).get("_target_")


def take_value(key: str, value: Any) -> Any:
    """A value from a run's config; missing if only the user may give it.

    The run may be a stranger's. Files are written where a callback or logger says, and what it
    sends goes where it says; secrets were not kept, or are not the user's.
    """
    text = str(mask_value(key, value))
    path = PurePath(text)
    is_elsewhere = path.is_absolute() or ".." in path.parts or text.startswith("~")
    is_written = key.startswith(("callbacks.", "logger.", "trainer."))
    is_unusable = any(each in text for each in (MASK, "${", "://")) or (is_written and is_elsewhere)
    return "???" if is_unusable and value not in _TRUSTED_REFERENCES else value
