"""What is printed of a run."""

import pytest

from multilayer.runs.console import print_metrics


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """rich would make a picture of `:car:`, and take `[red]` for a colour."""
    print_metrics({":car: [red]": {"loss": 0.5}})
    assert ":car: [red]" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["rmse", "accuracy"])
def test_a_loss_of_another_unit_than_the_errors_says_so(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In regression alone: 0.49 above 54.1 would look like two errors."""
    print_metrics({"test": {"loss": 0.49, name: 0.54}})
    said = "the loss is of the standardized target" in capsys.readouterr().out
    assert said == (name == "rmse")
