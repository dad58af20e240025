"""What workers print, in files."""

from pathlib import Path


def last_line(log: Path, *, but: tuple[str, ...] = ()) -> str:
    """The last line of a file that is not empty.

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
    return (own or said or [""])[-1]
