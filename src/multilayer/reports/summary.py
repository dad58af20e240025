"""What is printed and written at the end of a sweep: a table of its runs, here and in TensorBoard.

Only then it is known what varied, and thus which columns TensorBoard's HParams tab has.
"""

import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from multilayer.core.errors import UserError, listed
from multilayer.core.files import whole_file
from multilayer.core.metric_names import units_note
from multilayer.core.text import as_override, plural
from multilayer.runs.folder import HPARAMS_FILE

if TYPE_CHECKING:
    from rich.table import Table

    from multilayer.reports.runs import SweepRun

_LOGGER = "multilayer.training.TensorBoard"
"""The logger whose event files are in `tensorboard/` of the run folder."""

_SHOWN = ("loss", "accuracy", "rmse", "pinball_loss")
"""Final metrics of validation and test that have a column in addition to the one that is monitored:
the loss and the headline of each task."""

_FINAL = "whole_run"
"""How their tags begin. TensorBoard sorts charts by tags, and these of one point come last."""

_STATUSES = {"done": 1, "pruned": 1, "diverged": 2, "failed": 2}
"""TensorBoard's STATUS_SUCCESS and STATUS_FAILURE; what is not here is unknown, 0."""

_N_THREADS = 4
"""Each file waits for the disk, which takes several at once."""

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
    from multilayer.reports.runs import problem
    from multilayer.reports.sweep import read_sweep
    from multilayer.runs.console import console, print_table

    runs = read_sweep(sweep)
    if not runs:
        return
    readable = [run for run in runs if problem(run) is None]
    try:
        _write_hparams(readable)
    except UserError as error:  # a folder that cannot be written any more; the runs are done
        _log.warning(f"no table of the runs for TensorBoard: {error}")
    out = console()
    if readable:
        config = readable[0].config
        print_table(out, _sweep_table(runs, config["monitor"], config["mode"]))
        if note := units_note([name for run in runs for name in run.metrics.get("test", {})]):
            out.print(note)
    failed = [run.name for run in runs if run.status == "failed"]
    lost = _failed_without_folder(sweep)
    if failed or lost:
        names = [*failed, *lost]
        jobs = f"{plural('job', len(names))} {listed(names)}"
        out.print(f"failed        {len(names)} of {len(runs) + len(lost)}: {jobs}", style="red")
    folder = os.path.relpath(sweep)
    out.print(f"sweep folder  {folder}")
    if len(failed) == len(runs):  # there is nothing to look at
        return
    out.print(f"look at it    tensorboard --logdir {shlex.quote(folder)}")
    out.print(f"report        multilayer report {as_override('sweep', folder)}")


def _failed_without_folder(sweep: Path) -> list[str]:
    """The jobs that have failed, by the ledger, before they wrote anything."""
    from multilayer.reports.planned_jobs import read_jobs

    jobs = [job for job in read_jobs(sweep) if job.state == "failed"]
    return [str(job.number) for job in jobs if not (sweep / job.subdir).exists()]


def _sweep_table(runs: "list[SweepRun]", monitor: str, mode: str) -> "Table":
    """A row for each run: what varied, status, metrics; the best for each data set is green."""
    from rich.table import Table

    from multilayer.reports.runs import TEST_OF_REFIT, group_by_data

    values = {run.name: run.metric(monitor) for run in runs}
    bests = set()  # of each data set
    for own in group_by_data(runs).values():
        able = [run for run in own if run.status != "pruned"]
        known = [value for run in able if (value := values[run.name]) is not None]
        best = (min if mode == "min" else max)(known, default=None)
        bests |= {run.name for run in able if best is not None and values[run.name] == best}
    splits = "test", *([TEST_OF_REFIT] if any(run.has_refit for run in runs) else [])
    table = Table("job", "varied", "status", monitor, *splits, header_style="bold")
    overrides = [run.manifest["overrides"] for run in runs]
    shared = set.intersection(*map(set, overrides)) if runs[1:] else set()
    for run, own in zip(runs, overrides, strict=True):
        is_best = run.name in bests
        table.add_row(
            run.name,
            " ".join(override for override in own if override not in shared),
            run.status,
            _value_cell(run, monitor, is_best=is_best),
            *(_headline(run, split) for split in splits),
            style="green" if is_best else None,
        )
    return table


def _value_cell(run: "SweepRun", monitor: str, *, is_best: bool) -> str:
    """The final value of a metric; of a run that has not come to its end that of its last epoch."""
    import numpy as np

    from multilayer.reports.runs import read_curves
    from multilayer.runs.console import format_number

    final = run.metric(monitor)
    if final is not None or run.status not in ("interrupted", "running"):
        return format_number(final) + " *" * is_best
    curves = read_curves(run.folder.path / "history.csv", [monitor]) or {monitor: np.array([])}
    known = np.flatnonzero(np.isfinite(curves[monitor]))
    if not known.size:
        return "-"
    value, epoch = (curves[name][known[-1]] for name in (monitor, "epoch"))
    return f"{format_number(float(value))} in epoch {epoch}"


def _headline(run: "SweepRun", split: str) -> str:
    """The accuracy on a split, or in regression the error; empty if the run has neither."""
    from multilayer.runs.console import format_number

    test = run.metrics.get(split, {})
    name = next((name for name in _SHOWN[1:] if name in test), None)
    return f"{name} {format_number(test[name])}" if name else ""


def _write_hparams(runs: "Sequence[SweepRun]") -> None:
    """Write the row of each run that logs to TensorBoard, over an earlier one.

    Args:
        runs: Runs whose configs can be read. Where `tensorboard/` is a link, which leads elsewhere,
            no row is written.

    Raises:
        UserError: A file cannot be written.
    """
    logged = [index for index, run in enumerate(runs) if _has_tensorboard(run)]
    if _are_written([runs[index] for index in logged], runs):
        return
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    from multilayer.reports.hyperparameters import SEED_KEYS, as_column
    from multilayer.reports.runs import final_metrics, varied

    columns = {key: as_column(values) for key, values in varied(runs).items()}
    for key in SEED_KEYS:  # which are names: TensorBoard writes numbers as 0.0000
        if key in columns:
            columns[key] = [each if each is None else str(each) for each in columns[key]]
    others = [f"{split}/{name}" for split in ("validation", "test") for name in _SHOWN]
    measured = final_metrics(runs)
    shown = dict.fromkeys([*(run.config["monitor"] for run in runs), *others])
    names = [name for name in shown if name in measured]
    experiment = _plugin_event("experiment", _experiment(columns, names))

    def write(index: int) -> None:
        run = runs[index]
        values = {key: each[index] for key, each in columns.items() if each[index] is not None}
        started = _seconds_of(run.manifest.get("started"))
        ended = started + (run.stack_seconds or run.seconds or 0.0)
        # Without a group a row is called as its event files' folder, "0/tensorboard".
        start = {"hparams": values, "start_time_secs": started, "group_name": run.name}
        end = {"status": _STATUSES.get(run.status, 0), "end_time_secs": ended}
        written = [
            Event(file_version="brain.Event:2"),
            Event(summary=experiment.summary),
            _plugin_event("session_start_info", start),
            _plugin_event("session_end_info", end),
        ]
        step = run.manifest.get("steps") or 0
        for name in names:
            value = run.metric(name)
            if value is not None:
                scalar = Summary.Value(tag=f"{_FINAL}/{name}", simple_value=value)
                written.append(Event(step=step, summary={"value": [scalar]}))
        with whole_file(run.folder.path / "tensorboard" / HPARAMS_FILE) as file:
            writer = RecordWriter(file)
            for event in written:
                event.wall_time = ended
                writer.write(event.SerializeToString())

    with ThreadPoolExecutor(_N_THREADS) as pool:
        for _ in pool.map(write, logged):  # raises what one of them has
            pass


def _are_written(logged: "Sequence[SweepRun]", runs: "Sequence[SweepRun]") -> bool:
    """Whether the rows of runs have been written since a run last began or ended."""
    written = [run.folder.path / "tensorboard" / HPARAMS_FILE for run in logged]
    try:
        oldest = min((path.stat().st_mtime_ns for path in written), default=None)
        newest = max((run.folder.manifest_file.stat().st_mtime_ns for run in runs), default=0)
    except OSError:  # the first time
        return False
    return oldest is None or oldest > newest


def _has_tensorboard(run: "SweepRun") -> bool:
    """Whether a run has event files in its folder, or was to have."""
    loggers = filter(None, (run.config.get("logger") or {}).values())
    is_logged = any(node.get("_target_") == _LOGGER for node in loggers)
    return is_logged and not (run.folder.path / "tensorboard").is_symlink()


def _experiment(columns: Mapping[str, list[Any]], names: Sequence[str]) -> dict[str, Any]:
    """Which columns there are; without this summary TensorBoard would show every curve as a metric.

    It has the ranges by which numbers are filtered, and the choices of texts.
    """
    hparams: list[dict[str, Any]] = []
    for key, values in columns.items():
        known = [each for each in values if each is not None]
        hparams.append({"name": key, "differs": True})
        if isinstance(known[0], str):
            choices = list(dict.fromkeys(known))
            hparams[-1] |= {"type": "DATA_TYPE_STRING", "domain_discrete": choices}
        else:
            ends = {"min_value": min(known), "max_value": max(known)}
            hparams[-1] |= {"type": "DATA_TYPE_FLOAT64", "domain_interval": ends}
    metrics = [{"name": {"tag": f"{_FINAL}/{name}"}, "display_name": name} for name in names]
    return {"hparam_infos": hparams, "metric_infos": metrics}


def _plugin_event(name: str, content: dict[str, Any]) -> Any:
    """An event for TensorBoard's plugin."""
    from google.protobuf.json_format import ParseDict
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.metadata import create_summary_metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    metadata = create_summary_metadata(ParseDict({name: content}, HParamsPluginData()))
    return Event(summary={"value": [{"tag": f"_hparams_/{name}", "metadata": metadata}]})


def _seconds_of(started: str | None) -> float:
    """A time of a manifest in seconds since 1970; 0 where there is none."""
    try:
        return datetime.fromisoformat(started or "").timestamp()
    except (ValueError, OverflowError):
        return 0.0
