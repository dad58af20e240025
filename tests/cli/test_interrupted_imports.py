"""Signals that come while a module is imported."""

import importlib
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from multilayer.cli.exit_codes import signals_raise

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
