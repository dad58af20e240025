"""Jobs of a sweep that differ in values alone, as plain data and as Hydra composes them.

OmegaConf's nodes are read and set directly here. Its checks can find nothing in what the same
config has passed for another job, and take 20 to 100 us for each key, its parser of references
0.2 to 0.5 ms. `tests/composing/test_sweep_configs.py` compares with what Hydra composes.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.hydra_config import HydraConfig
from omegaconf import AnyNode, DictConfig, ListConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException
from omegaconf.grammar_parser import parse

from multilayer.composing.overrides import DOTTED_KEY, Word
from multilayer.core.renamed import with_current_names
from multilayer.runs.config import (
    GROUPS_WITH_REFERENCES,
    NOT_OF_RUN,
    Config,
    merge_references,
    recorded_overrides,
    to_plain,
    unresolved_environment,
)

Place = tuple[Any, ...]
"""The keys and indices that lead to a value."""

_parse_reference = lru_cache(parse)
"""OmegaConf's parser; what it returns is only read."""


class ConfigOnDemand(DictConfig):
    """A config that is made when anything is first asked of it; from then on a `DictConfig`.

    Args:
        make: Returns the config.
    """

    def __init__(self, make: Callable[[], DictConfig]) -> None:
        object.__getattribute__(self, "__dict__").update(make=make)

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":  # for `isinstance`
            return DictConfig
        own = object.__getattribute__(self, "__dict__")
        made = own["make"]()
        own.clear()
        own.update(vars(made))
        object.__setattr__(self, "__class__", DictConfig)
        self._re_parent()
        return getattr(self, name)


class JobKind:
    """Jobs that set the same keys to plain values and have all other overrides in common.

    Args:
        config: The config of one of them, as Hydra composed it.
        words: The overrides of that job.
        master: The config of the sweep.
    """

    def __init__(self, config: DictConfig, words: Sequence[Word], master: DictConfig) -> None:
        self.config = config
        self.words = words
        self.master = master
        self._words_of_scratch = words
        self._varied = [word.key for word in words if word.is_plain]
        self._names: Any = OmegaConf.to_container(config.hydra.job.config.override_dirname)

    def set_values(self, config: DictConfig, words: Sequence[Word], before: Sequence[Word]) -> None:
        """Make a config of this kind that of a job.

        Args:
            config: The config.
            words: The overrides of the job.
            before: Those of the job whose config it is.
        """
        of_task = [word.override for word in words if not word.override.is_hydra_override()]
        task = node_at(config, ["hydra", "overrides", "task"])
        for node, override in zip(task._content, of_task, strict=True):
            node._set_value(override.input_line)
        dirname = get_overrides_dirname(overrides=of_task, **self._names)
        node_at(config, ["hydra", "job", "override_dirname"])._set_value(dirname)
        for word, old in zip(words, before, strict=True):
            if word.is_plain and word is not old:
                node_at(config, word.key.split("."))._set_value(word.override.value())
        OmegaConf.copy_cache(self.master, config)  # as Hydra does, for times and the like

    def scratch_of(self, words: Sequence[Word]) -> DictConfig:
        """The scratch config, as that of a job."""
        self.set_values(self.scratch, words, self._words_of_scratch)
        self._words_of_scratch = words
        return self.scratch

    @cached_property
    def sweep_folder(self) -> Path | None:
        """The sweep's folder, if each job's folder is its number in it; else None."""
        sweep = node_at(self.config, ["hydra", "sweep"])
        folder, subdir = (node_at(sweep, [name])._value() for name in ("dir", "subdir"))
        is_fixed = "${" not in re.sub(r"\$\{now:[^{}]*\}", "", str(folder))
        is_varied = any(key.startswith("hydra.") for key in self._varied)
        if subdir != "${hydra.job.num}" or not is_fixed or is_varied or folder == "???":
            return None
        return Path(self.master.hydra.sweep.dir).absolute()

    def folder(self, number: int) -> Path | None:
        """The folder of a job, if it takes no config to know it."""
        return self.sweep_folder and self.sweep_folder / str(number)

    @cached_property
    def scratch(self) -> DictConfig:
        """The config of one job after the other."""
        return deepcopy(self.config)

    @cached_property
    def alone(self) -> str | None:
        """See `Job`; the same for all jobs."""
        return _hydras_reason_to_be_alone(self.config)

    @cached_property
    def references(self) -> dict[Place, Any]:
        """The nodes of the scratch config that refer to others."""
        content: Any = self.scratch._content
        children = ((name, node) for name, node in content.items() if name not in NOT_OF_RUN)
        return dict(each for name, node in children for each in _references(node, (name,)))

    @cached_property
    def open(self) -> dict[Place, Any]:
        """The nodes of the scratch config whose values differ between jobs."""
        references = self.references.items()
        places = [tuple(key.split(".")) for key in self._varied]
        varied = {place: node_at(self.scratch, place) for place in places}
        return varied | {place: node for place, node in references if not self._is_fixed(node)}

    def _is_fixed(self, node: Any) -> bool:
        """Whether a reference is to a key which has the same value for all jobs."""
        reference = re.fullmatch(rf"\$\{{({DOTTED_KEY})\}}", str(node._value()), re.ASCII)
        if reference is None or reference[1] in self._varied or reference[1].startswith("hydra."):
            return False
        target = node_at(self.scratch, reference[1].split("."))
        return type(target) is AnyNode and not (target._is_interpolation() or target._is_missing())

    @cached_property
    def fixed(self) -> Config:
        """The values that are the same for all jobs, with something in place of the others."""
        values: Any = OmegaConf.to_container(self.scratch, resolve=False)
        for key in NOT_OF_RUN:
            values.pop(key, None)
        for place, node in self.references.items():
            if place not in self.open:
                _put(values, place, _resolved(node))
        plain: Config = with_current_names(values, rename_keys=False)
        return plain

    @cached_property
    def of_environment(self) -> list[Place]:
        """The open places whose strings are to stay references to the environment."""
        is_used = "oc.env:" in str(OmegaConf.to_container(self.scratch, resolve=False))
        places = [place for place in self.references if place in self.open]
        return [place for place in places if is_used and place[0] in GROUPS_WITH_REFERENCES]

    def to_plain(self) -> Config:
        """The scratch config, as `multilayer.runs.config.to_plain` gives it."""
        found = {place: _resolved(node) for place, node in self.open.items()}
        if self.of_environment:
            with unresolved_environment():
                for place in self.of_environment:
                    kept = _resolved(self.open[place])
                    if place[1:] or isinstance(kept, dict):
                        found[place] = merge_references(found[place], kept, place[-1])
        values: Config = _copy(self.fixed)
        for place, value in found.items():
            key = ".".join(part for part in place if isinstance(part, str))
            _put(values, place, with_current_names(value, key, rename_keys=False))
        return values


def node_at(node: Any, path: Sequence[str]) -> Any:
    """The node at a path; None where there is nothing, or the way leads through no plain dict."""
    for key in path:
        is_dict = type(node) is DictConfig and isinstance(node._content, dict)
        node = node._content.get(key) if is_dict else None
    return node


def _references(node: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """The nodes that refer to others, from a node down, with their places."""
    if node._is_interpolation():
        yield place, node
    elif isinstance(node, DictConfig | ListConfig) and not (node._is_none() or node._is_missing()):
        content: Any = node._content
        for key, child in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _references(child, (*place, key))


def _resolved(node: Any) -> Any:
    """The plain data of a node as `OmegaConf.to_container` resolves it; the parser runs once."""
    if node._is_interpolation():
        parent = node._get_parent()
        node = parent._resolve_interpolation_from_parse_tree(
            parent=parent,
            key=node._key(),
            value=node,
            parse_tree=_parse_reference(node._value()),
            throw_on_resolution_failure=True,
            memo=None,
        )
    return (
        OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node._value()
    )


def _put(values: Any, place: Place, value: Any) -> None:
    """Set a value in plain data."""
    for key in place[:-1]:
        values = values[key]
    values[place[-1]] = value


def _copy(node: Any) -> Any:
    """A copy of plain data."""
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


@dataclass(frozen=True, eq=False)
class Job:
    """A run as a sweep sees it.

    Attributes:
        number: Its number in the sweep.
        config: As `multilayer.runs.config.to_plain` gives it.
        folder: The run folder.
        overrides: As the manifest records them.
        alone: What Hydra is to do for the job that it can do for one at a time only, if anything.
        hydra_config: What Hydra knows the job by.
    """

    number: int
    config: Config
    folder: Path
    overrides: Sequence[str]
    alone: str | None = None
    hydra_config: Any = None


@dataclass(frozen=True)
class JobOfKind:
    """A job that differs from others in values alone."""

    kind: JobKind
    words: Sequence[Word]

    @staticmethod
    def behind(config: DictConfig) -> "JobOfKind | None":
        """The job whose config would be made if anything were asked of it."""
        is_unmade = type(config) is ConfigOnDemand
        make = object.__getattribute__(config, "__dict__")["make"] if is_unmade else None
        job = getattr(make, "__self__", None)
        return job if isinstance(job, JobOfKind) else None

    def make(self) -> DictConfig:
        """The config as Hydra composes it."""
        config = deepcopy(self.kind.config)
        self.kind.set_values(config, self.words, self.kind.words)
        return config

    def to_plain(self, number: int) -> Job:
        """The job as plain data; see `plain_job`."""
        scratch = self.kind.scratch_of(self.words)
        refer_to(scratch)
        folder = _set_number(scratch, number, self.kind.folder(number))
        task = [word.override for word in self.words if not word.override.is_hydra_override()]
        overrides = [str(override.input_line) for override in task]
        if "${" in "".join(overrides):
            overrides = recorded_overrides(scratch.hydra)
        values = self.kind.to_plain()
        cache = OmegaConf.get_cache(scratch)

        def make() -> DictConfig:
            config = self.make()
            OmegaConf.set_cache(config, cache)
            _set_number(config, number, folder)
            OmegaConf.set_readonly(config.hydra, True)
            return config

        return Job(number, values, folder, overrides, self.kind.alone, ConfigOnDemand(make))


def plain_job(config: DictConfig, number: int) -> Job:
    """The job of a config; `${hydra:...}` then refers to this job.

    Args:
        config: What `SweepConfigs` or Hydra composed for the job alone.
        number: The job's number in the sweep.

    Raises:
        UserError: A reference cannot be resolved.
        OmegaConfBaseException: So for the job's folder.
    """
    job = JobOfKind.behind(config)
    if job is not None:
        try:
            return job.to_plain(number)
        except OmegaConfBaseException:
            pass  # which the config itself is to say, in the words for any job
    folder = _set_number(config, number)
    OmegaConf.set_readonly(config.hydra, True)  # as `HydraConfig.set_config` leaves it
    alone = _hydras_reason_to_be_alone(config)
    values = to_plain(config)  # first: its errors name the key
    return Job(number, values, folder, recorded_overrides(config.hydra), alone, config)


def folder_of(config: DictConfig, number: int) -> Path:
    """The run folder of a job, without its config being made.

    Args:
        config: As for `plain_job`, which may have had it before.
        number: The job's number in the sweep.
    """
    job = JobOfKind.behind(config)
    if job is not None:
        if (folder := job.kind.folder(number)) is not None:
            return folder
        return _set_number(job.kind.scratch_of(job.words), number)
    with read_write(config.hydra):
        return _set_number(config, number)


def refer_to(config: Any) -> None:
    """Let `${hydra:...}` and `HydraConfig` refer to a job, without the copy of `set_config`."""
    HydraConfig.instance().cfg = config


def _set_number(config: DictConfig, number: int, folder: Path | None = None) -> Path:
    """Set what only a launcher knows of a job; returns its folder, which is found if not given."""
    hydra = config.hydra
    for name in ("id", "num"):
        node_at(hydra, ["job", name])._set_value(number)
    if folder is None:
        refer_to(config)
        places = [_resolved(node_at(hydra, ["sweep", name])) for name in ("dir", "subdir")]
        if "???" in places:
            places = [hydra.sweep.dir, hydra.sweep.subdir]  # which says what is missing
        folder = Path(places[0], str(places[1])).absolute()
    node_at(hydra, ["runtime", "output_dir"])._set_value(str(folder))
    return folder


def _hydras_reason_to_be_alone(config: DictConfig) -> str | None:
    """What Hydra is to do for a job that it can do for one at a time only."""
    job = config.hydra.job
    if job.chdir:
        return "hydra.job.chdir=true"
    if job.env_set:
        return "hydra.job.env_set"
    handlers = config.hydra.job_logging.get("handlers") or {}
    if any("filename" in handler for handler in handlers.values()):
        return "hydra.job_logging writes a file"
    if config.hydra.output_subdir is not None:
        return f"hydra.output_subdir={config.hydra.output_subdir}"
    return None
