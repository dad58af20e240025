"""What workers leave: what they print, in files, and how they end."""

from pathlib import Path
from signal import Signals

_FATAL = "Fatal Python error:"
"""How the line begins that says which signal ended Python; where it was then follows, at length."""


def last_line(log: Path, *, but: tuple[str, ...] = ()) -> str:
    """The last line of a file that is not empty; what killed it, where Python says so.

    Args:
        log: The file; none is like an empty one.
        but: How lines begin that an engine adds, which count only if there are no others.
    """
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    own = [line for line in said if not line.startswith(but)] if but else said
    fatal = [line for line in said if line.startswith(_FATAL)]
    return (fatal or own or said or [""])[-1]


def describe_code(code: int | None) -> str:
    """The name of the signal that a process ended by, or its exit code; empty if it has no error.

    >>> describe_code(-11), describe_code(3), describe_code(0), describe_code(None)
    ('SIGSEGV', 'exit code 3', '', '')
    """
    if not code:
        return ""
    try:
        return Signals(-code).name
    except ValueError:  # not a signal, or one that this system does not name
        return f"exit code {code}"
