"""Where the config groups are."""

from pathlib import Path


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
