"""Jobs of a sweep that fail, and what then cannot be written or is said to do."""

import errno
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from multilayer.core.errors import UserError
from multilayer.core.text import override_word
from multilayer.sweeps import Worker

from ..conftest import Run
from .grid_sweeps import FAILS, LAUNCHERS, SWEEP, content, manifest, states


@LAUNCHERS
def test_failed_jobs_are_tried_again(launcher: str, multilayer: Run) -> None:
    """Unless they are to be left; what they had written is kept elsewhere."""
    words = [*SWEEP, f"hydra/launcher={launcher}", *FAILS]
    outcome = multilayer(*words)
    assert outcome.code == 1
    assert "not mended yet" in outcome.err
    assert f"run folder: {Path('sweep', '1')}" in outcome.err
    assert "resume=" not in outcome.err
    assert states() == ["done", "failed", "done"]
    left = multilayer(*words, "sweep.retry=none")
    assert left.code == 1
    assert "sweep: 3 jobs: 2 done, 1 failed, left so" in left.out
    before = content("0/*", "2/*")
    Path("mended").touch()
    mended = multilayer(*words)
    assert mended.code == 0, mended.err
    assert "sweep: 3 jobs: 2 done, 1 failed, to try again" in mended.out
    assert states() == ["done"] * 3
    assert content("0/*", "2/*") == before
    assert manifest(1)["status"] == "done"
    earlier = json.loads(Path("sweep/ledger/attempts/1.1/manifest.json").read_text())
    assert earlier["status"] == "failed"


@LAUNCHERS
def test_so_many_failures_end_a_sweep(launcher: str, multilayer: Run) -> None:
    """The jobs that have not begun are the same command's."""
    bounded = ["hydra.launcher.max_members=1"] if launcher == "lockstep" else []
    words = [*SWEEP, f"hydra/launcher={launcher}", *bounded, FAILS[0], "seed=0,1,2,3"]
    outcome = multilayer(*words, "sweep.max_failures=2")
    assert outcome.code == 1
    assert states() == ["failed", "failed", "waiting", "waiting"]
    assert not Path("sweep/2").exists()
    assert "sweep.max_failures=2: 2 of 4 jobs have not begun; to go on: the same" in outcome.out
    Path("mended").touch()
    assert multilayer(*words, "sweep.max_failures=2").code == 0
    assert states() == ["done"] * 4


@LAUNCHERS
def test_failures_of_earlier_commands_do_not_count(launcher: str, multilayer: Run) -> None:
    """Where they are left so: further ones may fail."""
    bounded = ["hydra.launcher.max_members=1"] if launcher == "lockstep" else []
    words = [*SWEEP, f"hydra/launcher={launcher}", *bounded, FAILS[0], "sweep.retry=none"]
    assert multilayer(*words, "seed=0,1").code == 1
    outcome = multilayer(*words, "seed=range(5)", "sweep.max_failures=2")
    assert outcome.code == 1
    assert states() == ["failed"] * 4 + ["waiting"]
    assert "sweep.max_failures=2: 1 of 5 jobs has not begun" in outcome.out
    by_hand = multilayer("work", "sweep", "trust=true", "max_failures=1")
    assert (by_hand.code, states()) == (1, ["failed"] * 5)


def test_so_many_failures_end_what_joblib_trains(multilayer: Run, monkeypatch: Any) -> None:
    """Its processes hear of one another's."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    words = [*SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", FAILS[0], "seed=range(8)"]
    outcome = multilayer(*words, "sweep.max_failures=1")
    assert outcome.code == 1
    assert set(states()[:2]) <= {"failed", "waiting"}
    assert 1 <= states().count("failed") <= 4
    assert states()[4:] == ["waiting"] * 4


def test_the_command_of_a_sweep_is_written_whole_or_not_at_all(
    multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that is full the earlier one stays, and nothing is left."""
    words = [*SWEEP, "hydra/launcher=lockstep"]
    assert multilayer(*words, "seed=0,1").code == 0
    before, replace = content("*"), os.replace

    def refuse(partial: Path, path: Path) -> None:
        if path.name == "multirun.yaml":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(partial, path)

    monkeypatch.setattr(os, "replace", refuse)
    outcome = multilayer(*words, "seed=0,1,2")
    assert outcome.code == 2
    assert "multirun.yaml: cannot be written: No space left on device" in outcome.err
    assert content("*") == before


@pytest.mark.parametrize("launcher", ["basic", "lockstep"])
def test_what_is_said_to_paste_works(launcher: str, multilayer: Run) -> None:
    """In a shell, whatever the folder is called."""
    sweep = "a b'c=ß $x"
    words = [*SWEEP[:-1], f"hydra/launcher={launcher}", FAILS[0], "seed=0,1,2"]
    words += ["hydra.launcher.max_members=1"] if launcher == "lockstep" else []
    folder = override_word("hydra.sweep.dir", sweep)
    outcome = multilayer(*words, folder, "sweep.max_failures=1")
    assert outcome.code == 1, outcome.err
    (said,) = re.findall("the same command with (.*)", outcome.out)
    Path("mended").touch()
    outcome = multilayer(*words, *arguments(said))
    assert outcome.code == 0, outcome.err
    assert "sweep: 3 jobs: 1 failed, to try again, 2 to train" in outcome.out
    (report,) = re.findall("report  *multilayer (.*)", outcome.out)
    assert multilayer(*arguments(report)).code == 0
    (shown,) = re.findall("tensorboard (.*)", outcome.out)
    assert arguments(shown) == ["--logdir", sweep]


def arguments(line: str) -> list[str]:
    """What a command is given by the words of a line that is pasted into a shell."""
    command = ["bash", "-c", f"printf '%s\\0' {line}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return printed.split("\0")[:-1]


@LAUNCHERS
def test_a_ledger_that_cannot_be_written_ends_the_sweep(
    launcher: str, multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, for example: the sweep does not wait for itself, and goes on from there."""
    words = [*SWEEP, f"hydra/launcher={launcher}", "seed=0,1"]

    def refuse(*_: object) -> None:
        raise UserError("ledger/workers: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "finish", refuse)
        outcome = multilayer(*words)
    assert outcome.code in (1, 2)
    assert "No space left on device" in outcome.err
    before = content("[0-9]/metrics.json")
    assert multilayer(*words).code == 0
    assert states() == ["done"] * 2
    assert before.items() <= content("[0-9]/metrics.json").items()
