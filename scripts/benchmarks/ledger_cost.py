"""What a sweep's ledger costs: processor time of each job's part of it, and of an epoch.

python scripts/benchmarks/ledger_cost.py [--runs 1000] [--epochs 500] [--rounds 5]

Sweeps of small networks are trained in this process for one epoch, while what the ledger does is
timed by the clock of its thread. Then sweeps of eight runs train for many epochs, with heartbeats
and without any, in turn. `--small` is for tests.
"""

import argparse
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from time import process_time, thread_time
from typing import Any

from measuring import Aim, Rates, show, versions

from multilayer.cli.grid import GridSweep
from multilayer.cli.main import main as command
from multilayer.composing.sweep_jobs import SweepJobs
from multilayer.core import files
from multilayer.sweeps import Ledger, NewJob, Session
from multilayer.sweeps.ledger import BEAT_SECONDS

SWEEP = ("train", "-m", "hydra/launcher=lockstep", "data=iris", "model.d_hidden=[16]")
SWEEP += ("num_threads=1", "compile=false", "hydra.sweep.dir=sweep")

PARTS = {
    "all jobs composed first": (SweepJobs, "compose"),
    "compared, registered": (SweepJobs, "register"),
    "looked what becomes of each": (GridSweep, "_fates"),
    "claimed": (Session, "take"),
    "recorded": (Session, "record"),
}
"""What is done of a job because of the ledger, by what it is called, as a class and its method."""


@contextmanager
def timed(seconds: defaultdict[str, float]) -> Iterator[None]:
    """Time the parts, in whichever threads they run."""
    before = {name: vars(owner)[method] for name, (owner, method) in PARTS.items()}

    def timing(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            start = thread_time()
            try:
                return call(*arguments, **named)
            finally:
                seconds[name] += thread_time() - start

        return run

    for name, (owner, method) in PARTS.items():
        is_bound = isinstance(before[name], classmethod)
        call = timing(name, before[name].__func__ if is_bound else before[name])
        setattr(owner, method, classmethod(call) if is_bound else call)
    try:
        yield
    finally:
        for name, (owner, method) in PARTS.items():
            setattr(owner, method, before[name])


def train(*words: str) -> float:
    """Train a sweep in a folder that is removed; returns the processor time, in seconds."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        os.chdir(folder)
        start = process_time()
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            sys.argv = ["multilayer", *SWEEP, *words]
            code = command()
        seconds = process_time() - start
        os.chdir(Path(__file__).parent)
    if code:
        raise SystemExit(f"exit code {code}: {' '.join(sys.argv)}")
    return seconds


def measure_jobs(n: int, rounds: int) -> None:
    """Print what each part adds to a job."""
    found: Rates = {}
    for _ in range(rounds):
        seconds = defaultdict[str, float](float)
        with timed(seconds):
            train(f"seed=range({n})", "trainer.max_epochs=1")
        for name in PARTS:
            found.setdefault(name, []).append(1e3 * seconds[name] / n)
    print("\nms of processor time a job")
    show(found, digits=3)
    of_ledger = [name for name in PARTS if name != next(iter(PARTS))]
    sums = [sum(found[name][i] for name in of_ledger) for i in range(rounds)]
    print(Aim("the ledger, without the composing", sums, 1, is_most=True))
    print(Aim("in all", [sums[i] + found[next(iter(PARTS))][i] for i in range(rounds)], 1, True))


def measure_epochs(n_epochs: int, rounds: int) -> None:
    """Print the processor time of an epoch of eight runs with heartbeats and without."""
    defaults: Any = Ledger.worker.__kwdefaults__
    found: Rates = {"with heartbeats": [], "without": []}
    for _ in range(rounds):
        for name, beat in zip(found, (BEAT_SECONDS, 1e6), strict=True):
            defaults["beat_seconds"] = beat
            seconds = train("seed=range(8)", f"trainer.max_epochs={n_epochs}")
            found[name].append(1e3 * seconds / n_epochs)
    defaults["beat_seconds"] = BEAT_SECONDS
    print(f"\nms of processor time an epoch of 8 runs, of {n_epochs}")
    show(found, digits=3)


def measure_calls(n: int = 1000) -> None:
    """Print what a heartbeat costs, and the look before a file is written."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder))
        ledger.register([NewJob({"seed": 0}, ["seed=0"])])
        with ledger.worker() as worker:
            worker.claim([0])
            calls = {
                f"a heartbeat, every {BEAT_SECONDS:g} s, us": worker._show_life,
                "the look before a file is written, us": lambda: files.check_before_writing(
                    Path(folder, "0", "a")
                ),
            }
            found: Rates = {}
            for name, call in calls.items():
                for _ in range(5):
                    start = thread_time()
                    for _ in range(n):
                        call()
                    found.setdefault(name, []).append(1e6 * (thread_time() - start) / n)
    print()
    show(found, digits=2)


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="4 runs of 2 epochs, in one round")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.runs, arguments.epochs, arguments.rounds = 4, 2, 1
    print(versions("multilayer", "torch", "hydra-core"))
    train("seed=0,1", "trainer.max_epochs=1")  # what is imported and read once
    measure_jobs(arguments.runs, arguments.rounds)
    measure_epochs(arguments.epochs, arguments.rounds)
    measure_calls()


if __name__ == "__main__":
    main()
