"""The files of a ledger: killed writers, full disks, damage."""

import os
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multilayer.core.errors import UserError
from multilayer.sweeps import Job, Ledger, Outcome
from multilayer.sweeps import journal as journal_module
from multilayer.sweeps.journal import append

from .ledgers import ledger_of, start_python, states_of

APPEND = """
ledger = Ledger(folder)
ledger.refresh()
worker = ledger.worker()
for number in ledger.jobs:
    worker.claim([number])
    worker.finish({number: Outcome("done", number, error="x" * 3000)})
    print(number, flush=True)
"""


def test_a_process_killed_while_it_writes_loses_nothing_that_it_had_recorded(
    tmp_path: Path,
) -> None:
    """At whatever moment; the ledger is readable, and the rest of the jobs is open."""
    for moment in range(5):
        folder = tmp_path / str(moment)
        ledger_of(folder, 500)
        process = start_python(APPEND, "go", folder)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.007 * moment)
        process.kill()
        printed = 1 + len(process.communicate()[0].splitlines())
        ledger = Ledger(folder, dead_after=1.0)
        ledger.refresh()
        states = [job.state for job in ledger.jobs.values()]
        n_done = states.count("done")
        assert printed <= n_done <= printed + 1
        assert set(states[n_done:]) <= {"waiting", "interrupted"}
        with ledger.worker() as worker:
            rest: list[int] = []
            while not rest:  # a claim that it had not put its name to yet is young for a second
                rest = worker.claim(range(n_done, 500))
                ledger.refresh()
            assert rest == list(range(n_done, 500))


@settings(deadline=None, derandomize=True)  # a busy machine is no fault
@given(st.data())
def test_a_file_that_ends_anywhere_gives_its_whole_lines(data: st.DataObject) -> None:
    """And the others once they are whole: what is read in pieces is what is read at once."""
    lines = data.draw(
        st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=9), max_size=2))
    )
    content = journal_module.encode([{"ledger": 1}, *lines])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        file = journal_module.GrowingFile(path)
        found = []
        for cut in [*cuts, len(content)]:
            path.write_bytes(content[:cut])
            found += file.read()
            assert len(found) == content[:cut].count(b"\n")
    assert found == list(enumerate([{"ledger": 1}, *lines], 1))


def test_a_full_disk_leaves_no_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fitted is kept; the next line follows whole lines."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a":0}\n')
    write = os.write
    room = 12

    def write_some(descriptor: int, content: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(28, "No space left on device")
        n = write(descriptor, content[:room])
        room -= n
        return n

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_some)
        with pytest.raises(UserError, match="free some space"):
            append(path, [{"a": 1}, {"a": 2}], durable=False)
    append(path, [{"a": 3}], durable=False)
    assert path.read_text() == '{"a":0}\n{"a":1}\n{"a":3}\n'


def finished(folder: Path) -> tuple[Path, Path]:
    """A ledger with a finished job: the file of the jobs, and of the worker."""
    ledger = ledger_of(folder, 2)
    with ledger.worker() as worker:
        worker.claim([0])
        worker.finish({0: Outcome("done", 1.0)})
    (path,) = (folder / "ledger" / "workers").iterdir()
    return folder / "ledger" / "jobs" / "0.jsonl", path


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("line", "content", "words"),
    [
        (1, '{"ledger":2}', "later version of multilayer"),
        (1, "{}", "is damaged"),
        (1, '{"ledger":1}', "is damaged"),
        (2, '{"ended":[0,', "is damaged"),
        (2, '{"claimed":[[0,"1"]],"at":0}', "is damaged"),
        (2, "[]", "is damaged"),
        (2, "[" * 100_000, "is damaged"),
        (2, '{"ended":[0,1],"state":"won","value":1,"seconds":1,"error":"","at":1}', "is damaged"),
        (3, "\0" * 50, "is damaged"),
    ],
)
def test_a_damaged_line_is_named(
    tmp_path: Path, which: int, line: int, content: str, words: str
) -> None:
    """With its file and number, and so is a file of a later version."""
    path = finished(tmp_path)[which]
    lines = path.read_text().splitlines()
    lines[line - 1] = content
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError) as raised:
        Ledger(tmp_path).refresh()
    assert str(raised.value).startswith(f"{path}, line {line}: ")
    assert words in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_list_of_jobs_that_was_cut_off_is_damaged(tmp_path: Path) -> None:
    """It is written whole: nothing can be added to it later."""
    path, _ = finished(tmp_path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"0\.jsonl, line 2: is damaged"):
        Ledger(tmp_path).refresh()


def test_a_file_that_shrinks_is_damaged(tmp_path: Path) -> None:
    """Lines that were read are gone."""
    _, path = finished(tmp_path)
    ledger = Ledger(tmp_path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))  # not closed
    ledger.refresh()
    path.write_text(path.read_text()[:-10])
    with pytest.raises(UserError, match="was cut off here"):
        ledger.refresh()


def test_a_ledger_that_is_removed_is_said_to_be(tmp_path: Path) -> None:
    """By whoever writes next."""
    ledger = ledger_of(tmp_path, 2)
    worker = ledger.worker()
    worker.claim([0])
    shutil.rmtree(tmp_path / "ledger")
    with pytest.raises(UserError, match="its folder was removed"):
        worker.finish({0: Outcome("done")})
    with pytest.raises(UserError, match="its folder was removed"):
        worker.claim([1])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_only_be_read_is_read(tmp_path: Path) -> None:
    """As a colleague's, whose sweep still runs."""
    finished(tmp_path)
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert states_of(tmp_path) == {0: "done", 1: "waiting"}
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_refresh_reads_only_what_was_added(tmp_path: Path) -> None:
    """A sweep of many jobs is looked at again and again."""
    ledger, reader = ledger_of(tmp_path, 50), Ledger(tmp_path)
    reader.refresh()
    with ledger.worker() as worker:
        worker.claim(range(25))
        reader.refresh()
        path = tmp_path / "ledger" / "workers" / f"{worker.info.name}.jsonl"
        text = path.read_text()
        path.write_text("\0" * (len(text) - 1) + "\n")  # read before
        (tmp_path / "ledger" / "jobs" / "0.jsonl").write_text("damaged")
        worker.finish({0: Outcome("done", 1.0)})
        reader.refresh()
        assert reader.jobs[0].value == 1.0
        path.write_text(text)


def test_nothing_is_written_outside_the_ledgers_folder(tmp_path: Path) -> None:
    """And nothing at all by looking for one."""
    ledger = Ledger(tmp_path / "s")
    ledger.refresh()
    assert not (tmp_path / "s").exists()
    finished(tmp_path / "s")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["ledger"]
    assert not list(tmp_path.rglob(".*"))


def test_threads_share_a_ledger(tmp_path: Path) -> None:
    """Each is a worker; each job is got once."""
    ledger = ledger_of(tmp_path, 200)
    got: list[int] = []
    start = Event()

    def work() -> None:
        start.wait()
        with ledger.worker() as worker:
            for number in range(200):
                mine = worker.claim([number])
                worker.finish({each: Outcome("done") for each in mine})
                got.extend(mine)
                ledger.refresh()

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    start.set()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(200))


def test_a_thread_that_claims_while_another_looks_is_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found open is not claimed by the number of an attempt that came after."""
    ledger = ledger_of(tmp_path, 1)
    with ledger.worker() as slow, ledger.worker() as quick:

        def is_open(job: Job) -> bool:
            monkeypatch.undo()
            assert job.is_open
            assert quick.claim([0]) == [0]
            return True

        monkeypatch.setattr(Job, "is_open", property(is_open))
        assert slow.claim([0]) == []
        assert ledger.jobs[0].attempts.count == 1
