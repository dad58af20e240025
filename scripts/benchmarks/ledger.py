"""What the ledger of a sweep costs: a thousand workers on one ledger of a hundred thousand jobs.

python scripts/benchmarks/ledger.py [--jobs 100000] [--workers 1000] [--processes 4] [--folder DIR]

Workers take turns in a few processes, and do nothing but claim jobs at random places until none is
left, and then record one after the other that they ended: no training would have them meet at the
ledger so often. Single jobs are claimed, and then those of another sweep in stacks of 16. A claim
is lost if another worker was quicker; after 64 that are lost in a row, a worker reads what the
others have added. Results are forced to the disk. Give a folder of the file system that is to be
measured; `--small` is for tests.
"""

import argparse
import random
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import monotonic

from measuring import Aim, config_of, seconds_of, versions

from multilayer.sweeps import Ledger, NewJob, Outcome, Worker

STACK = 16

LOST_IN_A_ROW = 64
"""Claims that are lost before a worker reads the ledger again, which takes about as long."""


class SimulatedWorker:
    """A worker that trains nothing.

    Args:
        ledger: Of its process, whose workers share what they read.
        places: Where jobs of the process's workers may begin; whoever has its turn takes one.

    Attributes:
        worker: What it is to the ledger.
        got: The jobs that it got.
        n_claims: How many claims it made.
        n_lost: With how many of them another was quicker.
        n_reads: How often it read the ledger.
    """

    def __init__(self, ledger: Ledger, places: deque[int]) -> None:
        self.worker: Worker = ledger.worker()
        self.got: list[list[int]] = []
        self.n_claims = self.n_lost = self.n_reads = 0
        self._ledger = ledger
        self._places = places

    def claim_all(self, width: int) -> Iterator[None]:
        """Claim jobs, `width` in a turn, until none is open."""
        jobs, in_a_row = self._ledger.jobs, 0
        while self._places:
            first = self._places.popleft()
            if not jobs[first].is_open:
                continue
            got = self.worker.claim(range(first, min(first + width, len(jobs))))
            self.n_claims += 1
            if got:
                self.got.append(got)
                in_a_row = 0
            else:
                self.n_lost += 1
                in_a_row += 1
                if in_a_row % LOST_IN_A_ROW == 0:
                    self._ledger.refresh()
                    self.n_reads += 1
            yield

    def finish_all(self) -> Iterator[None]:
        """Record the results of one claim in a turn."""
        for got in self.got:
            self.worker.finish({number: Outcome("done", number / 7, 1.0) for number in got})
            yield


def take_turns(workers: Iterable[Iterator[None]]) -> None:
    """Let each have a turn after the other until all have ended; threads would wait for Python."""
    waiting = deque(workers)
    while waiting:
        worker = waiting.popleft()
        if next(worker, waiting) is None:
            waiting.append(worker)


def work(folder: Path, width: int, seeds: range, results: list, barrier: Barrier) -> None:
    """One process: adds the times of its phases and its counts to the results."""
    ledger = Ledger(folder)
    ledger.refresh()
    places = list(range(0, len(ledger.jobs), width))
    random.Random(seeds[0]).shuffle(places)  # noqa: S311 - no secret
    shared = deque(places)
    workers = [SimulatedWorker(ledger, shared) for _ in seeds]
    times = []
    for phase in (partial(SimulatedWorker.claim_all, width=width), SimulatedWorker.finish_all):
        barrier.wait()
        times.append(monotonic())
        take_turns([phase(worker) for worker in workers])
        times.append(monotonic())
    ledger.refresh()
    barrier.wait()
    times.append(seconds_of(ledger.refresh))
    barrier.wait()
    for each in workers:
        each.worker.close()
    counts = [(each.n_claims, each.n_lost, each.n_reads) for each in workers]
    results.append((times, [sum(column) for column in zip(*counts, strict=True)]))


def simulate(folder: Path, width: int, n_workers: int, n_processes: int) -> tuple[float, float]:
    """Let all workers claim and finish all jobs; returns the seconds of both."""
    context = get_context("spawn")
    with context.Manager() as manager:
        results = manager.list()
        barrier = context.Barrier(n_processes)
        processes = [
            context.Process(
                target=work,
                args=(folder, width, range(i, n_workers, n_processes), results, barrier),
            )
            for i in range(n_processes)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        found = list(results)
    starts, ends = ([[times[i] for times, _ in found] for i in two] for two in ((0, 2), (1, 3)))
    claiming, finishing = (max(end) - min(start) for start, end in zip(starts, ends, strict=True))
    n_claims, n_lost, n_reads = (sum(counts[i] for _, counts in found) for i in range(3))
    words = f"{n_claims:,} claims, {n_lost / n_claims:.1%} lost, the ledger read {n_reads:,} times"
    print(f"{n_workers} workers, {width} jobs a claim: {words}")
    poll = max(times[4] for times, _ in found)
    print(f"  reading it again where none of {n_workers} workers has added anything: {poll:.3f} s")
    return claiming, finishing


def main() -> None:
    """Make the sweeps, let the workers at them, and read the ledgers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where to put the ledgers for the time")
    parser.add_argument("--small", action="store_true", help="100 jobs, 8 workers, 2 processes")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.jobs, arguments.workers, arguments.processes = 100, 8, 2
    print(versions("multilayer"))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        measure_ledgers(Path(temporary), arguments)


def measure_ledgers(folder: Path, arguments: argparse.Namespace) -> None:
    """Everything, in the given folder."""
    n = arguments.jobs
    config = config_of("data=iris")
    jobs = [NewJob(config | {"seed": seed}, [f"seed={seed}"]) for seed in range(n)]
    for width in (1, STACK):
        sweep = folder / str(width)
        registering = seconds_of(lambda sweep=sweep: Ledger(sweep).register(jobs))
        claiming, finishing = simulate(sweep, width, arguments.workers, arguments.processes)
        ledger = Ledger(sweep)
        reading = seconds_of(ledger.refresh)
        assert {job.state for job in ledger.jobs.values()} == {"done"}
        assert all(job.attempts.count == 1 for job in ledger.jobs.values())
        again = seconds_of(lambda sweep=sweep: Ledger(sweep).register(jobs))
        cost = 1e3 * (registering + claiming + finishing) / n
        n_bytes = sum(path.stat().st_size for path in sweep.rglob("*") if path.is_file())
        n_files = sum(path.is_file() for path in sweep.rglob("*"))
        print(f"{n_files / n:.2f} files and {n_bytes / n:.0f} bytes a job")
        print(f"  registering them: {1e3 * registering / n:.3f} ms a job")
        print(Aim("  claimed jobs a second", [n / claiming], 1000))
        print(Aim("  finished jobs a second", [n / finishing], 1000))
        print(Aim("  a job: registered, claimed, finished, in ms", [cost], 1, is_most=True))
        print(Aim("  reading the ledger, in s", [reading], 5, is_most=True))
        print(f"  registering the same jobs again, which reads it: {again:.2f} s", flush=True)


if __name__ == "__main__":
    main()
