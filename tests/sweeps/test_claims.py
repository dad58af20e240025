"""Workers that claim jobs, and what becomes of those of dead ones."""

import json
import math
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from multilayer.sweeps import Ledger, Outcome, Worker
from multilayer.sweeps.job import count_states

from .ledgers import at_once, ledger_of, start_python, states_of

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
        worker.finish(outcomes)
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


RECORDS = """
ledger = Ledger(folder)
ledger.refresh()
worker = ledger.worker(beat_seconds=600)
worker.claim([0, 1])
print(worker.info.name, flush=True)
wait()
worker.finish({number: Outcome("failed", error="the folder holds a run") for number in [1, 0]})
"""


def test_who_was_taken_for_dead_records_nothing(tmp_path: Path) -> None:
    """One of its jobs is another's: it ends, and others may have the rest at once."""
    folder = tmp_path / "s"
    ledger_of(folder, 2)
    process = start_python(RECORDS, tmp_path / "go", folder, stderr=subprocess.PIPE)
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    make_foreign(folder, name)
    os.utime(folder / "ledger" / "workers" / f"{name}.jsonl", (1, time.time() - 99))
    other = Ledger(folder)
    other.refresh()
    assert other.jobs[0].state == "interrupted"
    with other.worker() as heir:
        assert heir.claim([0]) == [0]
        (tmp_path / "go").touch()
        _, printed = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "job 0 was taken over by another worker, since this process had shown" in printed
        assert "no sign of life for 99 s" in printed or "no sign of life for 100 s" in printed
        heir.finish({0: Outcome("done", 3.0)})
    other.refresh()
    assert [job.value for job in other.jobs.values()] == [3.0, None]
    assert [job.state for job in other.jobs.values()] == ["done", "interrupted"]


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
