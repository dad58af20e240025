"""A sweep of many runs once it is done: its files, the same command again, and who reads them.

python scripts/benchmarks/finished_sweep.py [--runs 1000] [--epochs 30] [--rounds 3] [--folder DIR]

Lockstep sweeps of small networks are trained for one epoch, with a ledger and without one, and one
for more epochs. Then the command that has nothing left to do is timed, and so are reading all
curves by TensorBoard's event multiplexer, reading all `history.csv` by polars, and
`multilayer report`. Times of processes include their start. `--small` is for tests.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from shutil import rmtree

import polars as pl
from measuring import Aim, seconds_of, show, versions
from sweeps import process_seconds
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

SWEEP = ("-m", "multilayer", "train", "-m", "hydra/launcher=lockstep", "data=iris")
SWEEP += ("model.d_hidden=[16]", "num_threads=1", "compile=false", "callbacks=default")


def count_files(sweep: Path, n_runs: int) -> None:
    """Print how many files and bytes a run has, and what the ledger adds."""
    paths = [path for path in sweep.rglob("*") if path.is_file()]
    of_ledger = [path for path in paths if "ledger" in path.parts]
    for name, chosen in (("all", paths), ("of these, the ledger's", of_ledger)):
        n_bytes = sum(path.stat().st_size for path in chosen)
        print(f"{name}: {len(chosen) / n_runs:.2f} files, {n_bytes / n_runs:,.0f} bytes a run")


def cpu_cost_of_ledger(folder: Path, words: Sequence[str], n_runs: int) -> float:
    """CPU time that the sweeper with a ledger adds to a job, in ms: a sweep with and without it."""
    seconds = []
    for sweeper in ("grid", "basic"):
        before = getrusage(RUSAGE_CHILDREN)
        folder_word = f"hydra.sweep.dir={folder / sweeper}"
        process_seconds(*words, "trainer.max_epochs=1", f"hydra/sweeper={sweeper}", folder_word)
        now = getrusage(RUSAGE_CHILDREN)
        seconds.append(now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime)
        rmtree(folder)
    return 1e3 * (seconds[0] - seconds[1]) / n_runs


def read_by_tensorboard(sweep: Path) -> None:
    """Read all event files, as TensorBoard does before it shows the last of them."""
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(sweep))
    multiplexer.Reload()


def read_by_polars(sweep: Path) -> None:
    """Read all curves into one table, with the run that each is of."""
    table = pl.read_csv(sweep / "*" / "history.csv", include_file_paths="run")
    assert table["run"].n_unique() > 1


def main() -> None:
    """Train, then time those that read."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to put the sweeps for the time")
    parser.add_argument("--small", action="store_true", help="4 runs of 2 epochs, in one round")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.runs, arguments.epochs, arguments.rounds = 4, 2, 1
    print(versions("multilayer", "torch", "tensorboard", "polars"))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        measure_sweep(Path(temporary), arguments)


def measure_sweep(folder: Path, arguments: argparse.Namespace) -> None:
    """Everything, in the given folder."""
    n, rounds = arguments.runs, arguments.rounds
    words = (*SWEEP, f"seed=range({n})")
    costs = [cpu_cost_of_ledger(folder / "costs", words, n) for _ in range(rounds)]
    show({"CPU time that the sweeper with a ledger adds to a job, ms": costs}, digits=2)
    sweep = folder / "sweep"
    command = (*words, f"trainer.max_epochs={arguments.epochs}", f"hydra.sweep.dir={sweep}")
    show({"trained": [process_seconds(*command)]}, digits=2)
    count_files(sweep, n)
    again = [process_seconds(*command) for _ in range(rounds)]
    print(Aim(f"the same command, {n} jobs done, in s", again, 5, is_most=True))
    report = ("-m", "multilayer", "report", f"sweep={sweep}")
    readers = {
        "TensorBoard's event multiplexer": lambda: read_by_tensorboard(sweep),
        "history.csv, polars": lambda: read_by_polars(sweep),
        "multilayer report, a process": lambda: process_seconds(*report),
    }
    show(
        {name: [seconds_of(reader) for _ in range(rounds)] for name, reader in readers.items()},
        digits=2,
    )


if __name__ == "__main__":
    main()
