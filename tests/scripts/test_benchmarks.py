"""Benchmarks follow when names of the package change."""

import doctest
import os
import re
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "scripts" / "benchmarks"


NAMES = ["finished_sweep", "gpu", "gpu_stacks", "ledger", "ledger_cost", "lockstep"]
NAMES += ["lr_sweep", "report", "sweep_readers", "tables", "train", "worker_start"]


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", ["measuring", "sweeps"])
def test_what_benchmarks_share_is_as_its_examples_say(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their numbers are read by people alone."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    results = doctest.testmod(import_module(name))
    assert results.attempted > 0
    assert results.failed == 0


def test_the_benchmark_of_lockstep_trains_a_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two epochs, the second with its validation, after which a member may leave."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stacks = runpy.run_path(str(BENCHMARKS / "stacks.py"))
    stack = stacks["make_stack"](stacks["read_data"](), 2, compile_mode=False)
    stacks["train_epoch"](stack)
    stacks["epoch_seconds"](stack)
    assert [member.step for member in stack.members()] == [40, 40]
    stack.leave(stack.members()[1:])
    stack.compact()
    assert len(stack.slots[0].block) == 1


def test_the_benchmark_on_a_gpu_says_that_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rather than to measure the CPU."""
    monkeypatch.setattr(sys, "argv", ["gpu_stacks.py"])
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(BENCHMARKS / "gpu_stacks.py"), run_name="__main__")
    assert end.value.code == 2
    assert "--device cpu" in capsys.readouterr().out


def test_the_cost_of_a_ledger_is_measured_in_parts(tmp_path: Path) -> None:
    """Each has its time."""
    command = [sys.executable, str(BENCHMARKS / "ledger_cost.py"), "--small"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert found.returncode == 0, found.stderr
    for part in ("all jobs composed first", "registered", "claimed", "recorded", "heartbeats"):
        (line, *_) = [line for line in found.stdout.splitlines() if part in line]
        assert re.search(r" \d+\.\d{3} ", line), line
    assert list(tmp_path.iterdir()) == []


def test_readers_of_a_sweep_are_measured(tmp_path: Path) -> None:
    """Each in seconds, processor time and memory; TensorBoard's server has all runs."""
    command = [sys.executable, str(BENCHMARKS / "sweep_readers.py"), "--small"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("shows: 4 of 4\n") == 2
    _, *shown = re.split("seconds\n|seconds of processor time\n|GB of memory\n", found.stdout)
    tables = [[line for line in text.splitlines() if "(" in line] for text in shown]
    assert list(map(len, tables)) == [6, 6, 6]
    assert not [line for line in tables[2] if " 0.00 " in line]
    assert list(tmp_path.iterdir()) == []


def test_the_benchmark_of_the_ledger_has_each_job_claimed_once(tmp_path: Path) -> None:
    """By workers of two processes."""
    command = [sys.executable, str(BENCHMARKS / "ledger.py"), "--small", "--folder", str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "8 workers, 16 jobs a claim: " in found.stdout
    assert list(tmp_path.iterdir()) == []
