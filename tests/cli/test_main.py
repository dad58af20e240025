"""The command: what it does without torch, and how it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from multilayer.cli.exit_codes import BAD_INPUT, DONE, MEANINGS, exit_code_of
from multilayer.core.errors import Terminated, UserError

from ..conftest import Run
from .test_check import WRONG

COMMAND_LINES = [
    ["--help"],
    ["train", "--help"],
    ["evaluate", "--help"],
    ["predict", "--help"],
    ["report", "--help"],
    ["train", "--cfg", "job"],
    *[arguments for arguments, _ in WRONG],
]

WITHOUT_TORCH = """
import io, json, sys
sys.modules["torch"] = None
from multilayer.cli.main import main
outcomes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv, sys.stdout, sys.stderr = ["multilayer", *arguments], io.StringIO(), io.StringIO()
    try:
        code = main()
    except SystemExit as exit_:
        code = exit_.code or 0
    outcomes.append((code, sys.stderr.getvalue()))
json.dump(outcomes, sys.__stdout__)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit code and messages of command lines in one process that cannot import torch."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, json.dumps(COMMAND_LINES)],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("empty"),
    )
    assert done.returncode == 0, done.stderr
    lines = [" ".join(arguments) for arguments in COMMAND_LINES]
    return dict(zip(lines, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("line", [" ".join(arguments) for arguments in COMMAND_LINES])
def test_answers_without_importing_torch(answers: dict[str, tuple[int, str]], line: str) -> None:
    """Help, the composed config and misspelt keys need no torch: it takes seconds to import."""
    code, messages = answers[line]
    assert code in (DONE, BAD_INPUT), messages
    assert "Traceback" not in messages


def test_cfg_prints_the_config_and_makes_nothing(multilayer: Run, tmp_path: Path) -> None:
    """`--cfg job` is for looking."""
    outcome = multilayer("train", "optimizer=sgd", "--cfg", "job")
    assert outcome.code == 0
    assert "torch.optim.SGD" in outcome.out
    assert list(tmp_path.iterdir()) == []


def test_the_scripts_of_a_clone_do_the_same(tmp_path: Path) -> None:
    """`python scripts/train.py` is `multilayer train`."""
    scripts = Path(__file__).parents[2] / "scripts"
    for command in ("train", "evaluate", "predict", "report"):
        done = subprocess.run(
            [sys.executable, scripts / f"{command}.py", "--help"],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ,
        )
        assert done.returncode == 0
        assert f"multilayer {command}" in done.stdout


ENDS = """
import atexit, sys, time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from multilayer.cli.main import command

def late():
    time.sleep(0.2)
    sys.stdout.write("thread\\n")  # at once: two of them may write

if sys.argv[1] == "profiled":
    sys.setprofile(lambda *_: None)
atexit.register(print, "last words")
Thread(target=late).start()
pool = ThreadPoolExecutor(1)
pool.submit(late)
command(sys.argv[2:])
"""


@pytest.mark.parametrize("how", ["usual", "profiled"])
@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["nothing"], 2)])
def test_the_process_ends_when_all_is_done_and_said(how: str, words: list[str], code: int) -> None:
    """Threads have come to their ends, and what is registered for Python's was called."""
    done = subprocess.run(
        [sys.executable, "-c", ENDS, how, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-3:] == ["thread", "thread", "last words"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("no"), 2),
        (RuntimeError("no"), 1),
        (KeyboardInterrupt(), 130),
        (Terminated(signal.SIGTERM), 143),
    ],
)
def test_each_end_has_its_exit_code(error: BaseException, code: int) -> None:
    """As the help says."""
    assert exit_code_of(error) == code
    assert str(code) in MEANINGS


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["train", "--cfg", "job"]])
def test_a_reader_that_closes_the_pipe_is_no_error(words: list[str], tmp_path: Path) -> None:
    """As `| head` does."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "multilayer", *words],
        cwd=tmp_path,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("multilayer ", ["train", "evaluate", "predict", "report"]),
        ("multilayer tr", ["train"]),
        ("multilayer train optimizer=ad", ["optimizer=adam", "optimizer=adamw"]),
        ("multilayer train data=iris model.dropo", ["model.dropout="]),
    ],
)
def test_the_shell_completes_a_line(
    multilayer: Run, monkeypatch: pytest.MonkeyPatch, line: str, expected: list[str]
) -> None:
    """As Hydra's completion asks: by the program's name, with the line in a variable."""
    monkeypatch.setenv("COMP_LINE", line)
    outcome = multilayer("-sc", "query=bash")
    assert outcome.code == 0, outcome.err
    completed = outcome.out.split()
    assert set(expected) <= set(completed)
    assert all(word.startswith(line.rpartition(" ")[2]) for word in completed)
    monkeypatch.delenv("COMP_LINE")
    assert "complete -o" in multilayer("-sc", "install=bash").out


@pytest.mark.parametrize(
    "words",
    [
        ["train", "data=table", f"data.path={'a' * 300}.csv", "data.target=y"],
        ["evaluate", f"run={'a' * 300}"],
        ["report", f"sweep={'a' * 300}"],
        ["train", "data=iris", f"hydra.run.dir={'a' * 300}"],
        ["train", "-m", "data=iris", "seed=0,1", f"hydra.sweep.dir={'a' * 300}"],
    ],
)
def test_a_name_that_no_file_can_have_is_refused(words: list[str], multilayer: Run) -> None:
    """With one message, and nothing is written."""
    outcome = multilayer(*words)
    assert outcome.code == 2
    assert "too long" in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(Path().iterdir())
