"""The drill finds nothing where nothing is wrong, and each fault that is planted."""

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import fault_drill
import pytest
import torch
from drill.disks import forbid_writing, limit_files
from drill.files import changed_files, finished_files, read_events, unreadable
from drill.kills import Drill, Row, interrupt_problems, worker_pids
from drill.results import compare_runs, done_attempts, not_done_once, repeated_jobs
from drill.subjects import Ended, Subject, make_subjects, run
from drill.workers import kill_nodes, kill_workers, train_by_workers

from multilayer.sweeps import Ledger, Outcome
from multilayer.sweeps.job import Attempt

pytestmark = pytest.mark.slow

WORDS = ("-m", "hydra/launcher=lockstep", "data=iris", "model.d_hidden=[8]", "compile=false")
WORDS += ("callbacks.checkpoint.every_seconds=0", "trainer.max_epochs=60", "seed=0,1")
SWEEP = Subject("sweep", WORDS, is_sweep=True, is_exact=False)


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Drill:
    """Of a sweep of two jobs, undisturbed so far."""
    made = Drill(SWEEP, tmp_path_factory.mktemp("drill"), seed=0)
    made.train_undisturbed()
    return made


@pytest.fixture
def sweep(drill: Drill, tmp_path: Path) -> Path:
    """A copy of its folder."""
    return Path(shutil.copytree(drill.whole, tmp_path / "train"))


def test_a_killed_sweep_ends_as_the_undisturbed_one(drill: Drill) -> None:
    """By a real SIGKILL, at a random moment, and the same command."""
    row = drill.kill(1)
    assert (row.moments, row.resumed, row.problems) == (1, 1, [])
    assert row.result().startswith("equal to")


@dataclass
class OneNode:
    """A node with one of two workers, on this machine."""

    drill: Drill
    said: list[str] = field(default_factory=list)
    environment: ClassVar[dict[str, str]] = {}

    def tasks(self) -> list[int]:
        """One of the workers of the sweep that is trained now."""
        folder = max(self.drill.folder.glob("[0-9]*/train"), key=lambda path: int(path.parent.name))
        (command,) = {attempt.worker.parent for attempt in attempts(folder)}
        return [each.worker.pid for each in attempts(folder) if each.worker.name != command][:1]

    def lose_node(self) -> None:
        """Kill it."""
        os.kill(self.tasks()[0], signal.SIGKILL)
        self.said.append("lost")

    def bring_node_back(self) -> None:
        """Note that it is asked for."""
        self.said.append("back")


def attempts(sweep: Path) -> list[Attempt]:
    """Of all jobs of a sweep, those that were not recorded as ended."""
    ledger = Ledger(sweep)
    ledger.refresh()
    tried = [each for job in ledger.jobs.values() for each in job.attempts.by_number.values()]
    return [each for each in tried if each.outcome is None]


def test_workers_that_are_killed_are_no_loss(tmp_path: Path) -> None:
    """By a real SIGKILL; the rest of the sweep is as one process gives it."""
    (subject,) = [each for each in make_subjects(["local:2"], 4) if "one by one" in each.name]
    drill = Drill(subject, tmp_path, seed=0)
    drill.train_undisturbed()
    undisturbed, killed = train_by_workers(drill), kill_workers(drill, 1)
    node = OneNode(drill)
    lost = kill_nodes(drill, 1, node)
    assert [row.problems for row in (undisturbed, killed, lost)] == [[], [], []]
    assert [row.result() for row in (undisturbed, killed, lost)] == ["equal to the bit"] * 3
    assert [row.moments for row in (undisturbed, killed, lost)] == [0, 1, 1]
    assert node.said == ["lost", "back"]


def test_a_sweep_of_many_runs_is_the_same_for_all_engines() -> None:
    """One process trains the same jobs, in stacks of the same size."""
    words = {}
    for subject in make_subjects(["one", "ray:2"], 256)[:4]:
        (seeds,) = [word for word in subject.words if word.startswith("seed=")]
        assert seeds.count(",") == 63
        assert ("hydra.launcher.workers=ray:2" in subject.words) is bool(subject.workers)
        words[subject.name] = subject.in_one_process.words
    assert words["stacked sweep"] == words["stacked sweep, ray:2"]
    assert "hydra.launcher.max_members=32" in words["stacked sweep"]
    assert words["sweep one by one"] == words["sweep one by one, ray:2"]


def test_a_refit_goes_on_with_its_run(tmp_path: Path) -> None:
    """By the command that the run prints; both are compared."""
    subject, folder = make_subjects(["one"], None)[-1], tmp_path / "train"
    (folder / "refit").mkdir(parents=True)
    manifest = {"status": "done", "refit": True, "best_epoch": 3}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "refit" / "manifest.json").write_text('{"status": "interrupted", "refit": 3}')
    assert subject.run_folders(folder) == [folder, folder / "refit"]
    words = (f"resume={folder}", f"hydra.run.dir={folder}", "refit=true")
    assert subject.command(folder) == words


def test_an_interrupt_leaves_checkpoints(drill: Drill) -> None:
    """By a real SIGTERM."""
    row = drill.interrupt(1, signal.SIGTERM)
    assert (row.moments, row.resumed, row.problems) == (1, 1, [])


def test_what_cannot_be_written_is_said(drill: Drill) -> None:
    """Files that may not grow, and a folder that may only be read; with space, it goes on."""
    limited, forbidden = limit_files(drill, 1), forbid_writing(drill)
    assert (limited.moments, limited.problems) == (1, [])
    assert forbidden.skipped or (forbidden.moments, forbidden.problems) == (1, [])


def test_nothing_is_wrong_with_what_was_not_touched(drill: Drill, sweep: Path) -> None:
    """Or the tests below show nothing."""
    assert unreadable(sweep, has_ended=True) == []
    row = Row("")
    drill.check_end(row, sweep)
    assert (row.problems, row.result()) == ([], "equal to the bit")
    assert Row("").result() == "not tried"


def change_weight(path: Path) -> None:
    """Change one weight a little."""
    content = torch.load(path, weights_only=True)
    next(iter(content["state_dict"].values())).flatten()[0] += 1e-3
    torch.save(content, path)


def flip_bit(path: Path) -> None:
    """Change a bit of a weight, which `torch.load` does not see."""
    content = bytearray(path.read_bytes())
    weight = next(iter(torch.load(path, weights_only=True)["state_dict"].values()))
    content[content.index(weight.numpy().tobytes())] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Tear off the end."""
    path.write_bytes(path.read_bytes()[:-7])


def drop_row(path: Path) -> None:
    """Leave out an epoch."""
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:5] + lines[6:]))


def leave_partial(path: Path) -> None:
    """What a killed process was writing."""
    path.with_name(".partial.1.json").touch()


@pytest.mark.parametrize(
    ("name", "plant", "words"),
    [
        ("1/checkpoints/best.ckpt", flip_bit, "is damaged"),
        ("1/checkpoints/last.ckpt", cut, "1/checkpoints/last.ckpt: "),
        ("0/metrics.json", cut, "0/metrics.json: JSONDecodeError"),
        ("0/manifest.json", leave_partial, "0/.partial.1.json: is half written"),
        ("1/history.csv", cut, "its last row is cut off"),
        ("1/history.csv", drop_row, "its epochs are"),
        ("0/config.yaml", Path.touch, None),
        ("multirun.yaml", lambda path: path.write_text(""), "no keys with values"),
        ("ledger/jobs/0.jsonl", cut, "the last of 2 jobs is missing"),
    ],
)
def test_a_file_that_is_not_whole_is_found(
    name: str, plant: Callable[[Path], object], words: str | None, sweep: Path
) -> None:
    """By its name."""
    plant(sweep / name)
    problems = unreadable(sweep, has_ended=True)
    assert len(problems) == (words is not None)
    assert all(str(words) in problem for problem in problems)


def test_a_torn_event_is_found(sweep: Path) -> None:
    """TensorBoard ignores it."""
    path = min((sweep / "0" / "tensorboard").iterdir())
    n_events = len(read_events(path))
    cut(path)
    with pytest.raises(ValueError, match=f"record {n_events - 1} is torn"):
        read_events(path)
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    (problem,) = unreadable(sweep, has_ended=False)
    assert "is damaged" in problem


def change_entry(path: Path) -> None:
    """One step more."""
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"steps": manifest["steps"] + 1}))


def swap_epochs(path: Path) -> None:
    """An epoch with the numbers of another one."""
    lines = path.read_text().splitlines(keepends=True)
    lines[5] = "5" + lines[6].removeprefix("6")
    path.write_text("".join(lines))


@pytest.mark.parametrize(
    ("name", "plant", "words"),
    [
        ("1/checkpoints/best.ckpt", change_weight, "1 best.ckpt state_dict"),
        ("1/manifest.json", change_entry, "1 manifest.json steps: differs"),
        ("1/metrics.json", Path.unlink, "1 metrics.json: None"),
        ("1/history.csv", swap_epochs, "1 history.csv step 4: differs"),
        ("1/config.yaml", lambda path: path.write_text("seed: 3"), "1 config.yaml: 'seed: 3'"),
        ("1/tensorboard", shutil.rmtree, "1 tensorboard"),
        ("1/manifest.json", Path.unlink, "the runs are ['0'], and undisturbed ['0', '1']"),
        ("1/more.txt", Path.touch, "1 files more.txt: 'is there', and undisturbed None"),
    ],
)
def test_a_result_that_differs_is_found(
    name: str, plant: Callable[[Path], object], words: str, drill: Drill, sweep: Path
) -> None:
    """By the run, the file and the place in it."""
    plant(sweep / name)
    row = Row("", moments=1)
    drill.check_end(row, sweep)
    assert words in row.problems[0]
    assert row.result() == f"{len(row.problems)} PROBLEMS"


def test_rounding_is_a_difference_to_the_bit_alone(drill: Drill, sweep: Path) -> None:
    """A stack that goes on has other members than the undisturbed one."""
    path = sweep / "1" / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    next(iter(content["state_dict"].values())).flatten()[0] += 1e-7
    torch.save(content, path)
    runs = SWEEP.run_folders(sweep), SWEEP.run_folders(drill.whole)
    problems, largest = compare_runs(*runs, is_exact=False)
    assert problems == []
    assert 0 < largest < 1e-6
    (problem,), _ = compare_runs(*runs, is_exact=True)
    assert problem.startswith("not equal to the bit")


def test_a_finished_job_that_is_trained_again_is_found(sweep: Path) -> None:
    """By its files, and by its attempts."""
    files, done = finished_files(SWEEP.run_folders(sweep)), done_attempts(sweep)
    assert done == {0: 1, 1: 1}
    assert changed_files(files) == repeated_jobs(done, done) == []
    (sweep / "0" / "metrics.json").write_text("{}")
    (sweep / "1" / "history.csv").unlink()
    was, now = changed_files(files)
    assert "was changed" in was
    assert "is gone" in now
    ledger = Ledger(sweep)
    ledger.refresh()
    with ledger.worker() as worker:
        worker.reopen([0, 1])
        worker.claim([0, 1])
        worker.finish({0: Outcome("done")})
        problems = repeated_jobs(done, done_attempts(sweep))
    assert problems == [
        "job 0 was done in attempt 1, and now in attempt 2",
        "job 1 was done in attempt 1, and now is not",
    ]
    assert not_done_once(sweep) == ["job 0 came to its end 2 times"]


def test_an_interrupt_that_ends_otherwise_is_found(sweep: Path) -> None:
    """Another exit code, no word of it, a traceback, no checkpoint, a run that still trains."""
    said = "interrupted by SIGTERM\nto go on: the same command"
    runs = SWEEP.run_folders(sweep)
    assert interrupt_problems(Ended(143, said, 1.0), signal.SIGTERM, runs) == []
    manifest = json.loads((sweep / "0" / "manifest.json").read_text())
    for folder, status in zip(runs, ("running", "interrupted"), strict=True):
        (folder / "manifest.json").write_text(json.dumps(manifest | {"status": status}))
        (folder / "checkpoints" / "last.ckpt").unlink()
    ended = Ended(1, "Traceback (most recent call last):", 1.0)
    problems = [each.partition(":\n")[0] for each in interrupt_problems(ended, signal.SIGINT, runs)]
    assert problems == [
        "exit code 1, not 130",
        "the last lines do not say that it was interrupted",
        "a traceback",
        f"{runs[0]}: its manifest says running",
        f"{runs[1]}: no checkpoint after {manifest['steps']} steps",
    ]


@pytest.mark.parametrize(
    ("place", "code", "n_problems"),
    [("<module>", 130, 0), ("_find_and_load", 1, 0), ("command", 130, 2), ("command", 1, 3)],
)
def test_what_python_says_before_the_command_is_no_problem(
    place: str, code: int, n_problems: int, sweep: Path
) -> None:
    """It imports the command for a tenth of a second, in which Ctrl-C gives a traceback."""
    runs = SWEEP.run_folders(sweep)
    head = "Traceback (most recent call last):"
    said = f'{head}\n  File "x", line 1, in {place}\nKeyboardInterrupt\n'
    assert len(interrupt_problems(Ended(code, said, 0.1), signal.SIGINT, runs)) == n_problems
    assert interrupt_problems(Ended(143, "", 0.1), signal.SIGTERM, runs) == []


def test_a_worker_of_another_machine_is_not_killed(sweep: Path) -> None:
    """Its process has a number that is another program's here."""
    ledger = Ledger(sweep)
    ledger.refresh()
    with ledger.worker() as worker:
        worker.reopen([0])
        worker.claim([0])
        assert worker_pids(sweep) == [os.getpid()]
        path = ledger.worker_file(worker.info.name)
        path.write_text(path.read_text().replace(socket.gethostname(), "elsewhere"))
        assert worker_pids(sweep) == []


def test_it_ends_with_1_and_keeps_the_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If anything is wrong; otherwise with 0."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = [Row("SIGKILL", moments=1), Row("full disk", problems=["it burns"])]
    rows.append(Row("other", skipped="why"))
    monkeypatch.setattr(fault_drill, "drill_subject", lambda *_: iter(rows))
    assert fault_drill.main(["--only", "one by one"]) == 1
    printed = capsys.readouterr().out
    assert "it burns" in printed
    assert "skipped: why" in printed
    (kept,) = tmp_path.iterdir()
    assert f"the folders are kept: {kept}" in printed
    del rows[1]
    assert fault_drill.main(["--only", "one by one"]) == 0
    assert list(tmp_path.iterdir()) == [kept]


def test_a_command_that_hangs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed, and has the exit code of `timeout`."""
    monkeypatch.setattr("drill.subjects._SLOWEST", 0.01)
    assert run(SWEEP.command(tmp_path / "train"), tmp_path).code == 124


def test_a_drill_that_cannot_begin_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others go on."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = Ended(1, "no such choice", 1.0)
    monkeypatch.setattr("drill.kills.run", lambda *_: ended)
    assert fault_drill.main(["--only", "single"]) == 1
    assert capsys.readouterr().out.count("no such choice") == 3


@pytest.mark.parametrize("runs", ["6", "0", "-4"])
def test_a_number_of_runs_that_its_rates_do_not_divide_is_refused(
    capsys: pytest.CaptureFixture[str], runs: str
) -> None:
    """It would train another number; --help says which it takes."""
    with pytest.raises(SystemExit) as ended:
        fault_drill.main(["--runs", runs])
    assert ended.value.code == 2
    assert f"--runs {runs}: expected a multiple of 4" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        fault_drill.main(["--help"])
    assert "a multiple of 4" in " ".join(capsys.readouterr().out.split())
