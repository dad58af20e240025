"""What choosing a learning rate leads to: our sweep, our range test, and Lightning's finder.

python scripts/benchmarks/lr_sweep.py [--seeds 5] [--data digits,iris] [--optimizers sgd,adam]

For each data set and optimizer, a full grid of complete trainings is run at 24 rates from 1e-6 to
10 with each seed. Then each method suggests a rate for each seed, and a complete training with that
rate and seed is compared with the best of the grid of the same seed. Shown are the share of cases
whose final validation loss is within 10 % of that best, and how far the suggestions for one data
set and optimizer lie apart over the seeds. A complete training is the default one: at most 50
epochs, early stopping, the best weights kept.
"""

import argparse
import math
import statistics
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from measuring import config_of, versions
from pytorch_lightning.tuner import Tuner

from multilayer.composing.job_configs import Job
from multilayer.data import Dataset, as_datamodule
from multilayer.lockstep.plan import StackPlan
from multilayer.lockstep.progress import SweepProgress
from multilayer.lockstep.train import Hooks, train_jobs
from multilayer.lr_sweep import LearningRateSweep
from multilayer.runs.folder import Result
from multilayer.training.components import make_data
from multilayer.training.lightning_record import LightningRecord
from multilayer.training.run import prepare
from multilayer.training.runtime import quiet_lightning

DATA = "digits,breast_cancer,wine,iris,diabetes,pass_class"
GRID = [float(f"{rate:.4g}") for rate in np.geomspace(1e-6, 10.0, 24)]
WITHIN = 1.1
DEFAULT = {"sgd": 0.1, "adam": 0.001}  # what a user is left with where a finder finds nothing

Suggest = Callable[[dict[str, Any], Dataset, Path], float | None]


@dataclass
class Record:
    """What a method did in all cases."""

    ratios: list[float] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def describe(self) -> str:
        """The two figures, and the time."""
        n_good = sum(ratio <= WITHIN for ratio in self.ratios)
        n = len(self.ratios)
        return (
            f"within 10 % in {n_good} of {n} cases ({n_good / n:.0%}), median ratio "
            f"{statistics.median(self.ratios):.3f}, worst {max(self.ratios):.2f}; suggestions over "
            f"seeds apart by a factor of {max(self.spreads):.1f} at most, "
            f"{statistics.median(self.spreads):.1f} in the median; "
            f"{statistics.median(self.seconds):.1f} s each"
        )


def suggest_by_callback(method: str) -> Suggest:
    """Our callback's rate."""

    def suggest(config: dict[str, Any], data: Dataset, folder: Path) -> float:
        training = prepare(config, folder, [], data, quiet=True)
        training.trainer.datamodule = as_datamodule(data)  # type: ignore[attr-defined]
        record = LightningRecord(training.trainer, training.module)
        callback = LearningRateSweep(folder=folder, method=method)  # type: ignore[arg-type]
        return callback.find(record).suggested

    return suggest


def suggest_by_lightning(config: dict[str, Any], data: Dataset, folder: Path) -> float | None:
    """The rate of Lightning's `LearningRateFinder`, with its own defaults."""
    training = prepare(config, folder, [], data, quiet=True)
    finder = Tuner(training.trainer).lr_find(
        training.module, datamodule=as_datamodule(data), update_attr=False
    )
    return finder.suggestion() if finder else None


METHODS: dict[str, Suggest] = {
    "lr_sweep": suggest_by_callback("sweep"),
    "lr_sweep, method=range": suggest_by_callback("range"),
    "Lightning's LearningRateFinder": suggest_by_lightning,
}


def train_all(
    words: list[str], pairs: list[tuple[float, int]], data: Dataset, folder: Path
) -> list[float]:
    """The final validation loss of complete trainings, one for each rate and seed."""
    jobs = [
        Job(
            number,
            config_of(*words, f"optimizer.lr={rate}", f"seed={seed}"),
            folder / str(number),
            [],
        )
        for number, (rate, seed) in enumerate(pairs)
    ]
    losses = [math.inf] * len(jobs)

    def end(some: Sequence[tuple[Job, Result | Exception]]) -> None:
        for job, outcome in some:
            if isinstance(outcome, Result):
                losses[job.number] = outcome.metrics["validation"]["loss"]

    def refuse(jobs: Sequence[Job], reason: str) -> None:
        raise RuntimeError(reason)

    with SweepProgress(len(jobs), shown=False) as progress:
        hooks = Hooks(
            end=end,
            alone=refuse,
            say=print,
        )
        train_jobs(StackPlan(jobs, data, len(jobs)), progress, hooks)
    return [loss if math.isfinite(loss) else math.inf for loss in losses]


def run_case(name: str, optimizer: str, n_seeds: int, records: dict[str, Record]) -> None:
    """One data set and optimizer: the grid, then what each method's rates lead to."""
    words = [
        f"data={name}",
        f"optimizer={optimizer}",
        "scheduler=constant",
        "logger=none",
        "trainer=cpu",
    ]
    seeds = list(range(n_seeds))
    data = make_data(config_of(*words))
    data.setup()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        pairs = [(rate, seed) for rate in GRID for seed in seeds]
        grid = np.array(train_all(words, pairs, data, folder / "grid")).reshape(len(GRID), -1)
        best = grid.min(axis=0)
        rates = [GRID[k] for k in grid.argmin(axis=0)]
        print(f"{name} {optimizer}: best of the grid at {in_numbers(rates)}", flush=True)
        for method, suggest in METHODS.items():
            record, found = records[method], []
            for seed in seeds:
                own = data.with_shuffle_seed(seed)
                start = perf_counter()
                config = config_of(*words, f"seed={seed}", "callbacks=none")
                rate = suggest(config, own, folder / method / str(seed))
                record.seconds.append(perf_counter() - start)
                found.append(rate or DEFAULT[optimizer])
            losses = train_all(words, list(zip(found, seeds, strict=True)), data, folder / method)
            ratios = (np.array(losses) / best).tolist()
            record.ratios += ratios
            record.spreads.append(max(found) / min(found))
            print(f"  {method:31s} {in_numbers(found)}; loss / best {in_numbers(ratios)}")


def in_numbers(values: list[float]) -> str:
    """A few digits of each."""
    return ", ".join(f"{value:.3g}" for value in values)


def main() -> None:
    """Run all cases, then print each method's two figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--optimizers", default="sgd,adam")
    options = parser.parse_args()
    quiet_lightning()
    warnings.filterwarnings("ignore", message=".*litlogger.*")
    print(versions("torch", "pytorch-lightning"))
    records = {method: Record() for method in METHODS}
    for name in options.data.split(","):
        for optimizer in options.optimizers.split(","):
            run_case(name, optimizer, options.seeds, records)
    for method, record in records.items():
        print(f"{method}: {record.describe()}")


if __name__ == "__main__":
    main()
