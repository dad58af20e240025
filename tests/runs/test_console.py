"""What is printed of a run."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from multilayer.runs.console import console, print_metrics, print_run, print_table
from multilayer.runs.folder import Result


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """rich would make a picture of `:car:`, and take `[red]` for a colour."""
    print_metrics({":car: [red]": {"loss": 0.5}})
    assert ":car: [red]" in capsys.readouterr().out


def make_narrow(patch: pytest.MonkeyPatch) -> None:
    """Let the standard output be a terminal of 40 columns."""
    patch.setenv("COLUMNS", "40")
    patch.setenv("TERM", "xterm")  # rich takes any dumb one to have 80
    patch.setenv("NO_COLOR", "1")
    patch.setattr(sys.stdout, "isatty", lambda: True)


def test_a_narrow_terminal_cuts_no_metric(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a name nor a number; where a column for each split has room, there is one."""
    make_narrow(monkeypatch)
    numbers = {"loss": 0.951263, "calibration_error": 0.425361}
    print_metrics({"train": numbers, "validation": numbers, "test": numbers})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["loss", "  train  0.951263"]
    assert lines[4:7] == ["calibration_error", "  train  0.425361", "  validation  0.425361"]
    print_metrics({"test": numbers})
    assert "calibration_error │ 0.425361" in capsys.readouterr().out


@pytest.mark.parametrize("varied", ["seed=0 seed=1 seed=2 seed=3", "optimizer.lr=0.001"])
def test_a_narrow_terminal_cuts_no_word_of_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], varied: str
) -> None:
    """Words go on in the next line where they are short, and numbers never do."""
    make_narrow(monkeypatch)
    table = Table("job", "varied", "value", "folder")
    table.add_row("0", varied, "0.951263", "sweeps/0")
    print_table(console(), table)
    out = capsys.readouterr().out
    assert "…" not in out
    for word in (*varied.split(), "0.951263", "sweeps/0"):
        assert word in out


def test_where_a_run_and_its_profile_are_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with a blank in its name is one word of the command."""
    monkeypatch.chdir(tmp_path)
    folder = Path("my run").absolute()
    (folder / "tensorboard").mkdir(parents=True)
    (folder / "fit-profile.txt").touch()
    manifest: dict[str, Any] = {"best_epoch": 1, "stop_reason": "done", "status": "done"}
    manifest["refit"] = False
    print_run(folder, Result({"test": {"loss": 0.5}}, manifest))
    out = capsys.readouterr().out
    (command,) = [line for line in out.splitlines() if "tensorboard" in line]
    assert shlex.split(command)[-1] == "my run"
    assert f"profile     {os.path.join('my run', 'fit-profile.txt')}" in out


@pytest.mark.parametrize("name", ["rmse", "accuracy"])
def test_a_loss_of_another_unit_than_the_errors_says_so(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In regression alone: 0.49 above 54.1 would look like two errors."""
    print_metrics({"test": {"loss": 0.49, name: 0.54}})
    said = "the loss is of the standardized target" in capsys.readouterr().out
    assert said == (name == "rmse")
