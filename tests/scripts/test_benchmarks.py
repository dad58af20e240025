"""Benchmarks follow when names of the package change."""

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "scripts" / "benchmarks"


@pytest.mark.parametrize("name", ["lockstep", "lr_sweep", "report", "tables", "train"])
def test_a_benchmark_finds_all_that_it_imports(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its help is shown after everything is imported."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
    assert end.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_the_benchmark_of_lockstep_trains_a_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One epoch, and then another with its validation."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    benchmark = runpy.run_path(str(BENCHMARKS / "lockstep.py"))
    stack = benchmark["make_stack"](benchmark["read_data"](), 2, compile_mode=False)
    benchmark["train_epoch"](stack)
    stack.begin_epoch()
    stack.train_epoch()
    stack.end_epoch()
    assert [member.step for member in stack.members()] == [40, 40]
