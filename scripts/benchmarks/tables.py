"""How fast tables are read and cut into minibatches, and how much memory that takes, in one run.

python scripts/benchmarks/tables.py [--repeats 5] [--gigabytes 4]

Three parts. Minibatches: an epoch of a table of 1,000,000 rows by 32 columns in memory, against a
bare loop `X[rows], y[rows]` and a shuffled DataLoader. Reading: that table as CSV, against polars;
memory is that of a process of its own, above what it takes with all imported. Streaming: a Parquet
file of some gigabytes that `multilayer train data.stream=true` trains on, against a quarter of it
in memory. The files are written into a temporary folder first; all takes 20 minutes.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import polars as pl
import torch
from measuring import measure, measure_pairs, median_ratio, ratio, show, versions
from torch.utils.data import DataLoader, TensorDataset

from multilayer.data import TableData
from multilayer.data.batches import EpochShuffle, Minibatches

N_ROWS, N_COLUMNS = 1_000_000, 32
TABLE_MB = 4 * N_ROWS * N_COLUMNS / 1e6


def make_frame(seed: int, n_rows: int = N_ROWS) -> pl.DataFrame:
    """Features of float32 and a target that is their sum, with noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_rows, N_COLUMNS), dtype=np.float32)
    frame = pl.DataFrame({f"x{i}": x[:, i] for i in range(N_COLUMNS)})
    y = x.sum(axis=1) / N_COLUMNS**0.5 + 0.1 * rng.standard_normal(n_rows, dtype=np.float32)
    return frame.with_columns(y=y)


# Minibatches ----------------------------------------------------------------------------------


def epochs_a_second(minibatches: Iterable[object]) -> float:
    """Going through them once."""
    start = perf_counter()
    for _ in minibatches:
        pass
    return 1 / (perf_counter() - start)


def minibatches(rounds: int) -> None:
    """An epoch in memory, at several batch sizes."""
    x, y = torch.randn(N_ROWS, N_COLUMNS), torch.randn(N_ROWS)
    for batch_size in (64, 256, 4096):
        parts = {
            "ours": lambda n=batch_size: epochs_a_second(
                Minibatches(x, y, batch_size=n, sampler=EpochShuffle(N_ROWS, 0))
            ),
            "X[rows], y[rows]": lambda n=batch_size: epochs_a_second(
                (x[rows], y[rows]) for rows in torch.randperm(N_ROWS).split(n)
            ),
        }
        if batch_size == 4096:
            loader = DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=True)
            parts["DataLoader"] = lambda loader=loader: epochs_a_second(loader)
        rates = measure(rounds, parts)
        print(f"\nminibatches of {batch_size}, million rows per second")
        show(rates, digits=2)
        times("time of ours / X[rows]", rates["X[rows], y[rows]"], rates["ours"], 1.3)
    ratio(rates, "ours", "DataLoader", 10)


def times(words: str, peer: list[float], ours: list[float], most: float) -> None:
    """The median over rounds of a ratio that should be small."""
    print(f"{words:62s} {median_ratio(peer, ours):6.2f}   (at most {most:g})")


# Reading --------------------------------------------------------------------------------------

READERS = {
    "polars.read_csv": pl.read_csv,
    "TableData, read": lambda path: TableData(path=path, target="y").load(),
    "TableData, ready to train on": lambda path: TableData(path=path, target="y").setup(),
}


def reading(rounds: int, path: Path) -> None:
    """A CSV file; each measurement is a process of its own."""
    make_frame(0).write_csv(path)
    path.read_bytes()  # into the system's cache
    parts = {name: partial(read_apart, name, path) for name in READERS}
    seconds, memory = measure_pairs(rounds, parts)
    print(
        f"\nreading {N_ROWS:,} rows by {N_COLUMNS} columns and a target, {size_of(path)}, seconds"
    )
    show(seconds, digits=2)
    ours, polars = seconds["TableData, read"], seconds["polars.read_csv"]
    times("time of reading / polars", ours, polars, 1.5)
    print(f"\npeak of memory, MB; the features as float32 are {TABLE_MB:.0f}")
    show(memory)
    peaks = memory["TableData, read"]
    times("peak of reading / the table", peaks, [TABLE_MB] * rounds, 2.5)


def read_apart(name: str, path: Path) -> tuple[float, float]:
    """The seconds and the peak of memory, in MB, of a reader in a separate process."""
    command = [sys.executable, __file__, "--reader", name, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    taken, peak = json.loads(done.stdout.splitlines()[-1])
    return taken, peak


def read_once(name: str, path: str) -> None:
    """Print the seconds and the peak of memory, in MB, of a reader in this process."""
    pl.DataFrame({"x": [1.0]}).lazy().select(pl.col("x").sum()).collect()  # starts its threads
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back
    before, start = status("VmRSS"), perf_counter()
    kept = READERS[name](path)
    print(json.dumps([perf_counter() - start, status("VmHWM") - before]))
    del kept


def status(field: str) -> float:
    """A number of MB that Linux tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024 / 1e6


def size_of(path: Path) -> str:
    """The size of a file."""
    return f"{path.stat().st_size / 1e6:,.0f} MB"


# Streaming ------------------------------------------------------------------------------------


def streaming(rounds: int, folder: Path, gigabytes: float) -> None:
    """One epoch over a file and over one of a quarter of its size, and that one in memory."""
    n_parts = max(4, round(gigabytes * 1e9 / (4 * N_ROWS * (N_COLUMNS + 1))))
    for seed in range(n_parts):
        make_frame(seed).write_parquet(folder / f"part-{seed:03d}.parquet")
    files = {}
    for n in (n_parts // 4, n_parts):
        files[n] = folder / f"{n}.parquet"
        parts = [pl.scan_parquet(folder / f"part-{seed:03d}.parquet") for seed in range(n)]
        pl.concat(parts).sink_parquet(files[n])
    for path in folder.glob("part-*"):
        path.unlink()
    ways = {
        f"{name}, {n * N_ROWS:,} rows, {size_of(files[n])}": partial(training, files[n], stream)
        for name, n, stream in (
            ("in memory", n_parts // 4, "false"),
            ("streamed", n_parts // 4, "true"),
            ("streamed", n_parts, "true"),
        )
    }
    rates, memory = measure_pairs(rounds, ways)
    in_memory, streamed, large = ways
    print("\nmultilayer train, one epoch in minibatches of 4096: rows per second of the fit")
    show(rates)
    compared = {"streamed": rates[streamed], "in memory": rates[in_memory]}
    ratio(compared, "streamed", "in memory", 0.5)
    print("\npeak of resident memory of the whole process, MB")
    show(memory)
    grown = median_ratio(memory[large], memory[streamed])
    print(f"{'peak, streamed from four times the rows':62s} {grown:6.2f}")


def training(path: Path, stream: str) -> tuple[float, float]:
    """Rows per second of the fit and peak of memory, in MB, of a training as a process."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "multilayer", "train", "data=table", f"data.path={path}"]
        command += ["data.target=y", f"data.stream={stream}", "data.batch_size=4096"]
        command += ["trainer.max_epochs=1", "compile=false", f"hydra.run.dir={run}"]
        with open(os.devnull, "w") as nowhere:
            process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
            _, code, usage = os.wait4(process.pid, 0)
        if code:
            raise SystemExit(f"{' '.join(command)} failed")
        manifest = json.loads((run / "manifest.json").read_text())
    return manifest["rows"]["train"] / manifest["fit_seconds"], usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--gigabytes", type=float, default=4.0, help="of rows to stream; 0 for none"
    )
    parser.add_argument("--reader", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.reader:
        read_once(*chosen.reader)
        return
    print(versions("torch", "polars", "numpy", "pytorch-lightning"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        minibatches(chosen.repeats)
        if sys.platform == "linux":
            reading(chosen.repeats, folder / "table.csv")
        if chosen.gigabytes:
            streaming(chosen.repeats, folder, chosen.gigabytes)


if __name__ == "__main__":
    main()
