"""How long the workers of a sweep take to start: until they claim their first job.

python scripts/benchmarks/worker_start.py [--engines local,slurm,ray] [--rounds 3]

A sweep of one run of one epoch is trained by one worker of each engine: the time is that from the
moment at which the engine is asked for it, by the sweep's ledger. Ray starts a cluster of this
machine for it, unless RAY_ADDRESS names one. Processor time is that of the command
`multilayer work`, which trains the same run once more, and has nothing to wait for.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from measuring import Rates, measure_pairs, show, versions

from multilayer.sweeps import Ledger

SWEEP = ("train", "-m", "hydra/launcher=lockstep", "data=iris", "trainer.max_epochs=1", "seed=0")
SWEEP += ("compile=false", "hydra.sweep.dir=sweep")


def start_seconds(engine: str) -> tuple[float, float]:
    """Seconds until a worker has claimed its job, and the processor time of a whole worker."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _multilayer(folder, *SWEEP, f"hydra.launcher.workers={engine}:1")
        seconds = _until_claimed(folder / "sweep")
        _reopen(folder / "sweep")
        before = getrusage(RUSAGE_CHILDREN)
        _multilayer(folder, "work", "sweep")
        now = getrusage(RUSAGE_CHILDREN)
    return seconds, now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime


def _multilayer(folder: Path, *words: str) -> None:
    """Run a command."""
    subprocess.run(
        [sys.executable, "-m", "multilayer", *words], cwd=folder, check=True, capture_output=True
    )


def _until_claimed(sweep: Path) -> float:
    """Seconds from the file of the command, which asks the engine next, to the worker's claim."""
    heads = [path.read_text().partition("\n")[0] for path in (sweep / "ledger/workers").iterdir()]
    (claimed_at,) = [
        attempt.claimed_at
        for job in _read(sweep).jobs.values()
        for attempt in job.attempts.by_number.values()
    ]
    assert claimed_at is not None
    return claimed_at - min(json.loads(head)["at"] for head in heads)


def _reopen(sweep: Path) -> None:
    """Let the job be trained again."""
    with _read(sweep).worker() as worker:
        worker.reopen([0])


def _read(sweep: Path) -> Ledger:
    """The ledger as it is now."""
    ledger = Ledger(sweep)
    ledger.refresh()
    return ledger


def main() -> None:
    """Start workers of each engine, in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engines", default="local,slurm,ray")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(versions("multilayer", "torch", "submitit", "ray"))
    engines = arguments.engines.split(",")
    parts = {each: lambda each=each: start_seconds(each) for each in engines}
    seconds, processor = measure_pairs(arguments.rounds, parts)
    print("seconds until a worker claims its job")
    show(seconds, 1)
    print("processor seconds of a worker that trains one run of one epoch")
    show(_joined(processor), 1)


def _joined(rates: Rates) -> Rates:
    """All values together: the process is the same."""
    return {"multilayer work": [value for values in rates.values() for value in values]}


if __name__ == "__main__":
    main()
