"""A sweep of many runs, looked at by TensorBoard, and by what replaces it.

python scripts/benchmarks/sweep_readers.py [--runs 1000] [--copies 10] [--epochs 30] [--rounds 3]

A lockstep sweep of small networks is trained, and copied into one of ten times as many runs, each
in its folder, with its seed and in the ledger. Then each reader is a process in turn: TensorBoard's
server, on loopback, until all runs have their curves, with and without its fast reader of event
files, which needs `ulimit -n 65536`; its event multiplexer; `multilayer report` and `multilayer
sweeps`; and all `history.csv` as one table of polars. Shown are seconds, seconds of processor time,
and the most memory that it had. `--small` is for tests.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from urllib.request import urlopen

from finished_sweep import SWEEP
from measuring import measure, show, versions
from sweeps import process_seconds

from multilayer.runs.folder import RunFolder
from multilayer.sweeps import Ledger, NewJob

Usage = tuple[float, float, float]
"""Seconds, seconds of processor time, and GB of memory."""

_PATIENCE = 60.0
"""Seconds without a further run after which TensorBoard shows no more: it may open no more."""

_BY_MULTIPLEXER = """
import sys
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
multiplexer = EventMultiplexer()
multiplexer.AddRunsFromDirectory(sys.argv[1])
multiplexer.Reload()
"""

_BY_POLARS = """
import sys
import polars as pl
table = pl.read_csv(sys.argv[1] + "/*/history.csv", include_file_paths="run")
assert table["run"].n_unique() > 1
"""


def copy_sweep(one: Path, sweep: Path, n_copies: int) -> None:
    """Copy the runs of a sweep, with other seeds, until there are several times as many."""
    ledger, copied = Ledger(one), Ledger(sweep)
    ledger.refresh()
    n, runs = len(ledger.jobs), []
    for seed in range(n * n_copies):
        folder = sweep / str(seed)
        shutil.copytree(one / str(seed % n), folder)
        run = RunFolder(folder)
        config = run.read_config() | {"seed": seed}
        run.write_config(config)
        run.write_manifest(run.read_manifest() | {"seed": seed, "overrides": [f"seed={seed}"]})
        runs.append(NewJob(config, [f"seed={seed}"]))
    shutil.copy(one / "multirun.yaml", sweep)
    copied.register(runs, command=ledger.commands[-1])
    with copied.worker() as worker:
        worker.claim(copied.jobs)
        outcomes = {number: ledger.jobs[number % n].outcome for number in copied.jobs}
        worker.finish({number: each for number, each in outcomes.items() if each})


def watch(words: Sequence[str]) -> Usage:
    """Run a process of Python to its end."""
    begun = perf_counter()
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, words
    seconds = perf_counter() - begun
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def watch_server(sweep: Path, n_runs: int, *options: str) -> Usage:
    """Run TensorBoard until its page would show curves of all runs, or of no further ones."""
    begun = found_at = perf_counter()
    n_found = 0
    with _server(sweep, *options) as (process, address):
        while n_found < n_runs and perf_counter() - found_at < _PATIENCE:
            sleep(0.2 + 0.05 * (perf_counter() - begun))  # the answer is long, and takes it time
            with urlopen(f"{address}/data/plugin/scalars/tags") as answer:  # noqa: S310 - loopback
                n_before, n_found = n_found, len(json.load(answer))
            if n_found > n_before or not n_found:
                found_at = perf_counter()
        usages = [_usage_of(pid) for pid in (process.pid, *_children(process.pid))]
    print(f"runs that TensorBoard {' '.join(options)} shows: {n_found} of {n_runs}")
    return found_at - begun, sum(cpu for cpu, _ in usages), sum(memory for _, memory in usages)


@contextmanager
def _server(sweep: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """TensorBoard on loopback, and its address."""
    words = (sys.executable, "-m", "tensorboard.main", "--logdir", str(sweep))
    words += ("--host", "127.0.0.1", "--port", "0", *options)
    with (
        tempfile.TemporaryDirectory() as own,  # it leaves a note there of where it runs
        subprocess.Popen(
            words, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": own}
        ) as process,
    ):
        assert process.stderr is not None
        try:
            found = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stderr)
            yield process, next(each[0] for each in found if each)
        finally:
            process.terminate()


def _children(pid: int) -> list[int]:
    """The processes that one has started: TensorBoard's fast reader is one."""
    paths = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in paths for child in path.read_text().split()]


def _usage_of(pid: int) -> tuple[float, float]:
    """Seconds of processor time so far, and the most GB of memory."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # of the user's and of the system's
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert kilobytes is not None
    return ticks / os.sysconf("SC_CLK_TCK"), int(kilobytes[1]) / 2**20


def measure_readers(sweep: Path, n_runs: int, rounds: int) -> None:
    """Print what each reader takes."""
    of_command = ("-m", "multilayer")
    parts: dict[str, Callable[[], Usage]] = {
        "TensorBoard's server": partial(watch_server, sweep, n_runs),
        "the same, --load_fast=false": partial(watch_server, sweep, n_runs, "--load_fast=false"),
        "TensorBoard's event multiplexer": partial(watch, ("-c", _BY_MULTIPLEXER, str(sweep))),
        "multilayer report": partial(watch, (*of_command, "report", f"sweep={sweep}")),
        "multilayer sweeps": partial(watch, (*of_command, "sweeps", str(sweep.parent))),
        "history.csv as one table": partial(watch, ("-c", _BY_POLARS, str(sweep))),
    }
    found = measure(rounds, parts)
    for index, what in enumerate(("seconds", "seconds of processor time", "GB of memory")):
        print(f"\n{what}")
        show({name: [each[index] for each in usages] for name, usages in found.items()}, 2)


def main() -> None:
    """Train, copy and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1000, help="that are trained")
    parser.add_argument("--copies", type=int, default=10, help="of each that are looked at")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="2 runs of 2 epochs, in one round")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.runs, arguments.copies, arguments.epochs, arguments.rounds = 2, 2, 2, 1
    print(versions("multilayer", "tensorboard", "tensorboard-data-server", "polars"))
    with tempfile.TemporaryDirectory() as temporary:
        one, sweep = Path(temporary) / "one", Path(temporary) / "sweeps" / "sweep"
        words = (f"seed=range({arguments.runs})", f"trainer.max_epochs={arguments.epochs}")
        process_seconds(*SWEEP, *words, f"hydra.sweep.dir={one}")
        copy_sweep(one, sweep, arguments.copies)
        measure_readers(sweep, arguments.runs * arguments.copies, arguments.rounds)


if __name__ == "__main__":
    main()
