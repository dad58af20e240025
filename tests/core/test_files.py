"""Disks that fill up, folders that go, damaged files: one message, and nothing half-written."""

import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
import torch

from multilayer.callbacks import Checkpoint
from multilayer.cli.exit_codes import signals_raise
from multilayer.core.errors import UserError
from multilayer.core.files import (
    PARTIAL,
    append_text,
    partial_of,
    remove_leftovers,
    whole_file,
    write_text,
)
from multilayer.runs.checkpoint import read_plain
from multilayer.runs.folder import RunFolder
from multilayer.training.lightning_adapter import CheckpointFiles

from ..conftest import Run, only_folder

QUICK = ["data=iris", "model.d_hidden=[64]", "trainer.max_epochs=3"]


@contextmanager
def no_file_above(n_bytes: int) -> Iterator[None]:
    """As `ulimit -f` does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def ended_process() -> int:
    """The number of a process that was there."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_leftovers_are_removed_and_no_file_that_is_being_written(tmp_path: Path) -> None:
    """Of a killed process of this host at once, of another host once they are old."""
    run = RunFolder(tmp_path / "0")
    (run.path / "checkpoints").mkdir(parents=True)
    last = run.path / "checkpoints" / "last.ckpt"
    young, old = (last.with_name(f"{PARTIAL}elsewhere.{pid}.ckpt") for pid in (1, 2))
    alive, dead = partial_of(last), partial_of(last, ended_process())
    for each in (young, old, alive, dead, partial_of(run.manifest_file, ended_process())):
        each.touch()
    os.utime(old, (1, time.time() - 90))
    run.write_manifest({"status": "done"})
    found = {path for path in run.path.rglob("*") if path.is_file()}
    assert found == {run.manifest_file, young, alive}


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    """The limit is met in the middle of it; the message says what the limit is called."""
    path = tmp_path / "a.json"
    write_text(path, "before")
    with no_file_above(2**12), pytest.raises(UserError, match=r"a\.json: .*ulimit -f"):
        write_text(path, "x" * 2**13)
    assert path.read_text() == "before"
    assert files_in(tmp_path) == {"a.json"}


def test_what_cannot_be_appended_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """Also where a part of it could be written; later there is room again."""
    path = tmp_path / "a.csv"
    write_text(path, "before\n")
    with no_file_above(2**12), pytest.raises(UserError, match=r"a\.csv: .*ulimit -f"):
        append_text(path, "x" * 2**13)
    assert path.read_text() == "before\n"
    append_text(path, "äfter\n")
    assert path.read_text() == "before\näfter\n"


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut there is the file before or the whole new one; then the folder too."""
    calls: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(kind(descriptor)))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))

    def kind(descriptor: int) -> str:
        size = os.fstat(descriptor).st_size
        return "folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else f"{size} bytes"

    write_text(tmp_path / "a", "four")
    assert calls == ["4 bytes", "replace", "folder"]


def test_what_is_read_while_a_file_is_written_is_the_one_before(tmp_path: Path) -> None:
    """Also where it is longer than any buffer."""
    path = tmp_path / "a"
    write_text(path, "before")
    with whole_file(path) as file:
        file.write(b"x" * 2**20)
        file.flush()
        assert path.read_text() == "before"
    assert len(path.read_text()) == 2**20


def test_of_many_that_create_a_file_at_once_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads stand for processes, each with its own number.

    By a link, which the system makes once: two may look before either replaces.
    """
    start, ended = Barrier(8), []
    numbers = iter(range(8))
    monkeypatch.setattr(os, "getpid", lambda: next(numbers))
    monkeypatch.delattr(os, "replace")

    def create(word: str) -> None:
        start.wait()
        try:
            with whole_file(tmp_path / "manifest.json", replace=False) as file:
                file.write(word.encode())
        except FileExistsError:
            ended.append("refused")
        else:
            ended.append(word)

    threads = [Thread(target=create, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [word for word in ended if word != "refused"]
    assert ended.count("refused") == 7
    assert (tmp_path / "manifest.json").read_text() == winner
    assert files_in(tmp_path) == {"manifest.json"}


def test_a_run_that_begins_second_changes_nothing(tmp_path: Path) -> None:
    """It passed the test for a free folder, and then another was faster, and trains in it."""
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    for run in (first, second):
        run.check_is_free()
    first.begin({"seed": 1}, {"status": "running"})
    with pytest.raises(UserError, match="holds a run already") as error:
        second.begin({"seed": 2}, {"status": "other"})
    assert "resume" not in str(error.value)  # there is nothing to go on from
    second.write_manifest({"status": "failed"})  # as a stack does for a member that fails
    assert first.read_config() == {"seed": 1}
    assert first.read_manifest() == {"status": "running"}


@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
def test_a_disk_that_takes_no_checkpoint_fails_the_run(
    multilayer: Run, tmp_path: Path, engine: str
) -> None:
    """One message, the status in the manifest, and no part of a file."""
    with no_file_above(2**13):
        outcome = multilayer("train", *QUICK, f"engine={engine}")
    assert outcome.code == 2
    assert "best.ckpt: cannot be written: File too large" in outcome.err
    assert "Traceback" not in outcome.err
    folder = only_folder(tmp_path)
    manifest = RunFolder(folder).read_manifest()
    assert manifest["status"] == "failed"
    assert "best.ckpt: cannot be written" in manifest["stop_reason"]
    names = {name.partition("/")[0] for name in files_in(folder)}
    assert names == {"config.yaml", "history.csv", "manifest.json", "tensorboard"}


@pytest.mark.parametrize("n_bytes", [0, 1, 500, 2000, 5000, 7500, 12_000, 20_000])
def test_a_checkpoint_that_finds_no_room_is_one_kind_of_error(tmp_path: Path, n_bytes: int) -> None:
    """Wherever in the file it is; torch has an error of its own for some places."""
    content = {"weights": torch.zeros(3000), "more": torch.ones(2000)}
    content |= {str(n): torch.zeros(9) for n in range(20)}
    with (
        no_file_above(n_bytes),
        pytest.raises(UserError, match=r"a\.ckpt: cannot be written: File"),
    ):
        CheckpointFiles().save_checkpoint(content, tmp_path / "a.ckpt")
    assert files_in(tmp_path) == set()


def test_event_files_that_cannot_grow_fail_the_run(multilayer: Run, tmp_path: Path) -> None:
    """TensorBoard's own thread meets the limit; it says so in one line too."""
    with no_file_above(2**10):
        outcome = multilayer("train", *QUICK, "callbacks=none", "trainer.max_epochs=60")
    assert outcome.code == 2
    assert "cannot be written: File too large" in outcome.err
    assert "Traceback" not in outcome.err


def test_checkpoints_do_not_go_through_tmpdir(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be full, or on another disk; here it is not there at all."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    outcome = multilayer("train", *QUICK)
    assert outcome.code == 0, outcome.err
    assert {"checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= files_in(only_folder(tmp_path))


SWEEP = ["-m", "seed=0", "hydra.sweep.dir=sweep"]


def remove_in_mid_run(monkeypatch: pytest.MonkeyPatch, engine: str, pattern: str) -> None:
    """Have folders of the working folder removed when the first epoch ends."""
    from multilayer.lockstep.stack import Stack
    from multilayer.training.module import SupervisedModule

    owner: Any = SupervisedModule if engine == "lightning" else Stack
    name = "log_new" if engine == "lightning" else "_measure"
    whole = getattr(owner, name)

    def remove(*arguments: Any) -> Any:
        for folder in Path.cwd().glob(pattern):
            # At once: TensorBoard's thread would write into a folder that is half removed.
            shutil.rmtree(folder.rename("aside"))
        return whole(*arguments)

    monkeypatch.setattr(owner, name, remove)


@pytest.mark.parametrize("callbacks", ["default", "[default,learning_curves,figures]", "none"])
@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
def test_a_run_folder_that_is_removed_is_not_made_again(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, callbacks: str, engine: str
) -> None:
    """One message; half a run would look like a whole one. TensorBoard's thread says nothing."""
    remove_in_mid_run(monkeypatch, engine, "runs/*/*")
    outcome = multilayer("train", *QUICK, f"callbacks={callbacks}", f"engine={engine}")
    assert outcome.code == 2, outcome.err
    assert outcome.err.count("removed") == 1
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.glob("runs/*/*"))


@pytest.mark.parametrize("launcher", ["basic", "lockstep"])
def test_a_run_folder_that_is_removed_from_a_sweep_is_not_made_again(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    """No failure is recorded there, and said once."""
    engine = "lightning" if launcher == "basic" else "lockstep"
    remove_in_mid_run(monkeypatch, engine, "sweep/0")
    outcome = multilayer("train", *QUICK, *SWEEP, f"hydra/launcher={launcher}")
    assert outcome.code == 1, outcome.err
    assert outcome.err.count("removed") == 1
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "sweep" / "0").exists()


@pytest.mark.parametrize("engine", ["lightning", "lockstep"])
@pytest.mark.parametrize("logger", ["tensorboard", "csv"])
def test_a_loggers_folder_that_is_removed_fails_the_run(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, logger: str
) -> None:
    """One message that names it, whatever the logger raises; the manifest has the same words."""
    remove_in_mid_run(monkeypatch, engine, f"runs/*/*/{logger}")
    monkeypatch.setattr("multilayer.lockstep.scalar_log._SECONDS_BETWEEN_FLUSHES", 0.0)
    words = [f"logger={logger}", "callbacks=none", "trainer.max_epochs=40"]
    outcome = multilayer("train", *QUICK, *words, f"engine={engine}")
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    reason = RunFolder(only_folder(tmp_path)).read_manifest()["stop_reason"]
    assert re.search(rf"/{logger}/[\w.]+: cannot be written: .*folder was removed$", reason)
    assert reason in outcome.err


@pytest.mark.parametrize("launcher", ["basic", "lockstep"])
def test_sigterm_ends_a_sweep_as_ctrl_c_does(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    """Exit code 143, the reason in the manifest, a checkpoint, and how to go on."""

    def send(self: Any, record: Any) -> None:
        if record.epoch[0] == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("multilayer.callbacks.EarlyStopping.on_validation_end", send)
    words = ["-m", f"hydra/launcher={launcher}", "seed=0,1", "hydra.sweep.dir=sweep"]
    outcome = multilayer("train", *QUICK, *words)
    assert outcome.code == 143
    assert "interrupted by SIGTERM" in outcome.err
    assert "Traceback" not in outcome.err
    manifest = RunFolder("sweep/0").read_manifest()
    assert manifest["status"] == "interrupted"
    assert manifest["stop_reason"] == "interrupted by a SIGTERM"
    assert (tmp_path / "sweep" / "0" / "checkpoints" / "last.ckpt").is_file()


@pytest.fixture
def hangup_ends() -> Iterator[None]:
    """SIGHUP ends a process, also where the tests run under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup_ends")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_leaves_a_run_that_can_be_resumed(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    """It is sent again, as `timeout` does, before the checkpoint is written."""
    signum = signal.Signals[name]
    save = Checkpoint.on_failure

    def send(self: Any, record: Any) -> None:
        if record.epoch[0] == 2:
            signal.raise_signal(signum)

    def send_again(self: Any, *arguments: Any) -> None:
        signal.raise_signal(signum)
        save(self, *arguments)

    before = signal.getsignal(signum)
    with monkeypatch.context() as patch:
        patch.setattr("multilayer.callbacks.EarlyStopping.on_validation_end", send)
        patch.setattr(Checkpoint, "on_failure", send_again)
        outcome = multilayer("train", *QUICK)
    assert outcome.code == code
    assert signal.getsignal(signum) == before
    folder = only_folder(tmp_path)
    assert f"resume={folder.relative_to(tmp_path)}" in outcome.err
    assert RunFolder(folder).read_manifest()["stop_reason"] == f"interrupted by a {name}"
    outcome = multilayer("train", *QUICK, f"resume={folder}")
    assert outcome.code == 0, outcome.err


def test_a_signal_before_the_run_begins_leaves_nothing(
    multilayer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra has made the folder, and Python still imports."""
    quieten = "multilayer.training.runtime.quiet_lightning"
    monkeypatch.setattr(quieten, lambda: signal.raise_signal(signal.SIGTERM))
    assert multilayer("train", *QUICK).code == 143
    assert list(tmp_path.iterdir()) == []


IN_A_TERMINAL = """
import fcntl, sys, termios, time
from multilayer.cli.exit_codes import signals_raise
from multilayer.core.errors import Terminated
fcntl.ioctl(0, termios.TIOCSCTTY)
with signals_raise():
    try:
        print("ready", flush=True)
        time.sleep(30)
    except Terminated as end:
        print("to a terminal that is gone", flush=True)
        sys.exit(128 + end.signal)
"""


@pytest.mark.usefixtures("hangup_ends")
def test_a_lost_terminal_is_a_signal_after_which_one_may_print() -> None:
    """The system refuses what is printed there: an error, before the checkpoint was written."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", IN_A_TERMINAL]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as program:
        os.close(theirs)
        assert os.read(ours, 100).strip() == b"ready"
        os.close(ours)
        assert program.wait() == 128 + signal.SIGHUP


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """`nohup` lets a run outlive its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_raise():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_figures_go_to_files_whatever_jupyter_exports(tmp_path: Path) -> None:
    """matplotlib cannot be imported where it lacks a backend that it knows by name."""
    program = "import sys; from multilayer.cli.main import main; sys.exit(main())"
    words = [*QUICK, "callbacks=[default,learning_curves]", "hydra.run.dir=run"]
    done = subprocess.run(
        [sys.executable, "-c", program, "train", *words],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (figure,) = (tmp_path / "run" / "figures").glob("*.png")
    assert figure.read_bytes().startswith(b"\x89PNG")


def some_checkpoint() -> bytes:
    """Weights and plain data, small, in torch's own format."""
    generator = torch.Generator().manual_seed(0)
    content = {
        "state_dict": {
            "weight": torch.randn(16, 8, generator=generator),
            "bias": torch.randn(16, generator=generator),
        },
        "multilayer": {"config": {"seed": 0, "model": {"d_hidden": [16]}}, "threads": 1},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    return bool(type(a) is type(b) and a == b)


def test_a_flipped_bit_is_found_or_changes_nothing(tmp_path: Path) -> None:
    """Anywhere in the file: in the weights, the pickle, the zip's own headers, the padding."""
    sound = some_checkpoint()
    path = tmp_path / "best.ckpt"
    path.write_bytes(sound)
    expected = read_plain(path)
    places = random.Random(0).sample(range(8 * len(sound)), 600)
    refused = 0
    for place in places:
        broken = bytearray(sound)
        broken[place // 8] ^= 1 << place % 8
        path.write_bytes(broken)
        try:
            found = read_plain(path)
        except UserError:
            refused += 1
        else:
            assert same(found, expected), f"bit {place}"
    assert refused > 100


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    """At any length; and where a part of it is zeros, as after a power cut."""
    sound = some_checkpoint()
    path = tmp_path / "best.ckpt"
    for length in random.Random(0).sample(range(len(sound)), 100):
        for broken in {sound[:length], sound[:length] + bytes(len(sound) - length)} - {sound}:
            path.write_bytes(broken)
            with pytest.raises(UserError, match="damaged"):
                read_plain(path)


def test_a_flipped_weight_is_not_evaluated(
    multilayer: Run, finished_run: Path, tmp_path: Path
) -> None:
    """By any command that reads a checkpoint; the message says which part."""
    shutil.copytree(finished_run, tmp_path / "run")
    for name in ("best.ckpt", "last.ckpt"):
        path = tmp_path / "run" / "checkpoints" / name
        weight = read_plain(path)["state_dict"]["network.0.linear.weight"].numpy().tobytes()
        broken = bytearray(path.read_bytes())
        broken[broken.index(weight) + 7] ^= 0x40
        path.write_bytes(broken)
    (tmp_path / "in.csv").write_text("a\n1\n")
    for words in (
        ["evaluate", "run=run"],
        ["predict", "run=run", "input=in.csv", "output=out.csv"],
        ["train", "data=iris", "trainer.max_epochs=30", "resume=run"],
    ):
        outcome = multilayer(*words)
        assert outcome.code == 2, outcome.err
        assert "is damaged" in outcome.err
        assert "Traceback" not in outcome.err
    assert not (tmp_path / "out.csv").exists()


def test_a_run_killed_before_its_first_checkpoint_says_so(
    multilayer: Run, finished_run: Path, tmp_path: Path
) -> None:
    """Its manifest knows how it ended: whatever that was, it is not guessed."""
    shutil.copytree(finished_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    for status, words in (("running", "killed"), ("done", "callbacks=checkpoint")):
        write_text(tmp_path / "run" / "manifest.json", json.dumps(manifest | {"status": status}))
        outcome = multilayer("evaluate", "run=run")
        assert outcome.code == 2
        assert words in outcome.err
    for damaged in ('{"sta', "[1]", "{}", "[" * 10**5):
        (tmp_path / "run" / "manifest.json").write_text(damaged)
        outcome = multilayer("evaluate", "run=run")
        assert outcome.code == 2
        assert "manifest.json is damaged" in outcome.err


def test_what_is_named_otherwise_or_lies_behind_a_link_is_no_leftover(tmp_path: Path) -> None:
    """However old; it is the user's."""
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "link").symlink_to(tmp_path / "elsewhere")
    names = ["run/.partial.draft", "run/.partial.host.99999999999999999999.csv"]
    names += ["elsewhere/.partial.host.1.csv"]
    for name in (*names, "run/.partial.host.1.csv"):
        (tmp_path / name).write_text("words")
        os.utime(tmp_path / name, (0, 0))
    remove_leftovers(tmp_path / "run")
    assert all((tmp_path / name).exists() for name in names)
    assert not (tmp_path / "run" / ".partial.host.1.csv").exists()
