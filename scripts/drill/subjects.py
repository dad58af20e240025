"""What the drill disturbs: sweeps and single runs, how they begin, and how they go on."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from multilayer.runs.folder import find_state

_SHARED = (
    "data=iris",
    "data.batch_size=16",
    "scheduler=cosine",
    "num_threads=1",
    "compile=false",
    "callbacks.early_stopping.patience=40",
)

_SMALL = (*_SHARED, "model.d_hidden=[16,16]", "callbacks.checkpoint.every_seconds=0.1")
"""Files are written many times a second, so that kills meet them."""

_MANY = (*_SHARED, "model.d_hidden=[16]", "callbacks.checkpoint.every_seconds=2")
_MANY += ("model.activation=tanh",)
"""Of sweeps with many runs: in some of them rounding would take a relu over its kink, from where on
the run is another one."""

_RATES = "optimizer.lr=1e-3,3e-3,1e-2,3e-2"

_DROPOUT = "model.dropout=0.2"

_SLOWEST = 600.0
"""Seconds after which a command counts as hanging; it then has the exit code of `timeout`."""


@dataclass(frozen=True)
class Subject:
    """A training that is disturbed.

    Attributes:
        name: For the table.
        words: The command line, without the folder; that of a sweep ends with its seeds.
        is_sweep: Whether it is a sweep, which goes on by the same command.
        is_exact: Whether it ends with the bits of the undisturbed one, or else to rounding.
        workers: What the command has do the work, as `hydra.launcher.workers`; empty if it does it.
        alone: The command line by which one process does the work; empty if that is `words`.
        has_refit: Whether it is a run that is followed by its refit.
    """

    name: str
    words: tuple[str, ...]
    is_sweep: bool
    is_exact: bool
    workers: str = ""
    alone: tuple[str, ...] = ()
    has_refit: bool = False

    @property
    def in_one_process(self) -> "Subject":
        """The same training, by one process."""
        return replace(self, words=self.alone or self.words, workers="", alone=())

    def command(self, folder: Path) -> tuple[str, ...]:
        """The words that begin it in a folder, or go on with it."""
        if self.is_sweep:
            return (*self.words, f"hydra.sweep.dir={folder}")
        if find_state(folder) == "none":
            return (*self.words, f"hydra.run.dir={folder}")
        refit = ("refit=true",) if self.has_refit else ()
        return (f"resume={folder}", f"hydra.run.dir={folder}", *refit)

    def run_folders(self, folder: Path) -> list[Path]:
        """The folders of its runs that have begun."""
        names = ["manifest.json", "refit/manifest.json"]
        found = (
            folder.glob("[0-9]*/manifest.json") if self.is_sweep else map(folder.joinpath, names)
        )
        return sorted(path.parent for path in found if path.exists())


def make_subjects(engines: list[str], n_runs: int | None) -> list[Subject]:
    """All subjects.

    Args:
        engines: Who trains the sweeps: "one" for the process of the command, or what
            `hydra.launcher.workers` is to say.
        n_runs: How many runs a sweep has, a multiple of 4; None for few, disturbed most often.
    """
    sweeps = [subject for engine in engines for subject in _sweeps(engine, n_runs)]
    single = (*_SMALL, _DROPOUT, "trainer.max_epochs=200")
    # It goes on under Lightning, whose masks of dropout are others.
    stack_of_one = (*_SMALL, "engine=lockstep", "trainer.max_epochs=600")
    followed = (*single, "refit=true")
    return [
        *sweeps,
        Subject("single run", single, is_sweep=False, is_exact=True),
        Subject("single run, engine=lockstep", stack_of_one, is_sweep=False, is_exact=False),
        Subject("single run, refit=true", followed, is_sweep=False, is_exact=True, has_refit=True),
    ]


def _sweeps(engine: str, n_runs: int | None) -> Iterator[Subject]:
    """A sweep that is stacked, and one whose runs train one by one."""
    stack = (*_SMALL, "trainer.max_epochs=600", "seed=0,1,2,3")
    runs = (*_SMALL, "trainer.max_epochs=60", "seed=0,1,2")
    lockstep = ("hydra/launcher=lockstep",)
    stacked = lockstep
    if n_runs is not None:
        seeds = "seed=" + ",".join(map(str, range(n_runs // 4)))
        stack = (*_MANY, "trainer.max_epochs=60", _RATES, seeds)
        runs = (*_MANY, "trainer.max_epochs=20", _RATES, seeds)
        stacked = (*lockstep, f"hydra.launcher.max_members={max(1, n_runs // 8)}")
    workers = () if engine == "one" else (f"hydra.launcher.workers={engine}",)
    alone = (*lockstep, *workers, "hydra.launcher.stack=false") if workers else ()
    for name, by_one, by_engine, words in (
        ("stacked sweep", stacked, (*stacked, *workers), stack),
        ("sweep one by one", (), alone, runs),
    ):
        yield Subject(
            f"{name}, {engine}" if workers else name,
            ("-m", *by_engine, _DROPOUT, *words),
            is_sweep=True,
            is_exact=not by_one,
            workers=engine if workers else "",
            alone=("-m", *by_one, _DROPOUT, *words),
        )


@dataclass
class Ended:
    """How a command ended.

    Attributes:
        code: Its exit code; that of a shell where a signal ended it.
        said: What it printed, errors included.
        seconds: How long it took.
    """

    code: int
    said: str
    seconds: float

    @property
    def last_words(self) -> str:
        """The end of what it printed."""
        return "\n".join(self.said.splitlines()[-15:])


class Running:
    """A command that runs, in a session of processes that ends with it.

    Args:
        words: Its command line, after `multilayer train`.
        folder: Where it runs, and where `output.txt` gets what it prints.
        before: What starts it, with arguments; none for nothing.
    """

    def __init__(self, words: tuple[str, ...], folder: Path, before: tuple[str, ...] = ()) -> None:
        self.output = folder / "output.txt"
        self.begun = monotonic()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "multilayer", "train", *words],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ends_within(self, seconds: float) -> bool:
        """Wait so long at most; returns whether it has ended by itself."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode is not None

    def send(self, signal: int) -> None:
        """Send a signal to it, and to none of the processes that it has started."""
        self.process.send_signal(signal)

    def end(self) -> Ended:
        """Wait until it ends; one that hangs is killed."""
        code = 124
        if self.ends_within(_SLOWEST):
            code = self.process.returncode
        else:
            self.process.kill()
            self.process.wait()
        said = self.output.read_text(errors="replace")
        return Ended(code if code >= 0 else 128 - code, said, monotonic() - self.begun)


@contextmanager
def running(
    words: tuple[str, ...], folder: Path, before: tuple[str, ...] = ()
) -> Iterator[Running]:
    """A command that runs, and does not outlive the block; see `Running`."""
    command = Running(words, folder, before)
    try:
        yield command
    finally:
        with suppress(ProcessLookupError):
            command.process.kill()
        command.process.wait()


def run(words: tuple[str, ...], folder: Path, before: tuple[str, ...] = ()) -> Ended:
    """Run a command to its end; see `Running`."""
    with running(words, folder, before) as command:
        return command.end()
