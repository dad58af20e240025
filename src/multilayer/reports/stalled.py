"""Runs that say they are running, and have written nothing for long."""

from pathlib import Path
from time import time

LONG = 3600.0
"""Seconds. Curves are written every few seconds; what is silent for an hour was likely killed."""


def silent_seconds(folder: Path) -> float:
    """The time since anything was written in a run folder, or in the folders in it."""
    paths = [folder, *folder.glob("*"), *folder.glob("*/*")]
    return time() - max(map(written_at, paths))


def written_at(path: Path) -> float:
    """When a file was written; long ago where it was removed just now."""
    try:
        return path.lstat().st_mtime  # of a link itself, which may lead nowhere
    except OSError:
        return 0.0


def long_ago(seconds: float) -> str:
    """A long time in words.

    >>> long_ago(3 * 3600 + 100), long_ago(100 * 3600)
    ('3 h', '4 days')
    """
    hours = int(seconds // 3600)
    return f"{hours} h" if hours < 48 else f"{hours // 24} days"
