"""A run's config as plain data: checked, without secrets, with references to the environment.

A tracking server's address may hold a password. What a run writes says `${oc.env:NAME}` as the
config did, and whoever needs the value expands it again. Passwords in addresses and the values of
keys that are named like secrets are masked.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException
from omegaconf.resolvers import oc

from multilayer.core.config_problems import problems_in
from multilayer.core.errors import Problem, UserError, first_line, raise_all
from multilayer.core.files import write_text
from multilayer.core.renamed import with_current_names
from multilayer.core.value_problems import missing_value

Config = dict[str, Any]
"""A config, or a part of one, as plain data."""

MASK = "***"

_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # in C if PyYAML was built with it

GROUPS_WITH_REFERENCES = ("data", "callbacks", "logger")
"""The groups whose strings reach only the constructors of the components they describe."""

NOT_OF_RUN = ("hydra", "sweep")
"""Nodes of a composed config that say how runs are started, and are not part of a run's config."""

_READ_DIRECTLY = ("_target_", "task", "numeric_scaling", "categorical_encoding")
"""Keys of these groups that the program itself reads, and needs expanded."""

_OTHER_REFERENCE = re.compile(r"\$\{(?!oc\.env:)")

_SENSITIVE_WORD = (
    r"(?:password|passwd|passphrase|secret|token|credentials?|authorization|bearer|cookie"
    r"|(?:api|access|account|private|secret|shared)[_-]?key|(?<![a-z])(?:auth|pass|pwd))"
)
"""How the names of secrets end, as in those that Sentry removes from its reports."""

_SECRET_NAME = re.compile(rf"{_SENSITIVE_WORD}$", re.IGNORECASE)
_PLAIN_VALUES = (str, int, float, bool, type(None))
_REFERENCE = r"['\"]?(?:bearer |basic )?\$\\?\{"  # Hydra's sweeper writes $\{
_NOT_SECRET = ("", "none", "null", "true", "false")
_PASSWORD_NAME = re.compile(r"pass(?:word|wd|phrase)$|pwd$", re.IGNORECASE)
_COUNT = re.compile(r"[+-]?(?=.{1,6}$)\d+(?:\.\d*)?(?:e[+-]?\d+)?", re.IGNORECASE)

_SECRET_IN_TEXT = re.compile(
    # before a host: the user, and perhaps a password; a token may stand there by itself
    r"((?<=://))[^/?#\s'\"]+(?=@)"
    r"|((?<![^\s'\"=,\[]))[\w.+-]+:[^/\\@\s'\",:]+(?=@\w)"
    # Server=a;Password=b, and the same in an address; but not a folder of that name
    rf"|((?<![\w/-])[\w-]*{_SENSITIVE_WORD}=['\"]?)[^&;,\s'\"]+"
    r"|(\bbearer |\bauthorization: ?\w+ )[^\s'\",]+",
    re.IGNORECASE,
)
_SECRET_IN_BRACES = re.compile(
    rf"([\w-]*{_SENSITIVE_WORD}['\"]?\s*:\s*+)(?!//|{_REFERENCE})"
    r"(?:'[^']*'|\"[^\"]*\"|[^,'\"{}\[\]]+)",
    re.IGNORECASE,
)


def is_refit(config: Config) -> bool:
    """Whether a config is that of a refit, which has the number of its epochs there.

    >>> is_refit({"refit": 12}), is_refit({"refit": True}), is_refit({})
    (True, False, False)
    """
    return type(config.get("refit")) is int  # configs of earlier versions have no such key


def to_plain(config: DictConfig) -> Config:
    """The config as plain data, every reference resolved, without what is no run's: Hydra, sweep.

    Strings from the environment stay references, since they may be secrets. Each class and
    placeholder has one spelling. A missing value is "???".

    Raises:
        UserError: A reference cannot be resolved.
    """
    try:
        values = {}
        for key in map(str, config):
            value = OmegaConf.select(config, key, default="???")
            is_node = OmegaConf.is_config(value)
            if not (is_node and key in NOT_OF_RUN):
                values[key] = OmegaConf.to_container(value, resolve=True) if is_node else value
        kept = _keep_env_references(config, values)
        plain: Config = with_current_names(kept, rename_keys=False)
        return plain
    except OmegaConfBaseException as error:
        is_missing = isinstance(error, InterpolationKeyError)
        where = f"{error.full_key}: " if is_missing else ""
        raise UserError(where + first_line(error)) from error


def problems_with(
    command: str,
    config: Config,
    *,
    in_sweep: bool = False,
    written: Mapping[str, str] = MappingProxyType({}),
) -> list[Problem]:
    """The missing and the wrong values of a command's config; see `problems_in`."""
    missing: list[str] = []

    def expand(key: str, value: Any) -> Any:
        if value == "???":
            missing.append(key)
        return expand_env(key, value)

    text = repr(config)  # in most configs there is nothing to expand
    expanded = map_values(config, expand) if "???" in text or "${" in text else config
    wrong = problems_in(command, expanded, in_sweep=in_sweep, written=written)
    is_resumed = config.get("resume") is not None
    why = "; no secrets, references and places elsewhere are taken from a run" * is_resumed
    return [missing_value(key, why) for key in sorted(missing)] + wrong


def check_config(config: Any) -> Config:
    """The config of a run that was made or changed in Python, as a copy in plain data.

    Raises:
        UserError: With every value that is wrong, missing, or is no plain data.
    """
    if not isinstance(config, dict):
        kind = type(config).__name__
        raise UserError(f"config must be a dict, as multilayer.compose gives it, got {kind}")
    problems: list[str] = []

    def as_plain(key: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return map_values(list(value), as_plain, key)
        if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
            return map_values(value.tolist(), as_plain, key)
        if isinstance(value, PurePath):
            return str(value)
        if type(value) not in _PLAIN_VALUES:
            problems.append(f"{key}: must be plain data, got a {type(value).__name__}")
        return value

    plain: Config = map_values(config, as_plain)
    raise_all(problems or problems_with("train", plain))
    return plain


def map_values(node: Any, change: Callable[[str, Any], Any], key: str = "") -> Any:
    """Plain data with each value replaced by a function of its dotted key and itself."""
    if isinstance(node, dict):
        return {
            name: map_values(value, change, f"{key}.{name}" if key else str(name))
            for name, value in node.items()
        }
    if isinstance(node, list):
        return [map_values(value, change, f"{key}[{i}]") for i, value in enumerate(node)]
    return change(key, node)


def dotted_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every key of nested dicts, as an override writes it.

    >>> list(dotted_keys({"a": {"b": 1}}))
    ['a', 'a.b']
    """
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from dotted_keys(value, f"{prefix}{key}.")


def _keep_env_references(config: DictConfig, resolved: Config) -> Config:
    """A resolved config whose strings from the environment are references again.

    Args:
        config: the config as it was composed.
        resolved: the same as plain data.
    """
    if "oc.env:" not in str(OmegaConf.to_container(config, resolve=False)):
        return resolved
    with unresolved_environment():
        kept = {
            group: merge_references(
                resolved[group], OmegaConf.to_container(config[group], resolve=True)
            )
            for group in GROUPS_WITH_REFERENCES
            if OmegaConf.is_config(config.get(group))
        }
    return resolved | kept


def merge_references(resolved: Any, referring: Any, key: str = "") -> Any:
    """The resolved value, with strings as they are without the environment."""
    if isinstance(resolved, dict):
        return {
            name: merge_references(value, referring[name], name) for name, value in resolved.items()
        }
    if isinstance(resolved, list):
        return [merge_references(*pair) for pair in zip(resolved, referring, strict=True)]
    is_kept = isinstance(resolved, str) and key not in _READ_DIRECTLY
    return referring if is_kept else resolved


@contextmanager
def unresolved_environment() -> Iterator[None]:
    """Let `${oc.env:NAME}` resolve to itself, however it is referred to."""
    OmegaConf.register_new_resolver("oc.env", _env_reference, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def _env_reference(name: str, *default: Any) -> str:
    """The reference to a variable, with its default if it has one.

    >>> _env_reference("DATA", "my.csv")
    '${oc.env:DATA,"my.csv"}'
    """
    return f"${{oc.env:{','.join([name, *map(json.dumps, default)])}}}"


def recorded_overrides(hydra: Any) -> list[str]:
    """A job's overrides as the manifest records them, with references to the environment."""
    with unresolved_environment():
        return list(hydra.overrides.task)


def expand_env(key: str, text: Any) -> Any:
    """A string with its references to the environment expanded; anything else unchanged.

    A string with any other reference stays as it is.

    Raises:
        UserError: A variable is not set; the message names `key`.
    """
    if not isinstance(text, str) or "${oc.env:" not in text or _OTHER_REFERENCE.search(text):
        return text
    try:
        return str(OmegaConf.create({"value": text})["value"])
    except OmegaConfBaseException as error:
        raise UserError(f"{key}={text}: {first_line(error)}") from error


def mask_value(key: str, value: Any) -> Any:
    """A value without the secrets in it, given the dotted key it stands under.

    >>> mask_value("logger.mlflow.tracking_uri", "https://me:hunter2@example.org/x")
    'https://***@example.org/x'
    >>> mask_value("logger.mine.api_key", "hunter2")
    '***'
    >>> mask_value("logger.mine.api_key", "${oc.env:API_KEY}")
    '${oc.env:API_KEY}'
    """
    if _names_a_secret(key) and not _is_no_secret(key, text := str(value)):
        return value if re.match(_REFERENCE, text, re.IGNORECASE) else MASK
    return _mask_text(value) if isinstance(value, str) else value


def _is_no_secret(key: str, text: str) -> bool:
    """Whether a value is no secret, though its key is named like one: a count, as of `n_token`.

    >>> _is_no_secret("model.n_token", "512"), _is_no_secret("logger.mine.secret", "512")
    (True, False)
    """
    may_be_secret = key.lstrip("+").startswith("logger.") or _PASSWORD_NAME.search(key)
    is_count = not may_be_secret and _COUNT.fullmatch(text)
    return bool(is_count) or text.lower() in _NOT_SECRET


@lru_cache(maxsize=4096)  # the runs of a sweep have most words in common, and the same keys
def _mask_text(text: str) -> str:
    """A text without the secrets in it."""
    return _SECRET_IN_TEXT.sub(_mask_match, text)


@lru_cache(maxsize=4096)
def _names_a_secret(key: str) -> bool:
    """Whether a dotted key is the name of a secret, or of a list of them."""
    return bool(_SECRET_NAME.search(re.sub(r"\[\d+\]$", "", key)))


def _mask_match(found: re.Match[str]) -> str:
    """The mask after the name of what it hides; references to the environment hide nothing."""
    is_reference = re.search(_REFERENCE, found[0])
    return found[0] if is_reference else "".join(filter(None, found.groups())) + MASK


def mask_config(config: Config) -> Config:
    """A config without the secrets in it."""
    masked: Config = map_values(config, mask_value)
    return masked


def mask_overrides(overrides: Sequence[str]) -> list[str]:
    """Overrides of a command line without the secrets in them, also in `KEY={name: secret}`.

    >>> mask_overrides(["seed=1", "+logger.mine.token=abc"])
    ['seed=1', '+logger.mine.token=***']
    """
    words = [word.partition("=") for word in overrides]
    return [
        f"{key}={mask_value(key, _SECRET_IN_BRACES.sub(_mask_match, value))}" if sign else key
        for key, sign, value in words
    ]


def mask_sweep_file(path: Path) -> None:
    """Mask the secrets in the `multirun.yaml` in which Hydra records a sweep."""
    if path.is_file():  # another sweeper may not write one
        write_text(path, sweep_as_yaml(OmegaConf.load(path)))


def sweep_as_yaml(config: Any) -> str:
    """The config of a sweep, as OmegaConf has it, as YAML without secrets."""
    recorded: Any = OmegaConf.to_container(config, resolve=False)
    overrides = recorded["hydra"]["overrides"]
    masked = mask_config(recorded)
    masked["hydra"]["overrides"] = {kind: mask_overrides(each) for kind, each in overrides.items()}
    if masked != recorded:
        masked["hydra"]["job"]["override_dirname"] = MASK  # the same words in one string
    return OmegaConf.to_yaml(OmegaConf.create(masked))


def with_absolute_paths(config: dict[str, Any], folder: str | Path = "") -> dict[str, Any]:
    """The config with absolute paths of the data's files, so that they are found from anywhere.

    Args:
        config: Of a run.
        folder: The one that relative paths start from; the working folder if not given.
    """
    data = config["data"]
    names = ("path", "train_path", "validation_path", "test_path")
    paths = {name: _absolute(data[name], folder) for name in names if data.get(name)}
    return config | {"data": data | paths}


def _absolute(path: str, folder: str | Path) -> str:
    """A path made absolute; one that refers to the environment for that stays as it is."""
    if Path(expand_env("data.path", path)).is_absolute() and expand_env("", path) != path:
        return path
    return os.path.abspath(os.path.join(folder, path))


def to_yaml(config: dict[str, Any]) -> str:
    """YAML of a config, whose groups are formatted once where the runs of a sweep share them."""
    parts = {repr((name, group)): {name: group} for name, group in config.items()}
    for key, part in parts.items():
        if key not in _groups_as_yaml:
            _groups_as_yaml[key] = yaml.dump(part, Dumper=_Dumper, sort_keys=False)
    return "".join(_groups_as_yaml[key] for key in parts)


_groups_as_yaml: dict[str, str] = {}
"""Groups of configs as YAML, by their `repr`."""
