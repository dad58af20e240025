"""Jobs keep their numbers, each is trained once, and what was recorded is read back whole."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multilayer.core.errors import UserError
from multilayer.sweeps import Job, Ledger, NewJob, Outcome, Worker
from multilayer.sweeps import journal as journal_module
from multilayer.sweeps.job import count_states
from multilayer.sweeps.journal import append


def new_jobs(*seeds: int, **fixed: Any) -> list[NewJob]:
    """Jobs that differ in their seed."""
    return [NewJob({"seed": seed, **fixed}, [f"seed={seed}"]) for seed in seeds]


def ledger_of(folder: Path, n_jobs: int, **settings: Any) -> Ledger:
    """A ledger with jobs that wait."""
    ledger = Ledger(folder, **settings)
    ledger.register(new_jobs(*range(n_jobs)))
    return ledger


def states_of(folder: Path, **settings: Any) -> dict[int, str]:
    """As whoever opens the ledger now finds them."""
    ledger = Ledger(folder, **settings)
    ledger.refresh()
    return {number: job.state for number, job in ledger.jobs.items()}


def at_once(start: Callable[[], Sequence[subprocess.Popen[str]]], go: Path) -> list[str]:
    """What processes print that wait for a file before they begin."""
    processes = start()
    time.sleep(0.5)
    go.touch()
    printed = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return printed


def start_python(program: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs a program; `go` is its first argument, which it waits for."""
    head = """
import sys, time
from pathlib import Path
from multilayer.sweeps import Job, Ledger, NewJob, Outcome
go, folder = map(Path, sys.argv[1:3])
def wait():
    print("ready", file=sys.stderr)
    while not go.exists():
        time.sleep(0.0005)
"""
    return subprocess.Popen(
        [sys.executable, "-c", head + program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )


# Registering ----------------------------------------------------------------------------------


def test_a_job_keeps_its_number_and_new_ones_count_on(tmp_path: Path) -> None:
    """In whatever order they come again; equal ones have a number each."""
    ledger = Ledger(tmp_path)
    assert not ledger.exists()
    assert ledger.register(new_jobs(0, 1, 1)) == [0, 1, 2]
    assert ledger.register(new_jobs(1, 0)) == [1, 0]
    assert Ledger(tmp_path).register(new_jobs(5, 1, 0, 1, 5, 1)) == [3, 1, 0, 2, 4, 5]
    assert ledger.exists()


def test_a_job_is_read_back_as_it_was_registered(tmp_path: Path) -> None:
    """Its folder may be named after anything; secrets are not written."""
    jobs = [NewJob({"seed": 0}, ["seed=0", "+logger.mine.token=hunter2"])]
    ledger = Ledger(tmp_path)
    ledger.register(jobs, lambda index, number: f"my run/{index}-{number}")
    job = ledger.jobs[0]
    assert job.overrides == ("seed=0", "+logger.mine.token=***")
    assert (job.subdir, job.state, job.value, job.host) == ("my run/0-0", "waiting", None, None)
    assert "hunter2" not in "".join(
        path.read_text() for path in tmp_path.rglob("*") if path.is_file()
    )


def test_a_preview_gives_the_numbers_and_writes_nothing(tmp_path: Path) -> None:
    """And refuses what registering would."""
    ledger = Ledger(tmp_path / "s")
    assert ledger.preview(new_jobs(0, 1)) == [0, 1]
    assert not (tmp_path / "s").exists()
    ledger.register(new_jobs(0, 1), command={"monitor": "validation/loss"})
    files = sorted(tmp_path.rglob("*"))
    assert ledger.preview(new_jobs(2, 0, 3)) == [2, 0, 3]
    with pytest.raises(UserError, match="width=1: the jobs of this sweep have width=none"):
        ledger.preview(new_jobs(0, 1, width=1))
    assert sorted(tmp_path.rglob("*")) == files
    assert Ledger(tmp_path / "s").register(new_jobs(3, 2)) == [2, 3]
    ledger.refresh()
    assert ledger.commands == [{"monitor": "validation/loss"}, {}]


@pytest.mark.parametrize("subdir", ["../1", "/tmp/1", "a/../../b", ""])
def test_no_job_has_a_folder_outside_the_sweeps(tmp_path: Path, subdir: str) -> None:
    """Whoever reads a ledger writes there."""
    with pytest.raises(UserError, match=r"hydra\.sweep\.subdir"):
        Ledger(tmp_path).register(new_jobs(0), lambda *_: subdir)


def test_no_two_jobs_have_the_same_folder(tmp_path: Path) -> None:
    """Neither of one command nor of two."""
    ledger = Ledger(tmp_path)
    with pytest.raises(UserError, match=r"a is job 0's: give each its hydra\.sweep\.subdir"):
        ledger.register(new_jobs(0, 1), lambda *_: "a")
    assert not ledger.exists()
    ledger.register(new_jobs(0), lambda *_: "a")
    with pytest.raises(UserError, match="a is job 0's"):
        ledger.register(new_jobs(0, 1), lambda *_: "a")


def test_another_sweep_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """With each value that differs; further jobs of a search are known to be of the sweep."""
    ledger = Ledger(tmp_path)
    ledger.register(new_jobs(0, 1, data={"name": "iris"}, width=1))
    before = sorted(tmp_path.rglob("*"))
    others = new_jobs(0, 1, 2, data={"name": "digits"}, width=2)
    with pytest.raises(UserError) as raised:
        ledger.register(others)
    assert str(raised.value) == (
        f"{tmp_path} holds another sweep: choose another folder, as hydra.sweep.dir=FOLDER\n"
        "data.name=digits: the jobs of this sweep have data.name=iris\n"
        "width=2: the jobs of this sweep have width=1"
    )
    assert sorted(tmp_path.rglob("*")) == before
    assert ledger.register(others, same_sweep=True) == [2, 3, 4]


REGISTER = """
seeds = range(int(sys.argv[3]), int(sys.argv[4]))
jobs = [NewJob({"seed": seed}, [f"seed={seed}"]) for seed in seeds]
wait()
print(*Ledger(folder).register(jobs))
"""


def test_parents_that_register_at_once_give_each_number_once(tmp_path: Path) -> None:
    """Jobs that two of them have are one job."""
    ranges = [(0, 60), (40, 100), (0, 100), (90, 120)]

    def start() -> list[subprocess.Popen[str]]:
        return [start_python(REGISTER, tmp_path / "go", tmp_path / "s", *each) for each in ranges]

    printed = at_once(start, tmp_path / "go")
    number_of: dict[int, int] = {}
    for (first, end), text in zip(ranges, printed, strict=True):
        for seed, number in zip(range(first, end), map(int, text.split()), strict=True):
            assert number_of.setdefault(seed, number) == number
    assert sorted(number_of.values()) == list(range(120))
    ledger = Ledger(tmp_path / "s")
    ledger.refresh()
    for seed, number in number_of.items():
        assert ledger.jobs[number].overrides == (f"seed={seed}",)


def test_a_file_system_without_hard_links_gives_a_number_once_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a USB stick."""

    def refuse(*paths: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    ledger = ledger_of(tmp_path, 3)
    assert not journal_module.publish(tmp_path / "ledger" / "jobs" / "0.jsonl", b"{}\n")
    assert Ledger(tmp_path).register(new_jobs(2, 3)) == [2, 3]
    assert ledger.register(new_jobs(3)) == [3]


def test_a_link_of_which_nfs_has_lost_the_answer_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for again, and is there."""
    link = os.link

    def link_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    assert Ledger(tmp_path).register(new_jobs(0)) == [0]
    assert states_of(tmp_path) == {0: "waiting"}


# Claims ---------------------------------------------------------------------------------------

CLAIM = """
ledger = Ledger(folder)
ledger.refresh()
width = int(sys.argv[3])
wait()
with ledger.worker() as worker:
    for first in range(0, len(ledger.jobs), width):
        got = worker.claim(range(first, first + width))
        print(*got)
        worker.finish({number: Outcome("done", number / 2) for number in got})
"""


@pytest.mark.parametrize("width", [1, 16])
def test_each_job_is_got_by_one_of_several_processes(tmp_path: Path, width: int) -> None:
    """That claim the same ones at once; of a stack the loser gets nothing."""
    n_jobs = 320
    ledger_of(tmp_path / "s", n_jobs)

    def start() -> list[subprocess.Popen[str]]:
        return [start_python(CLAIM, tmp_path / "go", tmp_path / "s", width) for _ in range(4)]

    printed = at_once(start, tmp_path / "go")
    got = [list(map(int, line.split())) for text in printed for line in text.splitlines()]
    assert {len(each) for each in got} == {0, width}
    assert sorted(number for each in got for number in each) == list(range(n_jobs))
    ledger = Ledger(tmp_path / "s")
    ledger.refresh()
    assert {job.state for job in ledger.jobs.values()} == {"done"}
    assert [job.value for job in ledger.jobs.values()] == [n / 2 for n in range(n_jobs)]
    assert all(job.attempts.count == 1 for job in ledger.jobs.values())


def test_a_claim_ends_at_the_first_job_of_another(tmp_path: Path) -> None:
    """What it got before stays its own; what comes after is open for the next claim."""
    first, second = ledger_of(tmp_path, 4), Ledger(tmp_path)
    second.refresh()
    with first.worker() as one, second.worker() as other:
        assert one.claim([2]) == [2]
        assert other.claim([3, 1, 2, 0]) == [0, 1]
        assert other.claim([2, 3]) == []
        assert other.claim([3]) == [3]
        assert one.claim([0]) == []
        assert first.jobs[0].state == "running"
        assert states_of(tmp_path) == dict.fromkeys(range(4), "running")


def test_outcomes_are_read_back(tmp_path: Path) -> None:
    """Numbers to the last bit, also those that JSON does not have; of an error the first line."""
    outcomes = {
        0: Outcome("done", 0.1 + 0.2, 1.5),
        1: Outcome("diverged", math.nan, 2.0),
        2: Outcome("pruned", math.inf),
        3: Outcome("failed", error="ValueError: é\nmore"),
        4: Outcome("interrupted"),
    }
    ledger = ledger_of(tmp_path, 6)
    with ledger.worker() as worker:
        worker.claim(range(6))
        assert worker.finish(outcomes) == [0, 1, 2, 3, 4]
        assert worker.held == {5: 1}
        found = Ledger(tmp_path)
        found.refresh()
        for read in (ledger, found):
            jobs = read.jobs
            assert count_states(jobs)["running"] == 1
            assert [jobs[n].state for n in range(5)] == [each.state for each in outcomes.values()]
            assert jobs[0].value == 0.1 + 0.2
            assert math.isnan(jobs[1].value or 0)
            assert (jobs[2].value, jobs[3].value) == (math.inf, None)
            assert jobs[3].error.startswith("ValueError: é")
            assert jobs[0].host == worker.info.host
    assert found.jobs[3].error == "ValueError: é"
    found.refresh()
    assert found.jobs[5].state == "interrupted"


def test_jobs_are_done_again_once_they_are_reopened(tmp_path: Path) -> None:
    """By one worker, and not again after that; the attempts are counted."""
    ledger = ledger_of(tmp_path, 2)
    with ledger.worker() as worker:
        worker.claim([0, 1])
        worker.finish({0: Outcome("failed", error="no"), 1: Outcome("done", 1.0)})
        assert worker.claim([0]) == []
        worker.reopen([0])
        assert states_of(tmp_path) == {0: "waiting", 1: "done"}
        assert ledger.jobs[0].outcome is None
        assert worker.claim([0]) == [0]
        worker.finish({0: Outcome("failed", error="again")})
    other = Ledger(tmp_path)
    other.refresh()
    job = other.jobs[0]
    assert (job.state, job.attempts.count, job.error) == ("failed", 2, "again")


# Death ----------------------------------------------------------------------------------------


def sleeping_worker(folder: Path, jobs: str) -> tuple[subprocess.Popen[str], str]:
    """A process that has claimed jobs and goes on until it is killed, and its worker's name."""
    program = f"""
ledger = Ledger(folder)
ledger.refresh()
worker = ledger.worker(beat_seconds=0.05)
assert worker.claim({jobs})
print(worker.info.name, flush=True)
time.sleep(600)
"""
    process = start_python(program, "go", folder)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_killed_process_of_this_machine_is_known_to_be_dead_at_once(tmp_path: Path) -> None:
    """Also before anyone has asked how it ended; one that is stopped may go on."""
    ledger = ledger_of(tmp_path, 3)
    process, _ = sleeping_worker(tmp_path, "[0, 1]")
    try:
        assert states_of(tmp_path) == {0: "running", 1: "running", 2: "waiting"}
        process.send_signal(signal.SIGSTOP)
        assert states_of(tmp_path)[0] == "running"
    finally:
        process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if Path("/proc/self/stat").exists():
        ledger.refresh()
        assert ledger.jobs[0].state == "interrupted"
        assert ledger.jobs[0].attempts.crashes == 1
    process.communicate()


def make_foreign(folder: Path, name: str) -> None:
    """Let a worker be one of another machine, where its process cannot be looked for."""
    path = folder / "ledger" / "workers" / f"{name}.jsonl"
    head, *rest = path.read_text().splitlines(keepends=True)
    changed = json.loads(head) | {"machine": "another"}
    path.write_text("".join([json.dumps(changed) + "\n", *rest]))


def test_a_worker_of_another_machine_is_dead_once_it_is_silent(tmp_path: Path) -> None:
    """By the file system's clock; while it touches its file it is alive."""
    ledger_of(tmp_path, 2)
    process, name = sleeping_worker(tmp_path, "[0]")
    try:
        make_foreign(tmp_path, name)
        ledger = Ledger(tmp_path, dead_after=1.0)
        time.sleep(1.2)
        ledger.refresh()
        assert ledger.jobs[0].state == "running"
    finally:
        process.kill()
        process.communicate()
    ledger.refresh()
    assert ledger.jobs[0].state == "running"
    os.utime(tmp_path / "ledger" / "workers" / f"{name}.jsonl", (1, time.time() - 1.5))
    ledger.refresh()
    assert ledger.jobs[0].state == "interrupted"


def test_the_clock_is_the_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of hosts may be an hour apart."""
    ledger_of(tmp_path, 1)
    process, name = sleeping_worker(tmp_path, "[0]")
    try:
        make_foreign(tmp_path, name)
        now = time.time()
        for hours in (-1, 1):
            monkeypatch.setattr(
                "multilayer.sweeps.roster.time", lambda hours=hours: now + 3600 * hours
            )
            assert states_of(tmp_path, dead_after=5.0) == {0: "running"}
    finally:
        process.kill()
        process.communicate()


TAKE_OVER = """
ledger = Ledger(folder)
ledger.refresh()
wait()
with ledger.worker() as worker:
    print(*worker.claim(range(8)))
    while not Path(sys.argv[3]).exists():
        time.sleep(0.001)
"""


def test_one_of_several_takes_over_from_a_dead_worker(tmp_path: Path) -> None:
    """All of its jobs, as a stack; the others get none."""
    folder = tmp_path / "s"
    ledger = ledger_of(folder, 8)
    process, _ = sleeping_worker(folder, "range(8)")
    process.kill()
    process.communicate()
    others = [start_python(TAKE_OVER, tmp_path / "go", folder, tmp_path / "end") for _ in range(4)]
    time.sleep(0.7)
    (tmp_path / "go").touch()
    printed = [each.stdout.readline() for each in others if each.stdout]
    assert sorted(printed) == ["\n", "\n", "\n", "0 1 2 3 4 5 6 7\n"]
    ledger.refresh()
    assert {job.state for job in ledger.jobs.values()} == {"running"}
    assert {job.attempts.count for job in ledger.jobs.values()} == {2}
    (tmp_path / "end").touch()
    for each in others:
        each.communicate(timeout=60)


def test_who_was_taken_for_dead_records_nothing(tmp_path: Path) -> None:
    """Its jobs are another's; it can learn that before it ends."""
    ledger = ledger_of(tmp_path, 2)
    worker = ledger.worker(beat_seconds=600)
    worker.claim([0, 1])
    make_foreign(tmp_path, worker.info.name)
    os.utime(tmp_path / "ledger" / "workers" / f"{worker.info.name}.jsonl", (1, time.time() - 99))
    other = Ledger(tmp_path)
    other.refresh()
    assert other.jobs[0].state == "interrupted"
    with other.worker() as heir:
        assert heir.claim([0]) == [0]
        assert worker.lost() == [0]
        assert worker.finish({0: Outcome("done", 1.0), 1: Outcome("done", 2.0)}) == [1]
        heir.finish({0: Outcome("done", 3.0)})
    worker.close()
    ledger.refresh()
    assert [job.value for job in ledger.jobs.values()] == [3.0, 2.0]


@pytest.mark.parametrize("content", ["", "somebody\n", None])
def test_a_worker_that_was_killed_while_it_claimed_is_got_over(
    tmp_path: Path, content: str | None
) -> None:
    """The claim may be empty, of a worker without a file, or not be in its worker's file yet."""
    ledger = ledger_of(tmp_path, 1, dead_after=1.0)
    worker = Worker(ledger, beat_seconds=600)
    claim = tmp_path / "ledger" / "claims" / "000" / "0.1"
    if content is None:
        worker.reopen([0])  # it has a file
        ledger._claims.take(0, 1, worker.info.name)
    else:
        claim.parent.mkdir()
        claim.write_text(content)
    other = Ledger(tmp_path, dead_after=1.0)
    other.refresh()
    assert other.jobs[0].state == "waiting"
    with other.worker() as heir:
        assert heir.claim([0]) == []
        assert other.jobs[0].state == "running"
        os.utime(claim, (1, time.time() - 2))
        if content is None:
            worker.close()
        other.refresh()
        assert other.jobs[0].state == "interrupted"
        assert heir.claim([0]) == [0]
        assert other.jobs[0].attempts.count == 2


# Files ----------------------------------------------------------------------------------------

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
