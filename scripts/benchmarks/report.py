"""How long `multilayer report` takes for a sweep of a thousand runs, Python's start included.

python scripts/benchmarks/report.py [--repeats 5] [--keep FOLDER]

The sweep is made up: 10 learning rates, 5 rates of dropout, 4 of weight decay, 5 seeds, and the
files that a run of 50 epochs leaves: config, manifest, metrics, and a history with 10 metrics an
epoch. It is to take less than 10 s.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import product
from math import log10
from pathlib import Path
from time import perf_counter

import numpy as np
from measuring import config_of, measure, show, versions

from multilayer.reports.by_data import parts_of
from multilayer.reports.report import draw_all
from multilayer.reports.runs import read_curves
from multilayer.reports.sweep import open_sweep
from multilayer.runs.folder import RunFolder

N_EPOCHS, STEPS = 50, 20
METRICS = ("loss", "accuracy", "auroc", "calibration_error", "f1")
GRID = {
    "optimizer.lr": [float(f"{lr:.4g}") for lr in np.logspace(-4, 0, 10)],
    "model.dropout": [round(0.1 * step, 1) for step in range(5)],
    "optimizer.weight_decay": [0.0, 1e-4, 1e-3, 1e-2],
    "seed": list(range(5)),
}


def make_sweep(folder: Path) -> None:
    """A thousand run folders, and what Hydra notes of the command."""
    words = [f"{key}={','.join(map(str, values))}" for key, values in GRID.items()]
    target = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
    sweeper = {"_target_": target, "params": None}
    noted = {"hydra": {"sweeper": sweeper, "overrides": {"task": words}}}
    folder.mkdir(parents=True)
    (folder / "multirun.yaml").write_text(json.dumps(noted))
    base = config_of()
    for number, values in enumerate(product(*GRID.values())):
        base["optimizer"]["lr"], base["model"]["dropout"] = values[:2]
        base["optimizer"]["weight_decay"], base["seed"] = values[2:]
        overrides = [f"{key}={value}" for key, value in zip(GRID, values, strict=True)]
        make_run(folder / str(number), base, overrides)


def make_run(folder: Path, config: dict, overrides: list[str]) -> None:
    """The folder of one run, whose losses are a curve that a learning rate might give."""
    run, lr, dropout = RunFolder(folder), config["optimizer"]["lr"], config["model"]["dropout"]
    rng = np.random.default_rng(int(1e6 * lr) + int(100 * dropout) + 1000 * config["seed"])
    epochs = np.arange(1, N_EPOCHS + 1)
    floor = 0.3 + 0.15 * (log10(lr) + 2) ** 2 + 0.2 * (dropout - 0.2) ** 2
    floor += 3 * abs(config["optimizer"]["weight_decay"] - 1e-3)
    train = floor + 2 * np.exp(-epochs * lr * 30) + 0.003 * rng.standard_normal(N_EPOCHS)
    validation = train + 0.02 + 0.01 * rng.standard_normal()
    diverged = lr > 0.5 and dropout < 0.1
    if diverged:
        train[3:] = validation[3:] = np.nan
    best = int(np.nanargmin(validation))
    folder.mkdir(parents=True)
    run.write_config(config)
    write_history(folder, train, validation)
    run.write_manifest(
        {
            "overrides": overrides,
            "status": "diverged" if diverged else "done",
            "stop_reason": f"reached trainer.max_epochs={N_EPOCHS}",
            "best_epoch": best + 1,
            "fit_seconds": 3.0,
            "steps": N_EPOCHS * STEPS,
        }
    )
    final = float("nan") if diverged else 1.0
    run.write_metrics(
        {
            split: dict.fromkeys(METRICS, final * float(np.exp(-values[best])))
            | {"loss": final * float(values[best])}
            for split, values in (("train", train), ("validation", validation), ("test", train))
        }
    )


def write_history(folder: Path, train: np.ndarray, validation: np.ndarray) -> None:
    """As a run does: a row for each epoch with all metrics of both splits."""
    names = [f"{split}/{name}" for split in ("train", "validation") for name in METRICS]
    lines = [",".join(["epoch", "step", "lr", "seconds", *names])]
    for epoch in range(N_EPOCHS):
        values = [own[epoch] for own in (train, validation) for _ in METRICS]
        row = [epoch + 1, (epoch + 1) * STEPS, 0.01, 0.05 * (epoch + 1), *values]
        lines.append(",".join(map(str, row)))
    (folder / "history.csv").write_text("\n".join(lines) + "\n")


def seconds(part: Callable[[], object]) -> float:
    """The time of a call."""
    start = perf_counter()
    part()
    return perf_counter() - start


def command(folder: Path) -> None:
    """The whole command, in a process of its own."""
    words = [sys.executable, "-m", "multilayer", "report", f"sweep={folder}"]
    subprocess.run(words, check=True, capture_output=True)


def main() -> None:
    """Make the sweep, then time the command and its parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="make the sweep here, and leave it")
    arguments = parser.parse_args()
    print(versions("polars", "matplotlib", "scipy", "PyYAML"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary) / "sweep"
        if not folder.exists():
            make_sweep(folder)
        sweep = open_sweep(folder)
        ready = parts_of(sweep)
        names = ["train/loss", "validation/loss"]
        parts = {
            "multilayer report, in s": lambda: seconds(lambda: command(folder)),
            "  of which: runs": lambda: seconds(lambda: open_sweep(folder)),
            "  of which: curves": lambda: seconds(
                lambda: [read_curves(run.folder.history_file, names) for run in sweep.runs]
            ),
            "  of which: figures": lambda: seconds(lambda: draw_all(ready)),
        }
        show(measure(arguments.repeats, parts), digits=2)


if __name__ == "__main__":
    main()
