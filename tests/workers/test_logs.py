"""What is said of a worker that died, from what it printed."""

from pathlib import Path

from multilayer.workers.logs import last_line


def test_what_killed_python_is_said_rather_than_what_it_lists_after_that(tmp_path: Path) -> None:
    """As `faulthandler` writes it."""
    log = tmp_path / "log"
    log.write_text("Fatal Python error: Segmentation fault\n\nStack\n\nExtension modules: a, b\n")
    assert last_line(log) == "Fatal Python error: Segmentation fault"
