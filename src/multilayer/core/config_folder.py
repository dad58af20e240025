"""Where the config groups are."""

from pathlib import Path

import yaml


def conf_dir() -> Path:
    """Inside an installed package, or at the top of a clone."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def root_dir(command: str) -> Path:
    """The folder that Hydra reads a command's root config in.

    Hydra takes a key for a group where a folder of that name lies beside the root, and `report` has
    a key `sweep`: its root lies by itself.
    """
    own = conf_dir() / "commands" / command
    return own if own.is_dir() else conf_dir()


def choices_with(group: str, name: str) -> list[str]:
    """The choices of a group whose file has a key: `optimizer=sgd` for `momentum`.

    >>> choices_with("optimizer", "nesterov")
    ['optimizer=sgd']
    """
    if not name:
        return []
    return [
        f"{group}={path.stem}"
        for path in sorted((conf_dir() / group).glob("*.yaml"))
        if name in (yaml.safe_load(path.read_text()) or {})
    ]
