"""What a sweep did, in one table at its end."""

import os
from pathlib import Path
from typing import Any

import yaml
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.table import Table

from multilayer.runs.folder import RunFolder
from multilayer.runs.summary import console, format_number


class SweepFolder(Callback):
    """Notes the folder of the sweep that Hydra runs, for the table at its end."""

    path: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra in the process that the user started."""
        SweepFolder.path = Path(config.hydra.sweep.dir)


def print_sweep(sweep: Path) -> None:
    """The runs of a sweep, how many failed, where they are, and how to look at them."""
    runs = read_jobs(sweep)
    out = console()
    if runs:
        config = yaml.safe_load(runs[0].config_file.read_text())
        out.print(sweep_table(runs, config["monitor"], config["mode"]))
    failed = [run.path.name for run in runs if run.read_manifest()["status"] == "failed"]
    if failed:
        out.print(
            f"failed        {len(failed)} of {len(runs)}: job {', '.join(failed)}", style="red"
        )
    folder = os.path.relpath(sweep)
    out.print(f"sweep folder  {folder}")
    out.print(f"look at it    tensorboard --logdir {folder}")


def read_jobs(sweep: Path) -> list[RunFolder]:
    """The runs of a sweep that have begun, in the order of their job numbers."""
    numbered = [path for path in sweep.glob("*") if path.name.isdigit()]
    folders = [RunFolder(path) for path in sorted(numbered, key=lambda path: int(path.name))]
    return [run for run in folders if run.manifest_file.is_file()]


def sweep_table(runs: list[RunFolder], monitor: str, mode: str) -> Table:
    """A row a run: the overrides in which it differs, status and metrics; the best is marked."""
    split, _, metric = monitor.partition("/")
    values = [run.read_metrics().get(split, {}).get(metric) for run in runs]
    known = [value for value in values if value is not None]
    best = (min if mode == "min" else max)(known, default=None)
    table = Table("job", "varied", "status", monitor, "test", header_style="bold")
    manifests = [run.read_manifest() for run in runs]
    shared = set.intersection(*(set(manifest["overrides"]) for manifest in manifests))
    shared = shared if runs[1:] else set()
    for run, manifest, value in zip(runs, manifests, values, strict=True):
        varied = [override for override in manifest["overrides"] if override not in shared]
        table.add_row(
            run.path.name,
            " ".join(varied),
            manifest["status"],
            format_number(value) + (" *" if value is not None and value == best else ""),
            headline_of(run.read_metrics().get("test", {})),
            style="green" if value is not None and value == best else None,
        )
    return table


def headline_of(test: dict[str, float | None]) -> str:
    """The test metric that a short table shows: the accuracy, or the RMSE."""
    for name in ("accuracy", "rmse"):
        if name in test:
            return f"{name} {format_number(test[name])}"
    return ""
