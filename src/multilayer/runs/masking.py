"""Secrets in what is written: passwords in addresses, and the values of keys that are named so."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from multilayer.core.files import write_text
from multilayer.runs.environment import in_values

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
