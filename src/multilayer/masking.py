"""Secrets in what is written: passwords in addresses, and the values of keys that are named so."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from multilayer.environment import in_values
from multilayer.files import write_text

MASK = "***"

SECRET_NAME = re.compile(
    r"(^|_)(password|passwd|pwd|secret|token|api_?key|access_?key|private_?key|credentials?)$",
    re.IGNORECASE,
)
ADDRESS = re.compile(r"(?<=://)[^/@\s'\"]+@")
"""The user, and perhaps a password, before a host; a token may stand there by itself."""

PARAMETER = re.compile(
    r"(?<=[?&])((?:\w+_)?(?:password|secret|token|api_?key)=)[^&\s'\"]+", re.IGNORECASE
)


def masked(key: str, value: Any) -> Any:
    """A value as it may be written; a reference to the environment tells nothing.

    >>> masked("logger.mlflow.tracking_uri", "https://me:hunter2@example.org/x")
    'https://***@example.org/x'
    >>> masked("logger.mine.api_key", "hunter2")
    '***'
    >>> masked("logger.mine.api_key", "${oc.env:API_KEY}")
    '${oc.env:API_KEY}'
    """
    is_secret = SECRET_NAME.search(re.split(r"[.\[]", key)[-1])
    if is_secret and value not in (None, "", "null") and not str(value).startswith("${"):
        return MASK
    if not isinstance(value, str):
        return value
    return PARAMETER.sub(rf"\1{MASK}", ADDRESS.sub(f"{MASK}@", value))


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
    inner = re.compile(r"(\b\w+)(\s*:\s*)(?!//)([^,{}\[\]]+)")
    value = inner.sub(
        lambda found: f"{found[1]}{found[2]}{MASK}" if SECRET_NAME.search(found[1]) else found[0],
        value,
    )
    return f"{key}={masked(key.lstrip('+~'), value)}"


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
