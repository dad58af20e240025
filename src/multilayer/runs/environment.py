"""References to environment variables in a config, which stay references in what is written.

A tracking server's address may hold a password. What a run leaves says `${oc.env:NAME}` as the
config did, and whoever needs the value looks it up anew.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from multilayer.core.errors import UserError, first_line

GROUPS = ("data", "callbacks", "logger")
"""The groups whose strings reach nothing but the constructors of what they describe."""

READ_DIRECTLY = ("_target_", "task", "numbers", "categories")
"""But these, by which the program decides."""

OTHER_REFERENCE = re.compile(r"\$\{(?!oc\.env:)")


def with_references(config: DictConfig, resolved: dict[str, Any]) -> dict[str, Any]:
    """A resolved config with its strings out of the environment as references again.

    Args:
        config: the config as it was composed.
        resolved: the same as plain data.
    """
    if "oc.env:" not in str(OmegaConf.to_container(config, resolve=False)):
        return resolved
    with unresolved_environment():
        kept = {
            group: merged(resolved[group], OmegaConf.to_container(config[group], resolve=True))
            for group in GROUPS
            if OmegaConf.is_config(config.get(group))
        }
    return resolved | kept


def merged(resolved: Any, referring: Any, key: str = "") -> Any:
    """A resolved value, but strings as they are where the environment is not looked up."""
    if isinstance(resolved, dict):
        return {name: merged(value, referring[name], name) for name, value in resolved.items()}
    if isinstance(resolved, list):
        return [merged(*pair) for pair in zip(resolved, referring, strict=True)]
    is_kept = isinstance(resolved, str) and key not in READ_DIRECTLY
    return referring if is_kept else resolved


@contextmanager
def unresolved_environment() -> Iterator[None]:
    """Let `${oc.env:NAME}` resolve to itself, however it is referred to."""
    OmegaConf.register_new_resolver("oc.env", reference, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def task_words(hydra: Any) -> list[str]:
    """The overrides of a job as they are recorded: a reference to the environment stays one."""
    with unresolved_environment():
        return list(hydra.overrides.task)


def reference(name: str, *default: Any) -> str:
    """The reference to a variable, with its default if it has one.

    >>> reference("DATA", "my.csv")
    '${oc.env:DATA,"my.csv"}'
    """
    return f"${{oc.env:{','.join([name, *map(json.dumps, default)])}}}"


def looked_up(key: str, text: Any) -> Any:
    """A value with what it refers to in the environment; any other reference stays text.

    Raises `UserError`, naming `key`, where a variable is not set.
    """
    if not isinstance(text, str) or "${oc.env:" not in text or OTHER_REFERENCE.search(text):
        return text
    try:
        return str(OmegaConf.create({"value": text})["value"])
    except OmegaConfBaseException as error:
        raise UserError(f"{key}={text}: {first_line(error)}") from error


def resolve(node: Any) -> Any:
    """Plain data with the references to the environment in it looked up."""
    return in_values(node, looked_up)


def in_values(node: Any, change: Callable[[str, Any], Any], key: str = "") -> Any:
    """Plain data with each value in it changed by a function of its dotted key and itself."""
    if isinstance(node, dict):
        return {
            name: in_values(value, change, f"{key}.{name}" if key else str(name))
            for name, value in node.items()
        }
    if isinstance(node, list):
        return [in_values(value, change, f"{key}[{i}]") for i, value in enumerate(node)]
    return change(key, node)
