"""Where the config groups are."""

from pathlib import Path


def conf_dir() -> Path:
    """Inside an installed package, or at the top of a clone."""
    package = Path(__file__).parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"
