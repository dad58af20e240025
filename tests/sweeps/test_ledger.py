"""Jobs that are registered in a ledger."""

import os
import subprocess
from pathlib import Path

import pytest

from multilayer.core.errors import UserError
from multilayer.sweeps import Ledger, NewJob
from multilayer.sweeps import journal as journal_module

from .ledgers import at_once, ledger_of, new_jobs, start_python, states_of


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
        f"{tmp_path} holds another sweep: choose another folder, as hydra.sweep.dir=FOLDER, "
        "or go on with that one by the values of its jobs\n"
        "data.name=digits: the jobs of this sweep have data.name=iris\n"
        "width=2: the jobs of this sweep have width=1"
    )
    assert sorted(tmp_path.rglob("*")) == before


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
