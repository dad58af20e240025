"""Runs that say they are running, and have written nothing for long."""

from pathlib import Path
from time import time

LONG = 3600.0
"""Seconds. Curves are written every few seconds; what is silent for an hour was likely killed."""


def silent_seconds(folder: Path) -> float:
    """The time since anything was written in a run folder."""
    latest = max(path.stat().st_mtime for path in [folder, *folder.rglob("*")])
    return time() - latest


def long_ago(seconds: float) -> str:
    """A long time in words.

    >>> long_ago(3 * 3600 + 100), long_ago(100 * 3600)
    ('3 h', '4 days')
    """
    hours = int(seconds // 3600)
    return f"{hours} h" if hours < 48 else f"{hours // 24} days"
