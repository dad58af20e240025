"""Waiting for workers, of an engine that starts none."""

from pathlib import Path

import pytest

from multilayer.core.errors import UserError
from multilayer.sweeps import Outcome, Session
from multilayer.workers.crew import Crew

from ..sweeps.ledgers import ledger_of


class StrangeEngine:
    """One whose workers are as a test says.

    Attributes:
        alive: How many run.
        n_starts: How often some were to be started.
        is_refusing: Whether none can be.
    """

    n = 2
    waits = "nowhere"

    def __init__(self, alive: int, *, is_refusing: bool = False) -> None:
        self.alive = alive
        self.n_starts = 0
        self.is_refusing = is_refusing

    def start(self, *_: object) -> None:
        """They end at once."""
        self.n_starts += 1
        if self.is_refusing:
            raise UserError("not now")

    def n_alive(self) -> int:
        """As it was said."""
        return self.alive

    def n_waiting(self) -> int:
        """None waits."""
        return 0

    def how_ended(self, log: str) -> str:
        """Nobody knows."""
        return ""

    def last_words(self) -> str:
        """What one has printed."""
        return "it burns"

    def stop(self) -> None:
        """There are none."""


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Of a sweep of two jobs, with a crew that waits for nothing."""
    monkeypatch.setattr(Crew, "command", ["a", "worker"])
    monkeypatch.setattr(Crew, "_check", lambda *_: None)
    monkeypatch.setattr("multilayer.workers.crew._SECONDS_TO_END", 0)
    ledger_of(tmp_path, 2)
    return Session(tmp_path)


def train(session: Session, engine: StrangeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for both jobs, which another worker ends after a while."""
    n_polls = 0
    with session.worker, Session(session.ledger.sweep).worker as other:
        other.ledger.refresh()

        def poll(_: float) -> None:
            nonlocal n_polls
            n_polls += 1
            if n_polls == 20 and engine.alive:
                other.claim([0, 1])
                other.finish(dict.fromkeys([0, 1], Outcome("done", 1.0)))
                engine.alive = 0

        monkeypatch.setattr("multilayer.workers.crew.sleep", poll)
        Crew(engine, None, session).train({0: [], 1: []})  # type: ignore[arg-type]


@pytest.mark.parametrize("is_refusing", [False, True])
def test_a_worker_that_lives_goes_on_without_those_that_die(
    is_refusing: bool,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It trains the rest; the sweep was ended with it."""
    engine = StrangeEngine(1, is_refusing=is_refusing)
    train(session, engine, monkeypatch)
    assert engine.n_starts == 4
    assert {job.state for job in session.ledger.jobs.values()} == {"done"}
    assert capsys.readouterr().err.count("not now") == 4 * is_refusing


@pytest.mark.parametrize(("is_refusing", "n_starts"), [(False, 4), (True, 1)])
def test_no_worker_at_all_is_an_error(
    is_refusing: bool, n_starts: int, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once if none can be started, or after some have died."""
    engine = StrangeEngine(0, is_refusing=is_refusing)
    with pytest.raises(UserError, match="not now" if is_refusing else "it burns"):
        train(session, engine, monkeypatch)
    assert engine.n_starts == n_starts
