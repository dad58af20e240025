"""conf/: where it is, and which of its choices have a key."""

from collections.abc import Sequence
from pathlib import Path

import yaml


def conf_dir() -> Path:
    """The folder of the config groups: inside an installed package, or at the top of a clone."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def choices_with(node: str, name: str, further: Sequence[Path] = ()) -> list[str]:
    """The choices of a group whose file has a key `name` in a node: `optimizer=sgd` for `momentum`.

    Args:
        node: The group, or a dotted key in it.
        name: The last part of the key.
        further: Folders of the user's own choices.

    >>> choices_with("optimizer", "nesterov"), choices_with("scheduler.scheduler", "step_size")
    (['optimizer=sgd'], ['scheduler=step'])
    """
    group, *path = node.split(".")
    choices = []
    folders = [folder / group for folder in (conf_dir(), *further)] if group else []
    for file in (file for folder in folders for file in sorted(folder.glob("[!_]*.yaml"))):
        try:
            content = yaml.safe_load(file.read_text())
        except (yaml.YAMLError, UnicodeDecodeError):  # which is said where it is chosen
            continue
        for key in path:
            content = content.get(key) if isinstance(content, dict) else None
        if isinstance(content, dict) and name in content:
            choices.append(f"{group}={file.stem}")
    return choices
