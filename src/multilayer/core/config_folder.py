"""Where the config groups are."""

from pathlib import Path
from typing import Any

import yaml


def conf_dir() -> Path:
    """Inside an installed package, or at the top of a clone."""
    package = Path(__file__).parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def choices_with(node: str, name: str) -> list[str]:
    """The choices of a group whose file has a key `name` in a node: `optimizer=sgd` for `momentum`.

    >>> choices_with("optimizer", "nesterov"), choices_with("scheduler.scheduler", "step_size")
    (['optimizer=sgd'], ['scheduler=step'])
    """
    group, *path = node.split(".")
    return [
        f"{group}={file.stem}"
        for file in sorted((conf_dir() / group).glob("[!_]*.yaml"))
        if group and name in _node_at(yaml.safe_load(file.read_text()), path)
    ]


def _node_at(content: Any, path: list[str]) -> dict[str, Any]:
    """The node of a config file below some keys; empty where there is none."""
    for key in path:
        content = content.get(key) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}
