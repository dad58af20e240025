"""Signals that come while a module is imported, or while a library cannot be interrupted."""

import importlib
import json
import signal
import sys
import time
from argparse import ArgumentParser
from contextlib import suppress
from pathlib import Path

import pytest

from multilayer.cli.exit_codes import signals_raise
from multilayer.core.errors import Terminated, UserError, interrupt_behind

from ..conftest import Run
from ..sweeps.ledgers import states_of

HALF = """
import signal
for number in {numbers}:
    signal.raise_signal(number)
whole = True
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """From which modules are imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def import_interrupted(folder: Path, *numbers: signal.Signals) -> bool:
    """Whether a module is whole after an import in which signals come."""
    sys.modules.pop("half", None)
    (folder / "half.py").write_text(HALF.format(numbers=[*map(int, numbers)]))
    return bool(importlib.import_module("half").whole)


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGTERM] * 2])
def test_a_signal_waits_until_a_module_is_whole(
    numbers: list[signal.Signals], folder: Path
) -> None:
    """What is raised within may be discarded, as by torch when it imports NumPy."""
    is_whole = False
    with pytest.raises(KeyboardInterrupt), signals_raise():  # noqa: PT012 - when it is raised matters
        with suppress(BaseException):
            is_whole = import_interrupted(folder, *numbers)
        if is_whole:
            time.sleep(60)
    assert is_whole
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_a_second_interrupt_does_not_wait(folder: Path) -> None:
    """The import may hang."""
    with pytest.raises(KeyboardInterrupt), signals_raise():
        import_interrupted(folder, signal.SIGINT, signal.SIGINT)
    assert "half" not in sys.modules
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_alarm_of_another_is_left_alone(folder: Path) -> None:
    """Then a signal does not wait."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        with pytest.raises(KeyboardInterrupt), signals_raise():
            import_interrupted(folder, signal.SIGINT)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert "half" not in sys.modules


TRAIN = ["train", "data=iris", "trainer.max_epochs=1"]


def breaks(*_: object) -> None:
    """Is interrupted, and fails as it puts something back."""
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        raise ValueError("half done")


def test_an_interrupted_reader_of_the_command_line(
    multilayer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's puts back what it has not changed yet, and fails."""
    interrupt = lambda _: signal.raise_signal(signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr(ArgumentParser, "format_usage", interrupt)
    outcome = multilayer(*TRAIN)
    assert (outcome.code, outcome.err) == (143, "multilayer: interrupted by SIGTERM\n")


@pytest.mark.parametrize(
    ("place", "status"),
    [("training.runtime.quiet_lightning", None), ("training.run._evaluate", "interrupted")],
)
def test_an_interrupted_run_has_not_failed(
    place: str,
    status: str | None,
    multilayer: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes on later, and so does a job of a sweep; the working folder stays."""
    monkeypatch.setattr(f"multilayer.{place}", breaks)
    alone = multilayer(*TRAIN, "hydra.run.dir=run")
    swept = multilayer(*TRAIN, "-m", "hydra.sweep.dir=sweep", "seed=0,1")
    for outcome in (alone, swept):
        assert outcome.code == 143
        assert "interrupted by SIGTERM" in outcome.err
        assert "Traceback" not in outcome.err
    assert set(states_of(tmp_path / "sweep").values()) <= {"waiting", "interrupted"}
    for path in ("run", "sweep/0") if status else ():
        manifest = json.loads((tmp_path / path / "manifest.json").read_text())
        assert manifest["status"] == status


def test_interrupted_jobs_of_a_stack_have_not_failed(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As their data is read."""
    monkeypatch.setattr("multilayer.lockstep.plan._read_once", breaks)
    words = ["-m", "hydra/launcher=lockstep", "hydra.sweep.dir=sweep", "seed=0,1"]
    assert multilayer(*TRAIN, *words).code == 143
    assert set(states_of(tmp_path / "sweep").values()) == {"interrupted"}


def test_an_error_that_was_raised_for_an_interrupt_stays_one() -> None:
    """As that of a worker whose command has ended, by which Slurm does not begin it again."""
    error = UserError("ended")
    error.__cause__ = error.__context__ = Terminated(signal.SIGTERM)
    assert interrupt_behind(error) is None
    error.__cause__ = None
    assert interrupt_behind(error) is error.__context__
