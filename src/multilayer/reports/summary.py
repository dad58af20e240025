"""What is printed at the end of a sweep."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from multilayer.core.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from multilayer.reports.runs import SweepRun

_log = logging.getLogger(__name__)


class SweepFolder(Callback):
    """Notes the folder of the sweep that Hydra runs, for the table at its end."""

    path: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra in the process that the user started."""
        SweepFolder.path = Path(config.hydra.sweep.dir)


def print_sweep(sweep: Path) -> None:
    """Print the runs of a sweep, how many failed, where they are, and how to look at them.

    The rows of TensorBoard's HParams tab are written too, now that it is known what varied.
    """
    from multilayer.reports.runs import config_problem, read_sweep
    from multilayer.reports.tensorboard_hparams import write_hparams
    from multilayer.runs.console import console

    runs = read_sweep(sweep)
    if not runs:
        return
    readable = [run for run in runs if config_problem(run) is None]
    try:
        write_hparams(readable)
    except UserError as error:  # a folder that cannot be written any more; the runs are done
        _log.warning(f"no table of the runs for TensorBoard: {error}")
    out = console()
    if readable:
        config = readable[0].config
        out.print(_sweep_table(runs, config["monitor"], config["mode"]))
    failed = [run.name for run in runs if run.status == "failed"]
    if failed:
        jobs = f"{len(failed)} of {len(runs)}: job {', '.join(failed)}"
        out.print(f"failed        {jobs}", style="red")
    folder = os.path.relpath(sweep)
    out.print(f"sweep folder  {folder}")
    out.print(f"look at it    tensorboard --logdir {folder}")
    out.print(f"report        multilayer report sweep={folder}")


def _sweep_table(runs: "list[SweepRun]", monitor: str, mode: str) -> "Table":
    """A row for each run: the overrides in which it differs, status, metrics; the best is green."""
    from rich.table import Table

    from multilayer.runs.console import format_number

    values = [run.metric(monitor) for run in runs]
    known = [value for value in values if value is not None]
    best = (min if mode == "min" else max)(known, default=None)
    table = Table("job", "varied", "status", monitor, "test", header_style="bold")
    overrides = [run.manifest["overrides"] for run in runs]
    shared = set.intersection(*map(set, overrides)) if runs[1:] else set()
    for run, own, value in zip(runs, overrides, values, strict=True):
        is_best = value is not None and value == best
        test = run.metrics.get("test", {})
        headline = next((name for name in ("accuracy", "rmse") if name in test), None)
        table.add_row(
            run.name,
            " ".join(override for override in own if override not in shared),
            run.status,
            format_number(value) + (" *" if is_best else ""),
            f"{headline} {format_number(test[headline])}" if headline else "",
            style="green" if is_best else None,
        )
    return table
