"""What is printed of a run."""

import pytest

from multilayer.runs.console import print_metrics


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """rich would make a picture of `:car:`, and take `[red]` for a colour."""
    print_metrics({":car: [red]": {"loss": 0.5}})
    assert ":car: [red]" in capsys.readouterr().out
