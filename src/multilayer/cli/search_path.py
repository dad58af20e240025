"""The folders with the user's own choices, as `--config-dir` and `hydra.searchpath` name them."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from multilayer.core.errors import UserError, first_line
from multilayer.core.text import as_override

_KEY = "hydra.searchpath"


def search_path_in(words: Sequence[str]) -> list[str]:
    """What `hydra.searchpath` names on a command line, with absolute paths.

    Args:
        words: Of the command line; those that cannot be read are left out.

    Raises:
        UserError: There is no such folder.
    """
    found = []
    for word in words:
        if word.lstrip("+").startswith(f"{_KEY}="):
            found += _entries(word)
    return found


def _entries(word: str) -> list[str]:
    """The entries of `hydra.searchpath=[...]`."""
    try:
        (override,) = OverridesParser.create().parse_overrides([word])
    except HydraException:  # which the check of the command line says
        return []
    value = _resolved(override)
    if not isinstance(value, list):
        raise UserError(f"{word}: it is a list: {as_override(_KEY, [str(value)])}")
    if override.is_add() or override.is_force_add():
        raise UserError(f"{word}: leave out the +")
    entries = [str(each) for each in value]
    return [
        f"file://{existing_folder(f'{_KEY}: ', each.removeprefix('file://'))}"
        if each.startswith("file://") or "://" not in each
        else each
        for each in entries
    ]


def _resolved(override: Override) -> object:
    """The value, with its references to the environment."""
    try:
        config = OmegaConf.create({"value": override.value()})
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{override.input_line}: {first_line(error)}") from error
    assert isinstance(resolved, dict)
    return resolved["value"]


def existing_folder(where: str, folder: str) -> Path:
    """The absolute path of a folder."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"{where}{folder}: no such folder")
    return path.resolve()


def folders_of(search_path: Sequence[str]) -> list[Path]:
    """The folders among the entries; others are packages."""
    return [
        Path(each.removeprefix("file://")) for each in search_path if each.startswith("file://")
    ]
