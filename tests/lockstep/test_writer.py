"""Files written by threads: in the order of each run, and an error is its own run's."""

import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from multilayer.lockstep import writer as module
from multilayer.lockstep.scalar_log import ScalarLog
from multilayer.lockstep.writer import Writer
from multilayer.runs.checkpoint import write_checkpoint

from .conftest import MakeJobs, train_stacked
from .test_equivalence import scalars


def fail(words: str) -> None:
    """Raise."""
    raise ValueError(words)


def test_a_runs_files_are_written_in_their_order() -> None:
    """Whatever each of them takes, and whatever others do."""
    written: list[tuple[int, int]] = []

    def write(owner: int, i: int) -> None:
        time.sleep(0.002 if i % 2 else 0)
        written.append((owner, i))

    with Writer() as writer:
        for i in range(20):
            for owner in range(6):
                writer.submit(owner, partial(write, owner, i))
        assert writer.finish() == {}
    for owner in range(6):
        assert [i for other, i in written if other == owner] == list(range(20))


def test_a_failure_is_its_owners_and_the_first_is_told() -> None:
    """Once; the others' files are written, and the run is known to have failed at once."""
    written: list[str] = []
    with Writer() as writer:
        writer.submit("a", partial(fail, "first"))
        writer.submit("b", partial(written.append, "b"))
        writer.submit("a", partial(fail, "second"))
        writer.submit("a", lambda: written.append(f"a {'a' in writer.failed}"))
        found = writer.finish()
        assert {owner: str(error) for owner, error in found.items()} == {"a": "first"}
        assert writer.finish() == {}
        assert writer.failed == {"a"}
    assert sorted(written) == ["a True", "b"]


def test_all_is_written_after_an_error_too() -> None:
    """The block ends when the last file is there."""
    written: list[int] = []

    def write(i: int) -> None:
        time.sleep(0.01)
        written.append(i)

    with pytest.raises(KeyError), Writer() as writer:  # noqa: PT012 - when it is raised matters
        for i in range(5):
            writer.submit(0, partial(write, i))
        raise KeyError
    assert written == [0, 1, 2, 3, 4]


def test_what_waits_to_be_written_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hands in more waits; one that is larger than the bound is written all the same."""
    monkeypatch.setattr(module, "_MOST_BYTES", 100)
    allowed, held, most = threading.Semaphore(0), [0], [0]
    lock = threading.Lock()

    def hand_in(writer: Writer, n_bytes: int) -> None:
        with lock:
            held[0] += n_bytes

        def write() -> None:
            allowed.acquire()
            with lock:
                held[0] -= n_bytes

        writer.submit(0, write, n_bytes)
        most[0] = max(most[0], held[0])

    def allow() -> None:
        for _ in range(12):
            time.sleep(0.005)
            allowed.release()

    with Writer() as writer:
        thread = threading.Thread(target=allow)
        thread.start()
        for _ in range(10):
            hand_in(writer, 40)
        hand_in(writer, 500)
        assert held[0] == 0
        thread.join()
        assert writer.n_bytes == 0
    assert most[0] <= 80


def test_a_file_that_ends_the_process_ends_the_stack() -> None:
    """`SystemExit` of a logger, say, is nobody's failure."""

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit), Writer() as writer:  # noqa: PT012 - when it is raised matters
        writer.submit(0, leave)
        writer.finish()


def test_all_threads_write() -> None:
    """Whatever the hashes of the runs: those of objects of one class have equal last bits."""
    names: set[str] = set()
    with Writer() as writer:
        for owner in [type("Owner", (), {})() for _ in range(8)]:
            writer.submit(owner, lambda: names.add(threading.current_thread().name))
    assert len(names) == 4


def test_a_checkpoint_comes_after_the_curves_that_lead_to_it(
    jobs: MakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed and goes on from it would lack what was not yet written."""
    found = []

    def write(content: dict[str, Any], path: Path) -> None:
        if "optimizer_states" in content:
            curve = scalars(path.parent.parent)["train/loss"]
            found.append((content["epoch"], len(curve)))
        write_checkpoint(content, path)

    monkeypatch.setattr("multilayer.lockstep.record.write_checkpoint", write)
    monkeypatch.setattr("multilayer.lockstep.scalar_log._SECONDS_BETWEEN_FLUSHES", 1e9)
    words = ["data=iris", "trainer.max_epochs=3", "callbacks.checkpoint.every_seconds=0"]
    train_stacked(jobs(words, [["seed=0"], ["seed=1"]]))
    assert sorted(found) == [(0, 1)] * 2 + [(1, 2)] * 2 + [(2, 3)] * 2


def test_a_loggers_experiment_is_made_once() -> None:
    """Callbacks ask for it in the main thread: what they log into another one would be lost."""
    made: list[str] = []

    class Logger:
        own: str | None = None

        @property
        def experiment(self) -> str:
            if self.own is None:
                time.sleep(0.05)
                self.own = threading.current_thread().name
                made.append(self.own)
            return self.own

        def save(self) -> None:
            assert self.experiment

    class Owner:
        loggers: Any = (Logger(),)

    member: Any = Owner()
    with Writer() as writer:
        ScalarLog(writer).begin(member)
        assert member.loggers[0].experiment == made[0]
    assert len(made) == 1
