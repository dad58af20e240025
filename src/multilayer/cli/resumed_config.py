"""The config of a run that goes on: its own, with what this command line changes. No torch here."""

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path, PurePath
from typing import Any

import hydra._internal.hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from multilayer.core.errors import UserError
from multilayer.runs.config import MASK, map_values, mask_sweep_file, mask_value
from multilayer.runs.folder import find_last

Plain = dict[str, Any]

GROUPS = ("data", "model", "loss", "optimizer", "scheduler", "trainer", "callbacks", "logger")

TRUSTED_REFERENCES = ('${oc.env:MLFLOW_TRACKING_URI,"sqlite:///mlflow.db"}',)
"""What our own config files look up in the environment."""


class ConfigLoader(ConfigLoaderImpl):
    """Hydra's loader, which starts from a run's own config where `resume` names one.

    Everything that asks Hydra for a config thus gets the same: a run, the jobs of a sweep by any
    launcher, `--cfg job`, and the check of a command line.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.parsed: Sequence[Override] = ()
        self.is_masked = False

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        """Called by Hydra at the start of each composition."""
        self.parsed, repository = super()._parse_overrides_and_create_caching_repo(
            config_name, overrides
        )
        return self.parsed, repository

    def get_group_options(self, *arguments: Any, **named: Any) -> list[str]:
        """The choices of a group; a file such as `_base` is only for other files to start from."""
        options = super().get_group_options(*arguments, **named)
        return [name for name in options if not name.startswith("_")]

    def _compose_config_from_defaults_list(
        self, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        """Called by Hydra before it sets the values that the command line names."""
        composed = super()._compose_config_from_defaults_list(defaults, repo)
        run = named_run(composed, self.parsed)
        if run is None:
            return composed
        refuse_whole_trainings(self.parsed, composed)
        chosen = [item.key_or_group for item in self.parsed if item.key_or_group in GROUPS]
        default = self.default_choices if chosen else {}
        resumed = config_of_resumed(unresolved(composed), run, default, chosen)
        return OmegaConf.create({**resumed, "hydra": composed["hydra"]})

    @cached_property
    def default_choices(self) -> Plain:
        """The config of a command line without any words."""
        loader = ConfigLoaderImpl(self.get_search_path())
        return unresolved(loader.load_configuration("train", [], RunMode.RUN))

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Called by Hydra for each job of a sweep, once it has written the sweep's own file."""
        if not self.is_masked:
            mask_sweep_file(Path(master_config.hydra.sweep.dir) / "multirun.yaml")
            self.is_masked = True
        return super().load_sweep_config(master_config, sweep_overrides)


def use_config_loader() -> None:
    """Have Hydra load its configs by ours; it has no public way to say so."""
    hydra._internal.hydra.ConfigLoaderImpl = ConfigLoader  # type: ignore[attr-defined]


def unresolved(config: DictConfig) -> Plain:
    """A config as plain data, without Hydra's own part."""
    values: Any = OmegaConf.to_container(config, resolve=False)
    return {key: value for key, value in values.items() if key != "hydra"}


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


def refuse_whole_trainings(overrides: Sequence[Override], composed: DictConfig) -> None:
    """Raise `UserError` for files that set many groups at once: what they change is not known."""
    problems = [
        f"{item.input_line}: resume: a run goes on with its own config; leave this out, and give "
        "what is to change as KEY=VALUE or GROUP=CHOICE"
        for item in overrides
        if not item.is_hydra_override()
        and "." not in item.key_or_group
        and (item.key_or_group not in composed or item.package is not None)
        and not item.is_delete()
    ]
    if problems:
        raise UserError("\n".join(problems))


def config_of_resumed(composed: Plain, run: str, default: Plain, chosen: Sequence[str]) -> Plain:
    """The config of the run to go on from; the values of the command line are still to be set.

    Args:
        composed: what Hydra made of the choices, as for a new run.
        run: the folder or checkpoint to go on from.
        default: what Hydra makes of no words at all.
        chosen: the groups that the command line chooses from.

    Raises:
        UserError: where there is no such run, or its checkpoint is damaged.
    """
    last = find_last(run)
    own = map_values(own_config(last, last.stat().st_mtime_ns), usable)
    config = {key: own.get(key, value) for key, value in composed.items()}
    config |= {group: after_choice(own[group], default[group], composed[group]) for group in chosen}
    # A stack cannot start in the middle; what is allowed, the user says, and not the run.
    said = {"resume": run, "trusted_packages": composed["trusted_packages"]}
    return config | {"engine": "lightning"} | said


@cache
def own_config(last: Path, written: int) -> Plain:
    """The config in a checkpoint; the jobs of a sweep ask for it again and again."""
    from multilayer.training.resume import read_resumed  # torch

    return read_resumed(last).before


def after_choice(own: Any, default: Any, chosen: Any) -> Any:
    """A group of a run's config, or an object in one, after a choice was made.

    What the choice says otherwise than the default choice is changed: the device by `trainer=cpu`.
    All of it is, where one of the three has another class, or none.
    """
    parts = (own, default, chosen)
    if not all(isinstance(each, dict) for each in parts):
        return chosen
    targets = {each.get("_target_") for each in parts}
    if targets == {None}:
        return {key: after_choice(own.get(key), default.get(key), chosen[key]) for key in chosen}
    said = {key: value for key, value in chosen.items() if value != default.get(key)}
    return own | said if len(targets) == 1 else chosen


def usable(key: str, value: Any) -> Any:
    """A value out of a run's config; what only the user may give is missing.

    The run may be a stranger's. Files are written where a callback or logger says, and what it
    sends goes where it says; secrets were not kept, or are not the user's.
    """
    text = str(mask_value(key, value))
    path = PurePath(text)
    is_elsewhere = path.is_absolute() or ".." in path.parts or text.startswith("~")
    is_written = key.startswith(("callbacks.", "logger.", "trainer."))
    is_unusable = any(each in text for each in (MASK, "${", "://")) or (is_written and is_elsewhere)
    return "???" if is_unusable and value not in TRUSTED_REFERENCES else value
