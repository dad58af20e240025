"""A composed config as the plain data that a run is made of and records."""

from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from multilayer.core.errors import UserError, first_line, raise_all
from multilayer.core.schema import problems_in
from multilayer.runs.environment import in_values, resolve, with_references

Plain = dict[str, Any]


def plain(config: DictConfig) -> Plain:
    """The config as plain data without Hydra's own, every reference resolved.

    But strings out of the environment stay references: they may be secrets; see `environment`.

    Raises `UserError` where a reference leads nowhere.
    """
    try:
        values = {str(key): plain_value(config, str(key)) for key in config if key != "hydra"}
        return with_references(config, values)
    except OmegaConfBaseException as error:
        raise UserError(first_line(error)) from error


def plain_value(config: DictConfig, key: str) -> Any:
    """One value of a config as plain data; "???" where it is missing."""
    if OmegaConf.is_missing(config, key):
        return "???"
    value = config[key]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def check_values(command: str, config: Plain, *, in_sweep: bool = False) -> None:
    """Raise one `UserError` with every value of a config that is not what it may be."""
    raise_all(problems_with(command, config, in_sweep))


def problems_with(command: str, config: Plain, in_sweep: bool) -> list[str]:
    """The values of a config that are missing, or not what they may be, one line each."""
    wrong = problems_in(command, resolve(config), in_sweep=in_sweep)
    return missing_values(config) + wrong


def missing_values(config: Plain) -> list[str]:
    """The problems with keys that have no value."""
    missing: list[str] = []

    def look_at(key: str, value: Any) -> None:
        if value == "???":
            missing.append(key)

    in_values(config, look_at)
    is_resumed = config.get("resume") is not None
    why = "; no secrets, references and places elsewhere are taken from a run" * is_resumed
    return [f"{key}: missing, give it as {key}=VALUE{why}" for key in sorted(missing)]
