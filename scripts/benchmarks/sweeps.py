"""Whole sweeps as processes: start-up, folders, checkpoints and event files included."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from measuring import seconds_of

WORK = ("optimizer=adam", "scheduler=constant", "loss=cross_entropy")
"""Of every benchmark of lockstep, with the defaults: digits, 64-128-64-10 relu, batch 64."""


def process_seconds(
    *words: str,
    n_runs: int = 0,
    cache: str | None = None,
    limit: float | None = None,
    python_path: str = "",
) -> float:
    """How long a process of Python takes, in an empty folder.

    Args:
        words: its arguments.
        n_runs: the runs that it trains in a sweep, which are all to be done.
        cache: the folder of torch's cache of compiled code; None for the usual one.
        limit: seconds after which `subprocess.TimeoutExpired` is raised.
        python_path: a folder more to import from.
    """
    paths = [python_path, os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    own["PYTHONDONTWRITEBYTECODE"] = ""  # an installed package has its bytecode, as its peers do
    own |= {"TORCHINDUCTOR_CACHE_DIR": cache} if cache else {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *words]
        run = partial(subprocess.run, capture_output=True, text=True, timeout=limit, cwd=folder)
        start = partial(run, command, env=os.environ | own, check=True)
        try:
            seconds = seconds_of(start)
            if _statuses(Path(folder)) != ["done"] * n_runs:
                raise RuntimeError(f"not all runs are done: {_statuses(Path(folder))}")
            return seconds
        except subprocess.CalledProcessError as failed:
            print(failed.stdout[-2000:], failed.stderr[-2000:], sep="\n", file=sys.stderr)
            raise


def _statuses(folder: Path) -> list[str]:
    """How the runs of a sweep in a folder have ended."""
    paths = folder.glob("sweep/[0-9]*/manifest.json")
    return [json.loads(path.read_text())["status"] for path in paths]


def sweep_seconds(
    launcher: str,
    n_runs: int,
    *overrides: str,
    n_epochs: int = 30,
    cache: str | None = None,
    limit: float | None = None,
) -> float:
    """How long a sweep over learning rates takes, 8 seeds of each where the runs can be so divided.

    Args:
        launcher: of Hydra's.
        n_runs: the runs.
        overrides: more of them.
        n_epochs: of each run, at most.
        cache: see `process_seconds`.
        limit: see `process_seconds`.
    """
    words = ["-m", "multilayer", "train", "-m", f"hydra/launcher={launcher}", *WORK, *overrides]
    words += [*_grid(n_runs), f"trainer.max_epochs={n_epochs}", "hydra.sweep.dir=sweep"]
    words += ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    return process_seconds(*words, n_runs=n_runs, cache=cache, limit=limit)


def _grid(n_runs: int) -> list[str]:
    """Overrides for so many runs, whose rates lie evenly between 1e-4 and 10^-0.5 in logarithm.

    >>> _grid(16)[1], len(_grid(16)[0].split(","))
    ('seed=0,1,2,3,4,5,6,7', 2)
    """
    n_seeds = 8 if n_runs % 8 == 0 else 1
    n_rates = n_runs // n_seeds
    step = 3.5 / max(1, n_rates - 1)
    rates = ",".join(f"{10 ** (-4 + step * i):.4g}" for i in range(n_rates))
    return [f"optimizer.lr={rates}", f"seed={','.join(map(str, range(n_seeds)))}"]


def seconds_to_first_step(n_runs: int, *overrides: str) -> float:
    """From the start of a lockstep sweep to its first step, where a callback ends the process."""
    words = ["-m", "multilayer", "train", "-m", "hydra/launcher=lockstep", *WORK, *overrides]
    words += [*_grid(n_runs), "+callbacks.end._target_=first_step.EndProcess"]
    return process_seconds(*words, python_path=str(Path(__file__).parent))


def import_seconds(module: str) -> float:
    """How long a process takes that imports a module."""
    return process_seconds("-c", f"import {module}")


def added_by_a_run(seconds: Sequence[float], n_runs: Sequence[int]) -> float:
    """What a run more adds to the time of a sweep, in milliseconds.

    >>> added_by_a_run([1.0, 1.5, 3.0], [8, 64, 108])
    20.0
    """
    return 1e3 * (seconds[-1] - seconds[0]) / (n_runs[-1] - n_runs[0])
