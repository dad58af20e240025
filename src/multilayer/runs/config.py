"""References to environment variables in a config, which stay references in what is written.

A tracking server's address may hold a password. What a run leaves says `${oc.env:NAME}` as the
config did, and whoever needs the value looks it up anew.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from multilayer.core.errors import UserError, first_line, raise_all
from multilayer.core.files import write_text
from multilayer.core.schema import problems_in

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


MASK = "***"

NAME = (
    r"(?:password|passwd|passphrase|secret|token|credentials?|authorization|bearer|cookie"
    r"|(?:api|access|account|private|secret|shared)[_-]?key|(?<![a-z])(?:auth|pass|pwd))"
)
"""How the names of secrets end, as those do that Sentry leaves out of its reports."""

SECRET_NAME = re.compile(rf"{NAME}$", re.IGNORECASE)
REFERENCE = r"['\"]?(?:bearer |basic )?\$\\?\{"  # Hydra's sweeper writes $\{
NOTHING = ("", "none", "null", "true", "false")

IN_TEXT = re.compile(
    # before a host: the user, and perhaps a password; a token may stand there by itself
    r"((?<=://))[^/?#\s'\"]+(?=@)"
    r"|((?<![^\s'\"=,\[]))[\w.+-]+:[^/\\@\s'\",:]+(?=@\w)"
    # Server=a;Password=b, and the same in an address; but no folder of that name
    rf"|((?<![\w/-])[\w-]*{NAME}=['\"]?)[^&;,\s'\"]+"
    r"|(\bbearer |\bauthorization: ?\w+ )[^\s'\",]+",
    re.IGNORECASE,
)
IN_BRACES = re.compile(
    rf"([\w-]*{NAME}['\"]?\s*:\s*+)(?!//|{REFERENCE})(?:'[^']*'|\"[^\"]*\"|[^,'\"{{}}\[\]]+)",
    re.IGNORECASE,
)


def hidden(found: re.Match[str]) -> str:
    """The mask, after the name of what it hides; a reference to the environment tells nothing."""
    refers = re.search(REFERENCE, found[0])
    return found[0] if refers else "".join(filter(None, found.groups())) + MASK


def masked(key: str, value: Any) -> Any:
    """A value as it may be written.

    >>> masked("logger.mlflow.tracking_uri", "https://me:hunter2@example.org/x")
    'https://***@example.org/x'
    >>> masked("logger.mine.api_key", "hunter2")
    '***'
    >>> masked("logger.mine.api_key", "${oc.env:API_KEY}")
    '${oc.env:API_KEY}'
    """
    text = str(value)
    if SECRET_NAME.search(re.sub(r"\[\d+\]$", "", key)) and text.lower() not in NOTHING:
        return value if re.match(REFERENCE, text, re.IGNORECASE) else MASK
    return IN_TEXT.sub(hidden, value) if isinstance(value, str) else value


def masked_config(config: dict[str, Any]) -> dict[str, Any]:
    """A config as it may be written."""
    changed: dict[str, Any] = in_values(config, masked)
    return changed


def masked_words(overrides: Sequence[str]) -> list[str]:
    """Words of a command line as they may be written.

    >>> masked_words(["seed=1", "+logger.mine.token=abc"])
    ['seed=1', '+logger.mine.token=***']
    """
    return [masked_word(word) for word in overrides]


def masked_word(word: str) -> str:
    """One of them; `KEY={name: secret}` too."""
    key, sign, value = word.partition("=")
    if not sign:
        return word
    return f"{key}={masked(key, IN_BRACES.sub(hidden, value))}"


def mask_noted_sweep(path: Path) -> None:
    """Take the secrets out of the file in which Hydra notes a sweep, where there are any."""
    if not path.is_file():  # another sweeper may write none
        return
    noted: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    words = noted["hydra"]["overrides"]
    clean = masked_config(noted)
    clean["hydra"]["overrides"] = {kind: masked_words(each) for kind, each in words.items()}
    if clean != noted:
        clean["hydra"]["job"]["override_dirname"] = MASK  # the same words in one string
        write_text(path, OmegaConf.to_yaml(OmegaConf.create(clean)))


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
