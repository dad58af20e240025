"""The config of a run that goes on: its own, with what this command line changes. No torch here."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import hydra._internal.hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from multilayer.config_folder import conf_dir
from multilayer.environment import OTHER_REFERENCE
from multilayer.errors import UserError
from multilayer.masking import MASK
from multilayer.runs.folder import RunFolder, find_last
from multilayer.schema import TrainConfig, line

Plain = dict[str, Any]

ONE = ("data", "model", "loss", "optimizer", "scheduler", "trainer")
SEVERAL = ("callbacks", "logger")
GROUPS = (*ONE, *SEVERAL)

NEEDED = {
    "scheduler": ("interval",),
    "trainer": (
        "accelerator", "devices", "strategy", "precision", "max_epochs", "min_epochs", "max_steps",
        "max_time", "gradient_clip_val", "accumulate_grad_batches", "limit_train_batches",
    ),
}  # fmt: skip
"""What each run has, whatever its classes."""


class ConfigLoader(ConfigLoaderImpl):
    """Hydra's loader, which starts from a run's own config where `resume` names one.

    Everything that asks Hydra for a config thus gets the same: a run, the jobs of a sweep by any
    launcher, `--cfg job`, and the check of a command line.

    Attributes:
        words: the overrides of the command line, where only some of them are to be composed.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.words: Sequence[Override] | None = None
        self.parsed: Sequence[Override] = ()

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        """Called by Hydra at the start of each composing."""
        parsed, repository = super()._parse_overrides_and_create_caching_repo(
            config_name, overrides
        )
        self.parsed = parsed if self.words is None else self.words
        return parsed, repository

    def _compose_config_from_defaults_list(
        self, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        """Called by Hydra before it sets the values that the command line names."""
        composed = super()._compose_config_from_defaults_list(defaults, repo)
        run = named_run(composed, self.parsed)
        if run is None:
            return composed
        resumed = config_of_resumed(composed, self.parsed, run)
        return OmegaConf.create({**resumed, "hydra": composed["hydra"]})


def use_config_loader() -> None:
    """Have Hydra load its configs by ours; it has no public way to say so."""
    hydra._internal.hydra.ConfigLoaderImpl = ConfigLoader  # type: ignore[attr-defined]


def named_run(composed: DictConfig, overrides: Sequence[Override]) -> str | None:
    """The run that a command line goes on from; of several in a sweep the first."""
    named = [item for item in overrides if item.key_or_group == "resume"]
    if not named:
        value = composed.get("resume")
    elif named[-1].is_sweep_override():
        value = next(iter(named[-1].sweep_string_iterator()))
    else:
        value = named[-1].value()
    return None if value is None else str(value)


def config_of_resumed(composed: DictConfig, overrides: Sequence[Override], run: str) -> Plain:
    """The config of the run to go on from, with the choices of a command line made in it.

    The values that the command line sets are still to be set.

    Args:
        composed: what Hydra made of the choices, as for a new run.
        overrides: the command line.
        run: the folder or checkpoint to go on from.

    Raises:
        UserError: for what cannot be said of a run that goes on.
    """
    refuse_whole_trainings(overrides, composed)
    own = read_own_config(run)
    unresolved: Any = OmegaConf.to_container(composed, resolve=False)
    del unresolved["hydra"]
    config: Plain = {key: own.get(key, value) for key, value in unresolved.items()}
    for group in {item.key_or_group for item in overrides} & set(GROUPS):
        config[group] = chosen(group, own[group], unresolved[group])
    # A stack cannot start in the middle; what is allowed, the user says, and not the run.
    config |= {"engine": "lightning", "resume": run, "allow": unresolved["allow"]}
    problems = unusable_values(own, config, [item.key_or_group for item in overrides])
    if problems:
        raise UserError("\n".join(problems))
    return config


def refuse_whole_trainings(overrides: Sequence[Override], composed: DictConfig) -> None:
    """Raise `UserError` for files that set many groups at once: what they change is not known."""
    names = [
        item.input_line
        for item in overrides
        if not item.is_hydra_override()
        and "." not in item.key_or_group
        and (item.key_or_group not in composed or item.package is not None)
        and not item.is_delete()
    ]
    if names:
        raise UserError(
            "\n".join(
                f"{name}: resume: a run goes on with its own config; leave this "
                "out, and give what is to change as KEY=VALUE or GROUP=CHOICE"
                for name in names
            )
        )


def read_own_config(run: str) -> Plain:
    """The config that a run was trained with, from its folder or else from the checkpoint itself.

    Raises `UserError` where there is none, or it is none of ours.
    """
    checkpoint = find_last(run)
    folder = RunFolder(checkpoint.parent.parent)
    if checkpoint.parent.name == "checkpoints" and folder.config_file.is_file():
        source = folder.config_file
        config: Any = folder.read_config()
    else:
        from multilayer.runs.checkpoint import read_checkpoint  # torch

        source = checkpoint
        config = read_checkpoint(checkpoint)["multilayer"]["config"]
    if not isinstance(config, dict) or not all(isinstance(config.get(key), dict) for key in GROUPS):
        raise UserError(f"resume={run}: {source} is damaged, or the config of something else")
    check_own(config, source)
    return dict(config)


def check_own(config: Plain, source: Path) -> None:
    """Raise `UserError` where a run's config has another shape than any that was trained with.

    A value that refers to another, or to the environment, is looked at once it is known.
    """
    problems = [*problems_of_nodes(config)]
    if not problems:
        listed = {key: config[key] for key in TrainConfig.model_fields if key in config}
        try:
            TrainConfig.model_validate({"allow": [], **listed})
        except ValidationError as error:
            problems += [line(each) for each in error.errors() if not is_reference(each["input"])]
    if problems:
        raise UserError("\n".join(f"{source} is damaged: {each}" for each in problems))


def is_reference(value: Any) -> bool:
    """Whether a value is known only once what it refers to is looked up."""
    return isinstance(value, str) and "${" in value


def problems_of_nodes(config: Plain) -> Iterator[str]:
    """The objects of a config that have no class, or lack a key that each run has."""
    nodes = {group: config[group] for group in ONE}
    for group in SEVERAL:  # where one has no class, nothing is made of it
        for name, each in config[group].items():
            if each is not None:
                nodes[f"{group}.{name}"] = (
                    {"_target_": ""} | each if isinstance(each, dict) else each
                )
    for key, node in nodes.items():
        if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
            yield f"{key}: it has no _target_ that is a word"
    for group, keys in NEEDED.items():
        yield from (f"{group}.{key}: it is missing" for key in keys if key not in config[group])


def chosen(group: str, own: Plain, composed: Plain) -> Plain:
    """A group of the run's config after a choice was made in it.

    Where the run has an object of the same class already, it stays as it is, except for what the
    choice says otherwise than our other files do: `trainer=cpu` changes the device, and
    `optimizer=adam` nothing in a run with Adam.
    """
    if group in ONE:
        return dict(node_after(group, own, composed))
    return {
        name: node_after(group, own.get(name), node, name=name) for name, node in composed.items()
    }


def node_after(group: str, own: Any, node: Any, name: str | None = None) -> Any:
    """One object's node after it was chosen; `name` is its own, in a group of several."""
    if own is None or node is None or own.get("_target_") != node.get("_target_"):
        return node
    alike = [each for each in files_of(group, name) if each.get("_target_") == node["_target_"]]
    said = {
        key: value
        for key, value in node.items()
        if key not in own or not alike or any(each.get(key) != value for each in alike)
    }
    return own | said


@cache
def files_of(group: str, name: str | None) -> tuple[Plain, ...]:
    """What our files of a group say of an object; `name` is its own, in a group of several."""
    folder = conf_dir() / group
    files = [content_of(path) for path in sorted(folder.glob("*.yaml"))]
    return tuple(files if name is None else [each[name] for each in files if name in each])


def content_of(path: Path) -> Plain:
    """The keys of a file, with those of the files beside it that it builds on."""
    loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(loaded, dict)
    own: Plain = {str(key): value for key, value in loaded.items()}
    content: Plain = {}
    for parent in own.pop("defaults", []):
        if isinstance(parent, str) and parent != "_self_":
            content |= content_of(path.with_name(f"{parent}.yaml"))
        elif isinstance(parent, dict) and "shared@_here_" in parent:
            content |= content_of(path.parent / "shared" / f"{parent['shared@_here_']}.yaml")
    return content | own


def unusable_values(own: Plain, config: Plain, given: Sequence[str]) -> list[str]:
    """The run's values that only the user may give: the run may be a stranger's.

    Files are written where a callback or logger says, and what it sends goes where it says.

    Args:
        own: the run's config.
        config: what became of it by the choices of the command line.
        given: the keys that the command line sets itself.
    """
    problems = []
    before = dict(strings(own))
    for key, value in strings(config):
        is_own = value == before.get(key)
        is_given = any(key == each or key.startswith((f"{each}.", f"{each}[")) for each in given)
        if is_own and not is_given and (reason := why_not(key, value)):
            problems.append(f"{key}={value}: {reason}; give it again, as {key}=VALUE")
    return problems


def why_not(key: str, value: str) -> str:
    """Why a value out of a run's config is not used without being given again, or nothing."""
    if MASK in value:
        return "it holds a secret, which was not kept"
    if "${" in value and not is_in_our_files(value):
        return "what the run's config refers to is not looked up by itself"
    if OTHER_REFERENCE.search(value):
        return "only the environment can be referred to"
    is_written = key.startswith(("callbacks.", "logger.", "trainer."))
    if is_written and leads_elsewhere(value) and not is_in_our_files(value):
        return "the run's config names a place of its own"
    return ""


def leads_elsewhere(value: str) -> bool:
    """Whether a string may be an address, or a path out of the working folder."""
    path = PurePath(value)
    return "://" in value or path.is_absolute() or ".." in path.parts or value.startswith("~")


def is_in_our_files(value: str) -> bool:
    """Whether one of the package's files has a value, perhaps for a variable that is not set."""
    return any(value == each or f'"{value}"' in each for each in strings_of_our_files())


@cache
def strings_of_our_files() -> frozenset[str]:
    """Every string in the config files that come with the package."""
    files = conf_dir().rglob("*.yaml")
    found = (OmegaConf.to_container(OmegaConf.load(path), resolve=False) for path in files)
    return frozenset(text for content in found for _, text in strings(content))


def strings(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string in plain data, with its dotted key."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from strings(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from strings(value, f"{key}[{index}]")
    elif isinstance(node, str):
        yield key, node
