"""What a sweep did, in one table at its end."""

import logging
import os
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.table import Table

from multilayer.core.errors import UserError
from multilayer.reports.runs import SweepRun, config_problem, read_sweep
from multilayer.runs.console import console, format_number

log = logging.getLogger(__name__)


class SweepFolder(Callback):
    """Notes the folder of the sweep that Hydra runs, for the table at its end."""

    path: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra in the process that the user started."""
        SweepFolder.path = Path(config.hydra.sweep.dir)


def print_sweep(sweep: Path) -> None:
    """The runs of a sweep, how many failed, where they are, and how to look at them.

    TensorBoard's table of the runs is written here too, now that it is known what varied.
    """
    from multilayer.reports.tensorboard_hparams import (
        write_hparams,  # TensorBoard's parts take 0.2 s
    )

    runs = read_sweep(sweep)
    if not runs:
        return
    described = [run for run in runs if config_problem(run) is None]
    try:
        write_hparams(described)
    except UserError as error:  # a folder that cannot be written any more; the runs are done
        log.warning(f"no table of the runs for TensorBoard: {error}")
    out = console()
    if described:
        config = described[0].config
        out.print(sweep_table(runs, config["monitor"], config["mode"]))
    failed = [run.name for run in runs if run.status == "failed"]
    if failed:
        out.print(
            f"failed        {len(failed)} of {len(runs)}: job {', '.join(failed)}", style="red"
        )
    folder = os.path.relpath(sweep)
    out.print(f"sweep folder  {folder}")
    out.print(f"look at it    tensorboard --logdir {folder}")
    out.print(f"report        multilayer report sweep={folder}")


def sweep_table(runs: list[SweepRun], monitor: str, mode: str) -> Table:
    """A row a run: the overrides in which it differs, status and metrics; the best is marked."""
    values = [run.metric(monitor) for run in runs]
    known = [value for value in values if value is not None]
    best = (min if mode == "min" else max)(known, default=None)
    table = Table("job", "varied", "status", monitor, "test", header_style="bold")
    overrides = [run.manifest["overrides"] for run in runs]
    shared = set.intersection(*map(set, overrides)) if runs[1:] else set()
    for run, own, value in zip(runs, overrides, values, strict=True):
        table.add_row(
            run.name,
            " ".join(override for override in own if override not in shared),
            run.status,
            format_number(value) + (" *" if value is not None and value == best else ""),
            headline_of(run.metrics.get("test", {})),
            style="green" if value is not None and value == best else None,
        )
    return table


def headline_of(test: dict[str, float | None]) -> str:
    """The test metric that a short table shows: the accuracy, or the RMSE."""
    for name in ("accuracy", "rmse"):
        if name in test:
            return f"{name} {format_number(test[name])}"
    return ""
